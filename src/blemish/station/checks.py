"""Checks of the images that a product is taught with, as they arrive."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Literal

import numpy as np

from blemish.station.tables import Image

FEW = 20
"""Good images below which decisions are vague."""
FEWEST = 5
"""Good images that teaching needs."""
FAR = 5.0
"""How many robust standard deviations from the median an outlier lies."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the images that a person should look at."""

    kind: str
    """A key of the texts, such as duplicates or blurred."""
    severity: Literal["error", "warning"]
    values: dict[str, Any] = field(default_factory=dict)
    """Numbers and words that the text names."""
    images: tuple[int, ...] = ()
    """The identifiers of the images that it is about."""


def find(images: Sequence[Image]) -> list[Finding]:
    """What is conspicuous about the images of a product, errors first."""
    good = [image for image in images if not image.is_defect]
    found = [*_numbers(good), *_copies(images), *_sizes(good), *_outliers(good), *_days(good)]
    return sorted(found, key=lambda finding: finding.severity)


def _numbers(good: Sequence[Image]) -> list[Finding]:
    if len(good) < FEWEST:
        return [Finding("too_few", "error", {"number": len(good), "needed": FEWEST})]
    return [Finding("few", "warning", {"number": len(good), "advised": FEW})] if len(good) < FEW else []


def _copies(images: Sequence[Image]) -> list[Finding]:
    same: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        same[image.pixel_sha256].append(image)
    groups = [group for group in same.values() if len(group) > 1]
    mixed = [group for group in groups if len({image.is_defect for image in group}) > 1]
    alike = [group for group in groups if group not in mixed]
    found = []
    if mixed:
        found.append(Finding("good_and_defect", "error", {"number": len(mixed)}, _ids([*chain(*mixed)])))
    if alike:
        number = sum(len(group) - 1 for group in alike)
        found.append(Finding("duplicates", "warning", {"number": number}, _ids([*chain(*alike)])))
    return found


def _sizes(good: Sequence[Image]) -> list[Finding]:
    counts = Counter((image.width, image.height) for image in good)
    if len(counts) < 2:
        return []
    (usual, _), *_ = counts.most_common(1)
    others = [image for image in good if (image.width, image.height) != usual]
    return [Finding("sizes", "warning", {"number": len(others), "usual": f"{usual[0]}x{usual[1]}"}, _ids(others))]


def _outliers(good: Sequence[Image]) -> list[Finding]:
    if len(good) < 8:
        return []
    sharpness = np.log([max(image.sharpness, 1e-3) for image in good])
    brightness = np.asarray([image.brightness for image in good])
    blurred, light = _deviations(sharpness, 0.15), _deviations(brightness, 0.02)
    chosen = {
        "blurred": [image for image, far in zip(good, blurred, strict=True) if far < -FAR],
        "dark": [image for image, far in zip(good, light, strict=True) if far < -FAR],
        "bright": [image for image, far in zip(good, light, strict=True) if far > FAR],
    }
    return [Finding(kind, "warning", {"number": len(some)}, _ids(some)) for kind, some in chosen.items() if some]


def _deviations(values: np.ndarray[Any, Any], least: float) -> np.ndarray[Any, Any]:
    """Distances from the median in robust standard deviations, which count as `least` if they are smaller."""
    centre = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - centre))), least)
    return np.asarray((values - centre) / spread)


def _days(good: Sequence[Image]) -> list[Finding]:
    known = [image.taken_at for image in good if image.taken_at]
    days = {datetime.fromtimestamp(at, UTC).date() for at in known}
    if len(known) < len(good) or len(known) < FEWEST or len(days) != 1:
        return []
    return [Finding("one_day", "warning", {"day": str(next(iter(days)))})]


def _ids(images: Sequence[Image]) -> tuple[int, ...]:
    return tuple(image.id for image in images)
