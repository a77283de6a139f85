"""The plain data that travels along the line: frozen, and free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
MapFormat = Literal["uint16", "float32"]
"""Of a map in a file. uint16: each value within 1/8190 of the map's range. float32: exact, several times as long."""
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
    content: bytes | NDArray[Any] | None = field(default=None, compare=False, repr=False)
    """The file's content, or its pixels (H, W) or (H, W, 3) as a decoder gives them, where the image is in memory and
    `image` is its name alone."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector says of one image. Scores are raw: never clamped, never normalised."""

    sample: Sample
    score: float
    """Higher is more anomalous."""
    map: NDArray[np.float32]
    """(H, W) at the image file's own size; higher is more anomalous."""
    sha256: str = ""
    """Of the content that was inspected; empty where it came from no file."""
    image: NDArray[np.uint8] | None = None
    """(h, w, 3) RGB: what was inspected, as it is shown, where that was asked for; reduced where it is very large."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In the place of a prediction: an image file that cannot be used."""

    sample: Sample
    error: str
    """What is wrong with it and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Region:
    """A connected part of an image that is anomalous. Places are (x, y) in pixels of the file, from its upper left."""

    box: tuple[int, int, int, int]
    """x, y, width, height of the smallest rectangle around it."""
    area: int
    """Pixels."""
    peak: float
    """The highest value of the map in it."""
    peak_at: tuple[int, int]
    centroid: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a calibration makes of a prediction."""

    is_defect: bool
    p_value: float
    """The chance at most of a good image to score so high."""
    regions: tuple[Region, ...] = ()
    """The highest peak first; none where the image is no defect."""


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
    """Phase -> seconds: fit, predict (the detector on the decoded test images), test (that and the evaluation)."""
    validation: list[dict[str, Any]] = field(default_factory=list)
    """One row per held-out good image: path, score."""
    calibration: dict[str, Any] | None = None
    """The `Calibration` that was made from them, as plain data; None where there is none."""
