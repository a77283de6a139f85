"""What defects among the good images cost, and what leaving outliers out gives back: a table and a figure.

    python benchmarks/contamination.py OUT [--data DATA --sets cookie asphalt] [--built-in fabric gear] [--seeds 0]
        [--options '{"size": 128}'] [--figure docs/images/contamination.png]

A share of 0, 5, 10 or 20 % of the images to learn from are test images with a defect. Half of the defects and the good
test images are evaluated by a detector fitted to all of them, and by one fitted without those that
`--outliers leave-out` leaves out.
The figures are OUT/<set>-<percent>-<seed>.json; what is there is not measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blemish.data.category import Category, find_categories
from blemish.library.learning import configuration
from blemish.metrics import image_auroc
from blemish.runs.config import FIT_MODEL, RunConfig
from blemish.runs.steps import calibrate, fit, plan, prepare
from processes import print_table
from sets import folders_of, measured_once, parser_of

SHARES = (0.0, 0.05, 0.1, 0.2)
"""Of the images to learn from."""


def main() -> None:
    parser = parser_of(__doc__, ["fabric", "gear"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    folders, rows = folders_of(given, num_train=60, num_test_good=20, num_per_defect=8), []
    for folder, share, seed in product(folders, SHARES, given.seeds):
        path = given.out / f"{folder.name}-{round(100 * share)}-{seed}.json"
        measure = partial(measured, find_categories(folder)[0], share, seed, given.options)
        rows.append(measured_once(path, measure))
        print(path.stem, {name: value for name, value in rows[-1].items() if name != "ratios"}, flush=True)
    table(rows)
    if given.figure:
        draw(rows, given.figure)


def contaminated(category: Category, share: float, seed: int) -> tuple[Category, set[Path]]:
    """The category with test images of defects moved among the good ones, and which these are.

    They are of a random half of the defects; the other half alone stays in the test, whatever the share.
    """
    good, defects = category.of("train"), [sample for sample in category.of("test") if sample.label]
    pool = [defects[row].image for row in np.random.default_rng(seed).permutation(len(defects))[: len(defects) // 2]]
    moved = set(pool[: round(share * len(good) / (1 - share))])
    samples = [
        replace(sample, label=False, mask=None, defect="good", split="train") if sample.image in moved else sample
        for sample in category.samples
        if sample.image in moved or sample.image not in pool
    ]
    ordered = sorted(samples, key=lambda sample: (sample.split, sample.image.name))
    return replace(category, layout="", samples=tuple(ordered)), moved


def measured(category: Category, share: float, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """The suspects among the images to learn from, and the image AUROC with and without leaving them out."""
    mixed, moved = contaminated(category, share, seed)
    places = {"data_path": category.root, "ckpt_path": Path()}
    config = configuration(FIT_MODEL, seed, {"outliers": "show", **options}, **places)
    found = prepare(plan(config, mixed)).outliers
    assert found is not None
    suspects = {one.sample.image for one in found.suspects}
    config = config.model_copy(update={"outliers": "keep"})
    kept = auroc(config, mixed)
    rest = replace(mixed, samples=tuple(sample for sample in mixed.samples if sample.image not in suspects))
    ratios = sorted((one.ratio, one.sample.image in moved) for one in found.scored)
    return {
        "set": category.name,
        "share": share,
        "seed": seed,
        "images": len(found.scored),
        "defects": len(moved),
        "found": len(moved & suspects),
        "false": len(suspects - moved),
        "kept": kept,
        "left_out": auroc(config, rest) if suspects else kept,
        "limit": found.limit,
        "ratios": ratios,
    }


def auroc(config: RunConfig, category: Category) -> float:
    """The image AUROC on the test images of a detector fitted to the good ones."""
    prepared = prepare(plan(config, category))
    inspector = calibrate(fit(prepared)).inspector
    scores = [(found.score, bool(found.sample.label)) for found in inspector.predict(prepared.of("test"))]
    return image_auroc([label for _, label in scores], [score for score, _ in scores])


def table(rows: Sequence[dict[str, Any]]) -> None:
    """A row per set and share, means over the seeds."""
    shown = []
    for name, share in dict.fromkeys((row["set"], row["share"]) for row in rows):
        own = [row for row in rows if (row["set"], row["share"]) == (name, share)]
        found, defects, false, good = (
            sum(values)
            for values in zip(
                *((r["found"], r["defects"], r["false"], r["images"] - r["defects"]) for r in own), strict=True
            )
        )
        aurocs = (f"{fmean(row[how] for row in own):.3f}" for how in ("kept", "left_out"))
        shown.append([name, f"{share:.0%}", f"{found} of {defects}", f"{false} of {good}", *aurocs])
    print_table(["set", "defective", "found", "false suspects", "AUROC, all kept", "AUROC, suspects left out"], shown)


def draw(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Image AUROC against the share of defects among the good images, with and without outliers, a panel per set."""
    names = list(dict.fromkeys(row["set"] for row in rows))
    figure = Figure(figsize=(3.4 * len(names), 2.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for how, label, style in (("kept", "all kept", "o--"), ("left_out", "suspects left out", "o-")):
            means = [fmean(r[how] for r in rows if (r["set"], r["share"]) == (name, share)) for share in SHARES]
            axis.plot([100 * share for share in SHARES], means, style, label=label)
        axis.set(title=name, xlabel="defective among the good images, %", ylabel="image AUROC")
        axis.set_ylim(top=min(1.005, axis.get_ylim()[1]))
        axis.grid(alpha=0.3)
    axis.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main()
