"""Writing the tables and figures of a report as separate files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from blemish.files import replacing, write_text
from blemish.reporting.report_figures import FIGURES_STYLE, figures_of
from blemish.reporting.tables import plain, tables_of


def write_files(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the tables (CSV, JSON, LaTeX) and figures (SVG, PNG) of a summary to a folder, and gives their paths."""
    written = []
    for name, content in tables_of(summary).items():
        written.append(folder / name)
        write_text(folder / name, content)
    for name, figure in figures_of(summary):
        written += [save_figure(figure, folder / f"{plain(name)}.{kind}") for kind in ("svg", "png")]
    return written


@mpl.rc_context(FIGURES_STYLE)
def save_figure(figure: Figure, path: Path) -> Path:
    """Writes the figure in the format that the suffix names, and returns the path."""
    kind = path.suffix[1:]
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return path
