"""`blemish calibrate`, `predict` and `export`: from a fitted detector to decisions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.terminal import MaxPixels, Model, console, errors
from blemish.errors import BlemishError, number_of
from blemish.files import absolute
from blemish.imaging.limits import MAX_PIXELS
from blemish.progress import shown_progress
from blemish.types import MapFormat

if TYPE_CHECKING:
    from blemish.export.graphs import Precision


def calibrate_command(
    model: Model,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Choose the threshold for this rate of false alarms, such as 0.01.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of other good images (and folders of defects beside one named good).")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Score each good training image by a detector fitted without its fold.")
    ] = None,
    data_path: Annotated[Path | None, typer.Option("--data-path", help="The training images, for --folds.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Set the threshold of the score by hand.")] = None,
    pixel_rate: Annotated[
        float | None, typer.Option(help="Choose the pixel threshold for this part of the good area, such as 0.001.")
    ] = None,
    pixel_threshold: Annotated[float | None, typer.Option(help="Set the threshold of the map by hand.")] = None,
    min_area: Annotated[
        int | None, typer.Option(min=0, help="Pixels of a defect region at least; smaller ones do not count.")
    ] = None,
    leave_out: Annotated[
        list[Path] | None,
        typer.Option("--leave-out", metavar="PATH", help="Good image that counts nothing; may be given again."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write what --images chooses, once it was looked at.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the calibration before.")] = False,
) -> None:
    """Choose or set what makes a score a defect; without options: show it. The model itself is never changed.

    Choosing needs good images that the detector has not seen: those that were held out, or --images, or --folds. What
    --images would change is shown, and written with --apply or a rate.
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
        console.print("what these images would make of it:", soft_wrap=True)
    for line in [*lines, *effects(found)]:
        console.print(line, soft_wrap=True, highlight=False)
    if table:
        console.print(table)
    if is_proposed:
        console.print("nothing is changed yet: add --apply, or choose with --false-alarm-rate.", soft_wrap=True)


