"""The command line: parses, calls, prints. It imports torch only in the commands that compute."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text
from typer.exceptions import TyperException

import blemish
from blemish.config import RunConfig, read_toml
from blemish.errors import BlemishError
from blemish.flags import Flags, detector_flags, one_value_each, run_flags, with_flags
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.types import Evaluation

console = Console()
errors = Console(stderr=True)

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

Folder = Annotated[Path, typer.Argument(help="A data set's root, one category's folder, or a folder of images.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """The `blemish` command: exit code 0 where all went well, 2 for what is the user's to mend, 130 on Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The flags of `train` include each detector's own options. To know them imports torch, so only `train` does.
    command = next((argument for argument in given if not argument.startswith("-")), "")
    options = detector_flags() if command == "train" else {}
    if command == "train":
        given = one_value_each(given, run_flags() | options)
    app = build_app(options)
    handler = RichHandler(console=errors, show_time=False, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[handler])
    logging.getLogger("blemish").setLevel(logging.INFO)
    try:
        code = app(given, standalone_mode=False)
    except BlemishError as error:
        _fail(str(error))
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        _fail(f"{message}. 'blemish {command} --help' tells what there is.")
    if code == INTERRUPTED and command == "train":
        errors.print("stopped. The same command with --resume goes on from here.")
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    """One line on standard error, and exit code 2."""
    errors.print(Text.assemble(("error ", "bold red"), message), soft_wrap=True)
    sys.exit(2)


def build_app(options: Flags) -> typer.Typer:
    """The commands; `options` are the flags of the detectors."""
    app = typer.Typer(
        help="Finds defects in pictures of manufactured parts, having seen only good ones.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    app.command("train")(with_flags(_train, run_flags(), options))
    app.command("evaluate")(_evaluate)
    app.command("metrics")(_metrics)
    app.command("synth")(_synth)
    app.command("demo")(_demo)
    data = typer.Typer(help="Looks at data sets.", no_args_is_help=True)
    data.command("check")(_data_check)
    app.add_typer(data, name="data")
    return app


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"blemish {blemish.__version__}", highlight=False)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _train(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> None:
    """Learn from good images, then find the defects in the test images and say how well.

    For every category: 10 % of the good training images, drawn at random, are held out; the epoch with the lowest
    loss on them is kept; the whole test set is scored at its own resolution.
    """
    from_file = read_toml(config_path) if config_path else {}
    merged = {**from_file, **fields, "options": {**from_file.get("options", {}), **options}}
    for required in ("data_path", "ckpt_path"):
        if required not in merged:
            raise BlemishError(f"--{required} is missing: {RunConfig.model_fields[required].description}.")
    train(RunConfig.create(**merged))


def train(config: RunConfig) -> list[Evaluation]:
    """Runs every category, prints a line for each and the headline last, and writes the results."""
    from blemish import figures
    from blemish.data import find_categories
    from blemish.results import write_results
    from blemish.run import run
    from blemish.training import is_main_process

    evaluations = []
    for category in find_categories(config.data_path, config.category):
        with shown_progress(category.name, errors) as phases:
            evaluation = run(config.for_category(category.name), phases)
        evaluations.append(evaluation)
        if is_main_process():
            console.print(_line(evaluation), highlight=False)
    if is_main_process():
        write_results(evaluations, config.ckpt_path)
        if any(evaluation.images for evaluation in evaluations):
            figures.averages(evaluations, config.ckpt_path / "figures" / "auroc.png")
        console.print(_headline(evaluations, config), highlight=False)
    return evaluations


def _line(evaluation: Evaluation) -> str:
    from blemish.results import shown

    if not evaluation.images:
        return f"{evaluation.category}: trained; it has no test images, so there is nothing to evaluate"
    pixel, image = (evaluation.metrics.get(name) for name in ("pixel_auroc", "image_auroc"))
    why = "; ".join(
        f"{name.replace('_', ' ')}: {evaluation.reasons[name]}"
        for name in ("pixel_auroc", "image_auroc")
        if name in evaluation.reasons
    )
    line = f"{evaluation.category}: pixel AUROC {shown(pixel)}, image AUROC {shown(image)}"
    return f"{line} ({why})" if why else line


def _headline(evaluations: list[Evaluation], config: RunConfig) -> str:
    from blemish.results import average_of

    average = average_of(evaluations, config.model, "pixel_auroc")
    where = f"results and figures are in {config.ckpt_path}"
    if average is None:
        return f"nothing to average; what was learned is in {config.ckpt_path}"
    return f"{where}\n[bold]average pixel AUROC {average:.4f}[/]"


def _evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `train` left, one or several.")],
    data_path: Annotated[Path, typer.Option("--data_path", help="Root of the data set, or one category's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: the first run's.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category to evaluate, repeatable; default: all.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals; 0: none.")] = 1000,
) -> None:
    """Score the test images with what was learned: every metric, per category and averaged, with 95 % intervals."""
    from blemish.run import evaluate_run

    evaluations = []
    for run_path in runs:
        with shown_progress(run_path.name, errors) as phases:
            evaluations += evaluate_run(run_path, data_path, category or (), resamples, phases)
    _report(evaluations, out or runs[0])


