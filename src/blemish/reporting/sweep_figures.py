"""The figures of a sweep: its history, the importance of the options, and all trials as parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from blemish.metrics import METRICS
from blemish.reporting.export import save_figure
from blemish.reporting.report_figures import FIGURES_STYLE
from blemish.reporting.run_figures import ACCENT, BARS, MUTED
from blemish.reporting.sheet import new_figure

JsonDict = dict[str, Any]


def write_sweep_figures(document: JsonDict, folder: Path) -> dict[str, Path]:
    """Writes the figures (SVG, PNG) of a sweep, those that its trials are enough for; returns name -> SVG file."""
    complete = [trial for trial in document["trials"] if trial["value"] is not None]
    figures = {"sweep-history": history(document, complete)}
    if document["importance"]:
        figures["sweep-importance"] = importance(document)
    if len(complete) > 1:
        figures["sweep-trials"] = parallel_coordinates(document, complete)
    for name, figure in figures.items():
        for kind in ("svg", "png"):
            save_figure(figure, folder / f"{name}.{kind}")
    return {name: folder / f"{name}.svg" for name in figures}


@mpl.rc_context(FIGURES_STYLE)
def history(document: JsonDict, complete: Sequence[JsonDict]) -> Figure:
    """The objective of each trial, and the best so far."""
    numbers, values = [trial["number"] for trial in complete], [trial["value"] for trial in complete]
    best = np.maximum.accumulate(values) if document["direction"] == "higher" else np.minimum.accumulate(values)
    figure = new_figure(6.4, 3.2)
    axis = figure.add_subplot()
    axis.scatter(numbers, values, s=14, color=BARS[0], label="trial")
    axis.step(numbers, best, where="post", color=ACCENT, linewidth=1, label="best so far")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="trial", ylabel=f"mean {METRICS[document['metric']].title}")
    axis.legend()
    return figure


@mpl.rc_context(FIGURES_STYLE)
def importance(document: JsonDict) -> Figure:
    """A bar for each option: its part of the variance of the objective (functional ANOVA)."""
    rows = sorted(document["importance"].items(), key=lambda row: row[1])
    figure = new_figure(6.4, 0.9 + 0.3 * len(rows))
    axis = figure.add_subplot()
    axis.barh([name for name, _ in rows], [value for _, value in rows], color=BARS[0])
    axis.set(xlabel="part of the variance of the objective", xlim=(0, 1))
    return figure


@mpl.rc_context(FIGURES_STYLE)
def parallel_coordinates(document: JsonDict, complete: Sequence[JsonDict]) -> Figure:
    """A line for each trial through its values, dark for a good one; an axis reaches from the lowest to the highest."""
    names = list(dict.fromkeys(name for trial in complete for name in trial["values"]))
    columns = [_places([trial["values"].get(name) for trial in complete]) for name in names]
    scores, ends = _places([trial["value"] for trial in complete])
    order = np.argsort(scores) if document["direction"] == "higher" else np.argsort(-scores)
    figure = new_figure(1.6 + 1.1 * (len(names) + 1), 3.6)
    axis = figure.add_subplot()
    lines = np.stack([*(places for places, _ in columns), scores], axis=1)
    for rank, row in enumerate(order):
        part = rank / max(1, len(order) - 1)
        axis.plot(lines[row], color=mpl.colormaps["viridis_r"](part), linewidth=0.6 + part, alpha=0.4 + 0.6 * part)
    for at, (low, high) in enumerate([*(found for _, found in columns), ends]):
        axis.axvline(at, color=MUTED, linewidth=0.8)
        axis.annotate(high, (at, 1), (0, 4), textcoords="offset points", ha="center", annotation_clip=False)
        axis.annotate(low, (at, 0), (0, -12), textcoords="offset points", ha="center", annotation_clip=False)
    axis.set_xticks(range(len(names) + 1), [*names, METRICS[document["metric"]].title], rotation=20, ha="right")
    axis.tick_params(axis="x", pad=14)
    axis.set(yticks=[], ylim=(0, 1))
    axis.spines[["left", "bottom"]].set_visible(False)
    return figure


def _places(values: Sequence[Any]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Each value's place in [0, 1], and the words for both ends; what a trial lacks is in the middle.

    Words are in the order of their first trial; numbers that span more than a factor of ten are on a log scale.
    """
    known = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(known) < sum(value is not None for value in values) or not known:
        kinds = list(dict.fromkeys(str(value) for value in values))
        named = [kinds.index(str(value)) / max(1, len(kinds) - 1) for value in values]
        return np.asarray(named), (kinds[0], kinds[-1])
    low, high = min(known), max(known)
    scale = np.log if low > 0 and high > 10 * low else np.asarray
    span = float(scale(high) - scale(low)) or 1.0
    places = [0.5 if value is None else float(scale(value) - scale(low)) / span for value in values]
    return np.asarray(places), (f"{low:.3g}", f"{high:.3g}")
