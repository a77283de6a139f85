"""The data types that all rooms share: frozen dataclasses, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
MapFormat = Literal["uint16", "float32"]
"""How a map file stores its values. uint16: with an error of at most 1/8190 of the map's range. float32: exactly, in a
file several times as large."""
Size = tuple[int, int]
"""(height, width) in pixels."""

GOOD = "good"
"""The defect type of an image without a defect."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """How much of a defect has to be found for it to count as found wholly, as in MVTec LOCO."""

    pixel_value: int
    """The value of the defect's pixels in its mask file."""
    threshold: float
    """A number of pixels, or the part of the defect's area if `relative`."""
    relative: bool = False


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """A mask as its data set defines it: anomalous is every pixel that is not 0 in one of the files."""

    files: tuple[Path, ...]
    saturations: tuple[Saturation, ...] = ()
    """Of the types of defect; each file then marks one defect. Empty where the data set has none."""


@dataclass(frozen=True, slots=True)
class MaskRuns:
    """A mask as runs of pixels, which a table holds for many images."""

    table: Path
    shape: Size
    runs: tuple[str, ...]
    """Texts of "first length first length ...", in pixels counted from 1 down the columns; all of them are marked."""


MaskSource = Path | MaskFiles | MaskRuns
"""What marks the anomalous pixels of an image. A path is a file whose values decide how it is read (see
`imaging.masks`)."""


def mask_files(mask: MaskSource | None) -> tuple[Path, ...]:
    """The files that a mask is read from; empty for None."""
    if isinstance(mask, MaskFiles):
        return mask.files
    return () if mask is None else (mask.table if isinstance(mask, MaskRuns) else mask,)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image file with its label and mask."""

    image: Path
    label: bool | None = None
    """True: anomalous. False: good. None: unknown."""
    mask: MaskSource | None = None
    """What marks the anomalous pixels; None without a mask."""
    defect: str = GOOD
    """The defect type; GOOD for a good image."""
    split: Split = "test"
    group: str = ""
    """Images with the same group show the same part, so they are never learned from and held out; empty: no group."""
    content: bytes | NDArray[Any] | Callable[[], bytes] | None = field(default=None, compare=False, repr=False)
    """The file's content, or its pixels (H, W) or (H, W, 3) as a decoder gives them, where the image is in memory; or a
    function that fetches the content, where it is on no disk. `image` is then its name alone."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The image file and the files of its mask."""
        return (self.image, *mask_files(self.mask))


@dataclass(frozen=True, slots=True)
class Prediction:
    """The score and the anomaly map of one image. Both are raw: neither clamped nor normalised."""

    sample: Sample
    score: float
    """Higher means more anomalous."""
    map: NDArray[np.float32]
    """(H, W), the size of the image file; higher means more anomalous."""
    sha256: str = ""
    """SHA-256 of the file's content, in hexadecimal; empty for a prediction without a file."""
    image: NDArray[np.uint8] | None = None
    """(h, w, 3) RGB, the image for display, reduced if it is very large; None unless requested."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image file that cannot be used; it takes the place of a prediction."""

    sample: Sample
    error: str
    """One line: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Region:
    """A connected anomalous region. Coordinates are (x, y) in pixels of the file; (0, 0) is the upper left pixel."""

    box: tuple[int, int, int, int]
    """x, y, width and height of the bounding box."""
    area: int
    """Number of pixels."""
    peak: float
    """The highest map value in the region."""
    peak_at: tuple[int, int]
    """The pixel with the highest map value."""
    centroid: tuple[float, float]
    """The mean of the pixel coordinates."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on one image."""

    is_defect: bool
    p_value: float
    """A upper bound on the probability that a good image scores this high."""
    regions: tuple[Region, ...] = ()
    """The defect regions, the highest peak first; empty if the image is no defect."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of one method on one category, as stored in results.json."""

    method: str
    category: str
    metrics: dict[str, float | None]
    """Metric name -> value in [0, 1]; None if the metric is not applicable."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Metric name -> the reason why it is not applicable."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Metric name -> lower and upper end of its 95 % confidence interval; empty unless requested."""
    images: list[dict[str, Any]] = field(default_factory=list)
    """One row per test image: path, defect, label, score."""
    durations: dict[str, float] = field(default_factory=dict)
    """Phase -> seconds: fit, predict (scores and maps of the test images), test (predict and evaluation)."""
    validation: list[dict[str, Any]] = field(default_factory=list)
    """One row per held-out good image: path, score."""
    official: dict[str, float | None] = field(default_factory=dict)
    """Figure by which the authors of the data set judge -> its value; empty where they define none of their own."""
    calibration: dict[str, Any] | None = None
    """The `Calibration` computed from `validation`, as plain data; None without one."""
