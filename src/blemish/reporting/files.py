"""What a report shows, as files for other programs and for papers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from blemish.files import replacing, write_text
from blemish.reporting.figures import FIGURES_STYLE, figures_of
from blemish.reporting.tables import tables_of


def write_files(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the tables as CSV, JSON and LaTeX and the figures as SVG and PNG; their paths, in order."""
    written = []
    for name, content in tables_of(summary).items():
        written.append(folder / name)
        write_text(folder / name, content)
    for name, figure in figures_of(summary):
        written += [_save(figure, folder / f"{_plain(name)}.{kind}") for kind in ("svg", "png")]
    return written


@mpl.rc_context(FIGURES_STYLE)
def _save(figure: Figure, path: Path) -> Path:
    kind = path.suffix[1:]
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return path


def _plain(name: str) -> str:
    """The name without what a file system or a shell may choke on."""
    return re.sub(r"[^\w.+-]+", "_", name)
