"""Where the part is in a picture, learned from good pictures: what does not look like their border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Pixels of the reduced pictures that are looked at."""
STRIP = 3
"""Pixels of their border that are taken for background, where there is one."""
NUM_COLOURS = 3
"""Colours of the background: shading, an edge of the support."""


@dataclass(frozen=True, slots=True)
class Foreground:
    """What the background looks like; without colours there is none, and the part fills the picture."""

    colours: NDArray[np.float32]
    """(k, 3)"""
    threshold: float = 0.0

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W) in [0, 1]: 1 on the part, of a picture (H, W, 3) in [0, 1]."""
        size = picture.shape[:2]
        if len(self.colours) == 0:
            return np.ones(size, np.float32)
        found = (_distances(_reduced(picture), self.colours) > self.threshold).astype(np.uint8)
        part = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((2, 2)))
        part = cv2.morphologyEx(part, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
        part = cv2.dilate(part, np.ones((3, 3)))
        whole = cv2.resize(np.asarray(part, np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(whole, np.float32)

    @property
    def background(self) -> NDArray[np.float32] | None:
        """(3,): the most frequent colour of the background."""
        return self.colours[0] if len(self.colours) else None


def find_foreground(pictures: Sequence[NDArray[np.float32]]) -> Foreground:
    """Learns from pictures (H, W, 3) in [0, 1].

    The threshold is Otsu's. Where more than a tenth of the border is beyond it, or little of the middle, the border
    looks like the rest: a texture, or a part that leaves the picture.
    """
    reduced = np.stack([_reduced(picture) for picture in pictures])
    edge = np.ones((SIDE, SIDE), bool)
    edge[STRIP:-STRIP, STRIP:-STRIP] = False
    nothing = Foreground(np.zeros((0, 3), np.float32))
    colours = _main_colours(reduced[:, edge].reshape(-1, 3))
    distances = np.stack([_distances(picture, colours) for picture in reduced])
    bins = np.clip(distances / max(float(distances.max()), 1e-6) * 255, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(bins.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    found = bins > level
    middle = found[:, SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].mean()
    if found[:, edge].mean() > 0.1 or middle < 0.1 or middle < 4 * found[:, edge].mean():
        return nothing
    return Foreground(colours, float(level / 255 * distances.max()))


def _main_colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(k, 3): the centres of the values (n, 3), the most frequent first."""
    count = min(NUM_COLOURS, len(np.unique(values, axis=0)))
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-3)
    _, labels, centres = cv2.kmeans(values, count, np.empty(0), criteria, 3, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres[np.argsort(-np.bincount(labels[:, 0], minlength=count))], np.float32)


def _reduced(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _distances(picture: NDArray[np.float32], colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """(SIDE, SIDE): how far each colour is from the nearest of the background's."""
    squares = [cv2.transform((picture - colour) ** 2, np.ones((1, 3), np.float32)) for colour in colours]
    return np.asarray(np.sqrt(np.minimum.reduce(squares)), np.float32)
