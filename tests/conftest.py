"""Fixtures that several tests share."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

# The tests run side by side, on tensors too small for a second thread to pay. Commands that they start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where nothing else is asked for they compute on the processor, so that they are the same on a machine with a GPU.
os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
os.environ |= {"OPENCV_FOR_THREADS_NUM": "1", "OPENCV_LOG_LEVEL": "SILENT"}  # as the commands do

import cv2
import numpy as np
import pytest
import torch

from blemish.data.source import ImageSource, load
from blemish.imaging.preprocess import Preprocess
from blemish.types import Sample

pytest.register_assert_rewrite("detector_contract")

MakeCategory = Callable[..., Path]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many tests a browser would have run, and how to get one."""
    reasons = [str(report.longrepr[-1]) for report in terminalreporter.getreports("skipped")]
    count = sum(reason.endswith("no browser") for reason in reasons)
    if count:
        terminalreporter.section("no browser")
        terminalreporter.line(f"{count} tests of the report's page were skipped: there is no Chromium here.")
        terminalreporter.line("To run them: apt-get install chromium, or put chromium or google-chrome on the PATH.")


@pytest.fixture(autouse=True)
def _without_progress() -> Iterator[None]:
    """Commands that a test calls print results and errors alone; progress has tests of its own."""
    logger = logging.getLogger("blemish")
    before = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of exports that were tried is not the user's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BLEMISH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture
def source_of(tmp_path: Path) -> Callable[[torch.Tensor], ImageSource]:
    """Writes an image, (3, 64, 64) in [0, 1], and reads it as one to learn from."""

    def written(image: torch.Tensor) -> ImageSource:
        path = tmp_path / "written" / "image.png"
        _write(path, (image.permute(1, 2, 0).numpy()[:, :, ::-1] * 255).round().astype(np.uint8))
        return load([Sample(path, False, split="train")], Preprocess((64, 64)))

    return written


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, make_category: MakeCategory) -> Path:
    """What `train` leaves of a tiny category "part" (40 good images held out) beside its `data`. Not to be changed."""
    from blemish.runs.config import RunConfig
    from blemish.runs.run import run

    root = tmp_path_factory.mktemp("run")
    make_category(root / "data", num_train=80, num_good=4, num_bad=4)
    options = {"backbone": "gabor", "num_patches": 200, "smoothing": 2.0}
    run(
        RunConfig.create(
            model="patchcore",
            size=32,
            data_path=root / "data",
            ckpt_path=root,
            validation=0.5,
            options=options,
            figures=2,
        )
    )
    return root


@pytest.fixture
def model(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of the fitted detector's folder, to be changed as one likes."""
    return Path(shutil.copytree(run_folder / "part", tmp_path / "part"))


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
