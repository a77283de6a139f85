"""Evaluates models on test images, compares methods, and writes reports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blemish.data.category import find_learned
from blemish.errors import BlemishError, short_repr
from blemish.library.learning import configuration
from blemish.library.model import Model, load
from blemish.reporting.render import report as write_report
from blemish.runs.evaluate import evaluate_on
from blemish.runs.run import run, write_run
from blemish.runs.steps import categories_of
from blemish.types import Evaluation

AnyPath = str | os.PathLike[str]


def evaluate(model: Model | AnyPath, data_path: AnyPath, num_resamples: int = 0) -> Evaluation:
    """Every metric of a model, or of the model in a folder, on the test images of its category under `data_path`.

    With `num_resamples`, for example 1000, each metric has a 95 % confidence interval. Raises BlemishError where the
    data has no test images.
    """
    found = model if isinstance(model, Model) else load(model)
    category = find_learned(Path(data_path), found.category, found.provenance)
    if not category.of("test"):
        raise BlemishError(f"data_path {data_path}: category {category.name} has no test images.")
    return evaluate_on(category, found.inspector(), found.method, num_resamples)


def benchmark(
    methods: Sequence[str], data_path: AnyPath, out: AnyPath = "runs", seed: int = 0, **options: Any
) -> list[Path]:
    """Trains and evaluates each method on every category under `data_path`, as `blemish train` does.

    `options` are those of `blemish train`. Returns the folders of the runs, `out/<method>`, for `report`.
    """
    if isinstance(methods, str) or not all(isinstance(method, str) for method in methods):
        raise BlemishError(f"methods: {short_repr(methods)} was given; a list of names is needed.")
    configs = [
        configuration(method, seed, options, data_path=Path(data_path), ckpt_path=Path(out) / method)
        for method in dict.fromkeys(methods)
    ]
    for config in configs:
        evaluations = [run(config.for_category(category.name)) for category in categories_of(config)]
        write_run(evaluations, config.ckpt_path)
    return [config.ckpt_path for config in configs]


def report(runs: AnyPath | Iterable[AnyPath], out: AnyPath = "report.html") -> Path:
    """Writes an HTML report of the runs in these folders, with every image and decision, and returns its path."""
    folders = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    if not folders:
        raise BlemishError("runs: empty. Give the folders that benchmark or `blemish train` wrote.")
    write_report([Path(folder) for folder in folders], Path(out))
    return Path(out)
