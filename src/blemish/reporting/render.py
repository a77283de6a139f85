"""From a summary to the page: one HTML file that asks no host for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from blemish.errors import BlemishError
from blemish.evaluation.results import shown
from blemish.files import write_text
from blemish.progress import Phases, no_progress
from blemish.reporting.files import write_files
from blemish.reporting.pictures import make_album
from blemish.reporting.predictions import holds_predictions, read_predictions, summarize_predictions
from blemish.reporting.read import read_runs
from blemish.reporting.summarize import summarize
from blemish.reporting.tables import tables_of

SCRIPTS = ("page.js", "charts.js", "overview.js", "scores.js", "inspect.js", "gallery.js", "viewer.js")
PREDICTION_SCRIPTS = ("page.js", "charts.js", "scores.js", "predictions.js", "gallery.js", "viewer.js")
"""Of the two pages, in the order in which they run."""
COLOURS = ("inferno", "viridis", "cividis", "gray")
"""Colour maps of matplotlib that grow brighter throughout, so that they read in every kind of colour vision."""


def report(
    folders: Sequence[Path], out: Path, files: Path | None = None, phases: Phases = lambda _: no_progress
) -> dict[str, Any]:
    """Writes the report on the runs in these folders, with `files` its tables and figures there, and gives its summary.

    The folders are those that `blemish train` left, or those that `blemish predict` left. Raises BlemishError where one
    is neither, where there are both, or where the file cannot be written.
    """
    if any(map(holds_predictions, folders)):
        return _report_predictions(folders, out, files, phases)
    runs = read_runs(folders)
    summary = summarize(runs, make_album(runs))
    write_text(out, render(summary))
    if files is not None:
        write_files(summary, files)
    return summary


def _report_predictions(folders: Sequence[Path], out: Path, files: Path | None, phases: Phases) -> dict[str, Any]:
    if files is not None:
        raise BlemishError("--files: predictions have no tables but predictions.csv. Leave --files out.")
    runs = read_predictions(folders, phases("reading"))
    summary = summarize_predictions(runs, make_album(runs))
    write_text(out, render(summary))
    return summary


def render(summary: dict[str, Any]) -> str:
    """The page of a summary, of runs or of predictions. Names from the data are escaped wherever they stand."""
    loader = PackageLoader("blemish.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown, "duration": duration}
    environment.globals["source"] = lambda name: Markup(loader.get_source(environment, name)[0])
    name, scripts = ("report.html", SCRIPTS) if summary["labelled"] else ("predictions.html", PREDICTION_SCRIPTS)
    return environment.get_template(name).render(
        summary=summary,
        files=tables_of(summary) if summary["labelled"] else {},
        scripts=scripts,
        colours={name: colour_table(name) for name in COLOURS},
    )


def colour_table(name: str) -> list[list[int]]:
    """64 colours of a colour map, from dark to bright, 0 to 255 each of red, green and blue."""
    colours = colormaps[name](np.linspace(0, 1, 64))[:, :3]
    return [[int(value) for value in colour] for colour in np.round(colours * 255)]


def duration(seconds: float | None) -> str:
    """Seconds as one reads them; a dash where there are none."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
