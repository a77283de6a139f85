"""LZW, as TIFF has it: decoded by libtiff, and held against the number of bytes that there must be."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blemish.imaging.formats.decoded import damaged

CLEAR, END = 256, 257
"""Codes: the table is empty again, and codes have nine bits; the stream ends."""
MARK = b"\xa5\x5a\xc3\x3c"
"""What is put behind the pixels. libtiff stops where it has all bytes that are asked for, so that a damaged stream of
too many would pass; with the mark it ends elsewhere."""


def decode(streams: Sequence[bytes], size: int) -> NDArray[np.uint8]:
    """(streams, size): the bytes of streams of `size` each.

    Raises BlemishError where one holds more, RuntimeError where it is damaged.
    """
    # imagecodecs' own decoder trusts the first code after CLEAR and reads wherever a damaged one points to.
    marked = [_marked(stream) for stream in streams]
    if not all(marked):
        return _read(streams, size)
    raw = _read(marked, size + len(MARK))
    if (raw[:, size:] != np.frombuffer(MARK, np.uint8)).any():
        raise damaged("a strip or tile holds more than its pixels")
    return raw[:, :size]


def _marked(stored: bytes) -> bytes:
    """The stream with the mark before its end; empty where it does not end as it should, which some do not.

    The last bit that is set is that of END. Without it the code is CLEAR, and codes of nine bits can follow.
    """
    body = stored.rstrip(b"\0")
    tail = int.from_bytes(body[-3:], "big")
    padding = (tail & -tail).bit_length() - 1
    if stored[0] != 0x80 or len(body) < 3 or tail >> padding & 511 != END:
        return b""
    bits, length = (tail >> padding) - END + CLEAR, 24 - padding
    for code in (*MARK, END):
        bits, length = bits << 9 | code, length + 9
    padding = -length % 8
    return body[:-3] + (bits << padding).to_bytes((length + padding) // 8, "big")


def _read(streams: Sequence[bytes], size: int) -> NDArray[np.uint8]:
    """(streams, size): by libtiff, from a TIFF of 8-bit grey in which each stream is a row."""
    number, lengths = len(streams), [len(stream) for stream in streams]
    behind = 8 + 2 + 12 * 9 + 4  # the directory: where the streams lie and how long they are, then the streams
    start = behind + 8 * number
    places = [start, *(start + length for length in accumulate(lengths))][:number]
    offsets, counts = (behind, behind + 4 * number) if number > 1 else (*places, *lengths)
    tags = {
        256: (1, size),
        257: (1, number),
        258: (1, 8),
        259: (1, 5),
        262: (1, 1),
        273: (number, offsets),
        277: (1, 1),
        278: (1, 1),
        279: (number, counts),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, *value) for tag, value in tags.items())
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    file = b"".join([head, struct.pack(f"<{2 * number}I", *places, *lengths), *streams])
    return np.asarray(imagecodecs.tiff_decode(file), np.uint8).reshape(number, size)
