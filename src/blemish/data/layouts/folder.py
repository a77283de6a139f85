"""Any folder: good images, optionally beside them folders of anomalous images and of masks.

    parts/*.png                                   all of them good: nothing to evaluate
    parts/good/*.png                              the same
    parts/good/*.png, parts/<type>/*.png          each other folder is a defect type
    parts/masks/<type>/<stem>.png                 masks, optional ("ground_truth" is read too)

Where there are anomalous images, every fifth good image (in the order of their names, spread over the whole) is
kept for the test, since without good test images no false alarm can be counted.
"""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.mvtec_ad import list_folders, list_images, list_masks, mask_of
from blemish.types import GOOD, Sample

MASK_FOLDERS = ("masks", "ground_truth")
TEST_STRIDE = 5


def read_folder(path: Path) -> dict[Path, list[Sample]]:
    """The folder -> its samples, as one category; empty where it has no good image."""
    has_good_folder = (path / GOOD).is_dir()
    good = list_images(path / GOOD if has_good_folder else path)
    if not good:
        return {}
    defects = [
        folder
        for folder in list_folders(path)
        if has_good_folder and folder.name not in (GOOD, *MASK_FOLDERS) and list_images(folder)
    ]
    anomalous = []
    for folder in defects:
        masks = {stem: mask for name in MASK_FOLDERS for stem, mask in list_masks(path / name / folder.name).items()}
        anomalous += [Sample(image, True, mask_of(image, masks), folder.name, "test") for image in list_images(folder)]
    held_out = set(good[TEST_STRIDE - 1 :: TEST_STRIDE]) if anomalous else set()
    samples = [Sample(image, False, None, GOOD, "test" if image in held_out else "train") for image in good]
    return {path: samples + anomalous}
