"""How accuracy grows with the number of good images, with and without varied copies of them: a table and a figure.

    python benchmarks/few_images.py OUT [--data DATA --sets cookie asphalt] [--built-in fabric gear] [--draws 5]
        [--options '{"size": 128}'] [--figure docs/images/few_images.png]

From each set 1, 2, 4 and 8 good images are drawn, several times. A detector is fitted to them with each `--augment`,
and evaluated on the test images. The figures are OUT/<set>-<number>-<draw>-<augment>.json; what is there is not
measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blemish.data.category import Category, find_categories
from blemish.library.learning import configuration
from blemish.metrics import image_auroc
from blemish.runs.config import FIT_MODEL
from blemish.runs.steps import calibrate, fit, plan, prepare
from processes import print_table
from sets import evenly, folders_of, measured_once, parser_of

NUMBERS = (1, 2, 4, 8)
MODES = ("off", "pose", "light")
MOST = 40
"""Test images of each label, evenly chosen."""


def main() -> None:
    parser = parser_of(__doc__, ["fabric", "gear"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["off", "pose"])
    given = parser.parse_args()
    folders, rows = folders_of(given, num_train=40, num_test_good=20, num_per_defect=5), []
    for draw_number, folder, number, mode in product(range(given.draws), folders, NUMBERS, given.modes):
        path = given.out / f"{folder.name}-{number}-{draw_number}-{mode}.json"
        measure = partial(measured, find_categories(folder)[0], number, draw_number, mode, given.options)
        rows.append(measured_once(path, measure))
        print(path.stem, f"{rows[-1]['auroc']:.3f}", flush=True)
    table(rows)
    if given.figure:
        draw(rows, given.figure)


def drawn(category: Category, number: int, seed: int) -> Category:
    """The category with so many of its good images, and up to MOST test images of each label."""
    good = category.of("train")
    rows = np.random.default_rng([seed, number]).permutation(len(good))[:number]
    samples = [good[row] for row in sorted(rows)] + evenly(category.of("test"), MOST)
    return Category(category.name, category.root, "", tuple(samples))


def measured(category: Category, number: int, seed: int, mode: str, options: dict[str, Any]) -> dict[str, Any]:
    """The image AUROC of a detector that was fitted to so many good images."""
    config = configuration(FIT_MODEL, 0, {"augment": mode, **options}, data_path=category.root, ckpt_path=Path())
    prepared = prepare(plan(config, drawn(category, number, seed)))
    calibrated = calibrate(fit(prepared))
    found = list(calibrated.inspector.predict(prepared.of("test")))
    auroc = image_auroc([bool(one.sample.label) for one in found], [one.score for one in found])
    return {
        "set": category.name,
        "number": number,
        "draw": seed,
        "augment": mode,
        "auroc": auroc,
        "fit_s": calibrated.fitted.seconds,
    }


def values_of(rows: Sequence[dict[str, Any]], name: str, mode: str, number: int) -> list[float]:
    """The AUROC of each draw."""
    return [row["auroc"] for row in rows if (row["set"], row["augment"], row["number"]) == (name, mode, number)]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean over the draws, and the ends of its 95 % interval."""
    middle = fmean(values)
    half = NormalDist().inv_cdf(0.975) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return middle, middle - half, middle + half


def table(rows: Sequence[dict[str, Any]]) -> None:
    """A row per set and augmentation, a column per number of good images."""
    pairs = dict.fromkeys((row["set"], row["augment"]) for row in rows)
    shown = [
        [name, mode, *("{:.3f} ({:.3f}-{:.3f})".format(*interval(values_of(rows, name, mode, n))) for n in NUMBERS)]
        for name, mode in sorted(pairs)
    ]
    print_table(["set", "augment", *(f"{number} good" for number in NUMBERS)], shown)


def draw(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Image AUROC against the number of good images, a panel per set, with 95 % intervals over the draws."""
    names, modes = (list(dict.fromkeys(row[field] for row in rows)) for field in ("set", "augment"))
    figure = Figure(figsize=(3.4 * len(names), 2.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axis, name in zip(axes, names, strict=True):
        for mode in modes:
            found = [interval(values_of(rows, name, mode, number)) for number in NUMBERS]
            middle, low, high = (list(column) for column in zip(*found, strict=True))
            (line,) = axis.plot(NUMBERS, middle, "o-", label=f"augment {mode}")
            axis.fill_between(NUMBERS, low, high, alpha=0.2, color=line.get_color())
        axis.set_xscale("log", base=2)
        axis.set(title=name, xlabel="good images", xticks=NUMBERS, xticklabels=list(map(str, NUMBERS)))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("image AUROC")
    axes[-1].legend(loc="lower right", fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main()
