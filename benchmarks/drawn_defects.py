"""Draws every operator of the defect synthesis on the built-in data, and measures how many pictures a second it makes.

python benchmarks/drawn_defects.py docs/images/drawn_defects.png
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from blemish.data.synthetic import synthesize
from blemish.detectors.parts.synthesis import OPERATORS, Synthesis, typical_contrast
from blemish.imaging.foreground import find_foreground
from blemish.imaging.read import read_image

CATEGORIES = ("gear", "leather", "capsule")
SEEDS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=256)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in synthesize(Path(folder) / "data", categories=CATEGORIES, num_train=12, size=arguments.side):
            pictures = [read_image(file).astype(np.float32) / 255 for file in sorted(path.glob("train/good/*.png"))]
            pictures = [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else p for p in pictures]
            grey = all(np.ptp(picture, axis=2).max() == 0 for picture in pictures)
            options = pictures, find_foreground(pictures), typical_contrast(pictures), grey
            print(f"{path.name}: {rate(Synthesis(*options)):.0f} pictures a second of processor time")
            rows.append([plain(Synthesis(*options, (name,), 1)) for name in OPERATORS])
    draw(rows, arguments.out)


def rate(synthesis: Synthesis) -> float:
    start = time.process_time()
    for seed in range(SEEDS):
        synthesis(synthesis.others[seed % len(synthesis.others)], seed)
    return SEEDS / (time.process_time() - start)


def plain(synthesis: Synthesis) -> np.ndarray:
    """One of the plainer defects of an operator, framed: the one whose contrast times size is the ninth of ten."""
    found = [synthesis(synthesis.others[0], seed) for seed in range(20)]
    changes = [float(np.abs(picture - synthesis.others[0]).sum()) for picture, _ in found]
    picture, mask = found[int(np.argsort(changes)[-3])]
    shown = np.ascontiguousarray(np.clip(picture * 255, 0, 255).astype(np.uint8))
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    left, top, width, height = cv2.boundingRect(np.concatenate(edges))
    return cv2.rectangle(shown, (left - 4, top - 4), (left + width + 4, top + height + 4), (255, 60, 60), 1)


def draw(rows: list[list[np.ndarray]], out: Path) -> None:
    names = list(OPERATORS)
    half = len(names) // 2
    figure = Figure(figsize=(half * 1.5, 2 * len(rows) * 1.5 + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(rows), half)
    for block in range(2):
        for row, shown in enumerate(rows):
            for column in range(half):
                axis = axes[block * len(rows) + row][column]
                axis.imshow(shown[block * half + column])
                axis.set_axis_off()
                if row == 0:
                    axis.set_title(names[block * half + column], fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main()
