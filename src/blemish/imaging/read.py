"""From an image file to an array of its pixels: whole, or refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from blemish.errors import BlemishError
from blemish.files import read_bytes
from blemish.imaging.formats import EXTENSIONS, Decoded, Image, decode, num_pages
from blemish.imaging.limits import BYTES_PER_PIXEL, HEADERS, MAX_PIXELS


def is_image(path: Path) -> bool:
    """Whether the name says that the file is an image (its extension, in any case)."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """The image in a file, at its own depth: grey stays grey, 16-bit stays 16-bit.

    EXIF orientation is honoured, a palette is expanded and an alpha channel dropped (`decode_file` tells). The path may
    name a page, as `page_paths` does. Raises BlemishError for a file that is missing, damaged, of a kind that is not
    read, of more pixels than `max_pixels`, or that holds several images.
    """
    return decode_image(read_content(path, max_pixels), path, max_pixels)


def decode_image(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """The image in `data`, the content of the file at `path`; see `read_image`."""
    return decode_file(data, path, max_pixels).pixels


def decode_file(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Decoded:
    """As `decode_image`, with what was left out of the pixels."""
    try:
        decoded = decode(data, max_pixels, _split(path)[1])
    except BlemishError as error:
        raise BlemishError(f"{path}: {error}") from None
    except MemoryError:
        raise BlemishError(f"{path}: too large for the memory at hand. Cut it into smaller images.") from None
    image = decoded.pixels
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        raise BlemishError(f"{path}: float pixels must lie in [0, 1]. Scale the file, or save it as 16-bit PNG.")
    return decoded


def read_content(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """The content of the file that a path, or the path of a page, names.

    Raises BlemishError where it cannot be read, or is longer than an image of so many pixels can be.
    """
    return read_bytes(_split(path)[0], BYTES_PER_PIXEL * max_pixels + HEADERS)


def page_paths(path: Path) -> list[Path]:
    """A path for each page of a file, x.tiff#page=1 and on, which all that reads images understands.

    Only the path itself for a file of one image, and for one that cannot be read, which is told where it is decoded.
    """
    try:
        number = num_pages(read_content(path))
    except BlemishError:
        return [path]
    return [path] if number == 1 else [path.with_name(f"{path.name}#page={page}") for page in range(1, number + 1)]


def _split(path: Path) -> tuple[Path, int | None]:
    """The file that a path names, and the page of it."""
    found = re.fullmatch(r"(.+\.\w+)#page=([1-9]\d{0,8})", path.name)
    return (path.with_name(found[1]), int(found[2])) if found else (path, None)
