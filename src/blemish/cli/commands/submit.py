"""`blemish submit`: archives for the servers that judge methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from blemish.cli.terminal import console, errors
from blemish.errors import BlemishError, number_of
from blemish.progress import shown_progress


def submit_command(
    server: Annotated[Literal["mvtec_ad_2"], typer.Argument(help="Data set whose server judges: mvtec_ad_2.")],
    run: Annotated[Path, typer.Argument(help="Folder that `train` wrote; with --check an archive.")],
    out: Annotated[Path | None, typer.Option(help="Archive to write, .tar.gz; required without --check.")] = None,
    data_path: Annotated[
        Path | None, typer.Option("--data-path", help="Root of the data set; default: that of the run.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check an archive that is there already.")] = False,
) -> None:
    """Write the archive of anomaly maps that an evaluation server takes, and check it as the server would.

    The maps are thresholded where held-out good images said, never by a label of a test image.
    """
    if check:
        from blemish.evaluation.submission import check_archive

        console.print(f"{run}: {number_of(check_archive(run), 'file')}, as {server} takes it", soft_wrap=True)
        return
    if out is None:
        raise BlemishError("--out is missing: the archive to write, such as archive.tar.gz.")
    if not out.name.endswith(".tar.gz"):
        raise BlemishError(f"out {out}: the server takes .tar.gz. Name it so.")
    from blemish.runs.submit import submit

    with shown_progress("", errors) as phases:
        count = submit(run, out, data_path, phases)
    console.print(f"{number_of(count, 'file')} in {out}; hand it in at the server", soft_wrap=True)
