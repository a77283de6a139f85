"""The same detectors on the processor and on a GPU: seconds to fit, images a second, and how far their scores differ.

    python benchmarks/devices.py DATA_PATH CATEGORY [--models padim selfsup] [--devices cuda cpu]

Files are decoded before, and pictures lie as they are. Each fit is done twice: a GPU's first one loads its kernels. A
detector that is trained sees six epochs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blemish.data import find_categories
from blemish.data.category import hold_out
from blemish.data.source import ImageSource, load
from blemish.detectors import detector_class
from blemish.detectors.base import Detector, LearningDetector
from blemish.features.devices import device_named
from blemish.imaging.preprocess import Preprocess
from blemish.inference.torch_backend import TorchBackend
from blemish.training.loop import train
from blemish.training.settings import Training
from processes import print_table

NETWORK = {"backbone": "wide_resnet50_2", "layers": (2, 3), "weights": "random"}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "padim": ("padim", {}),
    "patchcore": ("patchcore", {}),
    "ensemble": ("ensemble", {}),
    "selfsup": ("selfsup", {}),
    "ae": ("ae", {"size": 256}),
    "vae": ("vae", {"size": 256}),
    "padim, Wide ResNet-50": ("padim", NETWORK),
    "patchcore, Wide ResNet-50, 6144 patches": ("patchcore", NETWORK | {"num_patches": 6144}),
}
EPOCHS, BATCH = 6, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_path", type=Path)
    parser.add_argument("category")
    parser.add_argument("--models", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--devices", nargs="+", default=["cuda", "cpu"])
    options = parser.parse_args()
    (category,) = find_categories(options.data_path, [options.category])
    source = load(hold_out(category, 0.1, 0).samples, Preprocess((256, 256)))
    rows = [row for name in options.models for row in measured(name, source, options.devices)]
    header = ["", "device", "first fit, s", "second fit, s", "epoch, s", "images/s", "scores differ by"]
    print(f"\n{options.category}: {sum(sample.split == 'train' for sample in source.samples)} good images of 256x256")
    print_table(header, rows)


def measured(name: str, source: ImageSource, devices: list[str]) -> Iterator[list[object]]:
    """A row for each device, with the largest difference of its scores from those of the last one."""
    model, options = WAYS[name]
    test = source.where(lambda sample: sample.split == "test")
    images = test.batch(range(min(64, len(test)))).numpy()
    found = []
    for device in devices:
        fits = [fit(detector_class(model).create(**options), source, device) for _ in range(2)]
        detector, _, epoch = fits[1]
        scores, rate = inspected(detector, images)
        found.append((device, fits[0][1], fits[1][1], epoch, rate, scores))
        print(name, *found[-1][:-1], flush=True)
    reference = found[-1][-1]
    for device, first, second, epoch, rate, scores in found:
        difference = float(np.abs(scores - reference).max() / reference.max())
        yield [name, device, first, second, epoch or "", rate, f"{difference:.1e}"]


def fit(detector: Detector, source: ImageSource, device: str) -> tuple[Detector, float, float]:
    """The fitted detector, the seconds that took, and those of an epoch: the median of all but the first two."""
    train_on, held_out = (source.where(lambda sample, split=split: sample.split == split) for split in ("train", "val"))
    marks = [time.perf_counter()]
    if isinstance(detector, LearningDetector):
        settings = Training(EPOCHS, BATCH, device=device)
        train(detector, train_on, held_out, settings, progress=lambda *_, **__: marks.append(time.perf_counter()))
    else:
        detector.to(device_named(device)).fit(train_on, validation=held_out)
    wait()
    seconds = time.perf_counter() - marks[0]
    ends = marks[:: (len(marks) - 1) // EPOCHS or 1]
    return detector, seconds, float(np.median(np.diff(ends)[2:])) if len(ends) > 3 else 0.0


def inspected(detector: Detector, images: np.ndarray) -> tuple[np.ndarray, float]:
    """The scores, and how many images a second were computed, from arrays to arrays."""
    run = TorchBackend(detector)
    run(images)
    wait()
    start = time.perf_counter()
    for _ in range(3):
        scores, _ = run(images)
    return scores, 3 * len(images) / (time.perf_counter() - start)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
