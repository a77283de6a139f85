"""Decodes PNG with libpng, which is given only the chunks that define the pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs

from blemish.imaging.formats.decoded import (
    Decoded,
    check_size,
    damaged,
    exif_orientation,
    several_images,
    strict_decoding,
    without_alpha,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL, TRANSPARENCY = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"}), b"tRNS"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples per pixel."""
DEFLATED = 1032
"""Largest ratio by which deflate compresses."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    start: int
    """Offset of its body in the file."""
    length: int

    def body(self, data: bytes) -> bytes:
        return data[self.start : self.start + self.length]

    def is_whole(self, data: bytes) -> bool:
        end = self.start + self.length
        return zlib.crc32(data[self.start - 4 : end]).to_bytes(4, "big") == data[end : end + 4]


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decodes a PNG file. Raises BlemishError for damage, several images, and more than `max_pixels` pixels."""
    chunks = list(_chunks(data))
    _check(data, chunks, max_pixels)
    orientation = 1
    for chunk in chunks:
        if chunk.kind == b"eXIf" and chunk.is_whole(data):
            orientation = exif_orientation(chunk.body(data))
    with strict_decoding(harmless="Interlace handling should be turned on"):  # libpng then turns it on itself
        found = without_alpha(imagecodecs.png_decode(_essential(data, chunks)))
    return found.upright(orientation)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    place = len(SIGNATURE)
    while True:
        if place + 12 > len(data):
            raise damaged("it ends before its last chunk")
        length, kind = struct.unpack_from(">I4s", data, place)
        if place + 12 + length > len(data):
            raise damaged(f"its chunk {kind.decode('latin-1')!r} is longer than the file")
        yield _Chunk(kind, place + 8, length)
        place += 12 + length
        if kind == b"IEND":
            if data.startswith(SIGNATURE, place):
                raise several_images("several")
            return


def _check(data: bytes, chunks: list[_Chunk], max_pixels: int) -> None:
    """Raises BlemishError where the file is too short for its header's size or animated, before memory is allocated."""
    header = chunks[0]
    if header.kind != b"IHDR" or header.length != 13:
        raise damaged("it has no header")
    width, height, depth, colour = struct.unpack(">IIBB", header.body(data)[:10])
    check_size(width, height, max_pixels)
    if colour not in SAMPLES:
        raise damaged(f"its header says colour type {colour}")
    num_bytes = height * (width * SAMPLES[colour] * depth // 8)
    compressed = sum(chunk.length for chunk in chunks if chunk.kind == b"IDAT")
    if num_bytes > compressed * DEFLATED:
        raise damaged(f"{compressed} bytes cannot hold {width}x{height} pixels")
    for chunk in chunks:
        if chunk.kind == b"acTL" and struct.unpack_from(">I", data, chunk.start)[0] > 1:
            raise several_images(struct.unpack_from(">I", data, chunk.start)[0], "images (it is animated)")


def _essential(data: bytes, chunks: list[_Chunk]) -> bytes:
    """The file without what does not make its pixels: colour profiles, texts, times, one more transparency."""
    colour = chunks[0].body(data)[9]
    kinds = CRITICAL | {TRANSPARENCY} if colour in (0, 2, 3) else CRITICAL
    if all(chunk.kind in kinds for chunk in chunks):
        return data
    view = memoryview(data)
    kept = [view[c.start - 8 : c.start + c.length + 4] for c in chunks if c.kind in kinds]
    return b"".join([SIGNATURE, *kept])
