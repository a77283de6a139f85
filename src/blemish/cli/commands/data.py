"""`blemish synth`, `demo` and `data check`: creating and checking data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from blemish.cli.terminal import Folder, LayoutName, MaxPixels, console, errors, quoted
from blemish.errors import number_of
from blemish.imaging.limits import MAX_PIXELS
from blemish.progress import shown_progress


def synth_command(
    out: Annotated[Path, typer.Argument(help="Folder to write the data set to.")],
    category: Annotated[list[str] | None, typer.Option(help="Category to create, repeatable; default: all.")] = None,
    size: Annotated[
        int, typer.Option(help="Side length of the images in pixels; rail: half as high, four times as wide.")
    ] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the random generator.")] = 0,
) -> None:
    """Create the built-in data set: synthetic images of parts, with and without defects, in the layout of MVTec AD."""
    from blemish.data.synthetic import synthesize

    with shown_progress("", errors) as phases:
        folders = synthesize(out, categories=category or None, size=size, seed=seed, progress=phases("drawing"))
    console.print(f"the data set is in {out}: {', '.join(folder.name for folder in folders)}", soft_wrap=True)
    console.print(f"next: blemish fit {quoted(folders[0] / 'train' / 'good')} --out model", soft_wrap=True)


def demo_command(
    out: Annotated[Path, typer.Argument(help="Folder for the data, the runs and the comparison.")] = Path("runs/demo"),
) -> None:
    """Create the built-in data set, run every method on it, and compare them."""
    from blemish.runs.demo import demo

    demo(out, console, errors)


def import_command(
    annotations: Annotated[Path, typer.Argument(help="File or folder of the annotations.")],
    images: Annotated[Path, typer.Argument(help="Folder of the images that were annotated.")],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="coco, labelme, cvat, yolo, supervisely or label_studio; default: recognised.",
        ),
    ] = "",
    boxes: Annotated[bool, typer.Option("--boxes", help="Take bounding boxes as masks.")] = False,
    unannotated_good: Annotated[
        bool, typer.Option("--unannotated-good", help="Take images without annotations as good.")
    ] = False,
) -> None:
    """Import annotated images: a folder of good ones, one for each type of defect, and masks.

    An image with anything that cannot be taken is left out, and the reason is said.
    """
    from blemish.data.annotations.importing import import_annotations

    options = {"format_name": format_name, "boxes": boxes, "unannotated_good": unannotated_good}
    with shown_progress("", errors) as phases:
        done = import_annotations(annotations, images, out, **options, progress=phases("importing"))  # type: ignore[arg-type]
    counts = ", ".join(f"{kind} {count:,}" for kind, count in sorted(done.counts.items()))
    console.print(f"{number_of(done.counts.total(), 'image')} of {done.format} in {out}: {counts}", soft_wrap=True)
    for line in done.lines:
        console.print(line, soft_wrap=True)
    if not done.counts["good"]:
        console.print(f"there are no good images yet: put them into {quoted(out / 'good')}", soft_wrap=True)
    console.print(f"next: blemish data check {quoted(out)}", soft_wrap=True)


def unpack_command(
    archive: Annotated[Path, typer.Argument(help="zip or tar file of a data set, compressed or not.")],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
) -> None:
    """Unpack the archive of a data set: files alone, within the folder, at most 100 times as large as the archive."""
    from blemish.data.unpack import unpack

    with shown_progress("", errors) as phases:
        count = unpack(archive, out, phases("unpacking"))
    console.print(f"{number_of(count, 'file')} in {out}", soft_wrap=True)
    console.print(f"next: blemish data check {quoted(out)}", soft_wrap=True)


def check_command(
    path: Folder,
    layout: LayoutName = "auto",
    max_pixels: MaxPixels = MAX_PIXELS,
    outliers: Annotated[
        bool,
        typer.Option(
            "--outliers",
            help="Find good images unlike the others, by detectors fitted to these; as long as 3 to 12 fits.",
        ),
    ] = False,
) -> None:
    """Print the content of a data set and all problems in it.

    Exit code 2 if it has errors, so that training is not possible, and 0 otherwise.
    """
    from blemish.data.overview import overview

    with shown_progress("", errors) as phases:
        table, problems, lines = overview(path, phases("reading"), max_pixels, layout)
        num_errors = sum(problem.severity == "error" for problem in problems)
        if outliers and not num_errors:
            from blemish.runs.examine import outliers_of

            found = outliers_of(path, max_pixels, phases, layout)
            lines += [f"{name}: {one.summary}" for name, one in found.items()]
            problems += [problem for one in found.values() for problem in one.problems]
        elif outliers:
            lines.append("outliers: not looked for, since there are errors")
    console.print(table)
    for line in lines:
        console.print(line, soft_wrap=True)
    for problem in problems:
        style = "bold red" if problem.severity == "error" else "bold yellow"
        console.print(Text.assemble((problem.severity, style), f" {problem}"), soft_wrap=True)
    console.print(f"{number_of(num_errors, 'error')}, {number_of(len(problems) - num_errors, 'warning')}")
    if num_errors:
        raise typer.Exit(2)
