"""`blemish report`: one HTML file on the results of runs or on predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.terminal import Reported, console, errors
from blemish.errors import BlemishError
from blemish.progress import shown_progress


def report_command(
    runs: Reported,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
    files: Annotated[
        Path | None,
        typer.Option(help="Folder for its tables (CSV, JSON, LaTeX) and figures (SVG, PNG) as separate files."),
    ] = None,
) -> None:
    """Write a report as one HTML file, which needs no network.

    For folders of `train` and `benchmark` it shows metrics, curves, images and the data. For folders of `predict` it
    shows scores, decisions and images without labels, and anomaly maps if they were made with `predict --report`.
    """
    from blemish.reporting.render import report

    if out.is_dir():
        raise BlemishError(f"out {out}: a folder. Name the file to write, such as {out / 'report.html'}.")
    with shown_progress("", errors) as phases:
        report(runs, out, files, phases)
    console.print(f"the report is {out}", soft_wrap=True)
    if files is not None:
        console.print(f"its tables and figures are in {files}", soft_wrap=True)
