"""A matplotlib figure that needs no display, and a sheet of images, each with a caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from blemish.files import replacing

DPI = 130
CELL, GAP, CAPTION, HEADER, LONGEST = 216, 12, 24, 40, 34
"""Layout of a sheet of images in pixels: side of an image, gap between images, height of captions and of the title;
and the most characters of a caption."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, which needs no display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class Sheet:
    """A grid of images, each with a caption above it.

    It is composed as one image, because a matplotlib axis per image takes seconds.
    """

    def __init__(self, num_rows: int, num_columns: int, title: str = ""):
        self._top, self._columns, self._title = HEADER if title else GAP, num_columns, title
        height = self._top + num_rows * (CAPTION + CELL + GAP)
        self._canvas = np.ones((height, GAP + num_columns * (CELL + GAP), 3), np.float32)
        self._captions: list[tuple[float, float, str]] = []

    def show(self, cell: int, picture: NDArray[Any], caption: str) -> None:
        """Puts an image, (H, W) or (H, W, 3), in [0, 1] or 8-bit, into a cell, counted row by row."""
        row, column = divmod(cell, self._columns)
        top, left = self._top + row * (CAPTION + CELL + GAP) + CAPTION, GAP + column * (CELL + GAP)
        factor = CELL / max(picture.shape[:2])
        shape = tuple(max(1, round(side * factor)) for side in picture.shape[:2])
        small = resized(picture, shape).reshape(*shape, -1)  # one channel becomes three
        if small.dtype == np.uint8:
            small = small / np.float32(255)
        y, x = top + (CELL - shape[0]) // 2, left + (CELL - shape[1]) // 2
        self._canvas[y : y + shape[0], x : x + shape[1]] = np.clip(small, 0, 1)  # rounding may exceed 1
        cut = caption if len(caption) <= LONGEST else f"{caption[: LONGEST - 1]}…"
        self._captions.append((left + CELL / 2, top - 4, cut))

    def figure(self) -> Figure:
        """The sheet as one image, with the captions over it."""
        height, width = self._canvas.shape[:2]
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        figure.figimage(self._canvas, origin="upper")
        for x, y, caption in self._captions:
            figure.text(x / width, 1 - y / height, caption, ha="center", va="bottom", fontsize=8)
        if self._title:
            figure.text(0.5, 1 - 8 / height, self._title, ha="center", va="top", fontsize=10)
        return figure


def resized(image: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The image, (H, W) or (H, W, C), brought to (height, width) by the mean over areas."""
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def save(figure: Figure, path: Path) -> Figure:
    """Writes the figure as PNG and returns it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return figure
