"""Facts about the images of a category for a report: size, look, and distance to the other training images."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.category import Category
from blemish.data.source import ImageSource
from blemish.imaging.pixels import white
from blemish.types import Sample

SMALL = 16
"""Side in pixels of the thumbnails by which images are compared."""
NEIGHBOURS = 3
"""Number of nearest images that a distance is averaged over."""
ROWS = 256
"""Images whose distances to all others are computed at once."""


def image_facts(category: Category, source: ImageSource) -> list[dict[str, Any]]:
    """One dict per image file: path, split, defect, sha256, pixel_sha256, size, the values of `look`, distance.

    `distance` is that of `distances_to_others` among the training and validation images; None for test images.
    """
    looks: dict[Sample, list[dict[str, float]]] = defaultdict(list)
    descriptors: dict[Sample, list[NDArray[np.float32]]] = defaultdict(list)
    for frame in source:
        pixels = _scaled(frame.pixels)
        looks[frame.sample].append(look(pixels))
        if frame.sample.split != "test":
            descriptors[frame.sample].append(_descriptor(pixels))
    distance_of = _distance_of({sample: np.mean(tiles, axis=0) for sample, tiles in descriptors.items()})
    return [
        {
            "path": sample.image.relative_to(category.root).as_posix(),
            "split": sample.split,
            "defect": sample.defect,
            "sha256": info.sha256,
            "pixel_sha256": info.pixel_sha256,
            "size": info.size,
            "distance": distance_of.get(sample),
        }
        | {name: float(np.mean([found[name] for found in looks[sample]])) for name in looks[sample][0]}
        for sample, info in zip(source.samples, source.files, strict=True)
    ]


def look(pixels: NDArray[np.float32]) -> dict[str, float]:
    """What light, focus and the camera change in an image (h, w, 3) in [0, 1].

    `brightness` is the mean, `contrast` the standard deviation of the grey values, `sharpness` the mean difference
    between neighbouring pixels as a multiple of the contrast (noise raises it, blur lowers it), and `warmth` the
    difference of red and blue as a fraction of the brightness.
    """
    grey = pixels.mean(axis=2)
    brightness, contrast = float(grey.mean()), float(grey.std())
    steps = (float(np.abs(np.diff(grey, axis=axis)).mean()) if grey.shape[axis] > 1 else 0.0 for axis in (0, 1))
    red, _, blue = (float(channel) for channel in pixels.mean(axis=(0, 1)))
    return {
        "brightness": brightness,
        "contrast": contrast,
        "sharpness": sum(steps) / 2 / max(contrast, 1 / 255),
        "warmth": (red - blue) / max(brightness, 1 / 255),
    }


def _distance_of(descriptors: dict[Sample, NDArray[np.float32]]) -> dict[Sample, float]:
    """Sample -> distance to the others; empty for a single sample."""
    distances = distances_to_others(np.stack(list(descriptors.values())))
    return dict(zip(descriptors, distances.tolist(), strict=True)) if len(descriptors) > 1 else {}


def distances_to_others(descriptors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,): the mean Euclidean distance of each descriptor (n, C) to its three nearest others; 0 for a single one."""
    number = min(NEIGHBOURS, len(descriptors) - 1)
    if number == 0:
        return np.zeros(len(descriptors))
    values = descriptors.astype(np.float64) - descriptors.mean(axis=0)
    squares = np.square(values).sum(axis=1)
    found = []
    for start in range(0, len(values), ROWS):  # all at once would take memory quadratic in the number of images
        rows = np.arange(start, min(start + ROWS, len(values)))
        distances = squares[rows, None] + squares - 2 * values[rows] @ values.T
        distances[np.arange(len(rows)), rows] = np.inf
        nearest = np.partition(distances, number - 1, axis=1)[:, :number]
        found.append(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
    return np.concatenate(found)


def _descriptor(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """A thumbnail of the image and one of its fine detail, as one vector."""
    coarse = cv2.resize(pixels, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(coarse, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(pixels.shape)
    detail = cv2.resize(np.abs(pixels - smooth), (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    return np.concatenate([coarse.ravel(), detail.ravel()])


def _scaled(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(h, w, 3) in [0, 1], so that grey and colour images of one set can be compared."""
    scaled = pixels.astype(np.float32) * np.float32(1 / white(pixels.dtype))
    return np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled
