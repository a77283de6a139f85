"""Evaluates the detectors of an earlier run, or the anomaly maps of any program, on the test images of a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.calibration.thresholds import to_dict
from blemish.data.category import Category, content_digests, find_categories, find_category, layout_of
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate, evaluate_in_detail
from blemish.evaluation.map_files import predictions_from_maps
from blemish.evaluation.report_data import collect_previews, write_evaluation
from blemish.inference.inspector import Inspector
from blemish.inference.previews import Preview
from blemish.model.folder import DOCUMENT, ModelFolder, read_model
from blemish.progress import Phases, no_phases, with_progress
from blemish.runs.folds import learned_among
from blemish.types import Evaluation

logger = logging.getLogger("blemish")


def evaluate_run(
    folder: Path,
    data_path: Path,
    names: Sequence[str] = (),
    num_resamples: int = 0,
    phases: Phases = no_phases,
    *,
    layout: str = "",
) -> list[Evaluation]:
    """Evaluates the detectors in a run's `folder` on the test images of their categories under `data_path`.

    `folder` may also be that of one detector. `layout` is that of the data; empty: the run's. Raises BlemishError where
    a category in `names` has no detector, or no category of the data has one.
    """
    evaluations = []
    for category, model in _detectors(folder, data_path, names, layout):
        warn_of_learned(category, model.provenance)
        batch_size = model.provenance["config"]["batch_size"]
        inspector = Inspector.load(model.folder, batch_size=batch_size)
        evaluations.append(evaluate_on(category, inspector, model.model, num_resamples, phases))
    return evaluations


def evaluate_on(
    category: Category, inspector: Inspector, method: str, num_resamples: int = 0, phases: Phases = no_phases
) -> Evaluation:
    """Evaluates a detector on the test images of a category; `method` is the name that the evaluation carries."""
    samples = category.of("test")
    predictions = with_progress(inspector.predict(samples), len(samples), phases(category.name))
    evaluation = evaluate(
        predictions,
        samples,
        method=method,
        category=category.name,
        root=category.root,
        num_resamples=num_resamples,
        roi=inspector.preprocess.roi,
        pixel_threshold=inspector.calibration.pixel_threshold if inspector.calibration else None,
        layout=category.layout,
    )
    calibration = to_dict(inspector.calibration) if inspector.calibration else None
    return replace(evaluation, calibration=calibration)


def warn_of_learned(category: Category, provenance: Mapping[str, Any]) -> None:
    """Logs a warning where the model of this provenance was fitted to test images of the category."""
    test = category.of("test")
    if learned := learned_among(content_digests(test), provenance):
        logger.warning(
            "%s: the model has learned %d of the %d test images of %s, so its figures are too good. "
            "Test with other images, or fit it again without these.",
            learned[0],
            len(learned),
            len(test),
            category.name,
        )


def evaluate_maps(maps: Path, category: Category, name: str, out: Path, num_resamples: int = 0) -> Evaluation:
    """Evaluates the anomaly maps that `predict` or any other program wrote for the test images of a category.

    `out/<category>` then holds what reports and comparisons need. `name` is the method that the evaluation carries;
    `maps` is laid out as `find_maps` says. Raises BlemishError for a map that is missing or wrong.
    """
    previews: list[Preview] = []
    measured = evaluate_in_detail(
        collect_previews(predictions_from_maps(maps, category), category.root, previews),
        category.of("test"),
        method=name,
        category=category.name,
        root=category.root,
        num_resamples=num_resamples,
        layout=category.layout,
    )
    write_evaluation(measured, previews, {}, out / category.name)
    return measured.evaluation


def _detectors(folder: Path, data_path: Path, names: Sequence[str], layout: str) -> list[tuple[Category, ModelFolder]]:
    """Each category of the data for which the folder has a detector, with that detector."""
    given = {"layout": layout} if layout else {}
    if (folder / DOCUMENT).exists():
        model = read_model(folder)
        category = find_category(data_path, model.category, **layout_of(model.provenance) | given)
        if set(names) - {category.name}:
            raise BlemishError(f"{folder}: is the detector of {category.name} alone. Give the folder of the run.")
        return [(category, model)]
    known = next(iter(sorted(folder.glob(f"*/{DOCUMENT}"))), None)
    learned = layout_of(read_model(known.parent).provenance) if known else {}
    categories = find_categories(data_path, names, **learned | given)
    found = [category for category in categories if names or (folder / category.name / DOCUMENT).exists()]
    if not found:
        others = ", ".join(category.name for category in categories)
        raise BlemishError(f"{folder}: holds no detector of a category under {data_path}. Its categories are {others}.")
    return [(category, read_model(folder / category.name)) for category in found]