def _metrics(
    maps: Annotated[Path, typer.Option(help="Folder of anomaly maps: <category>/test/<type>/<stem>.tiff or .npy.")],
    data_path: Annotated[Path, typer.Option("--data_path", help="Root of the data set, or one category's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: that of the maps.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category to score, repeatable; default: all.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals; 0: none.")] = 1000,
    name: Annotated[str, typer.Option(help="Name of the method in the tables.")] = "maps",
) -> None:
    """Score anomaly maps that any program wrote, in the layout of the official MVTec AD evaluation.

    The score of an image is the maximum of its map.
    """
    from blemish.data import find_categories
    from blemish.evaluate import evaluate, predictions_from_maps

    evaluations = [
        evaluate(
            predictions_from_maps(maps, found),
            found.of("test"),
            method=name,
            category=found.name,
            root=found.root,
            num_resamples=resamples,
        )
        for found in find_categories(data_path, category or ())
    ]
    _report(evaluations, out or maps)


def _report(evaluations: list[Evaluation], out: Path) -> None:
    """Prints all metrics and writes the tables."""
    from blemish.results import comparison_table, methods_of, metrics_tables, write_results

    for method in methods_of(evaluations):
        for table in metrics_tables(evaluations, method):
            console.print(table)
            console.print()
    if len(methods_of(evaluations)) > 1:
        console.print(comparison_table(evaluations))
    for evaluation in evaluations:
        for reason in dict.fromkeys(evaluation.reasons.values()):
            names = ", ".join(name for name, why in evaluation.reasons.items() if why == reason)
            line = f"{evaluation.method}, {evaluation.category}: {names} not applicable: {reason}"
            console.print(line, style="dim", highlight=False, soft_wrap=True)
    write_results(evaluations, out)
    console.print(f"results.json, results.csv and results.tex are in {out}", highlight=False)


def _synth(
    out: Annotated[Path, typer.Argument(help="Folder to write the data set to.")],
    category: Annotated[list[str] | None, typer.Option(help="Category to make, repeatable; default: all.")] = None,
    size: Annotated[int, typer.Option(help="Side length of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
) -> None:
    """Make the built-in data set: synthetic pictures of parts, with and without defects, in the layout of MVTec AD."""
    from blemish.data.synthetic import synthesize

    with shown_progress("", errors) as phases:
        folders = synthesize(out, categories=category or None, size=size, seed=seed, progress=phases("drawing"))
    console.print(
        f"{len(folders)} categories in {out}: {', '.join(folder.name for folder in folders)}", highlight=False
    )


def _demo(
    out: Annotated[Path, typer.Argument(help="Folder for the data, the runs and the comparison.")] = Path("runs/demo"),
) -> None:
    """Make the built-in data set, run every method on it, and compare them."""
    from blemish.demo import demo

    demo(out, console, errors)


def _data_check(path: Folder) -> None:
    """Print what a data set holds and every problem found in it; exit with 2 where training would refuse it."""
    from blemish.data.overview import overview

    with shown_progress("", errors) as phases:
        table, problems = overview(path, phases("reading"))
    console.print(table)
    for problem in problems:
        style = "bold red" if problem.severity == "error" else "bold yellow"
        console.print(Text.assemble((problem.severity, style), f" {problem}"), soft_wrap=True)
    num_errors = sum(problem.severity == "error" for problem in problems)
    console.print(f"{num_errors} errors, {len(problems) - num_errors} warnings", highlight=False)
    if num_errors:
        raise typer.Exit(2)
