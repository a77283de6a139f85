"""PNG that is inflated before libpng gets it, against libpng alone."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from blemish.imaging.formats import png
from blemish.imaging.formats.png import STORED

NOISE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


def written(mode: str, **options) -> bytes:
    file = io.BytesIO()
    image = Pillow.fromarray(NOISE)
    if mode == "I;16":
        image = Pillow.fromarray(NOISE[:, :, 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(file, "PNG", **options)
    return file.getvalue()


def in_several_parts(data: bytes, size: int) -> bytes:
    """The file with its pixels in chunks of this size."""
    start, parts = data.index(b"IDAT") - 4, []
    length = struct.unpack_from(">I", data, start)[0]
    body = data[start + 8 : start + 8 + length]
    for place in range(0, length, size):
        part = b"IDAT" + body[place : place + size]
        parts.append(struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)))
    return data[:start] + b"".join(parts) + data[start + 12 + length :]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_inflated_files_have_the_pixels_of_libpng(mode):
    data = written(mode)
    inflated = png._inflated(data, list(png._chunks(data)))
    assert inflated is not None
    assert np.array_equal(imagecodecs.png_decode(inflated), imagecodecs.png_decode(data))


@pytest.mark.parametrize("size", [1, 999, STORED, 10**6])
def test_pixels_may_be_in_several_chunks(size):
    data = in_several_parts(written("L"), size)
    inflated = png._inflated(data, list(png._chunks(data)))
    assert inflated is not None
    assert np.array_equal(png.decode(data, 10**6).pixels, imagecodecs.png_decode(data))


def test_what_is_damaged_is_left_to_libpng():
    whole = written("RGB")
    start = whole.index(b"IDAT") + 4
    for place in (start, start + 1000, len(whole) - 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        assert png._inflated(bytes(damaged), list(png._chunks(bytes(damaged)))) is None
