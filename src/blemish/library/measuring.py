"""Evaluates models on test images, compares methods, and writes reports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blemish.data.category import find_learned
from blemish.errors import BlemishError, short_repr
from blemish.library.model import Model, load
from blemish.reporting.render import report as write_report
from blemish.runs.benchmark.benchmark import benchmark as run_benchmark
from blemish.runs.benchmark.config import BenchmarkConfig
from blemish.runs.config import RunConfig
from blemish.runs.evaluate import evaluate_on, warn_of_learned
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
    warn_of_learned(category, found.provenance)
    return evaluate_on(category, found.inspector(), found.method, num_resamples)


def benchmark(
    methods: Sequence[str],
    data_path: AnyPath,
    out: AnyPath = "benchmark",
    *,
    seeds: Sequence[int] = (0,),
    sizes: Sequence[int] = (),
    maps: Mapping[str, AnyPath] | None = None,
    jobs: int = 1,
    **options: Any,
) -> Path:
    """Trains and evaluates each method with each seed and size on every category, as `blemish benchmark` does.

    `maps` names folders of anomaly maps that other programs wrote; `options` are settings of every run, and options of
    every method. What an earlier call with the same settings and data finished is reused. Returns the folder of the
    benchmark, for `report`; its page is `benchmark.html` there. Raises BlemishError where any cell has no result.
    """
    if isinstance(methods, str) or not all(isinstance(method, str) for method in methods):
        raise BlemishError(f"methods: {short_repr(methods)} was given; a list of names is needed.")
    own = {name: value for name, value in options.items() if name in RunConfig.model_fields}
    others = {name: value for name, value in options.items() if name not in own}
    config = BenchmarkConfig.create(
        data_path=Path(data_path),
        out=Path(out),
        methods=tuple(methods),
        category=own.pop("category", ()),
        seeds=tuple(seeds),
        sizes=tuple(sizes),
        jobs=jobs,
        maps={name: Path(folder) for name, folder in (maps or {}).items()},
        settings=own | ({"options": others} if others else {}),
    )
    found = run_benchmark(config)
    if found.failed:
        raise BlemishError(found.failed[0].error)
    return config.out


def report(runs: AnyPath | Iterable[AnyPath], out: AnyPath = "report.html") -> Path:
    """Writes an HTML report of the runs in these folders, with every image and decision, and returns its path."""
    folders = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    if not folders:
        raise BlemishError("runs: empty. Give the folders that benchmark or `blemish train` wrote.")
    write_report([Path(folder) for folder in folders], Path(out))
    return Path(out)
