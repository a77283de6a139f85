"""Checks of the data behind a figure, each with a verdict in words, or the reason why it is not applicable."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from blemish.errors import number_of
from blemish.reporting.read import Part
from blemish.types import GOOD

Status = Literal["ok", "warning", "not applicable"]
FALSE_ALARM_RATE = 0.01
"""What is asked for where a run says nothing else."""
OUTLYING = 3.5
"""A modified z-score from which an image counts as an outlier (Iglewicz and Hoaglin 1993)."""
DRIFT = 1.5
"""How many times the spread of the training images' brightness the test images' may differ by."""
SATURATED = 0.01
"""The part of a map that may lie at its maximum."""
ENOUGH = 8
"""Images that a spread needs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says of one run on one category."""

    status: Status
    text: str
    paths: tuple[str, ...] = ()
    """The files that it is about."""


Check = Callable[[Part], Finding]


def identical_files(part: Part) -> Finding:
    """Whether a test image is also a training image, or an image is there twice."""
    images = _images(part)
    if not images:
        return _not_recorded()
    same: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in images:
        same[row.get("pixel_sha256", row["sha256"])].append(row)  # earlier runs knew files alone
    copies = [rows for rows in same.values() if len(rows) > 1]
    if not copies:
        return Finding("ok", f"{number_of(len(images), 'file')}, all different")
    leaked = sum(len({row["split"] == "test" for row in rows}) > 1 for rows in copies)
    where = f", {leaked} of them in training and test" if leaked else ", none of them across training and test"
    paths = tuple(row["path"] for rows in copies for row in rows)
    return Finding("warning", f"{number_of(len(copies), 'image')} there more than once{where}", paths)


def enough_held_out(part: Part) -> Finding:
    """Whether there are held-out good images enough for the false-alarm rate that is asked for."""
    calibration = part.calibration or {}
    rate = calibration.get("false_alarm_rate") or FALSE_ALARM_RATE
    number = len(calibration.get("good_scores", ())) or sum(row["split"] == "val" for row in _images(part))
    if not number:
        return Finding("not applicable", "no held-out good images are known")
    needed = math.ceil(1 / rate - 1e-9) - 1
    text = f"{number_of(number, 'held-out good image')}: a rate of {1 / (number + 1):.2g} is the least possible"
    if number >= needed:
        return Finding("ok", f"{text}; {rate:g} is asked for")
    return Finding("warning", f"{text}; {rate:g} needs {needed}")


def training_outliers(part: Part) -> Finding:
    """Whether a training image looks like none of the others: leave-one-out distances, on a log scale."""
    rows = [row for row in _images(part) if row["distance"]]
    if not rows:
        return _not_recorded()
    if len(rows) < ENOUGH:
        return Finding("not applicable", f"{number_of(len(rows), 'training image')}; {ENOUGH} that differ are needed")
    scores = modified_z(np.log([row["distance"] for row in rows]))
    found = sorted(
        ((score, row["path"]) for score, row in zip(scores, rows, strict=True) if score > OUTLYING), reverse=True
    )
    if not found:
        return Finding("ok", f"none of {len(rows)}; the most unlike has a z-score of {max(scores):.1f}")
    text = f"unlike the others: {len(found)} of {number_of(len(rows), 'training image')}; check that they are good"
    return Finding("warning", text, tuple(path for _, path in found))


def masks(part: Part) -> Finding:
    """Whether the masks mark something, and not everything."""
    previews = {shown.path: shown for shown in part.record.previews}
    anomalous = [row["path"] for row in part.evaluation.images if row["label"]]
    areas = {path: previews[path].mask_area for path in anomalous if path in previews}
    known = {path: area for path, area in areas.items() if area is not None}
    if not known:
        return Finding("not applicable", "no masks" if anomalous else "no anomalous images")
    odd = tuple(path for path, area in known.items() if area in (0, 1))
    if odd:
        return Finding("warning", f"empty or covering everything: {len(odd)} of {number_of(len(known), 'mask')}", odd)
    if len(known) < len(anomalous):
        return Finding(
            "warning",
            f"without a mask: {len(anomalous) - len(known)} of {number_of(len(anomalous), 'anomalous image')}",
        )
    return Finding(
        "ok",
        f"{number_of(len(known), 'mask')}, of {min(known.values()):.2%} to {max(known.values()):.1%} of the picture",
    )


def exposure(part: Part) -> Finding:
    """Whether the good test images are as bright as the training images."""
    training = [row["brightness"] for row in _images(part) if row["split"] != "test"]
    test = [row["brightness"] for row in _images(part) if row["split"] == "test" and row["defect"] == GOOD]
    if len(training) < ENOUGH or len(test) < 2:
        number = f"{len(training)} training and {len(test)} good test images"
        return Finding("not applicable", f"too few to tell: {number}") if training else _not_recorded()
    spread = max(_spread(np.asarray(training)), 1 / 255)
    before, now = float(np.median(training)), float(np.median(test))
    text = f"median brightness {before:.3f} in training, {now:.3f} in good test images"
    drifted = abs(now - before) > DRIFT * spread
    return Finding("warning" if drifted else "ok", f"{text}; training images spread by {spread:.3f}")


def sizes(part: Part) -> Finding:
    """Whether the test images are of sizes that the training images have."""
    images = _images(part)
    if not images:
        return _not_recorded()
    trained = {tuple(row["size"]) for row in images if row["split"] != "test"}
    test = Counter(tuple(row["size"]) for row in images if row["split"] == "test")
    new = {size: count for size, count in test.items() if size not in trained}
    if not test:
        return Finding("not applicable", "no test images")
    if not new:
        return Finding("ok", ", ".join(f"{height} x {width}" for height, width in sorted(trained)[:4]))
    height, width = max(new, key=lambda size: new[size])
    paths = tuple(row["path"] for row in images if row["split"] == "test" and tuple(row["size"]) in new)
    return Finding(
        "warning", f"{number_of(sum(new.values()), 'test image')} of another size, such as {height} x {width}", paths
    )


def saturation(part: Part) -> Finding:
    """Whether maps are cut off at a highest value, which hides what is more anomalous than that."""
    previews = part.record.previews
    if not previews:
        return _not_recorded()
    flat = tuple(shown.path for shown in previews if shown.at_maximum > max(SATURATED, 1.5 / math.prod(shown.size)))
    if flat:
        return Finding(
            "warning",
            f"with {SATURATED:.0%} of the pixels at the maximum: {len(flat)} of {number_of(len(previews), 'map')}",
            flat,
        )
    return Finding("ok", f"no map of {len(previews)} has more than {SATURATED:.0%} of its pixels at its maximum")


def other_problems(part: Part) -> Finding:
    """What the check before the run said beside."""
    if "problems" not in part.record.facts:
        return _not_recorded()
    others = [p for p in part.record.facts["problems"] if not p["message"].startswith("identical to")]
    if not others:
        return Finding("ok", "nothing else was found")
    return Finding("warning", others[0]["message"], tuple(problem["path"] for problem in others))


CHECKS: Mapping[str, tuple[str, Check]] = {
    "D1": ("The same picture twice, or in training and test", identical_files),
    "D2": ("Held-out good images enough for the false-alarm rate", enough_held_out),
    "D3": ("Training images unlike the others of their set", training_outliers),
    "D4": ("Masks that are empty or cover everything", masks),
    "D5": ("Exposure drift between training and test", exposure),
    "D6": ("Size drift between training and test", sizes),
    "D7": ("Anomaly maps that saturate", saturation),
    "D8": ("Anything else that the check of the data found", other_problems),
}
"""Code -> what is looked for, and the check."""


def modified_z(values: Any) -> list[float]:
    """How far each value lies above the median, in robust standard deviations."""
    array = np.asarray(values, np.float64)
    spread = _spread(array)
    return [float(z) for z in (array - np.median(array)) / (spread or np.inf)]


def _spread(values: Any) -> float:
    """The median absolute deviation, scaled so that it is the standard deviation of a normal distribution."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _images(part: Part) -> list[dict[str, Any]]:
    return list(part.record.facts.get("images", ()))


def _not_recorded() -> Finding:
    return Finding("not applicable", "the run recorded nothing of this")
