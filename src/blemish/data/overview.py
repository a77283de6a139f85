"""What a data set holds, as a table, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from blemish.data.category import Category, find_categories
from blemish.data.check import MaskInfo, Problem, find_problems, read_mask_infos
from blemish.data.learned import DEPTHS
from blemish.data.reading import FileReader
from blemish.data.source import FileInfo, read_file
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.preprocess import Preprocess
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress

SMALL = (32, 32)
"""Decoded images are not kept, only looked at."""


class Overview(NamedTuple):
    """A data set as it is read."""

    table: Table
    """Each category and type with its images."""
    problems: list[Problem]
    """Errors first."""
    masks: list[str]
    """How masks were understood, a line for each rule that some of a category mark by."""


def overview(path: Path, progress: Progress = no_progress, max_pixels: int = MAX_PIXELS) -> Overview:
    """The categories under `path`, and every problem found in them."""
    table = Table("category", "split", "type", "images", "masks", "height x width", "pixels", box=None)
    problems: list[Problem] = []
    masks: list[str] = []
    categories = find_categories(path)
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
        masks += [f"{category.name}: {line}" for line in _understood(list(infos.values()))]
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


def _understood(masks: Sequence[MaskInfo]) -> Iterator[str]:
    """Rule by rule how many masks mark by it, how many values they have and which part of their images is marked."""
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
