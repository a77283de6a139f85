"""From an image file to an array of its pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
PNG, JPEG = b"\x89PNG", b"\xff\xd8"
GREY_WITH_ALPHA, COLOUR_WITH_ALPHA = 4, 6
"""Colour types of PNG."""
MAX_BYTES = (1 << 31) - 1
"""Of a file: what is longer is refused before it is read. OpenCV's decoders take no more."""
Image = NDArray[Any]
"""(H, W) grey or (H, W, 3) RGB; uint8, uint16, or float32 in [0, 1]."""

cv2.setNumThreads(1)  # blemish decodes several files at a time instead
# OpenCV complains of broken files on standard error; blemish says it once, in its own words.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def is_image(path: Path) -> bool:
    """Whether the name says that the file is an image (its extension, in any case)."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_image(path: Path) -> Image:
    """The image in a file, at its own depth: grey stays grey, 16-bit stays 16-bit.

    EXIF orientation is honoured, a palette is expanded and an alpha channel dropped (`has_alpha` tells).
    Raises BlemishError for a file that is missing, truncated, or of a kind that blemish does not read.
    """
    return decode_image(read_bytes(path), path)


def decode_image(data: bytes, path: Path) -> Image:
    """The image in `data`, the content of the file at `path`; see `read_image`."""
    image = _decode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH, path)
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise BlemishError(
            f"{path}: pixels of type {image.dtype}; allowed are 8-bit, 16-bit and float in [0, 1]. "
            "Convert the file, for example to 16-bit PNG."
        )
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        raise BlemishError(f"{path}: float pixels must lie in [0, 1]. Scale the file, or save it as 16-bit PNG.")
    if image.ndim == 3 and _png_colour_type(data) == GREY_WITH_ALPHA:  # which OpenCV expands to three channels
        image = cv2.extractChannel(image, 0)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def has_alpha(data: bytes, path: Path) -> bool:
    """Whether the file's content holds an alpha channel (which `read_image` drops)."""
    if data.startswith(JPEG):
        return False
    if (colour_type := _png_colour_type(data)) is not None:
        return colour_type in (GREY_WITH_ALPHA, COLOUR_WITH_ALPHA) or b"tRNS" in data[: data.find(b"IDAT")]
    image = _decode(data, cv2.IMREAD_UNCHANGED, path)
    return image.ndim == 3 and image.shape[2] == 4


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(H, W): True where the mask marks an anomalous pixel, which is any pixel that is not black.

    In a JPEG, where black becomes almost black around each shape, it is any that is nearer to white.
    """
    data = read_bytes(path)
    image = decode_image(data, path)
    marked = image > 127 if data.startswith(JPEG) else image != 0
    return np.asarray(marked.any(axis=2) if marked.ndim == 3 else marked)


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises BlemishError where it cannot be read or is longer than MAX_BYTES."""
    try:
        with path.open("rb") as file:
            if (length := os.fstat(file.fileno()).st_size) > MAX_BYTES:
                raise BlemishError(f"{path}: {length / 1e9:.1f} GB; a file of at most 2.1 GB is read. Remove it.")
            return file.read()
    except OSError as error:
        raise BlemishError(f"{path}: {error.strerror or error}. Check the path and its permissions.") from None


def _png_colour_type(data: bytes) -> int | None:
    return data[25] if data.startswith(PNG) else None


def _decode(data: bytes, flags: int, path: Path) -> Image:
    cut_off = data.startswith(PNG) and data.rfind(b"IEND") < 0  # of which libpng would complain on standard error
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data and not cut_off else None
    except cv2.error as error:
        raise BlemishError(f"{path}: cannot be decoded ({error.err}).") from None
    if image is None:
        raise BlemishError(
            f"{path}: truncated, or not an image in one of {', '.join(sorted(EXTENSIONS))}. Replace or remove it."
        )
    return image
