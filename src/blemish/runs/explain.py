"""A calibration in words: its guarantee, the images that set the threshold, and the effects of a change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from blemish.calibration.influence import Support, exceed_too_often, num_above, support
from blemish.calibration.thresholds import (
    Calibration,
    conformal_threshold,
    false_alarm_bound,
    miss_rate,
    smallest_rate,
)
from blemish.errors import number_of
from blemish.model.folder import ModelFolder
from blemish.runs.recalibrate import Recalibrated

RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""False-alarm rates in the table, as far as there are enough images for them."""
SHOWN = 3
"""Images that are named at most."""


def describe(model: ModelFolder) -> tuple[list[str], Table | None]:
    """Sentences on the calibration, and a table of the thresholds for other rates; None without good images."""
    calibration = model.calibration
    if calibration is None:
        return [f"{model.folder}: not calibrated. Give --images FOLDER of good images, --folds, or --threshold."], None
    lines = [f"{model.folder}: an image is a defect if its score is above {calibration.threshold:.6g}"]
    lines += _guarantee(calibration) + _pixels(calibration) + _left_out(calibration) + rests_on(calibration)
    if not calibration.num_images:
        return lines, None
    return lines, _table(calibration)


def _guarantee(calibration: Calibration) -> list[str]:
    number, rate = calibration.num_images, calibration.false_alarm_rate
    if not number:
        return ["set by hand; without good images the rate of false alarms is unknown"]
    bound = false_alarm_bound(calibration.threshold, calibration.good_scores)
    if rate is None:
        return [
            f"set by hand; by {number_of(number, 'good image')}, at most about {bound:.2%} of good images are above it "
            "(the smallest rate that n images can show is 1 / (n + 1))"
        ]
    if calibration.method == "folds":
        return [
            f"chosen for a false-alarm rate of {rate:.4g} by {number_of(number, 'good image')}, each scored by a "
            "detector fitted without it (an estimate: the detector in use was fitted to more images)"
        ]
    held_out = number_of(number, "held-out good image")
    return [f"a good image is above it with a probability of at most {rate:.4g}, by {held_out}"]


def _pixels(calibration: Calibration) -> list[str]:
    rate = "set by hand" if calibration.pixel_rate is None else f"{calibration.pixel_rate:.2%} of the good area"
    lines = [f"a pixel belongs to a defect if the anomaly map is above {calibration.pixel_threshold:.6g} ({rate})"]
    if calibration.min_area:
        lines.append(
            f"only regions of at least {number_of(calibration.min_area, 'pixel')} count: an image without one is good "
            "(the figures below consider the score alone)"
        )
    return lines


def _table(calibration: Calibration) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("false alarms at most", "threshold", "defects missed (95 %)"):
        table.add_column(title, justify="right")
    smallest = smallest_rate(calibration.num_images)
    rates = sorted({*(rate for rate in RATES if rate >= smallest), smallest}, reverse=True)
    rows: list[tuple[str, float]] = [
        (f"{rate:.4g}", conformal_threshold(calibration.good_scores, rate)) for rate in rates if rate < 1
    ]
    if calibration.false_alarm_rate not in rates:
        chosen = "by hand" if calibration.false_alarm_rate is None else f"{calibration.false_alarm_rate:.4g}"
        rows.append((chosen, calibration.threshold))
    for rate, threshold in rows:
        is_current = threshold == calibration.threshold
        table.add_row(rate, f"{threshold:.6g}", _missed(calibration, threshold), style="bold" if is_current else "")
    return table


def _missed(calibration: Calibration, threshold: float) -> str:
    if not calibration.defect_scores:
        return "no labelled defects"
    missed, low, high = miss_rate(calibration.defect_scores, threshold)
    return f"{missed:.3f} ({low:.3f}-{high:.3f} of {len(calibration.defect_scores)})"


def effects(found: Recalibrated) -> list[str]:
    """The effects of a change on the known images, and warnings; empty where nothing changes."""
    calibration, former = found.model.calibration, found.former
    if calibration is None or (not found.is_written and calibration == former):
        return []
    before = "none" if former is None else f"{former.threshold:.6g}"
    lines = [f"threshold: {before} before, {calibration.threshold:.6g} now"]
    lines += _counts("good images", calibration.good_scores, calibration, former)
    if calibration.defect_scores:
        lines += _counts("labelled defects", calibration.defect_scores, calibration, former)
    else:
        lines.append(
            "without labelled defects, the rate of missed ones is unknown; "
            "--images also reads folders of defects beside the folder good"
        )
    return lines + _doubts(calibration, former)


def rests_on(calibration: Calibration) -> list[str]:
    """The good images that set the threshold, and a warning where their scores are outliers."""
    found = support(calibration)
    if found is None or not found.images:
        return []
    highest = list(zip(found.images, found.scores, strict=True))[::-1]
    subject = "this good image sets" if len(highest) == 1 else "these good images set"
    lines = [f"{subject} the threshold: {_listed(highest)}"]
    return [*lines, _warning(calibration, found)] if found.is_outlying else lines


def _warning(calibration: Calibration, found: Support) -> str:
    options = " ".join(f"--leave-out {image}" for image in found.images)
    number, is_one = len(found.images), len(found.images) == 1
    images, without = ("this image. If it shows", "it") if is_one else ("these images. If they show", "them")
    return (
        f"warning: {number} of the {calibration.num_images} good images {'scores' if is_one else 'score'} "
        f"{found.gap:.3g} above all others, whose scores differ by {found.spread:.3g}; "
        f"without {without}, the threshold would be {found.threshold_without:.6g}. "
        f"Every image with a lower score passes as good, defects too. Look at {images} a defect or another part, "
        f"repeat the command with {options} (the rate then holds for images like the others). "
        "--undo restores the calibration before."
    )


def _counts(name: str, scores: Sequence[float], calibration: Calibration, former: Calibration | None) -> list[str]:
    """A line with the number of images above the threshold, before and after."""
    now = f"{num_above(scores, calibration.threshold)} now"
    before = "" if former is None else f"{num_above(scores, former.threshold)} before, "
    return [f"defects among the {len(scores)} {name}: {before}{now}"]


def _doubts(calibration: Calibration, former: Calibration | None) -> list[str]:
    """Warnings: defects that are no longer detected, and new good images that exceed the former threshold too often."""
    if former is None:
        return []
    found, before = (num_above(calibration.defect_scores, one.threshold) for one in (calibration, former))
    lines = []
    if 2 * found < before:
        lines.append(
            f"warning: {before} labelled defects were detected before, {found} now. --undo restores that threshold."
        )
    scores, is_new = calibration.good_scores, calibration.images != former.images and calibration.method == "split"
    if is_new and exceed_too_often(former, scores):
        above = list(zip(calibration.images, scores, strict=False))[len(scores) - num_above(scores, former.threshold) :]
        lines.append(
            f"warning: {len(above)} of these {len(scores)} good images are above the former threshold, more than "
            f"chance explains: they are defective, or the production has changed. Look at {_listed(above[::-1])}"
        )
    return lines


def _left_out(calibration: Calibration) -> list[str]:
    return [f"left out by hand: {', '.join(calibration.left_out)}"] if calibration.left_out else []


def _listed(images: Sequence[tuple[str, float]]) -> str:
    """The first SHOWN of the images with their scores, and the number of the others."""
    shown = ", ".join(f"{image} ({score:.6g})" for image, score in images[:SHOWN])
    return shown + (f" and {len(images) - SHOWN} more" if len(images) > SHOWN else "")
