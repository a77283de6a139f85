"""A detector learned from good images alone, without anything to evaluate it on."""

from __future__ import annotations

from blemish.data.category import good_alone
from blemish.features.devices import is_main_process
from blemish.files import discard, making_folder
from blemish.model.changes import refuse_overwriting
from blemish.model.folder import ModelFolder
from blemish.progress import Phases, no_phases
from blemish.runs.config import RunConfig
from blemish.runs.run import CHECKPOINT, learn, writer
from blemish.runs.steps import only_category, plan


def fit(config: RunConfig, phases: Phases = no_phases, *, is_forced: bool = False) -> ModelFolder | None:
    """Learns from the good images of one category alone; the fitted detector is then in `config.ckpt_path` itself.

    None in the processes that only help. Raises BlemishError where a model is there already, unless `is_forced`.
    """
    folder = config.ckpt_path
    refuse_overwriting(folder, is_forced)
    planned = plan(config, good_alone(only_category(config)), phases)
    with making_folder(folder), writer(folder, "fit", config):
        if is_main_process():
            refuse_overwriting(folder, is_forced)  # which nobody writes to from now on
        learned = learn(planned, folder, phases)
        if learned is None:
            return None
        discard(folder / CHECKPOINT)
    return learned[1]
