"""Layout of MVTec AD: <category>/train/good, <category>/test/<type>, <category>/ground_truth/<type>/<stem>_mask.*"""

from __future__ import annotations

import os
from pathlib import Path

from blemish.data.layouts.groups import mask_folders, read_defects, read_good, read_masks
from blemish.data.layouts.layout import Found, Layout, categories_under
from blemish.data.listing import list_folders
from blemish.data.names import is_good, is_good_type
from blemish.types import Sample

EXPECTED = "MVTec AD has <category>/train/good, test/good, test/<type> and ground_truth/<type>/<stem>_mask.png."


def read_mvtec(path: Path) -> Found:
    """{folder of a category: its samples} for `path`, a category's folder or the folder of several; else empty."""
    return categories_under(path, is_category, _read_category)


def is_category(folder: Path) -> bool:
    """Whether the folder is that of a category."""
    return os.path.isdir(folder / "train")  # noqa: PTH112 - the method raises where the folder cannot be entered


def _read_category(folder: Path) -> list[Sample]:
    samples = [
        sample for good in list_folders(folder / "train") if is_good(good.name) for sample in read_good(good, "train")
    ]
    for group in list_folders(folder / "test"):
        if is_good_type(group):
            samples += read_good(group, "test")
        else:
            masks = {key: mask for of in mask_folders(folder) for key, mask in read_masks(of / group.name).items()}
            samples += read_defects(group, masks)
    return samples


LAYOUT = Layout(read_mvtec, EXPECTED)
