"""Fixtures that several tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# The tests run side by side, on tensors too small for a second thread to pay. Commands that they start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest

from blemish.data.source import ImageSource, load
from blemish.images import Preprocess
from blemish.types import Sample

MakeCategory = Callable[..., Path]


@pytest.fixture(scope="session")
def make_category() -> MakeCategory:
    """Writes a tiny category in the layout of MVTec AD: soft gradients with noise, bright squares as defects."""

    def make(
        root: Path,
        name: str = "part",
        *,
        num_train: int = 6,
        num_good: int = 2,
        num_bad: int = 2,
        size: tuple[int, int] = (48, 48),
        with_masks: bool = True,
    ) -> Path:
        folder, generator = root / name, np.random.default_rng(len(name))
        (folder / "train/good").mkdir(parents=True)
        for split, count in (("train/good", num_train), ("test/good", num_good), ("test/bad", num_bad)):
            for index in range(count):
                image, mask = _picture(generator, size, anomalous=split == "test/bad")
                _write(folder / split / f"{index:03}.png", image)
                if split == "test/bad" and with_masks:
                    _write(folder / "ground_truth/bad" / f"{index:03}_mask.png", mask)
        return folder

    return make


@pytest.fixture
def part_images(tmp_path: Path) -> ImageSource:
    """Eight pictures of 64x64, dark on the left and light on the right."""
    generator = np.random.default_rng(0)
    for index in range(8):
        picture = np.where(np.arange(64) < 32, 60, 180) + generator.normal(0, 4, (64, 64))
        _write(tmp_path / f"{index}.png", np.clip(picture, 0, 255).astype(np.uint8))
    samples = [Sample(path, False, split="train") for path in sorted(tmp_path.glob("*.png"))]
    return load(samples, Preprocess((64, 64)))


Array = np.ndarray


def _picture(generator: np.random.Generator, size: tuple[int, int], *, anomalous: bool) -> tuple[Array, Array]:
    height, width = size
    ramp = np.linspace(60, 160, width) + generator.uniform(-15, 15)
    image = generator.normal(ramp[None, :, None], 8, (height, width, 3))
    mask = np.zeros(size, np.uint8)
    if anomalous:
        top, left = (int(generator.integers(0, side - side // 4)) for side in size)
        box = slice(top, top + height // 4), slice(left, left + width // 4)
        image[box] += 80
        mask[box] = 255
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
