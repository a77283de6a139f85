"""Layout of KolektorSDD: a folder for each item, with images of its parts and a mask for each."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from blemish.data.layouts.labelled_by_masks import read_by_masks
from blemish.data.layouts.layout import Found, Layout, needed
from blemish.data.listing import images_in, list_folders

FOLDS = 3
"""As the authors, items are divided into three folds: one is for testing, the others to learn from."""
EXPECTED = "KolektorSDD has kos01, kos02, ..., each with PartN.jpg and its mask PartN_label.bmp."


def read_kolektor_sdd(path: Path, fold: int = 0) -> Found:
    """{path: its samples} for the folder of all items; else empty. Every third item, from `fold` on, is for testing.

    Images of an item are a group. An image is anomalous where its mask marks a pixel; to learn from there are good
    ones alone.
    """
    items = [folder for folder in list_folders(path) if re.fullmatch(r"kos\d+", folder.name)]
    samples = []
    for index, item in enumerate(items):
        parts = [image for image in images_in(item) if re.fullmatch(r"Part\d+", image.stem)]
        pairs = [(part, needed(item / f"{part.stem}_label.bmp", EXPECTED)) for part in parts]
        samples += read_by_masks(pairs, "test" if index % FOLDS == fold else "train", item.name)
    return {path: samples} if samples else {}


LAYOUT, FOLD_2, FOLD_3 = (Layout(partial(read_kolektor_sdd, fold=fold), EXPECTED) for fold in range(FOLDS))
