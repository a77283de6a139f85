"""A run on one category, from its images to figures: plan, prepare, fit, calibrate, evaluate, record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from blemish.evaluation.record import RECORD, write_measured
from blemish.evaluation.results import EVALUATION, write_results
from blemish.features.devices import device_named, is_main_process
from blemish.files import discard, making_folder
from blemish.model.changes import claimed, write_model
from blemish.model.folder import ModelFolder
from blemish.model.locking import REFUSES
from blemish.model.tensors import save
from blemish.progress import Phases, no_phases
from blemish.reporting import plots as figures
from blemish.runs.config import RunConfig
from blemish.runs.provenance import finished
from blemish.runs.steps import Calibrated, Planned, calibrate, fit, only_category, plan, prepare
from blemish.runs.testing import Tested, draw, evaluate, facts_of
from blemish.types import Evaluation

CHECKPOINT = "checkpoint.safetensors"


def run(config: RunConfig, phases: Phases = no_phases) -> Evaluation:
    """Does one run on one category and gives its figures; what it leaves is under `config.ckpt_path/<category>`.

    With `config.resume`, what an earlier run with the same settings and data has done is not done again. Raises
    BlemishError where the configuration or the data would make the result wrong.
    """
    planned = plan(config, only_category(config), phases)
    folder = config.ckpt_path / planned.category.name
    if config.resume and (done := finished(folder, planned.identity)):
        with writer(folder, "train", config):  # which clears what a process that was killed at its end left
            discard(folder / CHECKPOINT)
        return done
    with making_folder(folder), writer(folder, "train", config):
        learned = learn(planned, folder, phases)
        if learned is None:
            return Evaluation(config.model, planned.category.name, {})
        return record(evaluate(learned[0], phases), learned[1])


def learn(planned: Planned, folder: Path, phases: Phases) -> tuple[Calibrated, ModelFolder] | None:
    """Prepares, fits and calibrates, and saves the model to `folder`; None in the processes that only help."""
    fitted = fit(prepare(planned, phases), folder / CHECKPOINT, phases)
    if not is_main_process():
        return None
    calibrated = calibrate(fitted, phases)
    for stale in (EVALUATION, RECORD):  # of an earlier run: with the new model they would be taken for its own
        discard(folder / stale)
    return calibrated, save(calibrated.artifact, folder)


def record(tested: Tested, model: ModelFolder) -> Evaluation:
    """Writes the figures into the folder of the model, which learns them too, evaluation.json last."""
    evaluation = tested.measured.evaluation
    draw(tested, model.folder.parent / "figures")
    write_model(replace(model, calibration=tested.calibration, metrics=evaluation.metrics))
    write_measured(tested.measured, tested.previews, facts_of(tested), model.folder)
    discard(model.folder / CHECKPOINT)  # until now a resumed run would have gone on with what was learned
    return evaluation


def write_run(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Writes the tables and the chart of a run on several categories, or of several runs, into `folder`."""
    write_results(evaluations, folder)
    if any(evaluation.images for evaluation in evaluations):
        figures.averages(evaluations, folder / "figures" / "auroc.png")


def writer(folder: Path, doing: str, config: RunConfig) -> AbstractContextManager[None]:
    """The folder for this process alone, or nothing in the processes that only help."""
    device_named(config.device)  # which says who is the first of several processes
    return claimed(folder, doing, REFUSES) if is_main_process() else nullcontext()
