"""What a model says of one image."""

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
    """The score of an image, its anomaly map, and what the model decides."""

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
        """How anomalous the image is: raw, higher is more anomalous."""
        return self.prediction.score

    @property
    def map(self) -> NDArray[np.float32]:
        """(H, W) at the image's own size: how anomalous each pixel is."""
        return self.prediction.map

    @property
    def is_defect(self) -> bool | None:
        """Whether the score is above the threshold; None where the model has none."""
        return self.decision.is_defect if self.decision else None

    @property
    def p_value(self) -> float | None:
        """The chance at most of a good image to score so high; None where the model has no threshold."""
        return self.decision.p_value if self.decision else None

    @property
    def regions(self) -> tuple[Region, ...]:
        """Where the defects are, the highest peak first; none where the image is no defect."""
        return self.decision.regions if self.decision else ()

    def overlay(self) -> NDArray[np.uint8]:
        """(h, w, 3) RGB: the image with its defects outlined, above a line that says what was decided and why."""
        return overlay.overlay(self.prediction, self.decision, self.calibration)

    def __repr__(self) -> str:
        height, width = self.map.shape
        decided = "" if self.decision is None else f", is_defect={self.is_defect}, regions={len(self.regions)}"
        return f"Result({self.path.name!r}, {height}x{width}, score={self.score:.4g}{decided})"

    def _repr_html_(self) -> str:
        """The overlay, for a notebook."""
        picture = b64encode(overlay.to_jpeg(self.overlay())).decode()
        name = escape(repr(self), quote=True)
        return f'<img alt="{name}" title="{name}" style="max-width: 480px" src="data:image/jpeg;base64,{picture}">'
