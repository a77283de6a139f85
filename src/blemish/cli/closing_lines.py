"""The last lines that `fit` and `train` print: the result, the meaning of the threshold, and the next commands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.cli.terminal import quoted
from blemish.errors import number_of

if TYPE_CHECKING:
    from blemish.model.folder import ModelFolder

PREDICTIONS = "predictions"
"""The output folder in the suggested command."""


def fit_lines(model: ModelFolder, images: Path) -> list[str]:
    """The lines of `fit` on the folder `images`: the model, its false-alarm rate, and the next commands."""
    learned = number_of(len(model.provenance["learned_from"]), "image")
    fraction = model.provenance["config"]["validation"]
    calibration = model.calibration
    lines = [f"{model.model} has learned from {learned}; the model is in {model.folder}"]
    if calibration is None:
        lines.append("there is no threshold, because no good image could be held out: use more images, or run")
        lines.append(f"  blemish calibrate {quoted(model.folder)} --images FOLDER_OF_OTHER_GOOD_IMAGES")
    else:
        number, rate = calibration.num_images, calibration.false_alarm_rate or 0
        lines.append(
            f"an image that scores above {calibration.threshold:.4g} is a defect: {false_alarms(rate)}, "
            f"by {number_of(number, 'good image')} held out"
        )
        lines += too_few(number, fraction)
    return lines + _next(model.folder, images)


def update_lines(model: ModelFolder) -> list[str]:
    """The lines of `fit --update`."""
    learned = number_of(len(model.provenance["learned_from"]), "image")
    return [f"{model.model} has learned from {learned} by now; the model is in {model.folder}"]


def false_alarms(rate: float) -> str:
    """A false-alarm rate in words: 0.0833 is 'about 1 in 12 good parts will be flagged'."""
    return f"about 1 in {round(1 / rate)} good parts will be flagged"


def too_few(number: int, fraction: float) -> list[str]:
    """A line on how many images the default false-alarm rate needs; empty if `number` held-out images suffice.

    `fraction` is the fraction of the images that is held out.
    """
    from blemish.calibration.thresholds import FALSE_ALARM_RATE, num_images_for, smallest_rate

    if smallest_rate(number) <= FALSE_ALARM_RATE:
        return []
    needed = num_images_for(FALSE_ALARM_RATE)
    total = f", about {math.ceil(needed / fraction - 1e-9)} good ones in all," if fraction else ""
    return [f"{needed} held-out images{total} are needed to guarantee 1 in {round(1 / FALSE_ALARM_RATE)}"]


def _next(folder: Path, images: Path) -> list[str]:
    tested = next((path for path in (images / "test", images.parent.parent / "test") if path.is_dir()), None)
    inspected = quoted(tested) if tested else "IMAGES"
    return [
        "next:",
        f"  blemish predict {quoted(folder)} {inspected} --out {PREDICTIONS} --report",
        f"    finds the defects: look at {PREDICTIONS}/report.html; the table is {PREDICTIONS}/predictions.csv",
        f"  blemish calibrate {quoted(folder)}",
        "    shows the threshold and alternatives, and sets another one",
    ]
