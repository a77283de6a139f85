"""The command line: parses, calls, prints. It imports torch only in the commands that compute."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

import blemish
from blemish.config import RunConfig, read_toml
from blemish.errors import BlemishError
from blemish.flags import Flags, detector_flags, run_flags, with_flags
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.types import Evaluation

console = Console()
errors = Console(stderr=True)

Folder = Annotated[Path, typer.Argument(help="A data set's root, one category's folder, or a folder of images.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """The `blemish` command: exit code 0 where all went well, 2 for what is the user's to mend, 130 on Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The flags of `train` include each detector's own options. To know them imports torch, so only `train` does.
    command = next((argument for argument in given if not argument.startswith("-")), "")
    app = build_app(detector_flags() if command == "train" else {})
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=errors, show_time=False, show_path=False)])
    try:
        app(given, standalone_mode=True)
    except BlemishError as error:
        errors.print(f"[bold red]error[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("stopped. The same command with --resume goes on from here.")
        sys.exit(130)


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
    """Runs every category of the configuration, prints a line for each and the headline last, and writes the results."""
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
        colour = "red" if problem.severity == "error" else "yellow"
        console.print(f"[bold {colour}]{problem.severity}[/] {problem}", highlight=False, soft_wrap=True)
    num_errors = sum(problem.severity == "error" for problem in problems)
    console.print(f"{num_errors} errors, {len(problems) - num_errors} warnings", highlight=False)
    if num_errors:
        raise typer.Exit(2)
