"""Decodes JPEG with libjpeg-turbo. Its warnings count as errors: it fills damaged areas with grey or old pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import simplejpeg

from blemish.errors import BlemishError
from blemish.imaging.formats.decoded import (
    Decoded,
    Image,
    check_size,
    damaged,
    exif_orientation,
    several_images,
    strict_decoding,
)

FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of frame headers."""
SCAN, END = 0xDA, 0xD9
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment body."""
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2
"""Markers of the frame types that are supported, as in most programs."""
MOST_SCANS = 200
"""Largest number of scans of a progressive image. Encoders write about ten; decoding each takes a pass over all
pixels."""
COLOURS = {1: "GRAY", 3: "RGB"}


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a JPEG that precede its first scan."""

    width: int
    height: int
    channels: int
    depth: int
    """Bits per sample."""
    kind: int
    """The marker of the frame."""
    fewest_bytes: int
    """Lower bound on the length of the scans: an 8x8 block takes at least one bit, in a sequential image two."""
    orientation: int
    """The EXIF orientation, 1 to 8."""
    scan: int
    """Offset of the first scan in the file."""


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decodes a JPEG file. Raises BlemishError for damage that the decoder notices (JPEG has no checksum).

    Also for CMYK, a depth other than 8 bits, arithmetic or lossless coding, a second full-size image, and more than
    `max_pixels` pixels (half as many for a progressive image).
    """
    header = read_header(data)
    if header.channels == 4:
        raise BlemishError("four bands (CMYK), where one (grey) or three (RGB) are read. Convert it to RGB.")
    check(header, data, max_pixels)
    _refuse_several(data, header)
    return Decoded(pixels_of(data, header)).upright(header.orientation)


def pixels_of(data: bytes, header: Header) -> Image:
    """The pixels (H, W) or (H, W, 3) as stored, without the EXIF orientation applied."""
    with strict_decoding():
        exact = {"fastdct": False, "fastupsample": False, "strict": True}
        pixels: Image = simplejpeg.decode_jpeg(data, COLOURS[header.channels], **exact)
    return pixels[:, :, 0] if header.channels == 1 else pixels


def check(header: Header, data: bytes, max_pixels: int) -> None:
    """Raises BlemishError where the header belongs to an image that is not supported, before memory is allocated."""
    if header.channels not in COLOURS:
        raise BlemishError(f"{header.channels} bands, where one (grey) or three (RGB) are read. Convert it to RGB.")
    if header.depth != 8:
        raise BlemishError(f"a JPEG of {header.depth} bits; those of 8 are read. Save it as 16-bit PNG.")
    if header.kind not in (*SEQUENTIAL, PROGRESSIVE):
        raise BlemishError("a lossless or arithmetic JPEG; baseline and progressive are read. Save it as PNG.")
    is_progressive = header.kind == PROGRESSIVE
    # A progressive image is decoded with all its coefficients in memory, beside its pixels.
    check_size(header.width, header.height, max_pixels // 2 if is_progressive else max_pixels)
    if header.fewest_bytes > len(data) - header.scan:
        raise damaged(f"{len(data)} bytes cannot hold {header.width}x{header.height} pixels")
    if is_progressive and data.count(b"\xff\xda", header.scan) > MOST_SCANS:
        raise damaged(f"it has more than {MOST_SCANS} scans")


def read_header(data: bytes, place: int = 0) -> Header:
    """The header of the JPEG that begins at offset `place`; raises BlemishError where it is incomplete."""
    frame, kind = b"", 0
    orientation = marker = 1
    place += 2
    while marker != SCAN:
        marker, start, end = _segment(data, place)
        place = end
        if marker in FRAMES and end - start >= 6:
            frame, kind = data[start:end], marker
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start):
            orientation = exif_orientation(data[start + 6 : end])
    if not frame:
        raise damaged("it has no frame")
    depth, height, width, channels = struct.unpack_from(">BHHB", frame)
    bits = _num_blocks(width, height, frame) * (2 if kind in SEQUENTIAL else 1)
    return Header(width, height, channels, depth, kind, bits // 8, orientation, place)


def _num_blocks(width: int, height: int, frame: bytes) -> int:
    """The number of 8x8 blocks in all channels; subsampled chroma channels have fewer."""
    factors = [(max(1, both >> 4), max(1, both & 15)) for both in frame[7::3]]
    widest, highest = (max((pair[axis] for pair in factors), default=1) for axis in (0, 1))
    return sum(-(-width * across // (8 * widest)) * -(-height * down // (8 * highest)) for across, down in factors)


def _segment(data: bytes, place: int) -> tuple[int, int, int]:
    """The next marker from offset `place` on, and the offsets where its body begins and ends."""
    while data[place : place + 2] == b"\xff\xff":  # fill bytes
        place += 1
    if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] in (0, END):
        raise damaged("it ends, or is damaged, before its first scan")
    marker = data[place + 1]
    if marker in ALONE:
        return marker, place + 2, place + 2
    length = struct.unpack_from(">H", data, place + 2)[0]
    if length < 2 or place + 2 + length > len(data):
        raise damaged("it ends, or is damaged, before its first scan")
    return marker, place + 4, place + 2 + length


def _refuse_several(data: bytes, header: Header) -> None:
    """Raises BlemishError where a second image at least as large follows; smaller ones are previews and gain maps."""
    header_end = header.scan
    for place in _beginnings(data, header.scan):
        if place < header_end:  # a preview inside the header of the previous image
            continue
        try:
            other = read_header(data, place)
        except BlemishError:
            return
        if other.width >= header.width and other.height >= header.height:
            raise several_images("several")
        header_end = other.scan


def _beginnings(data: bytes, start: int) -> list[int]:
    """Offsets of the bytes FF D8, with which a JPEG begins; three times as fast as `bytes.find`."""
    content = np.frombuffer(data, np.uint8, offset=start)
    found = np.flatnonzero(content[1:] == 0xD8)
    return [int(place) + start for place in found[content[found] == 0xFF]]
