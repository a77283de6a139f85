"""The consoles of the commands, the log, and arguments that several commands share."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

console = Console(markup=False, highlight=False)
errors = Console(markup=False, highlight=False, stderr=True)
"""Consoles for standard output and standard error; without markup, because names may contain brackets."""


class Lines(logging.Handler):
    """Writes each record of the log as one line to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record."""
        mark = ("warning ", "bold yellow") if record.levelno >= logging.WARNING else ""
        errors.print(Text.assemble(mark, record.getMessage()), soft_wrap=True)


def show_log(*, quiet: bool = False) -> None:
    """Shows the log of blemish and all warnings on standard error; with `quiet` only warnings.

    Handlers and levels that the process has set already stay.
    """
    logging.basicConfig(handlers=[Lines()])
    logger = logging.getLogger("blemish")
    if quiet:
        logger.setLevel(logging.WARNING)
    elif logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def quoted(path: Path) -> str:
    """The path quoted for a shell."""
    return shlex.quote(str(path))


Folder = Annotated[Path, typer.Argument(help="A data set's root, one category's folder, or a folder of images.")]
Runs = Annotated[list[Path], typer.Argument(help="Folders that `train` wrote, one or several.")]
Reported = Annotated[
    list[Path], typer.Argument(help="Folders that `train`, `benchmark` or `predict` wrote, one or several.")
]

MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Largest number of pixels of an image.")]

LayoutName = Annotated[
    str, typer.Option("--layout", help="Layout of the data set, as in docs/layouts.md; auto: as it is found.")
]
Model = Annotated[Path, typer.Argument(help="Folder of a fitted detector.")]
