"""Pictures for the measurements: a category in the layout of MVTec AD, as large as it has to be.

They compress about as photographs do, so that decoding them costs what decoding photographs costs: smooth shapes, the
same in each picture but for a shift, and a little noise. A defect is a bright ellipse.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]


def make_category(folder: Path, num_train: int, num_test: int, side: int = 1024) -> Path:
    """The folder, with so many good pictures to learn from and to test on (half of them with a defect) as PNG.

    What stands there already is kept.
    """
    coarse = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
    part = np.asarray(255 * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
    train = [(folder / "train" / "good" / f"{index:04}.png", None) for index in range(num_train)]
    good = [(folder / "test" / "good" / f"{index:04}.png", None) for index in range(num_test - num_test // 2)]
    defective = [
        (folder / "test" / "spot" / f"{index:04}.png", folder / "ground_truth" / "spot" / f"{index:04}_mask.png")
        for index in range(num_test // 2)
    ]
    for parent in {path.parent for pair in train + good + defective for path in pair if path}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        for seed, (image, mask) in enumerate(train + good + defective):
            if not image.exists():
                pool.submit(_write, part, seed, image, mask)
    return folder


def _write(part: Picture, seed: int, image: Path, mask: Path | None) -> None:
    generator = np.random.default_rng(seed)
    side = len(part)
    dx, dy = generator.integers(-side // 64, side // 64, 2, endpoint=True)
    picture = np.roll(part, (dy, dx), (0, 1)) + 3 * generator.standard_normal(part.shape, np.float32)
    if mask is not None:
        centre = [int(value) for value in generator.integers(side // 8, side * 7 // 8, 2)]
        axes = [int(value) for value in generator.integers(side // 64, side // 16, 2)]
        spot = cv2.ellipse(np.zeros((side, side), np.uint8), centre, axes, 30, 0, 360, 255, -1)
        picture[spot > 0] += 60
        cv2.imwrite(str(mask), spot)
    cv2.imwrite(str(image), np.clip(picture, 0, 255).astype(np.uint8))
