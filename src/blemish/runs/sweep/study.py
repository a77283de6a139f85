"""The trials of a sweep in a database: what is tried next, what is given up early, and what a killed sweep left."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from blemish.errors import BlemishError, one_line
from blemish.files import make_folder
from blemish.metrics import METRICS
from blemish.runs.sweep.config import SweepConfig
from blemish.runs.sweep.space import Dimension, Space

NAME, DATABASE = "sweep", "study.db"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
WARM_UP = 5
"""Trials that are never given up early."""


@dataclass(frozen=True)
class Tried:
    """A trial that ended."""

    number: int
    values: dict[str, Any]
    """The values of the options that were searched."""
    value: float | None
    """The objective; None where the trial was given up or failed."""
    state: str
    error: str
    metrics: dict[str, float]
    """Category -> its metric, as far as the trial came."""


def open_study(config: SweepConfig, about: Mapping[str, Any]) -> optuna.Study:
    """The study of this sweep, made or continued; `about` is what its trials depend on.

    Trials that a killed process left are tried again, unless several sweeps share the database. Raises BlemishError
    where the database cannot be used, or holds another sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    make_folder(config.out)
    address = config.storage or f"sqlite:///{config.out / DATABASE}"
    identity = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
    try:
        study = optuna.create_study(
            storage=address,
            study_name=NAME,
            direction="maximize" if METRICS[config.metric].direction == "higher" else "minimize",
            load_if_exists=True,
            pruner=_pruner(config),
        )
    except Exception as error:  # SQLAlchemy has many
        raise BlemishError(f"storage {address}: cannot be used ({one_line(error, 150)}). Check the address.") from None
    if study.user_attrs.setdefault("identity", identity) != identity:
        raise BlemishError(f"{config.out}: holds a sweep with other settings or data. Choose another --out.")
    study.set_user_attr("identity", identity)
    study.sampler = _sampler(config, len(study.trials))
    if not config.storage:
        _try_again(study)
    if not study.trials:
        study.enqueue_trial(_defaults(config.search_space))
    return study


def ended(study: optuna.Study) -> list[Tried]:
    """The trials that ended, without those that a killed process left."""
    found = [_tried(trial) for trial in study.trials if trial.state in ENDED]
    return [trial for trial in found if trial.state != "fail" or trial.error]


def importance(study: optuna.Study) -> dict[str, float]:
    """Option -> its importance for the objective, in sum 1; empty where too few trials are complete."""
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (RuntimeError, ValueError):
        return {}
    return {name: float(value) for name, value in found.items()}


def _sampler(config: SweepConfig, done: int) -> optuna.samplers.BaseSampler:
    """What draws configurations.

    Where a category is reported by configurations that the others chose, draws must not follow the results of all:
    they are at random.
    """
    seed = (config.seed + done) % 2**32  # a continued sweep does not repeat its draws
    if config.objective == "leave-one-out":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(seed=seed)


def _pruner(config: SweepConfig) -> optuna.pruners.BasePruner:
    """What gives trials up early; where the other categories choose, every trial needs all of them."""
    return optuna.pruners.MedianPruner(WARM_UP) if config.objective == "validation" else optuna.pruners.NopPruner()


def _try_again(study: optuna.Study) -> None:
    for trial in study.trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _defaults(space: Space) -> dict[str, Any]:
    """The method's own values, for those that the space contains."""
    return {name: own.default for name, own in space.items() if own.default in own.choices or _is_within(own)}


def _is_within(own: Dimension) -> bool:
    value = own.default
    return not own.choices and isinstance(value, int | float) and own.low <= value <= own.high


def _tried(trial: FrozenTrial) -> Tried:
    value = trial.value if trial.state == TrialState.COMPLETE else None
    state, error = trial.state.name.lower(), str(trial.user_attrs.get("error", ""))
    return Tried(trial.number, trial.params, value, state, error, dict(trial.user_attrs.get("metrics", {})))
