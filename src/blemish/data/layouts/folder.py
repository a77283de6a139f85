"""Layout of a plain folder: good images, and optionally folders of anomalous images and of masks.

    parts/*.png                                   all images are good: there is nothing to evaluate
    parts/good/*.png                              the same
    parts/good/*.png, parts/<type>/*.png          every other folder is a defect type
    parts/masks/<type>/<stem>.png                 masks, optional ("ground_truth" is read too)

Where there are anomalous images, every fifth good image in the order of the paths is a test image: without good test
images false alarms could not be counted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from blemish.data.layouts.groups import mask_folders, read_defects, read_good, read_masks
from blemish.data.listing import list_folders
from blemish.data.names import is_good, is_good_type, is_mask_folder
from blemish.types import Sample

TEST_STRIDE = 5


def read_folder(path: Path) -> dict[Path, list[Sample]]:
    """{the folder: its samples}, one category; empty where it contains no good image."""
    folders = list_folders(path)
    good_folders = [folder for folder in folders if is_good(folder.name)]
    good = [sample for folder in good_folders or [path] for sample in read_good(folder, "train")]
    if not good:
        return {}
    defects = []
    for folder in folders if good_folders else []:
        if folder not in good_folders and not is_mask_folder(folder.name) and not is_good_type(folder):
            masks = {key: mask for of in mask_folders(path) for key, mask in read_masks(of / folder.name).items()}
            defects += read_defects(folder, masks)
    held_out = set(good[TEST_STRIDE - 1 :: TEST_STRIDE]) if defects else set()
    return {path: [replace(sample, split="test") if sample in held_out else sample for sample in good] + defects}
