"""Where the commands print, and arguments that several of them take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(markup=False, highlight=False)
errors = Console(markup=False, highlight=False, stderr=True)
"""Without markup: a name of the user's may have brackets."""

Folder = Annotated[Path, typer.Argument(help="A data set's root, one category's folder, or a folder of images.")]
Runs = Annotated[list[Path], typer.Argument(help="Folders that `train` left, one or several.")]
Reported = Annotated[list[Path], typer.Argument(help="Folders that `train` or `predict` left, one or several.")]

MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Pixels of an image at most; larger are refused.")]

Model = Annotated[Path, typer.Argument(help="Folder of a fitted detector, as `train` leaves one per category.")]
