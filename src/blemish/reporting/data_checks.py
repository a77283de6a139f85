"""Checks of a run's data, each with a finding in words."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.errors import number_of
from blemish.reporting.read_runs import Part
from blemish.types import GOOD

Status = Literal["ok", "warning", "not applicable"]
FALSE_ALARM_RATE = 0.01
"""The assumed false-alarm rate of a run without one."""
OUTLYING = 3.5
"""The modified z-score from which on an image is an outlier (Iglewicz and Hoaglin 1993)."""
LOOK = ("brightness", "contrast", "sharpness", "warmth")
"""What is compared between training and test images; runs of earlier versions recorded the brightness alone."""
DRIFT_RATE = 0.01
"""The chance of a warning of drift where the good test images were taken as the training images were."""
DRIFT = 0.5
"""Smaller differences of medians, in spreads of the training images, are no drift, however certain."""
SATURATED = 0.01
"""The largest fraction of a map's pixels that may have its maximum."""
ENOUGH = 8
"""The fewest images for a meaningful spread."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check of one run on one category."""

    status: Status
    text: str
    paths: tuple[str, ...] = ()
    """The files concerned."""


Check = Callable[[Part], Finding]


def identical_files(part: Part) -> Finding:
    """Finds images that occur several times, in particular in both training and test."""
    images = _images(part)
    if not images:
        return _not_recorded()
    same: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in images:
        same[row.get("pixel_sha256", row["sha256"])].append(row)  # earlier versions stored only the hash of the file
    copies = [rows for rows in same.values() if len(rows) > 1]
    if not copies:
        return Finding("ok", f"{number_of(len(images), 'file')}, all different")
    leaked = sum(len({row["split"] == "test" for row in rows}) > 1 for rows in copies)
    where = f", {leaked} of them in training and test" if leaked else ", none of them across training and test"
    paths = tuple(row["path"] for rows in copies for row in rows)
    return Finding("warning", f"{number_of(len(copies), 'image')} there more than once{where}", paths)


def enough_held_out(part: Part) -> Finding:
    """Checks that there are enough held-out good images for the requested false-alarm rate."""
    calibration = part.calibration or {}
    rate = calibration.get("false_alarm_rate") or FALSE_ALARM_RATE
    number = len(calibration.get("good_scores", ())) or sum(row["split"] == "val" for row in _images(part))
    if not number:
        return Finding("not applicable", "the held-out good images are unknown")
    needed = math.ceil(1 / rate - 1e-9) - 1
    text = f"{number_of(number, 'held-out good image')}: the smallest possible rate is {1 / (number + 1):.2g}"
    if number >= needed:
        return Finding("ok", f"{text}; {rate:g} is requested")
    return Finding("warning", f"{text}; {rate:g} needs {needed}")


def training_outliers(part: Part) -> Finding:
    """Finds training images unlike all others: by detectors fitted to the others where the run did so.

    Otherwise by leave-one-out distances on a log scale.
    """
    looked = part.report_data.facts.get("outliers")
    if looked and looked["number"]:
        what = "left out; check whether they are good" if looked["left_out"] else "check that they are good"
        text = f"{looked['summary']}; {what}" if looked["paths"] else looked["summary"]
        return Finding("warning" if looked["paths"] else "ok", text.removeprefix("outliers: "), tuple(looked["paths"]))
    rows = [row for row in _images(part) if row["distance"]]
    if not rows:
        return _not_recorded()
    if len(rows) < ENOUGH:
        return Finding(
            "not applicable", f"{number_of(len(rows), 'training image')}; {ENOUGH} different ones are needed"
        )
    scores = modified_z(np.log([row["distance"] for row in rows]))
    found = sorted(
        ((score, row["path"]) for score, row in zip(scores, rows, strict=True) if score > OUTLYING), reverse=True
    )
    if not found:
        return Finding("ok", f"none of {len(rows)}; the largest z-score is {max(scores):.1f}")
    text = f"unlike the others: {len(found)} of {number_of(len(rows), 'training image')}; check that they are good"
    return Finding("warning", text, tuple(path for _, path in found))


