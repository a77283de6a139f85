"""Layout of Severstal: images of steel, and a table with the runs of pixels of each defect."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from blemish.data.layouts.layout import Found, Layout, has_folders, inside, needed, read_table
from blemish.data.listing import images_in
from blemish.types import GOOD, MaskRuns, Sample

SHAPE = (256, 1600)
"""(height, width) of all images."""
COLUMNS = ("ImageId", "ClassId", "EncodedPixels")
EXPECTED = "Severstal has train_images/*.jpg and train.csv with the columns ImageId, ClassId, EncodedPixels."


def read_severstal(path: Path) -> Found:
    """{path: its samples} for the folder of train.csv; else empty. The defect type names all classes of an image.

    The authors keep the labels of their test images, so test images are drawn from those to learn from.
    """
    table, images = path / "train.csv", path / "train_images"
    if not has_folders(path, images.name) or not os.path.isfile(table):  # noqa: PTH113
        return {}
    classes: dict[Path, dict[str, str]] = defaultdict(dict)
    for row in read_table(table, COLUMNS):
        if row["EncodedPixels"]:
            image = needed(inside(images, row["ImageId"], table), EXPECTED)
            classes[image][row["ClassId"]] = row["EncodedPixels"]
    return {path: [_sample(image, classes.get(image, {}), table) for image in images_in(images)]}


def _sample(image: Path, runs: dict[str, str], table: Path) -> Sample:
    if not runs:
        return Sample(image, False, None, GOOD, "train")
    kind = "+".join(f"class_{name}" for name in sorted(runs))
    return Sample(image, True, MaskRuns(table, SHAPE, tuple(runs[name] for name in sorted(runs))), kind, "test")


LAYOUT = Layout(read_severstal, EXPECTED, frozenset({"test_images", "sample_submission.csv"}), has_split=False)
