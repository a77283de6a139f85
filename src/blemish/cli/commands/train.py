"""`blemish train`: fitting and evaluating a detector on every category of a data set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from blemish.cli import closing_lines
from blemish.cli.terminal import console, errors
from blemish.errors import BlemishError, number_of
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.runs.config import RunConfig
    from blemish.types import Evaluation

logger = logging.getLogger("blemish")


def train_command(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> None:
    """Fit a detector to the good images of every category, and evaluate it on the test images.

    A random 10 % of the good training images are held out. They select the epoch with the lowest loss, and give the
    threshold. Metrics are computed at the resolution of the test images.
    """
    from blemish.cli.flags import merged_settings
    from blemish.runs.config import RunConfig

    merged = merged_settings(config_path, fields, options)
    for required in ("data_path", "ckpt_path"):
        if required not in merged:
            raise BlemishError(f"--{required} is missing: {RunConfig.model_fields[required].description}.")
    train(RunConfig.create(**merged))


def train(config: RunConfig) -> list[Evaluation]:
    """Runs every category, prints a line for each and the headline last, and writes the results."""
    from blemish.evaluation.results import official_tables
    from blemish.features.devices import is_main_process
    from blemish.runs.run import run, write_run
    from blemish.runs.steps import categories_of
    from blemish.runs.trained import ignored

    if line := ignored(config):
        logger.warning("%s", line)
    evaluations = []
    categories = categories_of(config)
    for category in categories:
        with shown_progress(category.name, errors) as phases:
            evaluation = run(config.for_category(category.name), phases)
        evaluations.append(evaluation)
        if is_main_process():
            console.print(_line(evaluation), soft_wrap=True)
    if is_main_process():
        write_run(evaluations, config.ckpt_path)
        for table in official_tables(evaluations, config.model):
            console.print(table)
        fewest = min(len(evaluation.validation) for evaluation in evaluations)
        drawn = not any(category.brings_validation for category in categories)
        for line in closing_lines.too_few(fewest, config.validation if drawn else 0):
            console.print(f"{number_of(fewest, 'good image')} held out per category; {line}", soft_wrap=True)
        console.print(_headline(evaluations, config), soft_wrap=True)
    return evaluations


def _line(evaluation: Evaluation) -> str:
    from blemish.evaluation.results import format_value

    if not evaluation.images:
        line = f"{evaluation.category}: trained; there are no test images to evaluate"
        return line + _threshold(evaluation.calibration)
    pixel, image = (evaluation.metrics.get(name) for name in ("pixel_auroc", "image_auroc"))
    why = "; ".join(
        f"{name.replace('_', ' ')}: {evaluation.reasons[name]}"
        for name in ("pixel_auroc", "image_auroc")
        if name in evaluation.reasons
    )
    line = f"{evaluation.category}: pixel AUROC {format_value(pixel)}, image AUROC {format_value(image)}"
    return (f"{line} ({why})" if why else line) + _threshold(evaluation.calibration)


def _threshold(found: dict[str, Any] | None) -> str:
    """The threshold and its false-alarm rate, in words."""
    if found is None:
        return ", no threshold"
    return f", threshold {found['threshold']:.4g} ({closing_lines.false_alarms(found['false_alarm_rate'])})"


def _headline(evaluations: list[Evaluation], config: RunConfig) -> Text:
    from blemish.evaluation.results import average_of

    average = average_of(evaluations, config.model, "pixel_auroc")
    where = f"results and figures are in {config.ckpt_path}"
    if average is None:
        return Text(f"there are no metrics to average; the models are in {config.ckpt_path}")
    return Text.assemble(f"{where}\n", (f"average pixel AUROC {average:.4f}", "bold"))


EPILOG = (
    "Options of another model: add --model NAME. Underscores are taken as well: "
    "--batch_size, --learning_rate, --data_path, --ckpt_path."
)
"""The last line of the help."""
