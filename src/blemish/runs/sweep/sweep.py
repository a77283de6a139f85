"""A sweep: tries configurations, chooses without the test set that it reports, and tests the choice and the defaults.

With the objective "validation" one configuration is chosen for all categories, by defects that are drawn on held-out
good images. With "leave-one-out" the configuration of each category is chosen by the test sets of the others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from statistics import fmean
from typing import Any

from blemish.errors import BlemishError
from blemish.evaluation.results import format_value
from blemish.files import write_json
from blemish.metrics import METRICS
from blemish.progress import Phases, no_phases
from blemish.reporting.benchmark import Compared, compare_approaches
from blemish.reporting.benchmark_page import short, write_comparison
from blemish.reporting.read_runs import Approach, read_run
from blemish.runs.benchmark.cells import DECODED, Cell, Data, read_data, run_cell
from blemish.runs.benchmark.workers import Outcome, compute_all
from blemish.runs.sweep.config import SweepConfig
from blemish.runs.sweep.space import Value, draw
from blemish.runs.sweep.study import Tried, ended, importance, open_study
from blemish.runs.sweep.validated import Validated

RESULTS = "sweep.json"
DEFAULT, TUNED = "default", "tuned"
logger = logging.getLogger("blemish")


@dataclass(frozen=True)
class Swept:
    """The results of a sweep."""

    compared: Compared
    """The defaults and what was chosen, on the test images."""
    page: Path
    chosen: dict[str, Tried]
    """Category -> the trial whose configuration it is reported with."""
    trials: list[Tried]


def sweep(config: SweepConfig, phases: Phases = no_phases) -> Swept:
    """Tries configurations until there are `config.trials`, and writes the comparison with the defaults.

    A sweep that was stopped or killed continues. Raises BlemishError where the settings or the data cannot be used, or
    no trial is complete.
    """
    import optuna

    categories = read_data(config.data_path, config.category, phases=phases)
    if config.objective == "leave-one-out" and len(categories) < 2:
        raise BlemishError("objective: leave-one-out needs at least two categories. Give --objective validation.")
    study = open_study(config, _about(config, categories))
    progress = phases("sweep")
    try:
        while (done := len(ended(study))) < config.trials:
            trial = study.ask()
            try:
                values = draw(config.search_space, trial)
                _evaluate(config, categories, trial, values)
                found = trial.user_attrs["metrics"]
                study.tell(trial, fmean(found.values()))
            except optuna.TrialPruned:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            except BlemishError as error:
                trial.set_user_attr("error", str(error))
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            logger.info("%s", _line(ended(study)[-1]))
            progress(done + 1, config.trials, unit="trials")
    finally:
        rmtree(config.out / DECODED, ignore_errors=True)
    return _report(config, categories, ended(study), importance(study), phases)


def _about(config: SweepConfig, categories: Sequence[Data]) -> dict[str, Any]:
    """What the trials depend on."""
    space = {name: str(dimension) for name, dimension in config.search_space.items()}
    data = {data.category.name: data.sha256 for data in categories}
    return {"run": config.run({}).identity, "space": space, "data": data, "by": [config.objective, config.metric]}


def _cells(config: SweepConfig, categories: Sequence[Data], values: Mapping[str, Value]) -> list[Cell]:
    """The cells of a configuration, one for each category; values that are the defaults make no other cell."""
    space = config.search_space
    run = config.run({name: value for name, value in values.items() if value != space[name].default})
    return [run_cell(TUNED, run, data, config.out) for data in categories]


def _evaluate(config: SweepConfig, categories: Sequence[Data], trial: Any, values: Mapping[str, Value]) -> None:
    """Computes the cells of a trial and stores the metric of each category with it.

    With one process a trial is given up as soon as its mean is below the median of the others.
    """
    import optuna

    cells = _cells(config, categories, values)
    if config.objective == "validation":
        cells = [Validated(cell.key, cell.approach, cell.data, cell.out, run=cell.run) for cell in cells]
    found: dict[str, float] = {}
    for step, outcome in enumerate(_outcomes(cells, config)):
        if outcome.error:
            raise BlemishError(f"{outcome.cell.data.category.name}: {outcome.error}")
        value = (outcome.metrics or {}).get(config.metric)
        if value is None:
            raise BlemishError(f"{outcome.cell.data.category.name}: {config.metric} is not applicable.")
        found[outcome.cell.data.category.name] = value
        trial.set_user_attr("metrics", found)
        trial.report(fmean(found.values()), step)
        if config.jobs == 1 and config.ray is None and step + 1 < len(cells) and trial.should_prune():
            raise optuna.TrialPruned


def _outcomes(cells: Sequence[Cell], config: SweepConfig) -> Iterator[Outcome]:
    """The outcomes of the cells; those that are finished come first."""
    yield from (Outcome(cell, metrics=cell.metrics()) for cell in cells if cell.is_finished)
    yield from compute_all([cell for cell in cells if not cell.is_finished], config.jobs, config.ray)


def _report(
    config: SweepConfig, categories: Sequence[Data], trials: list[Tried], weights: Mapping[str, float], phases: Phases
) -> Swept:
    complete = [trial for trial in trials if trial.value is not None]
    if not complete:
        reason = next((trial.error for trial in trials if trial.error), "all were given up")
        raise BlemishError(f"no trial is complete: {reason}")
    chosen = _choose(config, complete)
    tuned = [_cells(config, [data], chosen[data.category.name].values)[0] for data in categories]
    default = [replace(cell, approach=DEFAULT) for cell in _cells(config, categories, {})]
    missing = {cell.key: cell for cell in [*default, *tuned] if not cell.is_finished}
    progress = phases("testing")
    for done, outcome in enumerate(compute_all(list(missing.values()), config.jobs, config.ray), start=1):
        if outcome.error:
            raise BlemishError(f"{outcome.cell.words}: {outcome.error}")
        progress(done, len(missing), unit="cells")
    rmtree(config.out / DECODED, ignore_errors=True)
    approaches = [_approach(default, config.out), _approach(tuned, config.out)]
    compared = compare_approaches(approaches)
    document = _document(config, chosen, trials, weights)
    page = write_comparison(compared, approaches, config.out, document)
    write_json(config.out / RESULTS, document)
    return Swept(compared, page, chosen, trials)


def _approach(cells: Sequence[Cell], folder: Path) -> Approach:
    label = cells[0].approach
    return Approach(label, (read_run(label, [cell.path for cell in cells], folder),))


def _choose(config: SweepConfig, complete: Sequence[Tried]) -> dict[str, Tried]:
    """Category -> the trial that is chosen for it; of equal ones the earliest, so the defaults where nothing helps."""
    names = list(complete[0].metrics)
    sign = 1 if METRICS[config.metric].direction == "higher" else -1

    def value(trial: Tried, without: str | None) -> float:
        return sign * fmean(own for name, own in trial.metrics.items() if name != without)

    by_others = config.objective == "leave-one-out"
    return {name: max(complete, key=lambda trial: value(trial, name if by_others else None)) for name in names}


def _document(
    config: SweepConfig, chosen: Mapping[str, Tried], trials: Sequence[Tried], weights: Mapping[str, float]
) -> dict[str, Any]:
    """The sweep as plain data."""
    return {
        "model": config.model,
        "objective": config.objective,
        "metric": config.metric,
        "direction": METRICS[config.metric].direction,
        "importance": dict(weights),
        "defaults": {name: dimension.default for name, dimension in config.search_space.items()},
        "chosen": {name: {"trial": trial.number, "values": trial.values} for name, trial in chosen.items()},
        "trials": [
            {
                "number": trial.number,
                "values": trial.values,
                "value": trial.value,
                "state": trial.state,
                "error": trial.error,
                "metrics": trial.metrics,
            }
            for trial in trials
        ],
    }


def _line(trial: Tried) -> str:
    """What became of a trial, in one line."""
    values = ", ".join(f"{name} {short(value)}" for name, value in trial.values.items())
    outcome = trial.error or (format_value(trial.value) if trial.value is not None else "given up")
    return f"trial {trial.number}: {outcome} ({values})"
