"""Reads folders whose images all have one label, together with their masks: the building blocks of the layouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from blemish.data.listing import list_folders, list_images
from blemish.data.names import image_stem, is_mask_folder, masks_among, refuse_other_kinds
from blemish.types import GOOD, Sample, Split

MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
"""Extensions of mask files; of several masks for an image the earlier extension is used (lossless formats first)."""
Masks = Mapping[str, Path]
"""Path of an image relative to the folder of its type, without extension -> path of its mask."""


def read_good(folder: Path, split: Split) -> list[Sample]:
    """Samples of the good images in a folder and its sub-folders. A mask beside an image belongs to it.

    Raises BlemishError where the name of a sub-folder contradicts that the images are good.
    """
    images, beside = _split_masks(folder)
    for image in images:
        refuse_other_kinds(folder, image, good=True)
    return [Sample(image, False, beside.get(image), GOOD, split) for image in images]


def read_defects(folder: Path, masks: Masks) -> list[Sample]:
    """Samples of the anomalous images in a folder and its sub-folders; the folder's name is the defect type.

    The mask of an image is that in `masks`, or one beside the image, or in a folder of masks inside the folder.
    Raises BlemishError where the name of a sub-folder says that its images are good.
    """
    images, beside = _split_masks(folder)
    for image in images:
        refuse_other_kinds(folder, image, good=False)
    mask_of = {image: masks.get(_key(image, folder)) or beside.get(image) for image in images}
    return [Sample(image, True, mask_of[image], folder.name, "test") for image in images]


def read_masks(folder: Path) -> dict[str, Path]:
    """The masks in a folder and its sub-folders: relative path of the image, without extension -> path of the mask.

    A mask is named <stem>_mask.* (or another suffix of `names.MASK_SUFFIX`) or <stem>.*, in this order of preference;
    among equal names the order of MASK_EXTENSIONS decides.
    """
    return _by_image(list_images(folder).images, folder)


def mask_folders(folder: Path) -> list[Path]:
    """The sub-folders of masks directly in a folder."""
    return [found for found in list_folders(folder) if is_mask_folder(found.name)]


def _split_masks(folder: Path) -> tuple[list[Path], dict[Path, Path]]:
    """The images in a folder and its sub-folders without masks; and image -> mask for the masks found among them."""
    found = list_images(folder).images
    root_of = masks_among(found, folder)
    images = [path for path in found if path not in root_of]
    by_image: dict[Path, Path] = {}
    for root in dict.fromkeys(root_of.values()):
        masks = _by_image([path for path in root_of if root_of[path] == root], root)
        beside = root.parent if root != folder and is_mask_folder(root.name) else root
        by_image |= {beside / name: mask for name, mask in masks.items()}
    return images, {image: by_image[place] for image in images if (place := image.parent / image.stem) in by_image}


def _by_image(masks: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Path of an image relative to the folder, without extension -> path of its mask."""
    whole, suffixed = {}, {}
    for path in sorted(masks, key=_loss, reverse=True):
        place, stem = path.relative_to(folder).parent, image_stem(path.stem)
        whole[(place / path.stem).as_posix()] = path
        if stem != path.stem:
            suffixed[(place / stem).as_posix()] = path
    return whole | suffixed


def _loss(path: Path) -> int:
    """The rank of the file's extension in MASK_EXTENSIONS; other extensions come last."""
    suffix = path.suffix.lower()
    return MASK_EXTENSIONS.index(suffix) if suffix in MASK_EXTENSIONS else len(MASK_EXTENSIONS)


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
