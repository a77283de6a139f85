"""The result for one image: score, anomaly map, decision, regions and overlay."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import Calibration
from blemish.inference import overlay
from blemish.types import Decision, Prediction, Region


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The score of an image, its anomaly map, and the model's decision."""

    prediction: Prediction
    decision: Decision | None
    """None where the model has no threshold."""
    calibration: Calibration | None

    @property
    def path(self) -> Path:
        """The image's file; a made-up name where the image was in memory."""
        return self.prediction.sample.image

    @property
    def score(self) -> float:
        """The anomaly score, unscaled; a higher score is more anomalous."""
        return self.prediction.score

    @property
    def map(self) -> NDArray[np.float32]:
        """The anomaly map (H, W) at the image's own size, unscaled."""
        return self.prediction.map

    @property
    def is_defect(self) -> bool | None:
        """Whether the score is above the threshold; None where the model has none."""
        return self.decision.is_defect if self.decision else None

    @property
    def p_value(self) -> float | None:
        """An upper bound of the probability that a good image scores as high; None where the model has no threshold."""
        return self.decision.p_value if self.decision else None

    @property
    def regions(self) -> tuple[Region, ...]:
        """The defect regions, the highest peak first; empty where the image is not a defect."""
        return self.decision.regions if self.decision else ()

    def overlay(self) -> NDArray[np.uint8]:
        """(h, w, 3) RGB: the image with its regions outlined, above a caption with the decision and its reason."""
        return overlay.overlay(self.prediction, self.decision, self.calibration)

    def __repr__(self) -> str:
        height, width = self.map.shape
        decided = "" if self.decision is None else f", is_defect={self.is_defect}, regions={len(self.regions)}"
        return f"Result({self.path.name!r}, {height}x{width}, score={self.score:.4g}{decided})"

    def _repr_html_(self) -> str:
        """The overlay, for a notebook."""
        jpeg = b64encode(overlay.to_jpeg(self.overlay())).decode()
        name = escape(repr(self), quote=True)
        return f'<img alt="{name}" title="{name}" style="max-width: 480px" src="data:image/jpeg;base64,{jpeg}">'
