"""Converts what the library accepts as images (a folder, paths, bytes, arrays, PIL images) to samples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.category import AUTO, Category, find_categories, in_groups, only_good
from blemish.data.selection import find_images
from blemish.errors import BlemishError, short_repr
from blemish.files import absolute
from blemish.imaging.formats import Image
from blemish.types import Sample, Split

AnyImage = str | os.PathLike[str] | bytes | NDArray[Any] | Any
"""A path, the content of an image file, an array (H, W) or (H, W, 3) (uint8, uint16, or float in [0, 1]; grey or RGB),
or a PIL image."""
AnyImages = str | os.PathLike[str] | Iterable[AnyImage]
"""A folder, or several images."""
KINDS = "a path, bytes, an array (H, W) or (H, W, 3), or a PIL image"
IN_MEMORY = Path("memory")
"""The folder in the made-up paths of images in memory."""
PIL_MODES = {"1": "L", "LA": "L", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
"""Mode of a PIL image -> the mode that it is converted to; a palette is expanded, an alpha channel dropped."""


def to_sample(image: AnyImage, name: str = "image", root: Path = IN_MEMORY, split: Split = "test") -> Sample:
    """The sample of an image: its path is that of the file, or `root / name` for an image in memory.

    Raises BlemishError where it is not an image; a file is not read here.
    """
    label = None if split == "test" else False
    if isinstance(image, str | os.PathLike):
        return Sample(Path(image), label, split=split)
    if isinstance(image, bytes | bytearray | memoryview):
        return Sample(root / name, label, split=split, content=bytes(image))
    return Sample(root / name, label, split=split, content=_pixels(_array(image, name), name))


def to_samples(images: AnyImages, argument: str) -> Iterator[Sample]:
    """Yields a sample per image; of a folder, all images in it and in its subfolders."""
    if isinstance(images, str | os.PathLike):
        _refuse_file(Path(images), argument)
        yield from map(Sample, find_images([os.fspath(images)]).images)
        return
    for index, image in enumerate(_several(images, argument)):
        yield to_sample(image, f"{argument}[{index}]")


def to_category(images: AnyImages, argument: str, *, layout: str = AUTO, group: str = "") -> Category:
    """A category of good training images, from a folder or a list; raises BlemishError where there are none.

    `layout` and `group` are those of `find_categories`; a list has no layout.
    """
    if isinstance(images, str | os.PathLike):
        _refuse_file(Path(images), argument)
        found = find_categories(Path(images), layout=layout, group=group)
        if len(found) > 1:
            names = ", ".join(category.name for category in found)
            raise BlemishError(f"{argument} {images}: holds several categories ({names}). Give the folder of one.")
        return only_good(found[0])
    several = [_absolute(image) for image in _several(images, argument)]
    if not several:
        raise BlemishError(f"{argument}: empty. Give a folder or a list of images.")
    folders = [image.parent for image in several if isinstance(image, Path)]
    root = Path(os.path.commonpath(folders)) if folders else IN_MEMORY
    samples = [to_sample(image, f"{argument}[{index}]", root, "train") for index, image in enumerate(several)]
    unique = list({sample.image: sample for sample in samples}.values())
    return Category(root.name or IN_MEMORY.name, root, "", tuple(in_groups(unique, root, group) if group else unique))


def _several(images: Any, argument: str) -> Iterable[Any]:
    """The images, unchanged; raises BlemishError where they are not a list of images or a stack (N, H, W[, C])."""
    is_stack = isinstance(images, np.ndarray) and (images.ndim == 4 or (images.ndim == 3 and images.shape[2] != 3))
    if isinstance(images, bytes | bytearray | dict) or not isinstance(images, Iterable) or _is_pil(images):
        raise BlemishError(f"{argument}: {short_repr(images)} was given. Give a folder or a list of images.")
    if isinstance(images, np.ndarray) and not is_stack:
        raise BlemishError(f"{argument}: an array of the shape {images.shape} is one image. Give a list of images.")
    return images


def _absolute(image: AnyImage) -> AnyImage:
    return absolute(Path(image)) if isinstance(image, str | os.PathLike) else image


def _refuse_file(path: Path, argument: str) -> None:
    if not os.path.isdir(path):  # noqa: PTH112 - the method raises where a folder above cannot be entered
        what = "a file" if os.path.exists(path) else "no such folder"  # noqa: PTH110
        raise BlemishError(f"{argument} {path}: {what}. Give a folder or a list of images.")


def _is_pil(image: object) -> bool:
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(image).__mro__)


def _array(image: Any, name: str) -> NDArray[Any]:
    if isinstance(image, np.ndarray):
        return image
    if not _is_pil(image):
        raise BlemishError(f"{name}: {short_repr(image)} was given. Give {KINDS}.")
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)  # as for files
    return np.asarray(upright.convert(PIL_MODES[upright.mode]) if upright.mode in PIL_MODES else upright)


def _pixels(array: NDArray[Any], name: str) -> Image:
    """A copy of the array in the form of a decoded image; raises BlemishError where it is not an image."""
    shape = array.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) or 0 in shape:
        raise BlemishError(f"{name}: an array of the shape {shape} is not an image. Give (H, W) or (H, W, 3).")
    kind = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    if kind not in (np.uint8, np.uint16, np.float32):
        raise BlemishError(f"{name}: its dtype is {array.dtype}; allowed are uint8, uint16, and float in [0, 1].")
    pixels = np.array(array[..., 0] if shape[2:] == (1,) else array, kind, order="C")
    if kind == np.float32 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise BlemishError(f"{name}: float pixels must lie in [0, 1]. Scale them, or give uint8 or uint16.")
    return pixels
