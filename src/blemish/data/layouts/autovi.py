"""Layout of AutoVI: that of MVTec AD, but with a folder of masks for each image, and defects_config.json."""

from __future__ import annotations

import os
from pathlib import Path

from blemish.data.layouts.defects import CONFIG, read_saturations, read_several_masks
from blemish.data.layouts.groups import read_good
from blemish.data.layouts.layout import Found, Layout, categories_under, has_folders, needed
from blemish.data.listing import list_folders
from blemish.types import GOOD, Sample

EXPECTED = (
    "AutoVI has <category>/train/good, test/good, test/<type>, ground_truth/<type>/<stem>/0000.png and "
    "defects_config.json."
)


def read_autovi(path: Path) -> Found:
    """{folder of a category: its samples} for a category's folder or the folder of several; else empty."""
    return categories_under(path, _is_category, _read_category)


def _is_category(folder: Path) -> bool:
    return has_folders(folder, "train", "test") and os.path.isfile(folder / CONFIG)  # noqa: PTH113


def _read_category(folder: Path) -> list[Sample]:
    saturations = read_saturations(folder / CONFIG)
    samples = read_good(needed(folder / "train" / GOOD, EXPECTED), "train")
    for group in list_folders(folder / "test"):
        masks = folder / "ground_truth" / group.name
        samples += read_good(group, "test") if group.name == GOOD else read_several_masks(group, masks, saturations)
    return samples


LAYOUT = Layout(read_autovi, EXPECTED, frozenset({CONFIG}))
