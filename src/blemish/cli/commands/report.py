"""`blemish report` and `blemish compare`: reports on results, and tests of the difference between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.terminal import Reported, console, errors
from blemish.errors import BlemishError
from blemish.progress import shown_progress

if TYPE_CHECKING:
    pass


def report_command(
    runs: Reported,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
    files: Annotated[
        Path | None,
        typer.Option(help="Folder for its tables (CSV, JSON, LaTeX) and figures (SVG, PNG) as separate files."),
    ] = None,
) -> None:
    """Write a report as one HTML file, which needs no network.

    For folders of `train` it shows metrics, curves, images and the data. For folders of `predict` it shows scores,
    decisions and images without labels, and anomaly maps if they were made with `predict --report`.
    """
    from blemish.report.render import report

    if out.is_dir():
        raise BlemishError(f"out {out}: a folder. Name the file to write, such as {out / 'report.html'}.")
    with shown_progress("", errors) as phases:
        report(runs, out, files, phases)
    console.print(f"the report is {out}", soft_wrap=True)
    if files is not None:
        console.print(f"its tables and figures are in {files}", soft_wrap=True)


def compare_command(
    first: Annotated[Path, typer.Argument(help="Folder that `train` wrote.")],
    second: Annotated[Path, typer.Argument(help="Another one, on the same test images.")],
) -> None:
    """Test in which metrics one of two runs is significantly better, on the same test images.

    By images: a paired bootstrap over the test images, averaged over categories; it decides, at p < 0.05. By
    categories: the Wilcoxon signed-rank test, with at least six categories.
    """
    from blemish.report.compare import compare_runs, verdicts_table
    from blemish.report.read_runs import read_runs

    runs = read_runs([first, second])
    verdicts = compare_runs(*runs)
    if not verdicts:
        raise BlemishError(f"{first}, {second}: no category has metrics of both. Run both on the same data set.")
    console.print(verdicts_table(runs[0], runs[1], verdicts))
    for reason in dict.fromkeys(verdict.images for verdict in verdicts if isinstance(verdict.images, str)):
        console.print(f"not compared: {reason}", style="dim", soft_wrap=True)