def predict_command(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="Files, folders, 'patterns', or - for a list on standard input.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and predictions.jsonl.")],
    maps: Annotated[bool, typer.Option("--maps", help="Write anomaly maps: TIFF at the file's size.")] = False,
    maps_format: Annotated[
        MapFormat | None,
        typer.Option(help="Of the maps: uint16, to 1/8190 of a map's range, or float32, exact. [default: uint16]"),
    ] = None,
    overlays: Annotated[
        bool, typer.Option("--overlays", help="Write the images with their regions outlined and a caption: JPEG.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove the predictions in --out first, such as those of another model.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write OUT/report.html, a page to look at every decision in.")
    ] = False,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with 3 where a defect was found.")
    ] = False,
    backend: Annotated[
        str, typer.Option(help="What runs the detector: torch, or onnx or openvino once it is exported.")
    ] = "torch",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images computed at once.")] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode images; 0: one per core.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads that compute; 0: one per core.")] = 0,
    device: Annotated[str, typer.Option(help="Where torch computes: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    pages: Annotated[bool, typer.Option("--pages", help="Inspect each page of a TIFF that holds several.")] = False,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Inspect images: score, decision, p-value and defect regions of each.

    The same command goes on after a stop. A file that has changed is inspected anew; after 'blemish calibrate' what is
    stored in --out is decided again. Exit code 0 where all went well, 2 where a file could not be used (its row says
    why, the others are inspected) or the command is wrong, 3 where --fail-on-defect found one.
    """
    from blemish.data.listing import describe
    from blemish.data.selection import find_images
    from blemish.inference.backends import identity_of
    from blemish.inference.inspector import Inspector
    from blemish.inference.table import predict, written_to
    from blemish.model.folder import find_model, read_model

    if report:  # what draws the page may be missing, which is to be known before
        from blemish.reporting.render import report as write_report
    folder = find_model(model)
    settings: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "threads": threads, "device": device}
    inspector = Inspector.load(folder, backend, **settings, max_pixels=max_pixels)
    if fail_on_defect and inspector.calibration is None:
        raise BlemishError(f"{folder}: not calibrated, so nothing is a defect. Run 'blemish calibrate' first.")
    used = read_model(folder)
    identity = identity_of(used, backend)
    about = {"model": str(absolute(folder)), "method": used.model, "backend": backend}
    with shown_progress("", errors) as phases:
        found = find_images(images, _listed() if "-" in images else (), written_to(out), pages=pages)
        if found.left_out:
            errors.print(describe(found.left_out), soft_wrap=True)
        options: dict[str, Any] = {"overlays": overlays, "previews": report, "fresh": fresh, "about": about}
        form = maps_format or ("uint16" if maps else None)
        progress = phases("inspecting")
        summary = predict(inspector, found.images, out, identity=identity, maps=form, progress=progress, **options)
        if report:
            write_report([out], out / "report.html", phases=phases)
    decided = (
        number_of(summary.num_defects, "defect") if inspector.calibration else "not calibrated, so none is decided"
    )
    unwritten = f", {summary.num_unwritten} without the files that were asked for" if summary.num_unwritten else ""
    speed = f"; {summary.rate:.1f} images/s" if summary.rate else ", none left to inspect"
    line = f"{number_of(summary.num_images, 'image')}: {decided}, {summary.num_unreadable} unreadable{unwritten}{speed}"
    for said in (line, *summary.describe(), f"predictions.csv and predictions.jsonl are in {out}"):
        console.print(said, soft_wrap=True)
    hint = f"the report is {out / 'report.html'}" if report else f"to look at them: blemish report {out}"
    console.print(hint, soft_wrap=True)
    if summary.first_error:
        errors.print(f"the first error: {summary.first_error}", soft_wrap=True)
    if fail_on_defect and summary.num_defects:
        raise typer.Exit(3)
    if summary.num_unreadable or summary.num_unwritten:
        raise typer.Exit(2)


def _listed() -> list[str]:
    """The names on standard input, each on a line or, as `find -print0` gives them, before a NUL."""
    content = sys.stdin.buffer.read()
    return [os.fsdecode(name) for name in content.split(b"\0" if b"\0" in content else b"\n")]


def export_command(
    model: Model,
    target: Annotated[str, typer.Option("--format", help="onnx or openvino.")] = "onnx",
    half: Annotated[bool, typer.Option("--half", help="Store what was learned in 16 bits: half the file.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute convolutions in 8 bits, their ranges from the good training images.")
    ] = False,
    data_path: Annotated[
        Path | None,
        typer.Option("--data-path", help="Images to compare on; default: the data set that the detector learned from."),
    ] = None,
) -> None:
    """Write the detector for another runtime into its folder, after comparing the two on the test images.

    Where scores, maps or decisions differ by more than is allowed, nothing is written.
    """
    from blemish.model.folder import find_model
    from blemish.runs.export import describe, export

    if half and int8:
        raise BlemishError("half, int8: one precision or the other. Leave one out.")
    precision: Precision = "half" if half else "int8" if int8 else "float32"
    with shown_progress("", errors) as phases:
        written = export(find_model(model), target, precision, data_path, phases)
    for path in written.files:
        console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
    size = f"{' x '.join(map(str, written.size))} pixels, to which predict brings them" if written.size else "any size"
    console.print(f"it takes images of {size}", soft_wrap=True)
    found = f"{precision} against torch on {written.parity.num_images} images: {describe(written.parity)}"
    console.print(found, soft_wrap=True)
    for name, (before, after) in written.auroc.items():
        line = f"{name.replace('_auroc', ' AUROC')} {after:.4f}, in torch {before:.4f}: {after - before:+.4f}"
        console.print(line)


COMMANDS: dict[str, Callable[..., None]] = {
    "calibrate": calibrate_command,
    "predict": predict_command,
    "export": export_command,
}
