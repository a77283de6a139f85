"""Conversion of scores to integer keys of the same size and order, and checks of scores and labels.

The bits of a float, read as a signed integer with negative values mirrored, have the order of the floats. Integer
scores are their own keys. Keys have three advantages: subnormal scores stay distinct even in a process that flushes
them to zero; NaN and infinity are the smallest and largest keys, so they are easy to detect; and half precision sorts
as fast as other dtypes.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import BlemishError

Array = NDArray[Any]

_MANY = 2**16
"""Number of keys from which on the radix sort is used."""
_KEY_OF_FLOAT: dict[int, Any] = {2: np.int16, 4: np.int32, 8: np.int64}


class MetricInputError(BlemishError, ValueError):
    """Invalid input of a metric; the message says what is wrong, at which index, and what is allowed."""


class NotApplicable(BlemishError):  # noqa: N818 - a property of the data set, not an error
    """The metric is undefined for this data set, such as with one class only; the message is the reason."""


def check_dtype(dtype: np.dtype[Any], where: str) -> None:
    """Raise MetricInputError unless scores of this dtype can be ranked without loss."""
    ranked = dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize in _KEY_OF_FLOAT)
    if not ranked:
        raise MetricInputError(
            f"{where} has the dtype {dtype}; allowed are float16, float32, float64 and whole numbers"
        )


def to_keys(scores: Array) -> Array:
    """Return integers in the order of the scores, in a new array of the same shape and item size.

    Equal scores have equal keys, including 0.0 and -0.0; different scores have different keys.
    """
    native = scores.dtype.newbyteorder("=")
    if native.kind == "b":
        return scores.astype(np.uint8)
    keys = np.array(scores, dtype=native, order="C", copy=True)
    if native.kind != "f":
        return keys
    keys = keys.view(_KEY_OF_FLOAT[native.itemsize])
    if keys.size and keys.min() >= 0:  # no negative score
        return keys
    mirror = keys >> (8 * native.itemsize - 1)
    mirror &= np.iinfo(keys.dtype).max
    keys ^= mirror
    keys += keys == -1  # -0.0
    return keys


def sort_keys(keys: Array) -> None:
    """Sort keys (n,) in place.

    Many keys of 32 bits, which those of float32 are, go to torch's radix sort where torch is loaded already: it takes
    about the same time on all processors, and numpy six times as long on those that are slow to store by a mask, as
    AMD's Zen 4 is, as on others.
    """
    if "torch" in sys.modules and keys.dtype == np.int32 and keys.size >= _MANY:
        import torch

        keys[:] = torch.sort(torch.from_numpy(keys), stable=True).values.numpy()
    else:
        keys.sort()


def from_keys(keys: Array, dtype: np.dtype[Any]) -> Array:
    """Return the scores, of the given dtype, that have these keys."""
    if dtype.kind != "f":
        return keys.astype(dtype)
    bits = 8 * keys.dtype.itemsize - 1
    mirrored: Array = (keys ^ ((keys >> bits) & np.iinfo(keys.dtype).max)).view(dtype.newbyteorder("="))
    return mirrored


def all_finite(keys: Array, dtype: np.dtype[Any]) -> bool:
    """Return whether no score is NaN or infinite, from the smallest and the largest key."""
    if dtype.kind != "f" or keys.size == 0:
        return True
    low, high = to_keys(np.array([-np.inf, np.inf], dtype))
    return bool(low < keys.min() and keys.max() < high)


def threshold_key(threshold: float, dtype: np.dtype[Any]) -> Any | None:
    """Return the smallest key whose score is at least the threshold; None if no score of the dtype is.

    Raises:
        MetricInputError: The threshold is NaN.
    """
    if math.isnan(threshold):
        raise MetricInputError("the threshold is NaN; a number is needed")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            nearest = np.array([threshold]).astype(dtype.newbyteorder("="))
        key = to_keys(nearest)[0]
        return key + 1 if float(nearest[0]) < threshold else key
    integer = np.iinfo(to_keys(np.zeros(1, dtype)).dtype)
    if threshold > integer.max:
        return None
    return integer.dtype.type(math.ceil(max(threshold, integer.min)))


def check_labels(labels: ArrayLike) -> NDArray[np.bool_]:
    """Return the labels as booleans (n,); raise MetricInputError unless each is 0 or 1, False or True."""
    values = np.asarray(labels)
    if values.ndim != 1:
        raise MetricInputError(f"the labels have the shape {values.shape}; one per image is needed: (n,)")
    if values.dtype.kind not in "biuf":
        raise MetricInputError(f"the labels have the dtype {values.dtype}; allowed are 0 and 1, False and True")
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        raise MetricInputError(f"label {wrong[0]} is {values[wrong[0]]}; allowed are 0 (good) and 1 (anomalous)")
    return values.astype(bool)


def first_not_finite(scores: Array) -> str:
    """Return the first NaN or infinite score and its index, in words."""
    position = tuple(int(i) for i in np.argwhere(~np.isfinite(scores))[0])
    value = scores[position]
    place = position[0] if len(position) == 1 else position
    return f"{'NaN' if np.isnan(value) else value} at {place}"
