"""Segments the part from a uniform background, whose colours are learned from the borders of good images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Side in pixels that images are reduced to."""
STRIP = 3
"""Width in pixels of the border of a reduced image that counts as background."""
NUM_COLOURS = 3
"""Colours that describe the background: it may be shaded, or show the edge of a support."""


@dataclass(frozen=True, slots=True)
class Foreground:
    """The colours of the background; without any, the part fills the image."""

    colours: NDArray[np.float32]
    """(k, 3) RGB in [0, 1], the most frequent first."""
    threshold: float = 0.0
    """The distance from the nearest of the colours above which a pixel belongs to the part."""

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W) in [0, 1]: 1 on the part, 0 on the background, of an image (H, W, 3) in [0, 1]."""
        size = image.shape[:2]
        if len(self.colours) == 0:
            return np.ones(size, np.float32)
        found = (_distances(_reduced(image), self.colours) > self.threshold).astype(np.uint8)
        part = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((2, 2)))
        part = cv2.morphologyEx(part, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
        part = cv2.dilate(part, np.ones((3, 3)))
        whole = cv2.resize(np.asarray(part, np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(whole, np.float32)

    @property
    def background(self) -> NDArray[np.float32] | None:
        """(3,): the most frequent colour of the background; None where there is no background."""
        return self.colours[0] if len(self.colours) else None


def find_foreground(images: Sequence[NDArray[np.float32]]) -> Foreground:
    """The foreground model of good images (H, W, 3) in [0, 1]; it may have no background.

    Otsu's threshold separates the distances from the background colours. There is no background where more than a tenth
    of the border exceeds the threshold, or little of the middle does: the images then show a texture, or a part that
    extends beyond the image.
    """
    reduced = np.stack([_reduced(image) for image in images])
    edge = np.ones((SIDE, SIDE), bool)
    edge[STRIP:-STRIP, STRIP:-STRIP] = False
    nothing = Foreground(np.zeros((0, 3), np.float32))
    colours = _main_colours(reduced[:, edge].reshape(-1, 3))
    distances = np.stack([_distances(image, colours) for image in reduced])
    bins = np.clip(distances / max(float(distances.max()), 1e-6) * 255, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(bins.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    found = bins > level
    middle = found[:, SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].mean()
    if found[:, edge].mean() > 0.1 or middle < 0.1 or middle < 4 * found[:, edge].mean():
        return nothing
    return Foreground(colours, float(level / 255 * distances.max()))


def _main_colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(k, 3): the centres of k-means clusters of the values (n, 3), the largest cluster first."""
    count = min(NUM_COLOURS, len(np.unique(values, axis=0)))
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-3)
    _, labels, centres = cv2.kmeans(values, count, np.empty(0), criteria, 3, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres[np.argsort(-np.bincount(labels[:, 0], minlength=count))], np.float32)


def _reduced(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _distances(image: NDArray[np.float32], colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """(SIDE, SIDE): the distance of each pixel from the nearest of the colours."""
    squares = [cv2.transform((image - colour) ** 2, np.ones((1, 3), np.float32)) for colour in colours]
    return np.asarray(np.sqrt(np.minimum.reduce(squares)), np.float32)
