"""The images of one label in a folder and below it, each with its mask: what the layouts are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from blemish.data.listing import list_folders, list_images
from blemish.data.names import image_stem, is_mask_folder, masks_among, refuse_other_kinds
from blemish.types import GOOD, Sample, Split

MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
"""Those of images, the ones that keep a mask as it is first."""
Masks = Mapping[str, Path]
"""Path of an image below the folder of its type, without extension -> its mask."""


def read_good(folder: Path, split: Split) -> list[Sample]:
    """The good images in a folder and below it; a mask beside one is its mask, which then has to be empty."""
    images, beside = _apart(folder)
    for image in images:
        refuse_other_kinds(folder, image, good=True)
    return [Sample(image, False, beside.get(image), GOOD, split) for image in images]


def read_defects(folder: Path, masks: Masks) -> list[Sample]:
    """The images of one type of defect in a folder and below it, which the type is named by, with their masks.

    These lie in a folder for masks (`masks`), beside the images, or in a folder for masks among them.
    """
    images, beside = _apart(folder)
    for image in images:
        refuse_other_kinds(folder, image, good=False)
    mask_of = {image: masks.get(_key(image, folder)) or beside.get(image) for image in images}
    return [Sample(image, True, mask_of[image], folder.name, "test") for image in images]


def read_masks(folder: Path) -> dict[str, Path]:
    """The masks in a folder and below it by their images: `<stem>_mask.*`, as well `_label` or `_GT`, or `<stem>.*`.

    Of several for one image it is the first in this order, and of one name the first of MASK_EXTENSIONS.
    """
    return _by_image(list_images(folder).images, folder)


def mask_folders(folder: Path) -> list[Path]:
    """The folders of masks directly in a folder."""
    return [found for found in list_folders(folder) if is_mask_folder(found.name)]


def _apart(folder: Path) -> tuple[list[Path], dict[Path, Path]]:
    """The images in a folder and below it, masks taken out; and image -> mask for those that lay beside it."""
    found = list_images(folder).images
    home_of = masks_among(found, folder)
    images = [path for path in found if path not in home_of]
    by_image: dict[Path, Path] = {}
    for home in dict.fromkeys(home_of.values()):
        masks = _by_image([path for path in home_of if home_of[path] == home], home)
        beside = home.parent if home != folder and is_mask_folder(home.name) else home
        by_image |= {beside / name: mask for name, mask in masks.items()}
    return images, {image: by_image[place] for image in images if (place := image.parent / image.stem) in by_image}


def _by_image(masks: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Path of an image below the folder, without extension -> its mask."""
    whole, suffixed = {}, {}
    for path in sorted(masks, key=_loss, reverse=True):
        place, stem = path.relative_to(folder).parent, image_stem(path.stem)
        whole[(place / path.stem).as_posix()] = path
        if stem != path.stem:
            suffixed[(place / stem).as_posix()] = path
    return whole | suffixed


def _loss(path: Path) -> int:
    """The more the less its kind of file keeps a mask as it is."""
    suffix = path.suffix.lower()
    return MASK_EXTENSIONS.index(suffix) if suffix in MASK_EXTENSIONS else len(MASK_EXTENSIONS)


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
