"""What changed light, focus, position, noise and compression of the test images cost: a table and a figure.

    python benchmarks/drift.py OUT [--data DATA --sets cookie asphalt] [--built-in fabric leather gear capsule]
        [--options '{"size": 128}'] [--figure docs/images/drift.png]

A detector is fitted to good images as they are, and one with `--augment light`. Then the test images are changed in
steps: the image AUROC, and the rate of false alarms at the threshold that was calibrated on unchanged good images. The
figures are OUT/<set>-<augment>.json; what is there is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blemish.data.category import find_categories
from blemish.imaging.pixels import size_within
from blemish.imaging.read import read_image
from blemish.imaging.variations import Variation
from blemish.library.learning import configuration
from blemish.metrics import image_auroc
from blemish.runs.config import FIT_MODEL
from blemish.runs.steps import calibrate, fit, plan, prepare
from blemish.types import Sample
from processes import print_table
from sets import evenly, folders_of, measured_once, parser_of

CHANGES: dict[str, list[tuple[str, Variation]]] = {
    "darker": [(f"{100 * part:g} %", Variation(brightness=1 - part)) for part in (0.05, 0.1, 0.2, 0.3)],
    "brighter": [(f"{100 * part:g} %", Variation(brightness=1 + part)) for part in (0.05, 0.1, 0.2, 0.3)],
    "warmer": [(f"{100 * part:g} %", Variation(warmth=1 + part)) for part in (0.03, 0.06, 0.1, 0.2)],
    "out of focus": [(f"{sigma:g} px", Variation(blur=sigma)) for sigma in (0.5, 1, 1.5, 2)],
    "shifted": [(f"{100 * part:g} %", Variation(right=part, down=part / 2)) for part in (0.01, 0.02, 0.04, 0.08)],
    "noise": [(f"{100 * part:g} %", Variation(noise=part)) for part in (0.005, 0.01, 0.02, 0.04)],
    "JPEG": [(f"quality {quality}", Variation(quality=quality)) for quality in (90, 75, 50, 25)],
}
"""Kind -> its steps, each with a name."""
MODES = ("off", "light")
MOST = 30
"""Test images of each label, evenly chosen."""
SIDE = 512
"""Larger test images are reduced to it before they are changed."""
VALIDATION = 0.3


def main() -> None:
    parser = parser_of(__doc__, ["fabric", "leather", "gear", "capsule"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="augmentations")
    given = parser.parse_args()
    rows = []
    for folder in folders_of(given, num_train=80, num_test_good=24, num_per_defect=8):
        for mode in given.modes:
            path = given.out / f"{folder.name}-{mode}.json"
            rows.append(measured_once(path, partial(measured, folder, mode, given.options)))
            print(path.stem, {name: rows[-1][name] for name in ("fit_s", "as_is")}, flush=True)
    table(rows)
    if given.figure:
        draw(rows, given.figure)


def measured(folder: Path, mode: str, options: dict[str, Any]) -> dict[str, Any]:
    """The figures of a detector that was fitted with this augmentation, on unchanged and on changed test images."""
    own = {"validation": VALIDATION, "augment": mode, **options}
    config = configuration(FIT_MODEL, 0, own, data_path=folder, ckpt_path=Path())
    prepared = prepare(plan(config, find_categories(folder)[0]))
    started = time.perf_counter()
    calibrated = calibrate(fit(prepared))
    seconds, samples = time.perf_counter() - started, evenly(prepared.category.of("test"), MOST)
    calibration = calibrated.calibration
    assert calibration is not None
    images = [reduced(read_image(sample.image)) for sample in samples]
    labels = np.array([bool(sample.label) for sample in samples])

    def figures(change: Variation) -> dict[str, float]:
        changed = [
            Sample(sample.image, sample.label, content=change(image))
            for sample, image in zip(samples, images, strict=True)
        ]
        scores = np.array([found.score for found in calibrated.inspector.predict(changed)])
        alarms = float((scores[~labels] > calibration.threshold).mean())
        found = float((scores[labels] > calibration.threshold).mean())
        return {"auroc": image_auroc(labels, scores), "false_alarms": alarms, "found": found}

    return {
        "set": folder.name,
        "augment": mode,
        "fit_s": seconds,
        "rate": calibration.false_alarm_rate,
        "as_is": figures(Variation()),
        "changed": {kind: [figures(change) for _, change in steps] for kind, steps in CHANGES.items()},
    }


def reduced(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, size_within(image.shape, SIDE)[::-1], interpolation=cv2.INTER_AREA)


def mean_of(rows: Sequence[dict[str, Any]], mode: str, kind: str, figure: str) -> list[float]:
    """The means over the sets of a figure, unchanged and at each step of a kind."""
    own = [row for row in rows if row["augment"] == mode]
    return [
        fmean(values)
        for values in zip(
            *([row["as_is"][figure], *(step[figure] for step in row["changed"][kind])] for row in own), strict=True
        )
    ]


def table(rows: Sequence[dict[str, Any]]) -> None:
    """A row for each set, augmentation and kind: AUROC / false alarms unchanged and at each step."""
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        times = ", ".join(f"{row['augment']} {row['fit_s']:.1f} s" for row in own)
        print(f"\n{name}: fit and calibration: {times}; rate asked for {own[0]['rate']:.3g}")
        print_table(["change", "augment", "as is", "1", "2", "3", "4"], _lines(own))
    print("\naverage")
    print_table(["change", "augment", "as is", "1", "2", "3", "4"], _lines(rows))


def _lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [
        [kind, mode, *(f"{auroc:.3f} / {rate:.2f}" for auroc, rate in zip(*both, strict=True))]
        for kind in CHANGES
        for mode in dict.fromkeys(row["augment"] for row in rows)
        if (both := [mean_of(rows, mode, kind, figure) for figure in ("auroc", "false_alarms")])
    ]


def draw(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """AUROC above and false alarms below, a column for each kind of change; means over the sets."""
    figure = Figure(figsize=(2.2 * len(CHANGES), 4.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(CHANGES), sharey="row")
    for column, (kind, steps) in enumerate(CHANGES.items()):
        names = ["as is", *(name.removeprefix("quality ") for name, _ in steps)]
        for axis, value in zip(axes[:, column], ("auroc", "false_alarms"), strict=True):
            for mode in dict.fromkeys(row["augment"] for row in rows):
                style = "o--" if mode == "off" else "o-"
                axis.plot(names, mean_of(rows, mode, kind, value), style, label=f"augment {mode}", markersize=4)
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
        axes[0, column].set_title(kind)
    axes[0, 0].set_ylabel("image AUROC")
    axes[1, 0].set_ylabel("false alarms")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main()
