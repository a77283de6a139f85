"""What a data set holds, as a table, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from blemish.data.category import Category, find_categories
from blemish.data.check import Problem, find_problems, read_mask_infos
from blemish.data.learned import DEPTHS
from blemish.data.source import FileInfo, read_file
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.preprocess import Preprocess
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress

SMALL = (32, 32)
"""Decoded images are not kept, only looked at."""


def overview(path: Path, progress: Progress = no_progress, max_pixels: int = MAX_PIXELS) -> tuple[Table, list[Problem]]:
    """The categories under `path` as a table, and every problem found in them, errors first."""
    table = Table("category", "split", "type", "images", "masks", "height x width", "pixels", box=None)
    problems: list[Problem] = []
    categories = find_categories(path)
    preprocess = Preprocess(SMALL, max_pixels=max_pixels)
    total, done = sum(len(category.samples) for category in categories), 0
    for category in categories:
        files = []
        for _, info in map_ahead(lambda sample: read_file(sample, preprocess), category.samples):
            files.append(info)
            done += 1
            progress(done, total)
        _add_rows(table, category, files)
        problems += find_problems(category, files, read_mask_infos(category.samples, max_pixels))
    return table, sorted(problems, key=lambda problem: problem.severity)


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


_COLOURS = {1: "grey", 3: "colour"}


def _kinds(infos: Sequence[FileInfo]) -> list[tuple[str, int]]:
    return sorted(Counter((info.depth, info.channels) for info in infos))


def _span(values: Sequence[int]) -> str:
    if not values:
        return "?"
    return str(min(values)) if min(values) == max(values) else f"{min(values)}-{max(values)}"
