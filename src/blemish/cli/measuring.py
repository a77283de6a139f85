"""`blemish evaluate`, `metrics`, `report` and `compare`: how good the decisions are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.terminal import Reported, Runs, console, errors
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
        int, typer.Option(min=0, max=100_000, help="Bootstrap resamples for the intervals; 0: none.")
    ] = 1000,
) -> None:
    """Score the test images with what was learned: every metric, per category and averaged, with 95 % intervals."""
    from blemish.runs.evaluate import evaluate_run

    _refuse_file(out)
    evaluations = []
    for run_path in runs:
        with shown_progress(run_path.name, errors) as phases:
            evaluations += evaluate_run(run_path, data_path, category or (), resamples, phases)
    _show(evaluations, out or runs[0])


def metrics_command(
    maps: Annotated[Path, typer.Option(help="Folder of anomaly maps: <category>/test/<type>/<stem>.tiff or .npy.")],
    data_path: Annotated[Path, typer.Option("--data-path", help="Root of the data set, or one category's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: that of the maps.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category to score, repeatable; default: all.")] = None,
    resamples: Annotated[
        int, typer.Option(min=0, max=100_000, help="Bootstrap resamples for the intervals; 0: none.")
    ] = 1000,
    name: Annotated[str, typer.Option(help="Name of the method in the tables.")] = "maps",
) -> None:
    """Score anomaly maps that any program wrote, in the layout of the official MVTec AD evaluation.

    The score of an image is the maximum of its map.
    """
    from blemish.data import find_categories
    from blemish.evaluation.evaluate import measure, predictions_from_maps
    from blemish.evaluation.record import previewed, write_measured
    from blemish.inference.previews import Preview

    if not maps.is_dir():
        raise BlemishError(f"maps {maps}: no such folder. Expected {maps}/<category>/test/<type>/<stem>.tiff.")
    _refuse_file(out)
    evaluations = []
    for found in find_categories(data_path, category or ()):
        previews: list[Preview] = []
        measured = measure(
            previewed(predictions_from_maps(maps, found), found.root, previews),
            found.of("test"),
            method=name,
            category=found.name,
            root=found.root,
            num_resamples=resamples,
        )
        write_measured(measured, previews, {}, (out or maps) / found.name)
        evaluations.append(measured.evaluation)
    _show(evaluations, out or maps)


def report_command(
    runs: Reported,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
    files: Annotated[
        Path | None,
        typer.Option(help="Folder for its tables (CSV, JSON, LaTeX) and figures (SVG, PNG) as files as well."),
    ] = None,
) -> None:
    """Write one HTML file to see every decision in: it opens from disk and asks no host for anything.

    Of what `train` left: figures, curves, images, data. Of what `predict` left: scores, decisions and images, which
    need no labels; `predict --report` keeps the anomaly maps for it too.
    """
    from blemish.reporting.render import report

    if out.is_dir():
        raise BlemishError(f"out {out}: a folder. Name the file to write, such as {out / 'report.html'}.")
    with shown_progress("", errors) as phases:
        report(runs, out, files, phases)
    console.print(f"the report is {out}", soft_wrap=True)
    if files is not None:
        console.print(f"its tables and figures are in {files}", soft_wrap=True)


def compare_command(
    first: Annotated[Path, typer.Argument(help="Folder that `train` left.")],
    second: Annotated[Path, typer.Argument(help="Another one, on the same test images.")],
) -> None:
    """Tell in which metrics one of two runs is significantly better, on the same test images.

    By images: a paired bootstrap over the test images, averaged over the categories; it makes the verdict, at p < 0.05.
    By categories: the Wilcoxon signed-rank test, from six categories on.
    """
    from blemish.reporting.compare import compare_runs, verdicts_table
    from blemish.reporting.read import read_runs

    runs = read_runs([first, second])
    verdicts = compare_runs(*runs)
    if not verdicts:
        raise BlemishError(f"{first}, {second}: no category has figures of both. Run both on the same data set.")
    console.print(verdicts_table(runs[0], runs[1], verdicts))
    for reason in dict.fromkeys(verdict.images for verdict in verdicts if isinstance(verdict.images, str)):
        console.print(f"cannot tell: {reason}", style="dim", soft_wrap=True)


def _refuse_file(out: Path | None) -> None:
    """Raises BlemishError, before there is anything to lose, where the folder to write to is a file."""
    if out is not None and out.is_file():
        raise BlemishError(f"out {out}: a file. Name a folder.")


def _show(evaluations: list[Evaluation], out: Path) -> None:
    """Prints all metrics and writes the tables."""
    from blemish.evaluation.results import comparison_tables, methods_of, metrics_tables, write_results

    for method in methods_of(evaluations):
        for table in metrics_tables(evaluations, method):
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


COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate_command,
    "metrics": metrics_command,
    "report": report_command,
    "compare": compare_command,
}