def masks(part: Part) -> Finding:
    """Finds masks that mark no pixel or all pixels, and anomalous images without a mask."""
    previews = {shown.path: shown for shown in part.report_data.previews}
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
        f"{number_of(len(known), 'mask')}, of {min(known.values()):.2%} to {max(known.values()):.1%} of the image",
    )


def drift(part: Part) -> Finding:
    """Compares brightness, contrast, sharpness and warmth of good test images with those of the training images.

    Each is tested by the ranks of all images (Mann-Whitney), at DRIFT_RATE divided by the number of tests.
    """
    training = [row for row in _images(part) if row["split"] != "test"]
    test = [row for row in _images(part) if row["split"] == "test" and row["defect"] == GOOD]
    names = [name for name in LOOK if all(name in row for row in [*training, *test])]
    if not training or not names:
        return _not_recorded()
    level = DRIFT_RATE / len(names)
    if len(training) < ENOUGH or 2 / math.comb(len(training) + len(test), len(test)) > level:
        number = f"{len(training)} training and {len(test)} good test images"
        return Finding("not applicable", f"too few images: {number}")
    values = {name: [np.array([row[name] for row in rows]) for rows in (training, test)] for name in names}
    drifted = [name for name, (before, now) in values.items() if _differ(before, now, level)]
    shown = drifted or names
    medians = ", ".join("{} {:.3f} and {:.3f}".format(name, *map(np.median, values[name])) for name in shown)
    text = f"medians of training and of good test images: {medians}"
    return Finding("warning", f"{' and '.join(drifted)} drifted; {text}") if drifted else Finding("ok", text)


def sizes(part: Part) -> Finding:
    """Checks that the test images have sizes of training images."""
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
    """Finds maps that are clipped at a maximum, which hides differences above it."""
    previews = part.report_data.previews
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
    """Lists other problems that the check of the data set found before the run."""
    if "problems" not in part.report_data.facts:
        return _not_recorded()
    others = [p for p in part.report_data.facts["problems"] if not p["message"].startswith("identical to")]
    if not others:
        return Finding("ok", "no other problems")
    return Finding("warning", others[0]["message"], tuple(problem["path"] for problem in others))


CHECKS: Mapping[str, tuple[str, Check]] = {
    "D1": ("Duplicate images, or images in both training and test", identical_files),
    "D2": ("Enough held-out good images for the false-alarm rate", enough_held_out),
    "D3": ("Training images unlike all others", training_outliers),
    "D4": ("Masks that mark no pixel or all pixels", masks),
    "D5": ("Different light, focus or colour in training and test", drift),
    "D6": ("Different image sizes in training and test", sizes),
    "D7": ("Clipped anomaly maps", saturation),
    "D8": ("Other problems of the data set", other_problems),
}
"""Code -> title and check."""


def modified_z(values: Any) -> list[float]:
    """The distance of each value from the median, in robust standard deviations (modified z-score)."""
    array = np.asarray(values, np.float64)
    spread = _spread(array)
    return [float(z) for z in (array - np.median(array)) / (spread or np.inf)]


def _differ(before: NDArray[Any], now: NDArray[Any], level: float) -> bool:
    """Whether the values differ by more than chance explains, and by more than DRIFT spreads."""
    from scipy.stats import mannwhitneyu  # deferred: a page without this check does not need scipy

    least = DRIFT * max(_spread(before), 1 / 255)
    return bool(abs(np.median(now) - np.median(before)) > least and mannwhitneyu(before, now).pvalue < level)


def _spread(values: Any) -> float:
    """The median absolute deviation, scaled to equal the standard deviation of a normal distribution."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _images(part: Part) -> list[dict[str, Any]]:
    return list(part.report_data.facts.get("images", ()))


def _not_recorded() -> Finding:
    return Finding("not applicable", "the run did not record this")
