"""Reading the results of `blemish train` and `blemish benchmark`, for reports and comparisons."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blemish.calibration.thresholds import to_dict
from blemish.errors import BlemishError
from blemish.evaluation.report_data import ReportData, read_report_data
from blemish.evaluation.results import EVALUATION, read_evaluation
from blemish.files import read_bytes
from blemish.model.folder import DOCUMENT, read_model
from blemish.types import Evaluation

BENCHMARK, CELLS = "benchmark.json", "cells"
"""The list of a benchmark's cells, and the folder that holds CELL/<category> for each."""


@dataclass(frozen=True, slots=True)
class Part:
    """The results of one run on one category."""

    evaluation: Evaluation
    """The evaluation; its method is the run's label."""
    report_data: ReportData
    folder: Path

    @property
    def calibration(self) -> dict[str, Any] | None:
        """The calibration as plain data; None if the run is not calibrated."""
        return self.evaluation.calibration


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one method on its categories."""

    label: str
    """The name of the method; with that of the folder if several runs have the same method."""
    folder: Path
    parts: tuple[Part, ...]
    """Sorted by category."""
    seed: int | None = None
    """The seed of a run of a benchmark; None for any other."""

    def part(self, category: str) -> Part | None:
        """The results on a category; None if there are none."""
        return next((part for part in self.parts if part.evaluation.category == category), None)


@dataclass(frozen=True, slots=True)
class Approach:
    """A method with its settings, and its runs: one, or one for each seed of a benchmark."""

    label: str
    runs: tuple[Run, ...]
    """With the label of the approach."""


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders, which `blemish train` or `blemish benchmark` wrote, with distinct labels.

    Raises BlemishError if a folder contains no run, or is given twice.
    """
    return [
        run if len(approach.runs) == 1 else _renamed(run, f"{approach.label}, seed {run.seed}")
        for approach in read_approaches(folders, with_previews=True)
        for run in approach.runs
    ]


def read_approaches(folders: Sequence[Path], *, with_previews: bool = False) -> list[Approach]:
    """The approaches in these folders with distinct labels, each with its runs; without previews it takes less memory.

    Raises BlemishError as `read_runs` does.
    """
    refuse_twice(folders)
    found = [approach for folder in folders for approach in _approaches_in(folder, with_previews)]
    named = labelled([approach.runs[0] for approach in found])
    return [
        Approach(first.label, tuple(_renamed(run, first.label) for run in approach.runs))
        for approach, first in zip(found, named, strict=True)
    ]


def refuse_twice(folders: Sequence[Path]) -> None:
    """Raises BlemishError if a folder is given twice."""
    resolved = [folder.resolve() for folder in folders]
    twice = [folder for folder in folders if resolved.count(folder.resolve()) > 1]
    if twice:
        raise BlemishError(f"{twice[0]}: given twice. Give each folder once.")


def categories_of(runs: Sequence[Run]) -> list[str]:
    """All categories of the runs, sorted."""
    return sorted({part.evaluation.category for run in runs for part in run.parts})


def _approaches_in(folder: Path, with_previews: bool) -> list[Approach]:
    if (folder / BENCHMARK).exists():
        return _of_benchmark(folder, with_previews)
    paths = sorted(folder.glob(f"*/{EVALUATION}"))
    if not paths:
        raise BlemishError(
            f"{folder}: holds no run (no <category>/{EVALUATION}). "
            "Give a folder that 'blemish train' or 'blemish benchmark' wrote."
        )
    run = _run([_read_part(path, with_previews) for path in paths], folder)
    return [Approach(run.label, (run,))]


def _of_benchmark(folder: Path, with_previews: bool) -> list[Approach]:
    """The approaches of a benchmark in its order, as far as their cells are finished."""
    paths: dict[str, dict[int | None, list[Path]]] = {}
    for cell in read_benchmark(folder)["cells"]:
        path = folder / CELLS / cell["key"] / cell["category"] / EVALUATION
        if path.exists():
            paths.setdefault(cell["approach"], {}).setdefault(cell["seed"], []).append(path)
    if not paths:
        raise BlemishError(f"{folder}: no cell of this benchmark is finished. Run 'blemish benchmark' again.")
    return [
        Approach(label, tuple(_seeded(label, seed, own, folder, with_previews) for seed, own in of_seed.items()))
        for label, of_seed in paths.items()
    ]


def _seeded(label: str, seed: int | None, paths: Sequence[Path], folder: Path, with_previews: bool) -> Run:
    return replace(read_run(label, paths, folder, with_previews=with_previews), seed=seed)


def read_run(label: str, paths: Sequence[Path], folder: Path, *, with_previews: bool = False) -> Run:
    """The run with this label whose results are in these files, each the EVALUATION of a category."""
    return _renamed(_run([_read_part(path, with_previews) for path in paths], folder), label)


def _run(parts: Sequence[Part], folder: Path) -> Run:
    return Run(parts[0].evaluation.method, folder, tuple(sorted(parts, key=lambda part: part.evaluation.category)))


def read_benchmark(folder: Path) -> dict[str, Any]:
    """The list of a benchmark's cells, as `blemish benchmark` wrote it; raises BlemishError if it cannot be read."""
    path = folder / BENCHMARK
    try:
        content = json.loads(read_bytes(path))
        cells = [{name: cell[name] for name in ("key", "approach", "category", "seed")} for cell in content["cells"]]
        is_inside = all(_is_name(cell["key"]) and _is_name(cell["category"]) for cell in cells)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_inside = False
    if not is_inside:
        raise BlemishError(f"{path}: not the list of a benchmark's cells. Run 'blemish benchmark' again.")
    return dict(content)


def _is_name(text: object) -> bool:
    """Whether a text is the name of a file or folder, and no path."""
    return isinstance(text, str) and bool(text) and Path(text).name == text


def _read_part(path: Path, with_previews: bool) -> Part:
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise BlemishError(f"{path}: cannot be read ({error}). Run it again.") from None
    evaluation = read_evaluation(content, path)
    if (path.parent / DOCUMENT).exists():  # its calibration may have changed since the run
        calibration = read_model(path.parent).calibration
        evaluation = replace(evaluation, calibration=to_dict(calibration) if calibration else None)
    data = read_report_data(path.parent, with_previews=with_previews) or ReportData()
    return Part(evaluation, data, path.parent)


def labelled(runs: Sequence[Run]) -> list[Run]:
    """Copies of the runs with distinct labels."""
    labels = [run.label for run in runs]
    for name in (lambda run: run.folder.name, lambda run: str(run.folder)):
        counts = Counter(labels)
        labels = [
            label if counts[label] == 1 else f"{run.label} ({name(run)})"
            for label, run in zip(labels, runs, strict=True)
        ]
    return [_renamed(run, label) for run, label in zip(runs, labels, strict=True)]


def _renamed(run: Run, label: str) -> Run:
    parts = (replace(part, evaluation=replace(part.evaluation, method=label)) for part in run.parts)
    return replace(run, label=label, parts=tuple(parts))
