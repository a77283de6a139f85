"""Masks as run lengths, as COCO, CVAT and Label Studio write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.masks import Marks
from blemish.types import Size


def marks_of_counts(counts: Sequence[int], size: Size, *, by_columns: bool) -> Marks:
    """(H, W) from the lengths of runs that are unmarked and marked in turn, column by column or row by row.

    Raises ValueError where they are not as many as the image has pixels.
    """
    lengths = np.asarray(counts, np.int64)
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a mask of {height}x{width}")
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths that are not those of a mask of {height}x{width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T.copy() if by_columns else flat.reshape(height, width)


def coco_counts(text: str) -> list[int]:
    """The run lengths of COCO's compressed text: groups of 5 bits, from the third on as differences to two before.

    Raises ValueError where the text is cut off or has other letters.
    """
    counts: list[int] = []
    value, place = 0, 0
    for letter in text.encode("ascii"):
        group = letter - 48
        if not 0 <= group < 64 or place > 7:
            raise ValueError("run lengths that are not COCO's")
        value |= (group & 31) << 5 * place
        place += 1
        if not group & 32:
            value -= (group & 16 and 1) << 5 * place
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, place = 0, 0
    if place:
        raise ValueError("run lengths that are cut off")
    return counts


def label_studio_marks(packed: Sequence[int], size: Size) -> Marks:
    """(H, W) from the brush of Label Studio: bytes of a run-length code of RGBA pixels, of which alpha is the mask.

    The code has the number of values in 32 bits, the bits of a value less one in 5, and four sizes less one in 4 each.
    Then follow blocks: a bit that says whether a value is repeated, 2 bits that choose a size, and a length less one in
    as many bits; then one value, or so many. Raises ValueError where it is damaged or of another size.
    """
    bits = np.unpackbits(np.asarray(packed, np.uint8))
    cursor = _Bits(bits)
    total, word = cursor.number(32), cursor.number(5) + 1
    sizes = [cursor.number(4) + 1 for _ in range(4)]
    height, width = size
    if total != 4 * height * width or total > 4 * MAX_PIXELS or word != 8:
        raise ValueError(f"a brush that is not of an image of {height}x{width}")
    values, done = np.zeros(total, np.uint8), 0
    while done < total:
        is_repeated = cursor.number(1)
        length = cursor.number(sizes[cursor.number(2)]) + 1
        if done + length > total:
            raise ValueError("a brush that is damaged")
        values[done : done + length] = cursor.number(8) if is_repeated else cursor.values(length)
        done += length
    return values.reshape(height, width, 4)[:, :, 3] > 127


class _Bits:
    """Reads numbers from bits, one after the other; raises ValueError at their end."""

    def __init__(self, bits: NDArray[np.uint8]):
        self._bits, self._at = bits, 0

    def number(self, length: int) -> int:
        """The next number of so many bits."""
        return int("".join(map(str, self._next(length).tolist())), 2)

    def values(self, count: int) -> NDArray[np.uint8]:
        """The next numbers of 8 bits."""
        return np.packbits(self._next(8 * count))

    def _next(self, length: int) -> NDArray[np.uint8]:
        found = self._bits[self._at : self._at + length]
        if len(found) < length:
            raise ValueError("a brush that is cut off")
        self._at += length
        return found
