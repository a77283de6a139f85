"""Layout of DAGM 2007: Class1 to Class10 with Train and Test, and a mask in Label for each anomalous image."""

from __future__ import annotations

import re
from pathlib import Path

from blemish.data.layouts.labelled_by_masks import DEFECT
from blemish.data.layouts.layout import Found, Layout, categories_under, has_folders, needed
from blemish.data.listing import images_in
from blemish.files import absolute
from blemish.types import GOOD, MaskFiles, Sample, Split

EXPECTED = "DAGM has ClassN/Train and ClassN/Test, each with NNNN.PNG and Label/NNNN_label.PNG."


def read_dagm(path: Path) -> Found:
    """{folder of a class: its samples} for a class's folder or the folder of several; else empty.

    An image with a mask is anomalous; to learn from there are good ones alone.
    """
    return categories_under(path, _is_class, _read_class)


def _is_class(folder: Path) -> bool:
    named = re.fullmatch(r"Class\d+", absolute(folder).name)
    return bool(named) and (has_folders(folder, "Train") or has_folders(folder, "Test"))


def _read_class(folder: Path) -> list[Sample]:
    train, test = (needed(folder / name, EXPECTED) for name in ("Train", "Test"))
    return [*(sample for sample in _read_split(train, "train") if not sample.label), *_read_split(test, "test")]


def _read_split(folder: Path, split: Split) -> list[Sample]:
    masks = {mask.stem.removesuffix("_label"): mask for mask in images_in(needed(folder / "Label", EXPECTED))}
    return [
        Sample(image, True, MaskFiles((masks[image.stem],)), DEFECT, split)
        if image.stem in masks
        else Sample(image, False, None, GOOD, split)
        for image in images_in(folder)
    ]


LAYOUT = Layout(read_dagm, EXPECTED, frozenset({"Labels.txt"}))
