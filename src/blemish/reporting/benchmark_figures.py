"""The figures of a comparison: averages, the diagram of critical differences, and cost beside accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from blemish.evaluation.results import HEADLINE
from blemish.reporting.benchmark import mean_accuracy, pareto, seconds_per_category
from blemish.reporting.report_figures import FIGURES_STYLE, averages, shortened
from blemish.reporting.run_figures import ACCENT, BARS, INK, MUTED
from blemish.reporting.sheet import new_figure

JsonDict = dict[str, Any]
FIGURED = (*HEADLINE, "aupro")
"""The metrics that have figures."""
COSTS = {
    "training": ("training per category in seconds", seconds_per_category),
    "predicting": ("prediction per image in milliseconds", lambda row: row["milliseconds"]),
}
"""Name of a cost -> the label of its axis, and the function that gives it for a row of `cost`; None: not known."""

PLACES = ((6, 4, "left"), (6, -11, "left"), (-6, 4, "right"), (-6, -11, "right"), (6, 17, "left"), (6, -24, "left"))
"""Where a name may stand beside its point, the best first: points to the right, points up, alignment."""


def comparison_figures(summary: JsonDict) -> Iterator[tuple[str, Figure]]:
    """(name, figure) for each metric of FIGURED: averages, critical differences, cost; as far as there are any."""
    for metric in (metric for metric in summary["metrics"] if metric["name"] in FIGURED):
        yield f"average-{metric['name']}", averages(summary, metric)
        if summary["ranks"][metric["name"]] is not None:
            yield f"ranks-{metric['name']}", critical_differences(summary, metric)
        if any(_known(summary, metric, cost) for cost in COSTS):
            yield f"cost-{metric['name']}", costs(summary, metric)


@mpl.rc_context(FIGURES_STYLE)
def critical_differences(summary: JsonDict, metric: JsonDict) -> Figure:
    """Each approach at its mean rank, the best on the left; a bar joins those that do not differ significantly."""
    found, methods = summary["ranks"][metric["name"]], summary["methods"]
    order = sorted(range(len(methods)), key=lambda row: found["ranks"][row])
    half = (len(order) + 1) // 2
    groups = found["groups"]
    top = 0.3 + 0.16 * len(groups)
    names = [shortened(method) for method in methods]
    figure = new_figure(4.4 + 0.15 * max(map(len, names)), 1.2 + 0.22 * half + 0.12 * len(groups))
    axis = figure.add_subplot()
    axis.set(xlim=(0.6, len(methods) + 0.4), ylim=(top + 0.4 * half + 0.2, -0.1), title=_words(found, metric))
    axis.xaxis.tick_top()
    axis.set_xticks(range(1, len(methods) + 1))
    axis.set_yticks([])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.spines["top"].set_visible(True)
    for place, row in enumerate(order):
        is_left = place < half
        depth = top + 0.4 * (place if is_left else len(order) - 1 - place)
        _arm(axis, found["ranks"][row], depth, f"{names[row]}  {found['ranks'][row]:.2f}", is_left=is_left)
    for level, group in enumerate(groups):
        ends = [found["ranks"][row] for row in group]
        axis.plot(
            [min(ends) - 0.04, max(ends) + 0.04], [0.2 + 0.16 * level] * 2, color=ACCENT, linewidth=3, clip_on=False
        )
    return figure


def _arm(axis: Axes, rank: float, depth: float, words: str, *, is_left: bool) -> None:
    """A line from the axis down and to the side, with the words at its end."""
    end = axis.get_xlim()[0 if is_left else 1]
    axis.plot([rank, rank, end], [-0.1, depth, depth], color=INK, linewidth=0.9, clip_on=False)
    axis.annotate(words, (end, depth), (-4 if is_left else 4, 0), textcoords="offset points", va="center",
                  ha="right" if is_left else "left", annotation_clip=False)  # fmt: skip


def _words(found: JsonDict, metric: JsonDict) -> str:
    p_value = found["friedman"]
    tested = "" if p_value is None else "; Friedman test p " + ("< 0.001" if p_value < 0.001 else f"= {p_value:.3f}")
    return f"{metric['title']}: mean rank over {found['num_categories']} categories{tested}"


@mpl.rc_context(FIGURES_STYLE)
def costs(summary: JsonDict, metric: JsonDict) -> Figure:
    """Cost beside accuracy, a panel per cost; a line joins the approaches than which none is cheaper and better."""
    known = [cost for cost in COSTS if _known(summary, metric, cost)]
    figure = new_figure(0.6 + 4.2 * len(known), 3.4)
    for axis, cost in zip(figure.subplots(1, len(known), sharey=True, squeeze=False)[0], known, strict=True):
        points = _known(summary, metric, cost)
        sign = 1 if metric["direction"] == "higher" else -1
        paid = [point[1] for point in points]
        front = pareto(paid, [sign * point[2] for point in points])
        axis.plot([points[row][1] for row in front], [points[row][2] for row in front], color=MUTED, linewidth=1)
        for row, price, value in points:
            axis.scatter(price, value, s=36, color=BARS[row % len(BARS)], zorder=3)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(paid) > 3 * min(paid) else range(1, 10)))
        axis.xaxis.set_major_formatter("{x:g}")  # the default formatters use math text
        axis.xaxis.set_minor_locator(NullLocator())
        axis.margins(x=0.25, y=0.15)
        axis.set(xlabel=COSTS[cost][0])
    figure.axes[0].set_ylabel(metric["title"])
    figure.draw_without_rendering()  # so that the places of the points are final
    names = [shortened(method) for method in summary["methods"]]
    for axis, cost in zip(figure.axes, known, strict=True):
        _name_points(axis, [(names[row], (price, value)) for row, price, value in _known(summary, metric, cost)])
    return figure


def _name_points(axis: Axes, points: Sequence[tuple[str, tuple[float, float]]]) -> None:
    """Writes names beside points, each at the first of PLACES at which it covers no point and no other name."""
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in (axis.transData.transform(point) for _, point in points)]
    for name, point in points:
        for x, y, side in PLACES:
            text = axis.annotate(name, point, (x, y), textcoords="offset points", ha=side, annotation_clip=False)
            box = text.get_window_extent()
            if (x, y, side) == PLACES[-1] or not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _known(summary: JsonDict, metric: JsonDict, cost: str) -> list[tuple[int, float, float]]:
    """(row of the approach, cost, value) of those that have both."""
    paid = [COSTS[cost][1](row) for row in summary["cost"]]
    rows = enumerate(zip(paid, mean_accuracy(summary, metric["name"]), strict=True))
    return [(row, price, value) for row, (price, value) in rows if price and value is not None]
