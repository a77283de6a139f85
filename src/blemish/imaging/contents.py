"""What an image is known again by, and how many values its pixels have."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.imaging.formats import Image

MANY = 256
"""Values that are told apart at most."""
STEP = 4
"""Rows and columns that are looked at first are so far apart."""


def pixel_digest(image: Image) -> str:
    """SHA-256 of the pixels, whatever file they were in.

    The same picture is the same as grey and as colour with three equal channels, and at 8 and at 16 bits.
    """
    if image.ndim == 3 and _is_grey(image[::STEP, ::STEP]) and _is_grey(image):
        image = image[:, :, 0]
    if image.dtype == np.uint16 and not (image[::STEP, ::STEP] % 257).any() and not (image % 257).any():
        image = (image // 257).astype(np.uint8)
    digest = hashlib.sha256(f"{image.shape} {image.dtype.name} ".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def distinct_values(image: NDArray[Any]) -> NDArray[Any]:
    """The different values in an array, ascending."""
    if image.dtype.kind == "f":
        return np.unique(image)
    seen = np.zeros(np.iinfo(image.dtype).max + 1, bool)
    seen[image.ravel()] = True  # far faster than sorting them
    return np.flatnonzero(seen).astype(image.dtype)


def num_values(image: Image) -> int:
    """How many different values the pixels have, all channels together; MANY where there are as many or more."""
    found = len(distinct_values(image[::STEP, ::STEP]))
    return min(MANY, found if found > MANY // 8 else len(distinct_values(image)))


def _is_grey(image: Image) -> bool:
    return bool((image[:, :, 0] == image[:, :, 1]).all() and (image[:, :, 0] == image[:, :, 2]).all())
