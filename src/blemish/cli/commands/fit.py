"""`blemish fit`: fitting a detector to a folder of good images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import closing_lines
from blemish.cli.terminal import console, errors
from blemish.errors import BlemishError
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.model.folder import ModelFolder


def fit_command(
    images: Annotated[Path, typer.Argument(help="folder of good images, or one category of a data set")],
    out: Annotated[Path | None, typer.Option(help="folder for the fitted detector; required without --update")] = None,
    update: Annotated[
        Path | None,
        typer.Option(help="fitted detector to update with them; default: none"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the model that is in --out already")] = False,
    *,
    config_path: Path | None,
    fields: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Learn from a folder of good images; some are held out to choose the threshold."""
    from blemish.cli.flags import merged_settings
    from blemish.runs.config import FIT_MODEL, RunConfig
    from blemish.runs.run import fit
    from blemish.runs.update import update as update_model

    model: ModelFolder | None
    with shown_progress("", errors) as phases:
        if update is not None:
            if fields or options or config_path:
                raise BlemishError("--update: a fitted detector keeps its settings. Leave the other options out.")
            model = update_model(update, images, out, phases, is_forced=force)
        elif out is None:
            raise BlemishError("--out is missing: folder for the fitted detector.")
        else:
            merged = {"model": FIT_MODEL, **merged_settings(config_path, fields, options)}
            model = fit(RunConfig.create(**{**merged, "data_path": images, "ckpt_path": out}), phases, is_forced=force)
    if model is not None:
        for line in closing_lines.fit_lines(model, images) if update is None else closing_lines.update_lines(model):
            console.print(line, soft_wrap=True)


EPILOG = "Options of another model: add --model NAME. Underscores are taken: --batch_size"
"""The last line of the help."""
