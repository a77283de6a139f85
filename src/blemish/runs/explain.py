"""A calibration in words: what it promises, what it rests on, and what a change of it does to the images at hand."""

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
from blemish.model.folder import ModelFolder
from blemish.runs.recalibrate import Recalibrated

RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""False-alarm rates that are shown side by side, as far as there are images enough."""
SHOWN = 3
"""Images that are named, at most."""


def describe(model: ModelFolder) -> tuple[list[str], Table | None]:
    """What the calibration says, in sentences, and what other rates would mean, as a table."""
    calibration = model.calibration
    if calibration is None:
        return [f"{model.folder}: not calibrated. Give --images FOLDER of good images, --folds, or --threshold."], None
    lines = [f"{model.folder}: a picture is a defect where its score is above {calibration.threshold:.6g}"]
    lines += _guarantee(calibration) + _pixels(calibration) + _left_out(calibration) + rests_on(calibration)
    if not calibration.num_images:
        return lines, None
    return lines, _table(calibration)


def _guarantee(calibration: Calibration) -> list[str]:
    number, rate = calibration.num_images, calibration.false_alarm_rate
    if not number:
        return ["set by hand; no good images say how often it alarms falsely"]
    bound = false_alarm_bound(calibration.threshold, calibration.good_scores)
    if rate is None:
        return [f"set by hand; {number} good images say: about {bound:.2%} of good pictures, 1 / (n + 1) at the least"]
    if calibration.method == "folds":
        return [
            f"chosen for {rate:.4g} false alarms by {number} good images, each scored by a detector fitted without it "
            "(an estimate: the detector in use has seen more images)"
        ]
    return [f"good pictures are above it with a chance of at most {rate:.4g}, by {number} held-out good images"]


def _pixels(calibration: Calibration) -> list[str]:
    rate = "set by hand" if calibration.pixel_rate is None else f"{calibration.pixel_rate:.2%} of the good area"
    lines = [f"a pixel belongs to the defect where the map is above {calibration.pixel_threshold:.6g} ({rate})"]
    if calibration.min_area:
        lines.append(
            f"regions of {calibration.min_area} pixels and more count: a picture without one passes as good "
            "(what follows is by the score alone)"
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
    """What a change does to the images at hand, and what speaks against it; nothing where none was asked for."""
    calibration, former = found.model.calibration, found.former
    if calibration is None or (not found.is_written and calibration == former):
        return []
    before = "none" if former is None else f"{former.threshold:.6g}"
    lines = [f"threshold: {before} before, now {calibration.threshold:.6g}"]
    lines += _counts("good images", calibration.good_scores, calibration, former)
    if calibration.defect_scores:
        lines += _counts("labelled defects", calibration.defect_scores, calibration, former)
    else:
        lines.append(
            "no labelled defects are at hand to see how many are found: --images reads folders of them beside good"
        )
    if former and calibration.left_out != former.left_out and calibration.pixel_levels == former.pixel_levels:
        lines.append("the pixel threshold is still of all images: --folds or --images with --leave-out chooses it anew")
    return lines + _doubts(calibration, former)


def rests_on(calibration: Calibration) -> list[str]:
    """The good images that set the threshold, and a warning where they are unlike the rest."""
    found = support(calibration)
    if found is None or not found.images:
        return []
    highest = list(zip(found.images, found.scores, strict=True))[::-1]
    lines = [f"by these good images it is set: {_listed(highest)}"]
    return [*lines, _warning(calibration, found)] if found.is_outlying else lines


def _warning(calibration: Calibration, found: Support) -> str:
    options = " ".join(f"--leave-out {image}" for image in found.images)
    number, moved = len(found.images), f"{found.gap:.3g} above all others, which differ by {found.spread:.3g}"
    return (
        f"warning: {number} of the {calibration.num_images} good images {'lies' if number == 1 else 'lie'} {moved}; "
        f"without, the threshold would be {found.threshold_without:.6g}. "
        "Whatever scores lower, defects too, passes as good. "
        f"Look at what is named: if it is no good image of this part, give the same command with {options} (the rate "
        "then holds for images like the others). --undo goes back to what was before."
    )


def _counts(name: str, scores: Sequence[float], calibration: Calibration, former: Calibration | None) -> list[str]:
    """How many of the images are decided to be defects, before and after."""
    now = f"{num_above(scores, calibration.threshold)} now"
    before = "" if former is None else f"{num_above(scores, former.threshold)} before, "
    return [f"defects among the {len(scores)} {name}: {before}{now}"]


def _doubts(calibration: Calibration, former: Calibration | None) -> list[str]:
    """Warnings: defects that are found no more, and new good images that look defective by the former threshold."""
    if former is None:
        return []
    found, before = (num_above(calibration.defect_scores, one.threshold) for one in (calibration, former))
    lines = []
    if 2 * found < before:
        lines.append(f"warning: of {before} labelled defects that were found, {found} are now. --undo goes back.")
    scores, is_new = calibration.good_scores, calibration.images != former.images and calibration.method == "split"
    if is_new and exceed_too_often(former, scores):
        above = list(zip(calibration.images, scores, strict=False))[len(scores) - num_above(scores, former.threshold) :]
        lines.append(
            f"warning: {len(above)} of these {len(scores)} good images are defects by the threshold before, more than "
            f"chance explains: they are defective, or the line has changed. Look at {_listed(above[::-1])}"
        )
    return lines


def _left_out(calibration: Calibration) -> list[str]:
    return [f"left out by hand: {', '.join(calibration.left_out)}"] if calibration.left_out else []


def _listed(images: Sequence[tuple[str, float]]) -> str:
    """The first of the images, with their scores."""
    shown = ", ".join(f"{image} ({score:.6g})" for image, score in images[:SHOWN])
    return shown + (f" and {len(images) - SHOWN} more" if len(images) > SHOWN else "")
