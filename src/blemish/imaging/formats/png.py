"""Decodes PNG with libpng, which is given only the chunks that define the pixels, inflated by libdeflate."""

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
STORED = 65_535
"""Most bytes in a block of a deflate stream that is not compressed."""
INFLATED = 64_000_000
"""Images of more bytes are inflated by libpng, which holds one row at a time."""


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
        found = without_alpha(imagecodecs.png_decode(_inflated(data, chunks) or _essential(data, chunks)))
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
    """The file without chunks that do not define its pixels (profiles, texts, times) or duplicate its alpha channel."""
    kept = _kept(data, chunks)
    if len(kept) == len(chunks):
        return data
    return b"".join([SIGNATURE, *_copies(data, kept)])


def _kept(data: bytes, chunks: list[_Chunk]) -> list[_Chunk]:
    colour = chunks[0].body(data)[9]
    kinds = CRITICAL | {TRANSPARENCY} if colour in (0, 2, 3) else CRITICAL
    return [chunk for chunk in chunks if chunk.kind in kinds]


def _copies(data: bytes, chunks: list[_Chunk]) -> list[memoryview]:
    view = memoryview(data)
    return [view[chunk.start - 8 : chunk.start + chunk.length + 4] for chunk in chunks]


def _inflated(data: bytes, chunks: list[_Chunk]) -> bytes | None:
    """The essential file with its pixels not compressed, so that libpng need not inflate them; None: it has to.

    libdeflate inflates in half of the time. What is interlaced, large or damaged in any way is left to libpng, which
    says what is wrong with it.
    """
    kept = _kept(data, chunks)
    parts = [place for place, chunk in enumerate(kept) if chunk.kind == b"IDAT"]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", kept[0].body(data))
    length = height * (1 + (width * SAMPLES[colour] * depth + 7) // 8)
    usual = parts == list(range(parts[0], parts[0] + len(parts))) if parts else False
    if not usual or interlaced or length > INFLATED or not all(kept[place].is_whole(data) for place in parts):
        return None
    compressed = b"".join(kept[place].body(data) for place in parts)
    try:
        rows = bytes(imagecodecs.deflate_decode(compressed, out=length))
    except imagecodecs.DeflateError:
        return None
    checksum = zlib.adler32(rows).to_bytes(4, "big")
    if len(rows) != length or checksum != compressed[-4:]:
        return None
    body = b"".join([b"IDAT", compressed[:2], *_stored(rows), checksum])
    pixels = [(len(body) - 4).to_bytes(4, "big"), body, zlib.crc32(body).to_bytes(4, "big")]
    before, after = _copies(data, kept[: parts[0]]), _copies(data, kept[parts[-1] + 1 :])
    return b"".join([SIGNATURE, *before, *pixels, *after])


def _stored(rows: bytes) -> Iterator[bytes | memoryview]:
    """The blocks of a deflate stream of these bytes that compresses nothing."""
    view = memoryview(rows)
    for start in range(0, len(rows), STORED):
        size = min(STORED, len(rows) - start)
        yield struct.pack("<BHH", start + size == len(rows), size, size ^ 0xFFFF)
        yield view[start : start + size]
