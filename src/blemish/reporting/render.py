"""Rendering a report: one self-contained HTML file that makes no network requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from blemish.errors import BlemishError
from blemish.evaluation.results import format_value
from blemish.files import write_text
from blemish.progress import Phases, no_progress
from blemish.reporting.export import write_files
from blemish.reporting.page_images import make_page_images
from blemish.reporting.predictions import holds_predictions, read_predictions, summarize_predictions
from blemish.reporting.read_runs import read_runs
from blemish.reporting.summarize import summarize
from blemish.reporting.tables import tables_of

SHARED = ("elements.js", "draw.js", "maps.js", "histogram.js")
"""The scripts that the pages of the station use, too: functions that know nothing of a report."""
SCRIPTS = (*SHARED, "page.js", "charts.js", "overview.js", "scores.js", "inspect.js", "gallery.js", "viewer.js")
PREDICTION_SCRIPTS = (*SHARED, "page.js", "charts.js", "scores.js", "predictions.js", "gallery.js", "viewer.js")
"""The scripts of the two kinds of pages, in the order of execution."""
COLOURS = ("inferno", "viridis", "cividis", "gray")
"""Colour maps of matplotlib with increasing brightness, which are readable with any colour vision."""


def report(
    folders: Sequence[Path], out: Path, files: Path | None = None, phases: Phases = lambda _: no_progress
) -> dict[str, Any]:
    """Writes a report and gives its summary.

    Args:
        folders: Folders that `blemish train` wrote, or folders that `blemish predict` wrote, but not both.
        out: The HTML file.
        files: A folder for the tables and figures as separate files; None: not written.
        phases: Makes the progress callback of a phase.

    Raises BlemishError if a folder contains no results, both kinds are given, or a file cannot be written.
    """
    if any(map(holds_predictions, folders)):
        return _report_predictions(folders, out, files, phases)
    runs = read_runs(folders)
    summary = summarize(runs, make_page_images(runs))
    write_text(out, render(summary))
    if files is not None:
        write_files(summary, files)
    return summary


def _report_predictions(folders: Sequence[Path], out: Path, files: Path | None, phases: Phases) -> dict[str, Any]:
    if files is not None:
        raise BlemishError("files: is not available for predictions, whose table is predictions.csv. Leave it out.")
    runs = read_predictions(folders, phases("reading"))
    summary = summarize_predictions(runs, make_page_images(runs))
    write_text(out, render(summary))
    return summary


def render(summary: dict[str, Any]) -> str:
    """The HTML of a summary of runs or of predictions. All names from the data are escaped."""
    loader = PackageLoader("blemish.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": format_value, "duration": duration}
    environment.globals["source"] = lambda name: Markup(loader.get_source(environment, name)[0])
    name, scripts = ("report.html", SCRIPTS) if summary["labelled"] else ("predictions.html", PREDICTION_SCRIPTS)
    return environment.get_template(name).render(
        summary=summary,
        files=tables_of(summary) if summary["labelled"] else {},
        scripts=scripts,
        colours={name: colour_table(name) for name in COLOURS},
    )


def colour_table(name: str) -> list[list[int]]:
    """64 colours of a colour map from dark to bright, each [red, green, blue] from 0 to 255."""
    colours = colormaps[name](np.linspace(0, 1, 64))[:, :3]
    return [[int(value) for value in colour] for colour in np.round(colours * 255)]


def duration(seconds: float | None) -> str:
    """Seconds in words, such as "2 min 05 s"; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
