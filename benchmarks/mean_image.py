"""The floor that every detector has to clear: the squared distance to the mean of the good images.

    python benchmarks/mean_image.py DATA_PATH [--size 128]

Prints pixel and image AUROC per category and their averages, by the same preprocessing, inference path and metrics as
every other figure of blemish.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from blemish.data import find_categories
from blemish.data.source import load
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.results import comparison_tables
from blemish.imaging.preprocess import Preprocess
from blemish.inference.inspector import Inspector

Array = NDArray[np.float32]


class MeanImage:
    """A backend: the map is the squared distance to a given image, the mean over the channels."""

    def __init__(self, mean: Array):
        self.mean = mean

    def __call__(self, images: Array) -> tuple[Array, Array]:
        maps = np.square(images - self.mean).mean(axis=1)
        return maps.max(axis=(1, 2)), maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_path", type=Path)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    preprocess = Preprocess((options.size, options.size))
    evaluations = []
    for category in find_categories(options.data_path):
        good = load(category.of("train"), preprocess)
        mean = good.batch(range(len(good))).mean(dim=0).numpy()
        test = category.of("test")
        predictions = Inspector(MeanImage(mean), preprocess).predict(test)
        evaluations.append(evaluate(predictions, test, method="mean image", category=category.name, root=category.root))
    Console().print(*comparison_tables(evaluations), sep="\n\n")


if __name__ == "__main__":
    main()
