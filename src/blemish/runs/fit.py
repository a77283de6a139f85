"""Fits a detector to good images alone, without an evaluation."""

from __future__ import annotations

from blemish.data.category import only_good
from blemish.features.devices import is_main_process
from blemish.files import discard, making_folder
from blemish.model.changes import refuse_overwriting
from blemish.model.folder import ModelFolder
from blemish.progress import Phases, no_phases
from blemish.runs.aside import log_set_aside
from blemish.runs.config import RunConfig
from blemish.runs.run import learn, writer
from blemish.runs.steps import CHECKPOINT, only_category, plan
from blemish.runs.trained import refuse_ignored


def fit(config: RunConfig, phases: Phases = no_phases, *, is_forced: bool = False) -> ModelFolder | None:
    """Fits a detector to the good images of one category and saves it in `config.ckpt_path` itself.

    Returns None in all processes but the main one. Raises BlemishError where the folder holds a model already, unless
    `is_forced`, and for a setting of the training of a method that is not trained.
    """
    folder = config.ckpt_path
    refuse_overwriting(folder, is_forced)
    refuse_ignored(config)
    category = only_category(config)
    log_set_aside(category)
    planned = plan(config, only_good(category), phases)
    with making_folder(folder), writer(folder, "fit", config):
        if is_main_process():
            refuse_overwriting(folder, is_forced)  # again, now that the folder is locked
        learned = learn(planned, folder, phases)
        if learned is None:
            return None
        discard(folder / CHECKPOINT)
    return learned[1]
