"""A run on one category, from images to results: plan, prepare, fit, calibrate, evaluate, record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from blemish.evaluation.report_data import discard_evaluation, write_evaluation
from blemish.evaluation.results import write_results
from blemish.features.devices import device_named, is_main_process
from blemish.files import discard, making_folder
from blemish.model.artifact import save
from blemish.model.changes import locked_folder, write_model
from blemish.model.folder import ModelFolder
from blemish.model.locking import SHORT_WAIT
from blemish.progress import Phases, no_phases
from blemish.reporting import run_figures
from blemish.runs.config import RunConfig
from blemish.runs.provenance import finished
from blemish.runs.steps import CHECKPOINT, Calibrated, Planned, calibrate, fit, only_category, plan, prepare
from blemish.runs.testing import Tested, draw, evaluate, facts_of
from blemish.types import Evaluation


def run(config: RunConfig, phases: Phases = no_phases) -> Evaluation:
    """Fits and evaluates a detector on one category, and writes model and results to `config.ckpt_path/<category>`.

    It is the category that the configuration names; otherwise as `run_planned`.
    """
    return run_planned(plan(config, only_category(config), phases), phases)


def run_planned(planned: Planned, phases: Phases = no_phases) -> Evaluation:
    """Fits and evaluates a detector as planned, and writes model and results to `ckpt_path/<category>`.

    With `resume`, the results of an earlier run with the same settings and data are reused. Raises BlemishError
    where the configuration or the data would make the result wrong.
    """
    config = planned.config
    folder = config.ckpt_path / planned.category.name
    if config.resume and (done := finished(folder, planned.identity)):
        with writer(folder, "train", config):  # removes the leftovers of a process that was killed at its end
            discard(folder / CHECKPOINT)
        return done
    with making_folder(folder), writer(folder, "train", config):
        learned = learn(planned, folder, phases)
        if learned is None:
            return Evaluation(config.model, planned.category.name, {})
        return record(evaluate(learned[0], phases), learned[1])


def learn(planned: Planned, folder: Path, phases: Phases = no_phases) -> tuple[Calibrated, ModelFolder] | None:
    """Prepares, fits and calibrates, and saves the model to `folder`; None in all processes but the main one."""
    fitted = fit(prepare(planned, phases), folder / CHECKPOINT, phases)
    if not is_main_process():
        return None
    calibrated = calibrate(fitted, phases)
    discard_evaluation(folder)
    return calibrated, save(calibrated.artifact, folder)


def record(tested: Tested, model: ModelFolder) -> Evaluation:
    """Writes figures, metrics and report data to the model's folder, evaluation.json last; returns the evaluation."""
    evaluation = tested.measured.evaluation
    draw(tested, model.folder.parent / "figures")
    write_model(replace(model, calibration=tested.calibration, metrics=evaluation.metrics))
    write_evaluation(tested.measured, tested.previews, facts_of(tested), model.folder)
    discard(model.folder / CHECKPOINT)  # up to here, a resumed run continues from it
    return evaluation


def write_run(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Writes the tables and the chart of a run on several categories, or of several runs, into `folder`."""
    write_results(evaluations, folder)
    if any(evaluation.images for evaluation in evaluations):
        run_figures.averages(evaluations, folder / "figures" / "auroc.png")


def writer(folder: Path, doing: str, config: RunConfig) -> AbstractContextManager[None]:
    """A context that locks the folder; it does nothing in all processes but the main one."""
    device_named(config.device)  # decides which process is the main one
    return locked_folder(folder, doing, SHORT_WAIT) if is_main_process() else nullcontext()
