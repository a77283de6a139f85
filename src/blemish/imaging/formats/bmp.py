"""Decodes BMP with OpenCV, after checking that the file is long enough for the size in its header."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np

from blemish.imaging.formats.decoded import Decoded, check_size, damaged, strict_decoding

PLAIN, RLE8, RLE4, MASKED = 0, 1, 2, 3
COMPRESSIONS = {PLAIN: (1, 4, 8, 16, 24, 32), RLE8: (8,), RLE4: (4,), MASKED: (16, 32)}
"""Those that are read -> bits of a pixel."""
LENGTHS = (40, 52, 56, 64, 108, 124)
"""Of the header. All that OpenCV would complain of on standard error is refused before it decodes."""


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    bits: int
    """Bits per pixel."""
    compression: int
    pixels: int
    """Offset of the pixel data in the file."""
    has_alpha: bool


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decodes a BMP file. Raises BlemishError where it is damaged or has more than `max_pixels` pixels."""
    header = _read_header(data)
    check_size(header.width, header.height, max_pixels)
    if header.compression in (RLE8, RLE4):
        _check_runs(data[header.pixels :], header)
    elif len(data) < header.pixels + (header.width * header.bits + 31) // 32 * 4 * header.height:
        raise damaged(f"{len(data)} bytes cannot hold {header.width}x{header.height} pixels")
    with strict_decoding():
        mode = cv2.IMREAD_UNCHANGED if header.has_alpha else cv2.IMREAD_ANYCOLOR
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    if image is None:
        raise damaged("it cannot be decoded")
    if image.ndim == 2:
        return Decoded(image)
    return Decoded(cv2.cvtColor(image[:, :, :3], cv2.COLOR_BGR2RGB), image[:, :, 3] if image.shape[2] == 4 else None)


def _read_header(data: bytes) -> _Header:
    if len(data) < 54:
        raise damaged("its header is cut off")
    pixels, length, width, height, planes, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if length not in LENGTHS or planes != 1 or bits not in COMPRESSIONS.get(compression, ()):
        raise damaged(f"its header of {length} bytes says {bits} bits, compression {compression}")
    num_colours = struct.unpack_from("<I", data, 46)[0] or 1 << bits
    if bits <= 8 and (num_colours > 256 or 14 + length + 4 * num_colours > len(data)):
        raise damaged(f"its palette has {num_colours} colours")
    has_masks = length >= 56 and compression == MASKED and len(data) >= 70
    has_alpha = has_masks and bits == 32 and struct.unpack_from("<I", data, 66)[0] != 0
    return _Header(width, abs(height), bits, compression, pixels, has_alpha)


def _check_runs(runs: bytes, header: _Header) -> None:
    """Raises BlemishError where run-length coding leaves a pixel out, or goes beyond its row or the file."""
    if header.width * header.height > 256 * len(runs):
        raise damaged(f"{len(runs)} bytes cannot hold {header.width}x{header.height} pixels")
    rows = column = place = 0
    while place + 2 <= len(runs):
        count, value = runs[place], runs[place + 1]
        place += 2
        if count == 0 and value > 2:  # `value` literal pixels, padded to an even number of bytes
            num_bytes = value if header.bits == 8 else (value + 1) // 2
            column, place = column + value, place + num_bytes + num_bytes % 2
        elif count:
            column += count
        elif value == 2 or column not in (0, header.width):
            raise damaged("its run lengths leave pixels out")
        else:
            rows, column = rows + (column > 0), 0
        if column > header.width or place > len(runs):
            break
        if count == 0 and value == 1:
            if rows == header.height:
                return
            break
    raise damaged("its run lengths do not fill the image")
