"""Layout of a plain folder: good images, and optionally folders of anomalous images and of masks.

parts/*.png                                   all images are good: there is nothing to evaluate
parts/good/*.png                              the same
parts/good/*.png, parts/<type>/*.png          every other folder is a defect type
parts/masks/<type>/<stem>.png                 masks, optional ("ground_truth" is read too)
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.groups import mask_folders, read_defects, read_good, read_masks
from blemish.data.layouts.layout import Found, Layout
from blemish.data.listing import list_folders
from blemish.data.names import is_good, is_good_type, is_mask_folder

EXPECTED = "A plain folder has good images, or a folder good and one for each type of defect."


def read_folder(path: Path) -> Found:
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
    return {path: good + defects}


LAYOUT = Layout(read_folder, EXPECTED, has_split=False)
