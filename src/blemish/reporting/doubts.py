"""What a reader of a comparison has to know about the runs that it compares."""

from __future__ import annotations

from collections.abc import Sequence

from blemish.model.folder import DOCUMENT, ModelFolder, read_model
from blemish.reporting.read_runs import Approach, categories_of


def doubts(approaches: Sequence[Approach]) -> list[str]:
    """A line where methods have results of different categories, and one where models were updated after their test."""
    return [*_unequal(approaches), *_updated(approaches)]


def _unequal(approaches: Sequence[Approach]) -> list[str]:
    runs = [run for approach in approaches for run in approach.runs]
    known = set(categories_of(runs))
    lacking = {run.label: known - {part.evaluation.category for part in run.parts} for run in runs}
    found = [f"{label} lacks {', '.join(sorted(names))}" for label, names in lacking.items() if names]
    advice = "averages are each over a method's own categories. Run all methods on the same ones."
    return [f"the categories differ: {'; '.join(found)}; {advice}"] if found else []


def _updated(approaches: Sequence[Approach]) -> list[str]:
    folders = [part.folder for approach in approaches for run in approach.runs for part in run.parts]
    found = [folder for folder in folders if (folder / DOCUMENT).exists() and _is_updated(read_model(folder))]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    advice = "the figures are from before. To compare what it is now, run 'blemish train' on all its images."
    return [f"{found[0]}{more}: the model has learned further images since its test; {advice}"] if found else []


def _is_updated(model: ModelFolder) -> bool:
    return bool(model.provenance.get("updates"))
