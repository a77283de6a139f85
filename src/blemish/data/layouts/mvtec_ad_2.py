"""Layout of MVTec AD 2: images for validation, a public test set, and two private ones that a server judges."""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.groups import read_defects, read_good, read_masks
from blemish.data.layouts.layout import Found, Layout, categories_under, has_folders, needed
from blemish.data.listing import images_in
from blemish.types import GOOD, Sample

PUBLIC = "test_public"
PRIVATE = {"test_private": "regular", "test_private_mixed": "mixed"}
"""Folder of a private test set -> the end of its images' names."""
EXPECTED = (
    "MVTec AD 2 has <object>/train/good, validation/good, test_public/good, test_public/bad and "
    "test_public/ground_truth/bad/<stem>_mask.png."
)


def read_mvtec_ad_2(path: Path) -> Found:
    """{folder of an object: its samples, without the private ones} for an object's folder or that of several."""
    return categories_under(path, lambda folder: has_folders(folder, PUBLIC), _read_object)


def private_images(folder: Path) -> dict[str, list[Path]]:
    """Private test set -> its images, of one object; raises BlemishError where a set is missing."""
    expected = "MVTec AD 2 has <object>/test_private/NNN_regular.png and <object>/test_private_mixed/NNN_mixed.png."
    return {split: images_in(needed(folder / split, expected)) for split in PRIVATE}


def _read_object(folder: Path) -> list[Sample]:
    public = folder / PUBLIC
    masks = read_masks(needed(public / "ground_truth" / "bad", EXPECTED))
    return [
        *read_good(needed(folder / "train" / GOOD, EXPECTED), "train"),
        *read_good(needed(folder / "validation" / GOOD, EXPECTED), "val"),
        *read_good(needed(public / GOOD, EXPECTED), "test"),
        *read_defects(needed(public / "bad", EXPECTED), masks),
    ]


LAYOUT = Layout(read_mvtec_ad_2, EXPECTED, frozenset(PRIVATE))
