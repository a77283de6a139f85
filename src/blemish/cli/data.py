"""`blemish synth`, `demo` and `data check`: data sets, made and looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from blemish.cli.terminal import Folder, MaxPixels, console, errors
from blemish.imaging.limits import MAX_PIXELS
from blemish.progress import shown_progress


def synth_command(
    out: Annotated[Path, typer.Argument(help="Folder to write the data set to.")],
    category: Annotated[list[str] | None, typer.Option(help="Category to make, repeatable; default: all.")] = None,
    size: Annotated[int, typer.Option(help="Side length of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
) -> None:
    """Make the built-in data set: synthetic pictures of parts, with and without defects, in the layout of MVTec AD."""
    from blemish.data.synthetic import synthesize

    with shown_progress("", errors) as phases:
        folders = synthesize(out, categories=category or None, size=size, seed=seed, progress=phases("drawing"))
    console.print(f"in {out}: {', '.join(folder.name for folder in folders)}")


def demo_command(
    out: Annotated[Path, typer.Argument(help="Folder for the data, the runs and the comparison.")] = Path("runs/demo"),
) -> None:
    """Make the built-in data set, run every method on it, and compare them."""
    from blemish.runs.demo import demo

    demo(out, console, errors)


def check_command(path: Folder, max_pixels: MaxPixels = MAX_PIXELS) -> None:
    """Print what a data set holds and every problem found in it; exit with 2 where training would refuse it."""
    from blemish.data.overview import overview

    with shown_progress("", errors) as phases:
        table, problems = overview(path, phases("reading"), max_pixels)
    console.print(table)
    for problem in problems:
        style = "bold red" if problem.severity == "error" else "bold yellow"
        console.print(Text.assemble((problem.severity, style), f" {problem}"), soft_wrap=True)
    num_errors = sum(problem.severity == "error" for problem in problems)
    console.print(f"{num_errors} errors, {len(problems) - num_errors} warnings")
    if num_errors:
        raise typer.Exit(2)


COMMANDS: dict[str, Callable[..., None]] = {"synth": synth_command, "demo": demo_command}
DATA_COMMANDS: dict[str, Callable[..., None]] = {"check": check_command}
"""Those of `blemish data`."""
