"""What runs left on disk, as a report takes it up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blemish.calibration.thresholds import to_plain
from blemish.errors import BlemishError
from blemish.evaluation.record import Record, read_record
from blemish.evaluation.results import EVALUATION, read_evaluation
from blemish.files import read_bytes
from blemish.model.folder import DOCUMENT, read_model
from blemish.types import Evaluation


@dataclass(frozen=True, slots=True)
class Part:
    """One run on one category."""

    evaluation: Evaluation
    """Its method is the run's label."""
    record: Record
    folder: Path

    @property
    def calibration(self) -> dict[str, Any] | None:
        """How scores become decisions; None where the run is not calibrated."""
        return self.evaluation.calibration


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder: one method on its categories."""

    label: str
    """The method's name; where several runs have the same, with the folder's."""
    folder: Path
    parts: tuple[Part, ...]
    """In order of the categories' names."""

    def part(self, category: str) -> Part | None:
        """The run on one category; None where there is none."""
        return next((part for part in self.parts if part.evaluation.category == category), None)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders, each as `blemish train` leaves it.

    Raises BlemishError where a folder holds no run, or the same one is given twice.
    """
    refuse_twice(folders)
    return labelled([_read_run(folder) for folder in folders])


def refuse_twice(folders: Sequence[Path]) -> None:
    """Raises BlemishError where a folder is given twice."""
    resolved = [folder.resolve() for folder in folders]
    twice = [folder for folder in folders if resolved.count(folder.resolve()) > 1]
    if twice:
        raise BlemishError(f"{twice[0]}: given twice. Give each folder once.")


def categories_of(runs: Sequence[Run]) -> list[str]:
    """All categories of the runs, in order of their names."""
    return sorted({part.evaluation.category for run in runs for part in run.parts})


def _read_run(folder: Path) -> Run:
    paths = sorted(folder.glob(f"*/{EVALUATION}"))
    if not paths:
        raise BlemishError(
            f"{folder}: holds no run (no <category>/{EVALUATION}). Give a folder that 'blemish train' left."
        )
    parts = [_read_part(path) for path in paths]
    return Run(parts[0].evaluation.method, folder, tuple(sorted(parts, key=lambda part: part.evaluation.category)))


def _read_part(path: Path) -> Part:
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise BlemishError(f"{path}: cannot be read ({error}). Run it again.") from None
    evaluation = read_evaluation(content, path)
    if (path.parent / DOCUMENT).exists():  # whose calibration may have been changed since the run
        calibration = read_model(path.parent).calibration
        evaluation = replace(evaluation, calibration=to_plain(calibration) if calibration else None)
    return Part(evaluation, read_record(path.parent) or Record(), path.parent)


def labelled(runs: Sequence[Run]) -> list[Run]:
    """The runs under names that differ."""
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
