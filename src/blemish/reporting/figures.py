"""The figures of a report as files for a paper: of every summary the averages, the scores and the curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from blemish.evaluation.results import AVERAGE
from blemish.reporting.plots import ACCENT, BARS, MUTED, STYLE, new_figure
from blemish.types import GOOD

Plain = dict[str, Any]
Points = list[tuple[float, float]]
FIGURES_STYLE: Any = STYLE | {"svg.fonttype": "none", "svg.hashsalt": "blemish"}
"""Text stays text, and the same figure is the same file."""
NUM_BINS = 40


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve that a detector is judged by."""

    title: str
    x: str
    y: str
    points: Callable[[Plain], Points]
    """From a part of the summary, empty where the curve is not applicable."""
    has_chance: bool = False
    """Whether guessing lies on the diagonal."""


def figures_of(summary: Plain) -> Iterator[tuple[str, Figure]]:
    """Name -> figure: the averages of each metric, the curves of each category, the scores of each part."""
    for metric in summary["metrics"]:
        yield f"average-{metric['name']}", averages(summary, metric)
    parts = [part for part in summary["parts"] if part["images"]]
    for category in dict.fromkeys(part["category"] for part in parts):
        yield f"curves-{category}", curves([part for part in parts if part["category"] == category])
    for part in parts:
        yield f"scores-{part['category']}-{part['method']}", scores(part)


@mpl.rc_context(FIGURES_STYLE)
def averages(summary: Plain, metric: Plain) -> Figure:
    """Per method a bar for the average over the categories, with a point for each category."""
    rows, methods = summary["overview"][metric["name"]], summary["methods"]
    figure = new_figure(1.6 + 0.8 * max(3, len(methods)), 3.2)
    axis = figure.add_subplot()
    for at, method in enumerate(methods):
        values = {row["category"]: row["cells"][at]["value"] for row in rows}
        mean = values.pop(AVERAGE)
        if mean is None:
            axis.text(at, 0.5, "n/a", ha="center", color=MUTED)
            continue
        axis.bar(at, mean, width=0.62, color=BARS[at % len(BARS)], alpha=0.85, label=method)
        known = [value for value in values.values() if value is not None]
        axis.scatter(at + np.linspace(-0.2, 0.2, len(known) + 2)[1:-1], known, s=12, color="black", zorder=3)
        axis.text(at, 1.02, f"{mean:.3f}", ha="center", transform=axis.get_xaxis_transform())
    axis.set_xticks(range(len(methods)), methods)
    lower = ", lower is better" if metric["direction"] == "lower" else ""
    axis.set(ylim=(0, 1), xlim=(-0.7, len(methods) - 0.3), ylabel=f"{metric['title']}{lower}")
    return figure


@mpl.rc_context(FIGURES_STYLE)
def scores(part: Plain) -> Figure:
    """A histogram of the scores of good images and of each type of defect, one below the other, and the threshold."""
    types = sorted({row["defect"] for row in part["images"]}, key=lambda name: (name != GOOD, name))
    values = [row["score"] for row in part["images"]]
    threshold = part["threshold"]
    edges = np.histogram_bin_edges([*values, threshold["value"]], NUM_BINS)
    figure = new_figure(6.4, 0.7 + 0.62 * len(types))
    axes = figure.subplots(len(types), 1, sharex=True, squeeze=False)[:, 0]
    for axis, defect in zip(axes, types, strict=True):
        own = [row["score"] for row in part["images"] if row["defect"] == defect]
        axis.hist(own, edges, color=BARS[0] if defect == GOOD else BARS[1])
        axis.axvline(threshold["value"], color=ACCENT, linewidth=1)
        axis.set_yticks([])
        axis.set_ylabel(f"{len(own)} {defect}", rotation=0, ha="right", va="center")
    axes[0].set_title(f"{part['method']} on {part['category']}; line: threshold")
    axes[-1].set_xlabel("score")
    return figure


@mpl.rc_context(FIGURES_STYLE)
def curves(parts: Sequence[Plain]) -> Figure:
    """ROC, precision over recall and PRO of one category, a line for each method."""
    figure = new_figure(2.9 * len(CURVES), 3.4)
    for axis, curve in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for part, colour in zip(parts, cycle(BARS), strict=False):
            points = curve.points(part)
            if points:
                axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.4)
        _frame(axis, curve)
    lines = [
        Line2D([], [], color=colour, label=part["method"]) for part, colour in zip(parts, cycle(BARS), strict=False)
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(parts))
    figure.suptitle(parts[0]["category"], fontsize=10)
    return figure


def _frame(axis: Axes, curve: Curve) -> None:
    if not axis.lines:
        axis.text(0.5, 0.5, "not applicable", ha="center", color=MUTED)
    if curve.has_chance:
        axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
    axis.set(title=curve.title, xlabel=curve.x, ylabel=curve.y, xlim=(0, 1), ylim=(0, 1.02), aspect="equal")


def image_roc(part: Plain) -> Points:
    """(false-positive rate, recall) of the images at every distinct score, falling."""
    counts = _counts(part)
    if not counts:
        return []
    found, alarms = counts[-1]
    return [(0.0, 0.0), *((wrong / alarms, right / found) for right, wrong in counts)]


def image_precision(part: Plain) -> Points:
    """(recall, precision) of the images at every distinct score, falling."""
    counts = _counts(part)
    points = [(right / counts[-1][0], right / (right + wrong)) for right, wrong in counts]
    return [(0.0, points[0][1]), *points] if points else []


def _counts(part: Plain) -> list[tuple[int, int]]:
    """Defects and good images at or above each distinct score, falling; none where one of the two is missing."""
    rows = part["images"]
    found = [
        (
            sum(row["label"] for row in rows if row["score"] >= score),
            sum(not row["label"] for row in rows if row["score"] >= score),
        )
        for score in sorted({row["score"] for row in rows}, reverse=True)
    ]
    return found if found and all(found[-1]) else []


def _of_pixels(x: str, y: str, *, ends: bool) -> Callable[[Plain], Points]:
    """Two columns of the pixels' operating points, `ends` being those of nothing and of everything above."""

    def points(part: Plain) -> Points:
        columns = part["points"]
        if columns is None:
            return []
        found = list(zip(columns[x], columns[y], strict=True))
        return [(0.0, 0.0), *found, (1.0, 1.0)] if ends else found

    return points


CURVES = (
    Curve("images: ROC", "false-positive rate", "recall", image_roc, has_chance=True),
    Curve("images: precision", "recall", "precision", image_precision),
    Curve("pixels: ROC", "false-positive rate", "recall", _of_pixels("fpr", "recall", ends=True), has_chance=True),
    Curve("pixels: precision", "recall", "precision", _of_pixels("recall", "precision", ends=False)),
    Curve(
        "pixels: PRO", "false-positive rate", "region overlap", _of_pixels("fpr", "overlap", ends=True), has_chance=True
    ),
)
"""Those of the page."""
