"""The plain data that travels along the line: frozen, and free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
Size = tuple[int, int]
"""(height, width) in pixels."""

GOOD = "good"
"""The defect type of a picture without a defect."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file and what is known of it."""

    image: Path
    label: bool | None = None
    """True: anomalous; False: good; None: not known."""
    mask: Path | None = None
    """The file that marks the anomalous pixels, where there is one."""
    defect: str = GOOD
    """The defect type, or "good"."""
    split: Split = "test"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector says of one image. Scores are raw: never clamped, never normalised."""

    sample: Sample
    score: float
    """Higher is more anomalous."""
    map: NDArray[np.float32]
    """(H, W) at the image file's own size; higher is more anomalous."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one detector on one category: plain data, as it stands in results.json."""

    method: str
    category: str
    metrics: dict[str, float | None]
    """Metric name -> value in [0, 1]; None where the metric is not applicable."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Metric name -> why it is not applicable."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Metric name -> low and high end of its 95 % confidence interval, where that was asked for."""
    images: list[dict[str, Any]] = field(default_factory=list)
    """One row per test image: path, defect, label, score."""
    durations: dict[str, float] = field(default_factory=dict)
    """Phase -> seconds."""
