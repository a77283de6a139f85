"""The same picture is known again whatever file it is in; another one is not taken for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.imaging.contents import MANY, num_values, pixel_digest
from blemish.imaging.read import read_image

GREY = np.random.default_rng(0).integers(0, 256, (37, 53), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)


@pytest.mark.parametrize("image", [GREY, COLOUR, GREY.astype(np.uint16) * 251 + 3], ids=["grey", "colour", "16-bit"])
def test_compression_and_kind_of_file_do_not_count(image, tmp_path: Path):
    files = {
        "0.png": [cv2.IMWRITE_PNG_COMPRESSION, 0],
        "9.png": [cv2.IMWRITE_PNG_COMPRESSION, 9],
        "lzw.tif": [cv2.IMWRITE_TIFF_COMPRESSION, 5],
        "plain.tif": [cv2.IMWRITE_TIFF_COMPRESSION, 1],
    }
    for name, options in files.items():
        assert cv2.imwrite(str(tmp_path / name), image, options)
    assert len({(tmp_path / name).read_bytes() for name in files}) == len(files)
    assert len({pixel_digest(read_image(tmp_path / name)) for name in files}) == 1


def test_depth_and_grey_as_colour_do_not_count():
    same = (GREY, np.dstack([GREY] * 3), GREY.astype(np.uint16) * 257, np.dstack([GREY.astype(np.uint16) * 257] * 3))
    assert len({pixel_digest(image) for image in same}) == 1


def test_what_differs_is_told_apart():
    one_pixel = GREY.copy()
    one_pixel[18, 26] ^= 1
    one_channel = np.dstack([GREY] * 3)
    one_channel[18, 27, 2] ^= 1
    deeper = GREY.astype(np.uint16) * 257
    deeper[18, 27] ^= 1
    turned = np.ascontiguousarray(GREY.T)
    others = (
        one_pixel,
        one_channel,
        deeper,
        turned,
        GREY.reshape(53, 37),
        COLOUR,
        GREY[:, ::-1],
        GREY / np.float32(255),
    )
    assert len({pixel_digest(image) for image in (GREY, *others)}) == 1 + len(others)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_are_counted_exactly_where_they_are_few(dtype):
    image = np.zeros((64, 64), dtype)
    assert num_values(image) == 1
    image[3, 3] = 1  # between the rows that are looked at first
    image[5, 7] = 0.5 if dtype == np.float32 else 2
    assert num_values(image) == 3
    many = np.arange(64 * 64).reshape(64, 64) % (251 if dtype == np.uint8 else 4096)
    assert num_values((many / 4096).astype(dtype) if dtype == np.float32 else many.astype(dtype)) > MANY // 4
