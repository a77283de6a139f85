"""The figures of a run, as PNG: the data, the losses, the predictions, the comparison of methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from blemish.data.category import Category, examples_of
from blemish.data.kept import NOTHING_KEPT, KeptImages
from blemish.evaluation.results import HEADLINE, average_of, categories_of, methods_of, value_of
from blemish.files import replacing
from blemish.types import GOOD, Evaluation, Prediction, Sample

DPI = 130
CELL, GAP, CAPTION, HEADER, LONGEST = 216, 12, 24, 40, 34
"""Of a sheet of pictures, in pixels: a picture's side, what lies between two, the room for their titles and for that of
the sheet; and the letters of a title, at most."""
INK, MUTED, ACCENT = "#1f2933", "#7b8794", "#b3261e"
BARS = ("#4c78a8", "#f2a541", "#5aa37a", "#b07aa1", "#9c755f", "#76b7b2", "#d37295", "#8c8c8c")
STYLE: Any = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "text.parse_math": False,  # names come from folders
}
Picture = NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""


@mpl.rc_context(STYLE)
def examples(category: Category, path: Path, kept: KeptImages = NOTHING_KEPT) -> None:
    """Good images in the first row, below them one image of each defect type beside its mask."""
    good, defects = examples_of(category)
    num_rows = 1 + math.ceil(len(defects) / 2)
    sheet = _Sheet(num_rows, 4, f"{category.name}: good images, and one of each defect type with its mask")
    for cell, sample in enumerate(good):
        sheet.show(cell, _picture(sample, kept), GOOD)
    for cell, sample in zip(count(4, 2), defects, strict=False):
        picture = _picture(sample, kept)
        sheet.show(cell, picture, sample.defect)
        sheet.show(cell + 1, _mask(sample, picture, kept), "mask" if sample.mask else "no mask")
    sheet.save(path)


@mpl.rc_context(STYLE)
def losses(training: dict[str, Any], title: str, path: Path) -> None:
    """Training and validation loss per epoch, the kept epoch marked."""
    train, validation, best = training["train"], training["validation"], training["best_epoch"]
    figure = new_figure(6.4, 3.6)
    axis = figure.add_subplot()
    epochs = np.arange(1, len(train) + 1)
    marker = "o" if len(train) == 1 else None
    axis.plot(epochs, train, color=BARS[0], label="training", marker=marker)
    axis.plot(epochs, validation, color=BARS[1], label="validation", marker=marker)
    axis.axvline(best + 1, color=MUTED, linewidth=0.8, linestyle=":")
    axis.plot(best + 1, validation[best], "o", color=ACCENT, label=f"kept: epoch {best + 1}, {validation[best]:.4g}")
    lowest, highest = min(*train, *validation), max(*train, *validation)
    if lowest > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")  # the usual ones write mathematical text
        axis.yaxis.set_minor_formatter("{x:g}" if highest < 10 * lowest else "")
    axis.set(xlabel="epoch", ylabel="loss", title=title)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    _save(figure, path)


@mpl.rc_context(STYLE)
def predictions(
    shown: Sequence[Prediction], rebuilt: Sequence[NDArray[Any]] | None, path: Path, kept: KeptImages = NOTHING_KEPT
) -> None:
    """A row per image: the image, its mask, its reconstruction (where there is one), the anomaly map over it.

    All maps share one scale: white is the 99.8 % quantile of the pixels shown, so good images stay dark.
    """
    num_columns = 4 if rebuilt else 3
    per_row = 2 if len(shown) > 4 else 1
    num_rows = math.ceil(len(shown) / per_row)
    sheet = _Sheet(num_rows, num_columns * per_row)
    low, high = _scale([prediction.map for prediction in shown])
    for index, prediction in enumerate(shown):
        cell, picture = index * num_columns, _picture(prediction.sample, kept)
        sheet.show(cell, picture, f"{prediction.sample.defect} / {prediction.sample.image.stem}")
        sheet.show(cell + 1, _mask(prediction.sample, picture, kept), "mask")
        if rebuilt:
            sheet.show(cell + 2, _resized(rebuilt[index], picture.shape[:2]), "reconstruction")
        heat = np.clip((_resized(prediction.map, picture.shape[:2]) - low) / (high - low), 0, 1)
        sheet.show(cell + num_columns - 1, _over(picture, heat), f"map, score {prediction.score:.3g}")
    sheet.save(path)


@mpl.rc_context(STYLE)
def averages(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Per approach a bar for the average over the categories, with a point for each category; a panel per metric."""
    methods, categories = methods_of(evaluations), categories_of(evaluations)
    figure = new_figure(1.6 + 2.2 * max(2, 0.7 * len(methods)), 3.8)
    panels = figure.subplots(1, len(HEADLINE), sharey=True)
    for axis, metric in zip(panels, HEADLINE, strict=True):
        values = {m: [value_of(evaluations, m, c, metric) for c in categories] for m in methods}
        for position, method in enumerate(methods):
            mean = average_of(evaluations, method, metric)
            if mean is None:
                axis.text(position, 0.5, "not\napplicable", ha="center", color=MUTED)
                continue
            axis.bar(position, mean, width=0.62, color=BARS[position % len(BARS)], alpha=0.85)
            points = [value for value in values[method] if value is not None]
            spread = np.linspace(-0.2, 0.2, len(points)) if len(points) > 1 else [0.0]
            axis.scatter(position + np.asarray(spread), points, s=14, color=INK, zorder=3, linewidths=0, clip_on=False)
            axis.text(position, 1.015, f"{mean:.3f}", ha="center", fontweight="bold")
        axis.set_xticks(range(len(methods)), methods, color=INK)
        axis.set_title(metric.replace("_auroc", " AUROC"), pad=18)
        axis.set_xlim(-0.7, max(len(methods), 2) - 0.3)
        axis.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=":")
    lowest = min([value for e in evaluations for value in _headline(e)], default=0.5)
    panels[0].set_ylim(max(0.0, min(0.45, math.floor(lowest * 10) / 10)), 1.0)
    figure.supxlabel("bar: average; points: categories; dotted: chance", fontsize=8, color=MUTED)
    _save(figure, path)


