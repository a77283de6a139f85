"""A data set as a table, with the problems found in it: the result of `blemish data check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from blemish.data.category import AUTO, Category, find_categories
from blemish.data.check import MaskInfo, Problem, find_problems, read_mask_infos
from blemish.data.learned import DEPTHS
from blemish.data.reading import FileReader
from blemish.data.source import FileInfo, read_file
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.preprocess import Preprocess
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress

SMALL = (32, 32)
"""Size that images are reduced to while they are checked; the pixels are not used."""


class Overview(NamedTuple):
    """The contents and problems of a data set."""

    table: Table
    """A row per category, split and defect type: numbers of images and masks, sizes, depths."""
    problems: list[Problem]
    """All problems, errors first."""
    masks: list[str]
    """How masks were read: a line for each category and rule of `imaging.mask_sources`."""


def overview(
    path: Path, progress: Progress = no_progress, max_pixels: int = MAX_PIXELS, layout: str = AUTO
) -> Overview:
    """Reads all images and masks under `path`; raises BlemishError where there is no data set."""
    table = Table("category", "split", "type", "images", "masks", "height x width", "pixels", box=None)
    problems: list[Problem] = []
    masks: list[str] = []
    categories = find_categories(path, layout=layout)
    preprocess = Preprocess(SMALL, max_pixels=max_pixels)
    total, done = sum(len(category.samples) for category in categories), 0
    for category in categories:
        files = []
        for _, info in map_ahead(lambda sample: read_file(sample, preprocess, with_contents=True), category.samples):
            files.append(info)
            done += 1
            progress(done, total)
        infos = read_mask_infos(category.samples, FileReader(max_pixels))
        _add_rows(table, category, files)
        problems += find_problems(category, files, infos)
        masks += [f"{category.name}: {line}" for line in _mask_lines(list(infos.values()))]
    return Overview(table, sorted(problems, key=lambda problem: problem.severity), masks)


def _add_rows(table: Table, category: Category, files: Sequence[FileInfo]) -> None:
    groups: dict[tuple[str, str], list[int]] = {}
    for row, sample in enumerate(category.samples):
        groups.setdefault((sample.split, sample.defect), []).append(row)
    for (split, defect), rows in groups.items():
        infos = [files[row] for row in rows if not files[row].error]
        num_masks = sum(category.samples[row].mask is not None for row in rows)
        table.add_row(
            category.name,
            split,
            defect,
            str(len(rows)),
            str(num_masks) if num_masks else "",
            f"{_span([info.size[0] for info in infos])} x {_span([info.size[1] for info in infos])}",
            ", ".join(f"{DEPTHS[depth]} {_COLOURS[channels]}" for (depth, channels) in _kinds(infos)),
        )


def _mask_lines(masks: Sequence[MaskInfo]) -> Iterator[str]:
    """A line for each rule: the number of masks, of their values, and the share of pixels that they mark."""
    for rule in sorted({mask.rule for mask in masks if not mask.error}):
        found = [mask for mask in masks if mask.rule == rule]
        low, high = (f"{bound(mask.area for mask in found):.2%}" for bound in (min, max))
        marked = low if low == high else f"{low} to {high}"
        values = _span([mask.num_values for mask in found])
        subject = "1 mask of" if len(found) == 1 else f"{len(found)} masks of"
        yield f"{subject} {values} values, where what is {rule} is marked: {marked} of the image"


_COLOURS = {1: "grey", 3: "colour"}


def _kinds(infos: Sequence[FileInfo]) -> list[tuple[str, int]]:
    return sorted(Counter((info.depth, info.channels) for info in infos))


def _span(values: Sequence[int]) -> str:
    if not values:
        return "?"
    return str(min(values)) if min(values) == max(values) else f"{min(values)}-{max(values)}"
