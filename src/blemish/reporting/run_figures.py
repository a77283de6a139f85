"""The figures of a run as PNG files: example images, losses, predictions, and the comparison of methods.

Each function writes a figure and returns it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from blemish.data.category import Category, examples_of
from blemish.data.kept import NOTHING_KEPT, KeptImages
from blemish.evaluation.results import HEADLINE, average_of, categories_of, methods_of, value_of
from blemish.reporting.sheet import Sheet, new_figure, resized, save
from blemish.types import GOOD, Evaluation, Prediction, Sample

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
Image = NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""


@mpl.rc_context(STYLE)
def examples(category: Category, path: Path, kept: KeptImages = NOTHING_KEPT) -> Figure:
    """Writes a figure with good images in the first row, and below one image of each defect type beside its mask."""
    good, defects = examples_of(category)
    num_rows = 1 + math.ceil(len(defects) / 2)
    sheet = Sheet(num_rows, 4, f"{category.name}: good images, and one of each defect type with its mask")
    for cell, sample in enumerate(good):
        sheet.show(cell, _image(sample, kept), GOOD)
    for cell, sample in zip(count(4, 2), defects, strict=False):
        image = _image(sample, kept)
        sheet.show(cell, image, sample.defect)
        sheet.show(cell + 1, _mask(sample, image, kept), "mask" if sample.mask else "no mask")
    return save(sheet.figure(), path)


@mpl.rc_context(STYLE)
def losses(training: dict[str, Any], title: str, path: Path) -> Figure:
    """Writes a figure of the training and validation loss per epoch; the selected epoch is marked."""
    train, validation, best = training["train"], training["validation"], training["best_epoch"]
    figure = new_figure(6.4, 3.6)
    axis = figure.add_subplot()
    epochs = np.arange(1, len(train) + 1)
    marker = "o" if len(train) == 1 else None
    axis.plot(epochs, train, color=BARS[0], label="training", marker=marker)
    axis.plot(epochs, validation, color=BARS[1], label="validation", marker=marker)
    axis.axvline(best + 1, color=MUTED, linewidth=0.8, linestyle=":")
    axis.plot(
        best + 1, validation[best], "o", color=ACCENT, label=f"selected: epoch {best + 1}, {validation[best]:.4g}"
    )
    lowest, highest = min(*train, *validation), max(*train, *validation)
    if lowest > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")  # the default formatters use math text
        axis.yaxis.set_minor_formatter("{x:g}" if highest < 10 * lowest else "")
    axis.set(xlabel="epoch", ylabel="loss", title=title)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    return save(figure, path)


@mpl.rc_context(STYLE)
def predictions(
    shown: Sequence[Prediction], rebuilt: Sequence[NDArray[Any]] | None, path: Path, kept: KeptImages = NOTHING_KEPT
) -> Figure:
    """Writes a figure with a row per image: image, mask, reconstruction (if there are any), image with anomaly map.

    All maps share one colour scale, from the median to the 99.8 % quantile, so that good images stay dark.
    """
    num_columns = 4 if rebuilt else 3
    per_row = 2 if len(shown) > 4 else 1
    num_rows = math.ceil(len(shown) / per_row)
    sheet = Sheet(num_rows, num_columns * per_row)
    low, high = _scale([prediction.map for prediction in shown])
    for index, prediction in enumerate(shown):
        cell, image = index * num_columns, _image(prediction.sample, kept)
        sheet.show(cell, image, f"{prediction.sample.defect} / {prediction.sample.image.stem}")
        sheet.show(cell + 1, _mask(prediction.sample, image, kept), "mask")
        if rebuilt:
            sheet.show(cell + 2, resized(rebuilt[index], image.shape[:2]), "reconstruction")
        heat = np.clip((resized(prediction.map, image.shape[:2]) - low) / (high - low), 0, 1)
        sheet.show(cell + num_columns - 1, _over(image, heat), f"map, score {prediction.score:.3g}")
    return save(sheet.figure(), path)


@mpl.rc_context(STYLE)
def averages(evaluations: Sequence[Evaluation], path: Path) -> Figure:
    """Writes a figure with a panel per metric: a bar per method for the average, with a point for each category."""
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
    return save(figure, path)


def _headline(evaluation: Evaluation) -> list[float]:
    return [value for metric in HEADLINE if (value := evaluation.metrics.get(metric)) is not None]


def _image(sample: Sample, kept: KeptImages) -> Image:
    return np.asarray(kept.picture(sample) / np.float32(255), np.float32)


def _mask(sample: Sample, image: Image, kept: KeptImages) -> NDArray[np.float32]:
    """The mask, resized to the image; black without a mask."""
    if sample.mask is None:
        return np.zeros(image.shape[:2], np.float32)
    return resized(kept.mask(sample.mask).astype(np.float32), image.shape[:2])


def _scale(maps: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    pixels = np.concatenate([anomaly_map.ravel()[::7] for anomaly_map in maps])
    low, high = np.quantile(pixels, [0.5, 0.998])
    return float(low), float(max(high, low + 1e-12))


def _over(image: Image, heat: NDArray[Any]) -> Image:
    """The colour-mapped map over the grey image, more opaque at higher values."""
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2) * 0.75
    colours = mpl.colormaps["inferno"](heat)[:, :, :3]
    opacity = np.clip(1.6 * heat, 0, 0.9)[:, :, None]
    return np.asarray(grey * (1 - opacity) + colours * opacity, np.float32)
