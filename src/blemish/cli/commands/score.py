"""`blemish score`: scoring the images of a manifest, however many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.terminal import MaxPixels, console, errors
from blemish.errors import BlemishError, number_of, short_repr
from blemish.imaging.limits import MAX_PIXELS
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.calibration.thresholds import Calibration
    from blemish.runs.score import Scored


def score_command(
    manifest: Annotated[
        str, typer.Argument(help="Table of image files: .parquet, .csv, or a text with one file per line.")
    ],
    model: Annotated[Path, typer.Option(help="Folder of a fitted detector.")],
    out: Annotated[str, typer.Option(help="Folder for the scores, or an address such as s3://bucket/scores.")],
    shard: Annotated[str, typer.Option(help="This process's share, I/N with I from 0 to N - 1.")] = "0/1",
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, max=1_000_000, help="Images per file.")] = 1000,
    maps_above: Annotated[
        str | None,
        typer.Option("--maps-above", help="Write maps of scores above: a number, or 'threshold'. Default: no maps."),
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Where relative file names begin. Default: the manifest's folder.")
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the table that names the files.")] = "path",
    backend: Annotated[str, typer.Option(help="Runtime: torch, or onnx or openvino for an exported model.")] = "torch",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images computed at once.")] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode images; 0: one per core.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads that compute; 0: one per core.")] = 0,
    device: Annotated[str, typer.Option(help="Device of torch: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    max_pixels: MaxPixels = MAX_PIXELS,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster that computes the shards, or 'auto'. Default: none.")
    ] = None,
) -> None:
    """Score the images of a manifest, also millions: one parquet file per shard.

    The same command continues after an interruption: a shard that is there is not computed again. Files may lie
    wherever fsspec reaches (s3, gs, az, http). A file that could not be used has a row that says why; the exit code
    stays 0.
    """
    from blemish.data.manifest import Manifest
    from blemish.model.folder import find_model, read_model
    from blemish.runs.score import Job, Share, score

    share = Share.parse(shard)
    calibration = read_model(folder := find_model(model)).calibration
    settings: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "threads": threads, "device": device}
    job = Job(folder, backend, settings | {"max_pixels": max_pixels}, out, _level(maps_above, calibration))
    with shown_progress("", errors) as phases:
        found = score(job, Manifest.read(manifest, root, column), share, shard_size, ray, phases("scoring"))
    for line in _lines(found, out, is_calibrated=calibration is not None):
        console.print(line, soft_wrap=True)
    if found.first_error:
        errors.print(f"the first error: {found.first_error}", soft_wrap=True)


def _level(text: str | None, calibration: Calibration | None) -> float | None:
    if text is None:
        return None
    if text == "threshold":
        if calibration is None:
            raise BlemishError("maps-above: the model has no threshold. Run 'blemish calibrate', or give a number.")
        return calibration.threshold
    try:
        level = float(text)
    except ValueError:
        level = float("nan")
    if level != level:
        raise BlemishError(f"maps-above: {short_repr(text)} was given. Give a number, or 'threshold'.")
    return level


def _lines(found: Scored, out: str, *, is_calibrated: bool) -> list[str]:
    decided = number_of(found.num_defects, "defect") if is_calibrated else "not calibrated, so no decisions"
    speed = f"; {found.num_images / found.seconds:.1f} images/s" if found.num_images and found.seconds else ""
    before = f", {found.num_done_before} of them there before" if found.num_done_before else ""
    return [
        f"{number_of(found.num_images, 'image')}: {decided}, {found.num_unreadable} unreadable{speed}",
        f"{number_of(found.num_shards, 'shard')}{before}; the scores are in {out}/scores",
    ]
