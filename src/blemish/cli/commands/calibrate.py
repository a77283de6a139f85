"""`blemish calibrate`: choosing or setting the thresholds of a fitted detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.terminal import Model, console, errors
from blemish.progress import shown_progress

if TYPE_CHECKING:
    pass


def calibrate_command(
    model: Model,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Compute the threshold for this false-alarm rate, such as 0.01.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of other good images (or of a folder good and folders of defects).")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Cross-validate: score each good training image by a detector fitted without its fold."
        ),
    ] = None,
    data_path: Annotated[Path | None, typer.Option("--data-path", help="The training images, for --folds.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Set the score threshold.")] = None,
    pixel_rate: Annotated[
        float | None,
        typer.Option(help="Compute the pixel threshold for this fraction of the good area, such as 0.001."),
    ] = None,
    pixel_threshold: Annotated[float | None, typer.Option(help="Set the pixel threshold.")] = None,
    min_area: Annotated[int | None, typer.Option(min=0, help="Smallest defect region in pixels.")] = None,
    leave_out: Annotated[
        list[Path] | None,
        typer.Option("--leave-out", metavar="PATH", help="Good image to ignore; repeatable."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Save the thresholds that --images gives.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Restore the calibration before.")] = False,
) -> None:
    """Compute or set the thresholds of a model; without options: show them. Scores do not change.

    Thresholds are computed from good images that the detector was not trained on: the held-out ones, or --images, or
    --folds. Without --apply or a rate, --images only shows what would change.
    """
    from blemish.model.folder import find_model
    from blemish.runs.explain import describe, effects
    from blemish.runs.recalibrate import calibrate_model

    with shown_progress("", errors) as phases:
        found = calibrate_model(
            find_model(model),
            false_alarm_rate=false_alarm_rate,
            images=images,
            folds=folds,
            data_path=data_path,
            threshold=threshold,
            pixel_rate=pixel_rate,
            pixel_threshold=pixel_threshold,
            min_area=min_area,
            leave_out=leave_out or [],
            apply=apply,
            undo=undo,
            phases=phases,
        )
    lines, table = describe(found.model)
    is_proposed = images is not None and not found.is_written
    if is_proposed:
        console.print("the calibration with these images:", soft_wrap=True)
    for line in [*lines, *effects(found)]:
        console.print(line, soft_wrap=True, highlight=False)
    if table:
        console.print(table)
    if is_proposed:
        console.print("nothing is saved yet: add --apply, or give a --false-alarm-rate.", soft_wrap=True)
