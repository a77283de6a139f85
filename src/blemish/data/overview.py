"""What a data set holds, as a table, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from blemish.data.category import Category, find_categories
from blemish.data.check import MaskInfo, Problem, find_problems, read_mask_infos
from blemish.data.source import FileInfo, read_file
from blemish.imaging.preprocess import Preprocess
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress

SMALL = Preprocess((32, 32))
"""Decoded images are not kept, only looked at."""


def overview(path: Path, progress: Progress = no_progress) -> tuple[Table, list[Problem]]:
    """The categories under `path` as a table, and every problem found in them, errors first."""
    table = Table(
        "category",
        "split",
        "type",
        "images",
        "masks",
        "marked by",
        "values",
        "marked",
        "height x width",
        "pixels",
        box=None,
    )
    problems: list[Problem] = []
    categories = find_categories(path)
    total, done = sum(len(category.samples) for category in categories), 0
    for category in categories:
        files = []
        for _, info in map_ahead(lambda sample: read_file(sample, SMALL, with_contents=True), category.samples):
            files.append(info)
            done += 1
            progress(done, total)
        masks = read_mask_infos(category.samples)
        _add_rows(table, category, files, masks)
        problems += find_problems(category, files, masks)
    return table, sorted(problems, key=lambda problem: problem.severity)


def _add_rows(table: Table, category: Category, files: Sequence[FileInfo], masks: Mapping[Path, MaskInfo]) -> None:
    groups: dict[tuple[str, str], list[int]] = {}
    for row, sample in enumerate(category.samples):
        groups.setdefault((sample.split, sample.defect), []).append(row)
    for (split, defect), rows in groups.items():
        infos = [files[row] for row in rows if not files[row].error]
        found = [masks[mask] for row in rows if (mask := category.samples[row].mask)]
        table.add_row(
            category.name,
            split,
            defect,
            str(len(rows)),
            *_understood(found),
            f"{_span([info.size[0] for info in infos])} x {_span([info.size[1] for info in infos])}",
            ", ".join(f"{_DEPTHS[depth]} {_COLOURS[channels]}" for (depth, channels) in _kinds(infos)),
        )


def _understood(masks: Sequence[MaskInfo]) -> tuple[str, str, str, str]:
    """How many masks, by which rule they mark, how many values they have, which part of their images is marked."""
    if not masks:
        return "", "", "", ""
    whole = [mask for mask in masks if not mask.error]
    if not whole:
        return str(len(masks)), "?", "?", "?"
    rules = ", ".join(sorted({mask.rule for mask in whole}))
    low, high = (f"{bound(mask.area for mask in whole):.2%}" for bound in (min, max))
    marked = low if low == high else f"{low}-{high}"
    return str(len(masks)), rules, _span([mask.num_values for mask in whole]), marked


_COLOURS = {1: "grey", 3: "colour"}
_DEPTHS = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}


def _kinds(infos: Sequence[FileInfo]) -> list[tuple[str, int]]:
    return sorted(Counter((info.depth, info.channels) for info in infos))


def _span(values: Sequence[int]) -> str:
    if not values:
        return "?"
    return str(min(values)) if min(values) == max(values) else f"{min(values)}-{max(values)}"
