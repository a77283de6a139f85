"""`blemish export`: writing a fitted detector for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.terminal import Model, console, errors
from blemish.errors import BlemishError
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.export.graphs import Precision


def export_command(
    model: Model,
    target: Annotated[str, typer.Option("--format", help="onnx or openvino.")] = "onnx",
    half: Annotated[bool, typer.Option("--half", help="Store tensors in 16 bits, which halves the file.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute convolutions in 8 bits, with ranges from the good training images.")
    ] = False,
    data_path: Annotated[
        Path | None,
        typer.Option("--data-path", help="Images for the comparison; default: the data set of the model."),
    ] = None,
) -> None:
    """Export a model to another runtime, into its folder, after comparing both on the test images.

    Nothing is written if scores, maps or decisions differ too much.
    """
    from blemish.model.folder import find_model
    from blemish.runs.export import describe, export

    if half and int8:
        raise BlemishError("half, int8: only one precision is possible. Leave one out.")
    precision: Precision = "half" if half else "int8" if int8 else "float32"
    with shown_progress("", errors) as phases:
        written = export(find_model(model), target, precision, data_path, phases)
    for path in written.files:
        console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
    size = f"{' x '.join(map(str, written.size))} pixels, to which predict resizes them" if written.size else "any size"
    console.print(f"it takes images of {size}", soft_wrap=True)
    found = f"{precision} against torch on {written.parity.num_images} images: {describe(written.parity)}"
    console.print(found, soft_wrap=True)
    if written.as_fitted:
        beside = "beside torch in bfloat16, as it was fitted"
        advice = "--precision float32 of fit makes both agree"
        console.print(f"{beside}: {describe(written.as_fitted)}; {advice}", soft_wrap=True)
    for name, (before, after) in written.auroc.items():
        line = f"{name.replace('_auroc', ' AUROC')} {after:.4f}, in torch {before:.4f}: {after - before:+.4f}"
        console.print(line)
