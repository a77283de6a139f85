"""What is worth knowing of the images of a set beside their labels: how bright, how large, how unlike the others."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.category import Category
from blemish.data.source import ImageSource
from blemish.imaging.pixels import white

SMALL = 16
"""Side of what an image is compared by."""
NEIGHBOURS = 3
ROWS = 256
"""Images that are compared with all others at a time."""


def image_facts(category: Category, source: ImageSource) -> list[dict[str, Any]]:
    """One row per image file: path, split, defect, hashes of file and pixels, size, brightness in [0, 1].

    A good image that was learned from or held out also has its distance to the others, by `distances_to_others`.
    """
    found: dict[Any, list[NDArray[np.float32]]] = defaultdict(list)
    brightness: dict[Any, list[float]] = defaultdict(list)
    for frame in source:
        pixels = _scaled(frame.pixels)
        brightness[frame.sample].append(float(pixels.mean()))
        if frame.sample.split != "test":
            found[frame.sample].append(_description(pixels))
    learned = list(found)
    distances = distances_to_others(np.stack([np.mean(found[sample], axis=0) for sample in learned]))
    distance_of = dict(zip(learned, distances.tolist(), strict=True)) if len(learned) > 1 else {}
    return [
        {
            "path": sample.image.relative_to(category.root).as_posix(),
            "split": sample.split,
            "defect": sample.defect,
            "sha256": info.sha256,
            "pixel_sha256": info.pixel_sha256,
            "size": info.size,
            "brightness": float(np.mean(brightness[sample])),
            "distance": distance_of.get(sample),
        }
        for sample, info in zip(source.samples, source.files, strict=True)
    ]


def distances_to_others(descriptions: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,): how far each of the descriptions (n, C) is from the nearest three of the others, on average."""
    number = min(NEIGHBOURS, len(descriptions) - 1)
    if number == 0:
        return np.zeros(len(descriptions))
    values = descriptions.astype(np.float64) - descriptions.mean(axis=0)
    squares = np.square(values).sum(axis=1)
    found = []
    for start in range(0, len(values), ROWS):  # all at once would take memory with the square of the images
        rows = np.arange(start, min(start + ROWS, len(values)))
        distances = squares[rows, None] + squares - 2 * values[rows] @ values.T
        distances[np.arange(len(rows)), rows] = np.inf
        nearest = np.partition(distances, number - 1, axis=1)[:, :number]
        found.append(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
    return np.concatenate(found)


def _description(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The picture at a glance, and how much detail there is at each place of it, both made small."""
    glance = cv2.resize(pixels, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(glance, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(pixels.shape)
    detail = cv2.resize(np.abs(pixels - smooth), (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    return np.concatenate([glance.ravel(), detail.ravel()])


def _scaled(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(h, w, 3) in [0, 1], so that grey and colour images of one set can be compared."""
    scaled = pixels.astype(np.float32) * np.float32(1 / white(pixels.dtype))
    return np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled
