"""Reads image files into arrays; a file that is damaged or not supported is an error, never read in part."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from blemish.errors import BlemishError
from blemish.files import read_bytes
from blemish.imaging.formats import EXTENSIONS, Decoded, Image, decode, num_pages
from blemish.imaging.limits import BYTES_PER_PIXEL, HEADERS, MAX_PIXELS


def is_image(path: Path) -> bool:
    """Whether the file name has the extension of an image, in any case, and is not hidden."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """The pixels of an image file, (H, W) grey or (H, W, 3) RGB; uint8, uint16, or float32 in [0, 1].

    EXIF orientation is applied, a palette is expanded and an alpha channel is dropped. The path may name a page of a
    TIFF, as in x.tiff#page=2. Raises BlemishError for a file that is missing, damaged, of a format that is not
    supported, of more than `max_pixels` pixels, or that holds several images.
    """
    return decode_image(read_content(path, max_pixels), path, max_pixels)


def decode_image(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """As `read_image`, of `data`, which is the content of the file at `path`."""
    return decode_file(data, path, max_pixels).pixels


def decode_file(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Decoded:
    """As `decode_image`, together with whether the file has an alpha channel."""
    try:
        decoded = decode(data, max_pixels, _split(path)[1])
    except BlemishError as error:
        raise BlemishError(f"{path}: {error}") from None
    except MemoryError:
        raise BlemishError(f"{path}: there is not enough memory to decode it. Cut it into smaller images.") from None
    image = decoded.pixels
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        raise BlemishError(f"{path}: float pixels must lie in [0, 1]. Scale the file, or save it as 16-bit PNG.")
    return decoded


def read_content(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """The content of the file at a path; the path may name a page.

    Raises BlemishError where the file cannot be read, or is longer than an image of `max_pixels` pixels can be.
    """
    return read_bytes(_split(path)[0], BYTES_PER_PIXEL * max_pixels + HEADERS)


def page_paths(path: Path) -> list[Path]:
    """One path per page of a TIFF with several images: x.tiff#page=1, x.tiff#page=2, ...

    Only the path itself for a file with one image, and for one that cannot be read (decoding it raises the error).
    """
    try:
        number = num_pages(read_content(path))
    except BlemishError:
        return [path]
    return [path] if number == 1 else [path.with_name(f"{path.name}#page={page}") for page in range(1, number + 1)]


def _split(path: Path) -> tuple[Path, int | None]:
    """The path of the file, and the number of the page where the path names one."""
    found = re.fullmatch(r"(.+\.\w+)#page=([1-9]\d{0,8})", path.name)
    return (path.with_name(found[1]), int(found[2])) if found else (path, None)
