"""Decodes WebP with libwebp (in OpenCV), after checking that its chunks are complete."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import imagecodecs

from blemish.errors import BlemishError
from blemish.imaging.formats.decoded import (
    Decoded,
    check_size,
    damaged,
    exif_orientation,
    several_images,
    strict_decoding,
    without_alpha,
)


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decodes a WebP file. Raises BlemishError for damage that is noticed, an animation, and more than `max_pixels`."""
    if data[8:12] != b"WEBP":
        raise BlemishError("a RIFF file that is no WebP. Replace or remove it.")
    chunks = dict(_chunks(data))
    if b"ANIM" in chunks or b"ANMF" in chunks:
        raise several_images("several", "images (it is animated)")
    for kind in (b"VP8X", b"VP8 ", b"VP8L"):
        if kind in chunks:
            check_size(*_size(kind, data[chunks[kind] : chunks[kind] + 10]), max_pixels)
    with strict_decoding():
        found = without_alpha(imagecodecs.webp_decode(data))
    exif = data[chunks[b"EXIF"] :].removeprefix(b"Exif\0\0") if b"EXIF" in chunks else b""
    return found.upright(exif_orientation(exif))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(kind, offset of the body) of each chunk; raises BlemishError where one is incomplete."""
    end, place = struct.unpack_from("<I", data, 4)[0] + 8, 12
    if end > len(data):
        raise damaged("it ends before its last chunk")
    while place + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, place)
        if place + 8 + length > end:
            raise damaged("it ends before its last chunk")
        yield kind, place + 8
        place += 8 + length + length % 2


def _size(kind: bytes, body: bytes) -> tuple[int, int]:
    if len(body) < 10:
        raise damaged("its header is cut off")
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[place : place + 3], "little") + 1 for place in (4, 7))
        return width, height
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF
