"""The figures of a report for papers: averages, histograms of scores, and curves."""

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
from blemish.reporting.run_figures import ACCENT, BARS, MUTED, STYLE
from blemish.reporting.sheet import new_figure
from blemish.types import GOOD

JsonDict = dict[str, Any]
Points = list[tuple[float, float]]
FIGURES_STYLE: Any = STYLE | {"svg.fonttype": "none", "svg.hashsalt": "blemish"}
"""Text stays text in SVG files, and files are reproducible."""
NUM_BINS = 40
LONGEST_LABEL = 28


@dataclass(frozen=True, slots=True)
class Curve:
    """One of the curves of a category."""

    title: str
    x: str
    y: str
    points: Callable[[JsonDict], Points]
    """Computes the points from a part of the summary; empty if the curve is not applicable."""
    has_chance: bool = False
    """Whether random guessing gives the diagonal."""


def figures_of(summary: JsonDict) -> Iterator[tuple[str, Figure]]:
    """(name, figure): the averages of each metric, the curves of each category, the scores of each part."""
    for metric in summary["metrics"]:
        yield f"average-{metric['name']}", averages(summary, metric)
    parts = [part for part in summary["parts"] if part["images"]]
    for category in dict.fromkeys(part["category"] for part in parts):
        yield f"curves-{category}", curves([part for part in parts if part["category"] == category])
    for part in parts:
        yield f"scores-{part['category']}-{part['method']}", scores(part)


def shortened(label: str) -> str:
    """A label with at most LONGEST_LABEL characters; the middle of a longer one is left out."""
    half = LONGEST_LABEL // 2
    return label if len(label) <= LONGEST_LABEL else f"{label[: half - 1]}…{label[-half:]}"


@mpl.rc_context(FIGURES_STYLE)
def averages(summary: JsonDict, metric: JsonDict) -> Figure:
    """A bar per method for the average over the categories, with a point for each category."""
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
        if (spread := rows[-1]["cells"][at].get("spread")) is not None:
            axis.errorbar(at, mean, spread, color=ACCENT, capsize=4, zorder=4)
        axis.text(at, 1.02, f"{mean:.3f}", ha="center", transform=axis.get_xaxis_transform())
    names = [shortened(method) for method in methods]
    slant: Any = {"rotation": 20, "ha": "right"} if max(map(len, names)) > 10 else {}
    axis.set_xticks(range(len(methods)), names, **slant)
    lower = ", lower is better" if metric["direction"] == "lower" else ""
    axis.set(ylim=(0, 1), xlim=(-0.7, len(methods) - 0.3), ylabel=f"{metric['title']}{lower}")
    return figure


@mpl.rc_context(FIGURES_STYLE)
def scores(part: JsonDict) -> Figure:
    """Histograms of the scores of good images and of each type of defect, with the threshold."""
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
def curves(parts: Sequence[JsonDict]) -> Figure:
    """ROC, precision-recall and PRO curves of one category, with a line per method."""
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


def image_roc(part: JsonDict) -> Points:
    """(false-positive rate, recall) of the images at every distinct score, in descending order."""
    counts = _counts(part)
    if not counts:
        return []
    found, alarms = counts[-1]
    return [(0.0, 0.0), *((wrong / alarms, right / found) for right, wrong in counts)]


def image_precision(part: JsonDict) -> Points:
    """(recall, precision) of the images at every distinct score, in descending order."""
    counts = _counts(part)
    points = [(right / counts[-1][0], right / (right + wrong)) for right, wrong in counts]
    return [(0.0, points[0][1]), *points] if points else []


def _counts(part: JsonDict) -> list[tuple[int, int]]:
    """(defects, good images) at or above each distinct score, descending; empty unless there are both."""
    rows = part["images"]
    found = [
        (
            sum(row["label"] for row in rows if row["score"] >= score),
            sum(not row["label"] for row in rows if row["score"] >= score),
        )
        for score in sorted({row["score"] for row in rows}, reverse=True)
    ]
    return found if found and all(found[-1]) else []


def _of_pixels(x: str, y: str, *, ends: bool) -> Callable[[JsonDict], Points]:
    """A function that gives two columns of the pixels' operating points; `ends` adds the points (0, 0) and (1, 1)."""

    def points(part: JsonDict) -> Points:
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
"""The curves of the page."""
