"""A digest of an image's pixels, by which copies are recognised, and the number of different values they have."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.imaging.formats import Image

MANY = 256
"""Upper limit of `num_values`."""
STEP = 4
"""Every STEP-th row and column is tried first; often that already gives the answer."""


def pixel_digest(image: Image) -> str:
    """SHA-256 of the pixels and their shape, independent of the file format.

    A grey image and its copy in three equal channels have the same digest, and so have an 8-bit image and its copy at
    16 bits.
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
    occurs = np.zeros(np.iinfo(image.dtype).max + 1, bool)
    occurs[image.ravel()] = True  # far faster than sorting them
    return np.flatnonzero(occurs).astype(image.dtype)


def num_values(image: Image) -> int:
    """The number of different values in all channels together, at most MANY."""
    found = len(distinct_values(image[::STEP, ::STEP]))
    return min(MANY, found if found > MANY // 8 else len(distinct_values(image)))


def _is_grey(image: Image) -> bool:
    return bool((image[:, :, 0] == image[:, :, 1]).all() and (image[:, :, 0] == image[:, :, 2]).all())
