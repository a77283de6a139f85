"""`blemish predict`: predicting on image files."""

from __future__ import annotations

import os
import sys
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
    from blemish.inference.predict import Summary


def predict_command(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="Files, folders, 'patterns', or - for a list on standard input.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and predictions.jsonl.")],
    maps: Annotated[bool, typer.Option("--maps", help="Write anomaly maps of the image's size, as TIFF.")] = False,
    maps_format: Annotated[
        MapFormat | None,
        typer.Option(help="Precision of the maps: uint16, to 1/8190 of a map's range, or float32. [default: uint16]"),
    ] = None,
    overlays: Annotated[
        bool, typer.Option("--overlays", help="Write the images with outlined defect regions and a caption, as JPEG.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard the predictions in --out first, such as those of another model.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write OUT/report.html, a page with all images and decisions.")
    ] = False,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with code 3 if any image is a defect.")
    ] = False,
    backend: Annotated[str, typer.Option(help="Runtime: torch, or onnx or openvino for an exported model.")] = "torch",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images computed at once.")] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode images; 0: one per core.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads that compute; 0: one per core.")] = 0,
    device: Annotated[str, typer.Option(help="Device of torch: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    pages: Annotated[bool, typer.Option("--pages", help="Predict on each page of a multi-page TIFF.")] = False,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Predict on images: score, decision, p-value and defect regions of each.

    The same command continues after an interruption. Changed files are predicted again; after 'blemish calibrate'
    stored predictions are decided again. Exit code 0: success. 2: a file could not be used (its row says why, all
    others are predicted), or the command is wrong. 3: --fail-on-defect found a defect.
    """
    from blemish.data.listing import describe
    from blemish.data.selection import find_images
    from blemish.inference.backends import identity_of
    from blemish.inference.inspector import Inspector
    from blemish.inference.predict import output_folders, predict
    from blemish.inference.rows import PAGE, record_page
    from blemish.model.folder import find_model, read_model

    if report:  # fails early if an optional package is missing
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
        found = find_images(images, _listed() if "-" in images else (), output_folders(out), pages=pages)
        if found.left_out:
            errors.print(describe(found.left_out), soft_wrap=True)
        options: dict[str, Any] = {"overlays": overlays, "previews": report, "fresh": fresh, "about": about}
        form = maps_format or ("uint16" if maps else None)
        progress = phases("predicting")
        summary = predict(inspector, found.images, out, identity=identity, maps=form, progress=progress, **options)
        if report:
            write_report([out], out / PAGE, phases=phases)
            record_page(out)
    for line in _result_lines(summary, out, is_calibrated=inspector.calibration is not None, has_report=report):
        console.print(line, soft_wrap=True)
    if summary.first_error:
        errors.print(f"the first error: {summary.first_error}", soft_wrap=True)
    if fail_on_defect and summary.num_defects:
        raise typer.Exit(3)
    if summary.num_unreadable or summary.num_unwritten:
        raise typer.Exit(2)


def _result_lines(summary: Summary, out: Path, *, is_calibrated: bool, has_report: bool) -> list[str]:
    decided = number_of(summary.num_defects, "defect") if is_calibrated else "not calibrated, so no decisions"
    unwritten = f", {summary.num_unwritten} without the requested files" if summary.num_unwritten else ""
    speed = f"; {summary.rate:.1f} images/s" if summary.rate else ", nothing left to predict"
    return [
        f"{number_of(summary.num_images, 'image')}: {decided}, {summary.num_unreadable} unreadable{unwritten}{speed}",
        *summary.describe(),
        f"predictions.csv and predictions.jsonl are in {out}",
        f"the report is {out / 'report.html'}" if has_report else f"to see them: blemish report {out}",
    ]


def _listed() -> list[str]:
    """The file names on standard input, separated by line breaks or, as from `find -print0`, by NUL characters."""
    content = sys.stdin.buffer.read()
    return [os.fsdecode(name) for name in content.split(b"\0" if b"\0" in content else b"\n")]
