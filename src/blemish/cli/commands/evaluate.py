"""`blemish evaluate` and `blemish metrics`: metrics of fitted detectors, and of anomaly maps of any program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.terminal import LayoutName, Runs, console, errors
from blemish.errors import BlemishError
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.types import Evaluation


def evaluate_command(
    runs: Runs,
    data_path: Annotated[Path, typer.Option("--data-path", help="Root of the data set, or one category's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: the first run's.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category to evaluate, repeatable; default: all.")] = None,
    resamples: Annotated[
        int, typer.Option(min=0, max=100_000, help="Bootstrap resamples for the intervals; 0: no intervals.")
    ] = 1000,
    layout: Annotated[
        str, typer.Option(help="Layout of the data set, as in docs/layouts.md; default: that of the run.")
    ] = "",
) -> None:
    """Evaluate fitted detectors on test images: all metrics, per category and averaged, with 95 % intervals."""
    from blemish.runs.evaluate import evaluate_run

    _refuse_file(out)
    evaluations = []
    for run_path in runs:
        with shown_progress(run_path.name, errors) as phases:
            evaluations += evaluate_run(run_path, data_path, category or (), resamples, phases, layout=layout)
    _show(evaluations, out or runs[0])


def metrics_command(
    maps: Annotated[
        Path, typer.Option(help="Output of predict --maps, or maps: <category>/test/<type>/<stem>.tiff or .npy.")
    ],
    data_path: Annotated[Path, typer.Option("--data-path", help="Root of the data set, or one category's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: that of the maps.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category to evaluate, repeatable; default: all.")] = None,
    resamples: Annotated[
        int, typer.Option(min=0, max=100_000, help="Bootstrap resamples for the intervals; 0: no intervals.")
    ] = 1000,
    name: Annotated[str, typer.Option(help="Name of the method in the tables.")] = "maps",
    layout: LayoutName = "auto",
) -> None:
    """Evaluate anomaly maps: of `blemish predict`, or of any program in the layout of the official MVTec AD evaluation.

    The score of an image is the maximum of its map.
    """
    from blemish.data import find_categories
    from blemish.runs.evaluate import evaluate_maps

    if not maps.is_dir():
        raise BlemishError(
            f"maps {maps}: no such folder. Give {maps}/<category>/test/<type>/<stem>.tiff, or the output of predict."
        )
    _refuse_file(out)
    found = find_categories(data_path, category or (), layout=layout)
    evaluations = [evaluate_maps(maps, one, name, out or maps, resamples) for one in found]
    _show(evaluations, out or maps)


def _refuse_file(out: Path | None) -> None:
    """Raises BlemishError if the output folder is a file, before anything is computed."""
    if out is not None and out.is_file():
        raise BlemishError(f"out {out}: a file. Name a folder.")


def _show(evaluations: list[Evaluation], out: Path) -> None:
    """Prints all metrics, and writes the result files to `out`."""
    from blemish.evaluation.results import (
        comparison_tables,
        methods_of,
        metrics_tables,
        official_tables,
        write_results,
    )

    for method in methods_of(evaluations):
        for table in [*metrics_tables(evaluations, method), *official_tables(evaluations, method)]:
            console.print(table)
            console.print()
    if len(methods_of(evaluations)) > 1:
        console.print(*comparison_tables(evaluations), sep="\n\n")
    for evaluation in evaluations:
        for reason in dict.fromkeys(evaluation.reasons.values()):
            names = ", ".join(name for name, why in evaluation.reasons.items() if why == reason)
            line = f"{evaluation.method}, {evaluation.category}: {names} not applicable: {reason}"
            console.print(line, style="dim", soft_wrap=True)
    write_results(evaluations, out)
    console.print(f"results.json, results.csv and results.tex are in {out}")
