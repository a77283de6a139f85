"""From a summary to the page: one HTML file that asks no host for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from blemish.evaluation.results import shown
from blemish.files import write_text
from blemish.report.files import write_files
from blemish.report.pictures import make_album
from blemish.report.read import read_runs
from blemish.report.summarize import summarize
from blemish.report.tables import tables_of

SCRIPTS = ("page.js", "charts.js", "overview.js", "inspect.js", "gallery.js", "viewer.js")
"""In the order in which they run."""
COLOURS = ("inferno", "viridis", "cividis", "gray")
"""Colour maps of matplotlib that grow brighter throughout, so that they read in every kind of colour vision."""


def report(folders: Sequence[Path], out: Path, files: Path | None = None) -> dict[str, Any]:
    """Writes the report on the runs in these folders, with `files` its tables and figures there, and gives its summary.

    Raises BlemishError where a folder holds no run, or the file cannot be written.
    """
    runs = read_runs(folders)
    summary = summarize(runs, make_album(runs))
    write_text(out, render(summary))
    if files is not None:
        write_files(summary, files)
    return summary


def render(summary: dict[str, Any]) -> str:
    """The page. Names from the data are escaped wherever they stand."""
    loader = PackageLoader("blemish.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown, "duration": duration}
    environment.globals["source"] = lambda name: Markup(loader.get_source(environment, name)[0])
    return environment.get_template("report.html").render(
        summary=summary,
        files=tables_of(summary),
        scripts=SCRIPTS,
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