def _headline(evaluation: Evaluation) -> list[float]:
    return [value for metric in HEADLINE if (value := evaluation.metrics.get(metric)) is not None]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class _Sheet:
    """A grid of pictures, each with a title above it.

    It is drawn as one image: an axis for each picture, with a layout that knows of all their ticks, takes seconds.
    """

    def __init__(self, num_rows: int, num_columns: int, title: str = ""):
        self._top, self._columns, self._title = HEADER if title else GAP, num_columns, title
        height = self._top + num_rows * (CAPTION + CELL + GAP)
        self._canvas = np.ones((height, GAP + num_columns * (CELL + GAP), 3), np.float32)
        self._captions: list[tuple[float, float, str]] = []

    def show(self, cell: int, picture: NDArray[Any], caption: str) -> None:
        """Puts a picture, (H, W) or (H, W, 3), in [0, 1] or of 8 bits, into a cell, counted row by row."""
        row, column = divmod(cell, self._columns)
        top, left = self._top + row * (CAPTION + CELL + GAP) + CAPTION, GAP + column * (CELL + GAP)
        factor = CELL / max(picture.shape[:2])
        shape = tuple(max(1, round(side * factor)) for side in picture.shape[:2])
        small = _resized(picture, shape).reshape(*shape, -1)  # one channel becomes three
        if small.dtype == np.uint8:
            small = small / np.float32(255)
        y, x = top + (CELL - shape[0]) // 2, left + (CELL - shape[1]) // 2
        self._canvas[y : y + shape[0], x : x + shape[1]] = np.clip(small, 0, 1)  # averages of 1 may round above it
        cut = caption if len(caption) <= LONGEST else f"{caption[: LONGEST - 1]}…"
        self._captions.append((left + CELL / 2, top - 4, cut))

    def save(self, path: Path) -> None:
        """Writes it as PNG."""
        height, width = self._canvas.shape[:2]
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        figure.figimage(self._canvas, origin="upper")
        for x, y, caption in self._captions:
            figure.text(x / width, 1 - y / height, caption, ha="center", va="bottom", fontsize=8)
        if self._title:
            figure.text(0.5, 1 - 8 / height, self._title, ha="center", va="top", fontsize=10)
        _save(figure, path)


def _picture(sample: Sample, kept: KeptImages) -> Picture:
    return np.asarray(kept.picture(sample) / np.float32(255), np.float32)


def _mask(sample: Sample, picture: Picture, kept: KeptImages) -> NDArray[np.float32]:
    """The mask as large as the picture; black for an image that has none."""
    if sample.mask is None:
        return np.zeros(picture.shape[:2], np.float32)
    return _resized(kept.mask(sample.mask).astype(np.float32), picture.shape[:2])


def _resized(image: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def _scale(maps: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    pixels = np.concatenate([anomaly_map.ravel()[::7] for anomaly_map in maps])
    low, high = np.quantile(pixels, [0.5, 0.998])
    return float(low), float(max(high, low + 1e-12))


def _over(picture: Picture, heat: NDArray[Any]) -> Picture:
    """The map in colour over the grey picture, more opaque where it is higher."""
    grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2) * 0.75
    colours = mpl.colormaps["inferno"](heat)[:, :, :3]
    opacity = np.clip(1.6 * heat, 0, 0.9)[:, :, None]
    return np.asarray(grey * (1 - opacity) + colours * opacity, np.float32)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
