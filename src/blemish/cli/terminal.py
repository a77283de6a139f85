"""Where the commands print, and arguments that several of them take."""

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
"""Without markup: a name of the user's may have brackets."""


class Lines(logging.Handler):
    """Writes each record of the log as one line to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record."""
        mark = ("warning ", "bold yellow") if record.levelno >= logging.WARNING else ""
        errors.print(Text.assemble(mark, record.getMessage()), soft_wrap=True)


def show_log(*, quiet: bool = False) -> None:
    """Shows what blemish says of its work, and all warnings; with `quiet` warnings alone.

    Where the process has set up its log already, its handlers and levels stay.
    """
    logging.basicConfig(handlers=[Lines()])
    logger = logging.getLogger("blemish")
    if quiet:
        logger.setLevel(logging.WARNING)
    elif logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def quoted(path: Path) -> str:
    """The path as a shell takes it for one word."""
    return shlex.quote(str(path))


Folder = Annotated[Path, typer.Argument(help="A data set's root, one category's folder, or a folder of images.")]
Runs = Annotated[list[Path], typer.Argument(help="Folders that `train` left, one or several.")]
Reported = Annotated[list[Path], typer.Argument(help="Folders that `train` or `predict` left, one or several.")]

MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Pixels of an image at most; larger are refused.")]

Model = Annotated[Path, typer.Argument(help="Folder of a fitted detector, as `train` leaves one per category.")]
