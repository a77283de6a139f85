"""What straightening parts is worth on the built-in data: AUROC as pictures lie, and aligned; and a picture of it.

    python benchmarks/alignment.py --out docs/images/alignment.png [--data FOLDER] [--models padim ensemble]

`--data` is a data set in the layout of MVTec AD in place of the built-in one; the picture is of its gear and screw.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blemish.data import find_categories
from blemish.data.category import hold_out
from blemish.data.synthetic import synthesize
from blemish.imaging.alignment import choose_alignment
from blemish.imaging.read import read_image
from blemish.runs.config import RunConfig
from blemish.runs.run import run
from processes import print_table

SHOWN = ("gear", "screw")
COLUMNS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the picture")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", nargs="+", default=["patchcore", "padim", "ensemble"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "data"
        if options.data is None:
            synthesize(data)
        if options.out:
            draw(data, options.out)
        rows = [row(data, Path(folder), category.name, options.models) for category in find_categories(data)]
    print_table(["", "aligned", *(f"{model}, {how}" for model in options.models for how in ("off", "auto"))], rows)


def row(data: Path, folder: Path, category: str, models: list[str]) -> list[object]:
    """A category's image / pixel AUROC of each model, without and with what it chooses by itself."""
    found = []
    for model in models:
        for align in ("off", "auto"):
            out = folder / model / align
            fields = {"model": model, "align": align, "data_path": data, "ckpt_path": out, "figures": 0}
            metrics = run(RunConfig.create(**fields, category=(category,))).metrics
            found.append(f"{metrics['image_auroc']:.3f} / {metrics['pixel_auroc']:.3f}")
    is_aligned = any((folder / models[0] / "auto" / category).glob("reference*.png"))
    print(category, is_aligned, found, flush=True)
    return [category, "yes" if is_aligned else "no", *found]


def draw(data: Path, out: Path) -> None:
    """Images of a few categories, and below them the same images registered."""
    rows = []
    for category in find_categories(data, SHOWN):
        split = hold_out(category, 0.1, 0)
        alignment, _ = choose_alignment(split.of("train"), split.of("val"))
        assert alignment is not None
        pictures = [read_image(sample.image) for sample in category.of("test")[-COLUMNS:]]
        rows += [pictures, [alignment.placement(picture).warp(picture) for picture in pictures]]
    figure = Figure(figsize=(1.6 * COLUMNS, 1.62 * len(rows)), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), COLUMNS, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for number, (line, pictures) in enumerate(zip(axes, rows, strict=True)):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(cv2.resize(picture, (320, 320), interpolation=cv2.INTER_AREA), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel("registered" if number % 2 else "original", fontsize=9)
    figure.subplots_adjust(left=0.03, right=0.998, top=0.998, bottom=0.002)
    figure.savefig(out)


if __name__ == "__main__":
    main()
