"""What is kept of an inspected image for a page: small, whole or not at all, and never a reason to stop."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.calibration.decisions import find_regions
from blemish.imaging.thumbnails import decoded
from blemish.inference.previews import (
    MAP_SIDE,
    MOST_REGIONS,
    PICTURE_SIDE,
    encode_preview,
    make_preview,
    read_preview,
)
from blemish.types import Prediction, Sample

LEVEL = 0.7


def predicted(path: Path, size: tuple[int, int] = (300, 400), seed: int = 0, **more) -> Prediction:
    """A noisy map, and an image file of the same size."""
    generator = np.random.default_rng(seed)
    cv2.imwrite(str(path), generator.integers(0, 255, (*size, 3), np.uint8))
    values = cv2.GaussianBlur(generator.random(size, np.float32), (0, 0), 2)
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    return Prediction(Sample(path), float(values.max()), values, **more)


def kept(prediction: Prediction, path: Path, level: float | None = LEVEL):
    path.write_bytes(encode_preview(prediction, level))
    return read_preview(path)


def test_what_is_read_is_what_was_kept(tmp_path: Path):
    prediction = predicted(tmp_path / "a.png")
    expected = make_preview(prediction, str(tmp_path / "a.png"), LEVEL)
    found = kept(prediction, tmp_path / "a.preview")
    assert found.pixel_threshold == LEVEL
    for name in ("path", "size", "picture", "num_regions", "largest_region", "at_maximum"):
        assert getattr(found.preview, name) == getattr(expected, name)
    levels = (expected.map.max() - expected.map.min()) / 255
    np.testing.assert_allclose(found.preview.map, expected.map, atol=levels * 0.51)
    regions = find_regions(prediction.map, LEVEL)
    assert found.preview.num_regions == len(regions) > MOST_REGIONS
    assert found.preview.largest_region == max(region.area for region in regions)
    assert [region["area"] for region in found.preview.regions] == [region.area for region in regions[:MOST_REGIONS]]


@pytest.mark.parametrize("size", [(3000, 4000), (1, 5000), (5000, 1), (1, 1), (3, 5)])
def test_an_image_of_any_size_costs_some_tens_of_kilobytes(tmp_path: Path, size):
    prediction = predicted(tmp_path / "a.png", (1, 1))
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8), size[::-1])
    values = cv2.resize(np.random.default_rng(1).random((70, 70), np.float32), size[::-1])
    found = kept(Prediction(prediction.sample, 1.0, values, image=image), tmp_path / "a.preview")
    assert (tmp_path / "a.preview").stat().st_size < 100_000
    assert found.preview.size == size
    assert max(found.preview.map.shape) == min(MAP_SIDE, max(size))
    assert max(decoded(found.preview.picture).shape[:2]) == min(PICTURE_SIDE, max(size))


def test_a_map_without_a_range_and_a_model_without_a_calibration(tmp_path: Path):
    prediction = predicted(tmp_path / "a.png", (8, 8))
    flat = Prediction(prediction.sample, 3.0, np.full((8, 8), 3.0, np.float32))
    found = kept(flat, tmp_path / "a.preview", None)
    np.testing.assert_array_equal(found.preview.map, flat.map)
    assert (found.pixel_threshold, found.preview.num_regions, found.preview.largest_region) == (None, 0, None)


def test_an_image_that_is_gone_or_another_by_now_is_kept_without_a_picture(tmp_path: Path):
    prediction = predicted(tmp_path / "a.png", sha256="0" * 64)
    assert kept(prediction, tmp_path / "a.preview").preview.picture == b""
    (tmp_path / "a.png").unlink()
    found = kept(predicted(tmp_path / "b.png"), tmp_path / "a.preview")
    assert found.preview.picture != b""
    assert kept(Prediction(prediction.sample, 1.0, prediction.map), tmp_path / "a.preview").preview.picture == b""


def test_a_damaged_preview_is_none(tmp_path: Path):
    path = tmp_path / "a.preview"
    content = encode_preview(predicted(tmp_path / "a.png", (20, 20)), LEVEL)
    assert read_preview(path) is None
    damaged = [b"", b"x", content[: len(content) // 2], content[:-1]]
    places = range(0, len(content), len(content) // 60)
    damaged += [content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :] for at in places]
    for some in damaged:
        path.write_bytes(some)
        assert read_preview(path) is None
    body = content[4:].replace(b'"version": 1', b'"version": 9')
    path.write_bytes(zlib.crc32(body).to_bytes(4) + body)
    assert read_preview(path) is None
