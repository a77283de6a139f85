"""`blemish train` and `blemish fit`: from good images to a fitted detector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from blemish.cli import summary
from blemish.cli.terminal import console, errors
from blemish.errors import BlemishError, number_of
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.model.folder import ModelFolder
    from blemish.runs.config import RunConfig
    from blemish.types import Evaluation


def train_command(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> None:
    """Learn from good images, then find the defects in the test images and say how well.

    For every category: 10 % of the good training images, drawn at random, are held out; the epoch with the lowest
    loss on them is kept; the whole test set is scored at its own resolution.
    """
    from blemish.runs.config import RunConfig

    merged = _merged(config_path, fields, options)
    for required in ("data_path", "ckpt_path"):
        if required not in merged:
            raise BlemishError(f"--{required} is missing: {RunConfig.model_fields[required].description}.")
    train(RunConfig.create(**merged))


def _merged(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What the TOML file says, and over it what the flags say."""
    from blemish.runs.config import read_toml

    from_file = read_toml(config_path) if config_path else {}
    return {**from_file, **fields, "options": {**from_file.get("options", {}), **options}}


def fit_command(
    images: Annotated[Path, typer.Argument(help="folder of good images, or one category of a data set")],
    out: Annotated[Path | None, typer.Option(help="folder for the fitted detector; required without --update")] = None,
    update: Annotated[
        Path | None,
        typer.Option(help="fitted detector to update with them; default: none"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the model that is in --out already")] = False,
    *,
    config_path: Path | None,
    fields: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Learn from a folder of good images; some are held out to choose the threshold."""
    from blemish.runs.config import FIT_MODEL, RunConfig
    from blemish.runs.fit import fit
    from blemish.runs.update import update as update_model

    model: ModelFolder | None
    with shown_progress("", errors) as phases:
        if update is not None:
            if fields or options or config_path:
                raise BlemishError("--update: a fitted detector keeps its settings. Leave the other options out.")
            model = update_model(update, images, out, phases, is_forced=force)
        elif out is None:
            raise BlemishError("--out is missing: folder for the fitted detector.")
        else:
            merged = {"model": FIT_MODEL, **_merged(config_path, fields, options)}
            model = fit(RunConfig.create(**{**merged, "data_path": images, "ckpt_path": out}), phases, is_forced=force)
    if model is not None:
        for line in summary.fit_lines(model, images) if update is None else summary.update_lines(model):
            console.print(line, soft_wrap=True)


def train(config: RunConfig) -> list[Evaluation]:
    """Runs every category, prints a line for each and the headline last, and writes the results."""
    from blemish.data import find_categories
    from blemish.features.devices import is_main_process
    from blemish.runs.run import run, write_run

    evaluations = []
    for category in find_categories(config.data_path, config.category):
        with shown_progress(category.name, errors) as phases:
            evaluation = run(config.for_category(category.name), phases)
        evaluations.append(evaluation)
        if is_main_process():
            console.print(_line(evaluation), soft_wrap=True)
    if is_main_process():
        write_run(evaluations, config.ckpt_path)
        fewest = min(len(evaluation.validation) for evaluation in evaluations)
        for line in summary.too_few(fewest, config.validation):
            console.print(f"{number_of(fewest, 'good image')} held out per category; {line}", soft_wrap=True)
        console.print(_headline(evaluations, config), soft_wrap=True)
    return evaluations


def _line(evaluation: Evaluation) -> str:
    from blemish.evaluation.results import shown

    if not evaluation.images:
        line = f"{evaluation.category}: trained; it has no test images, so there is nothing to evaluate"
        return line + _threshold(evaluation.calibration)
    pixel, image = (evaluation.metrics.get(name) for name in ("pixel_auroc", "image_auroc"))
    why = "; ".join(
        f"{name.replace('_', ' ')}: {evaluation.reasons[name]}"
        for name in ("pixel_auroc", "image_auroc")
        if name in evaluation.reasons
    )
    line = f"{evaluation.category}: pixel AUROC {shown(pixel)}, image AUROC {shown(image)}"
    return (f"{line} ({why})" if why else line) + _threshold(evaluation.calibration)


def _threshold(found: dict[str, Any] | None) -> str:
    """The threshold and what it means, in words."""
    if found is None:
        return ", no threshold"
    return f", threshold {found['threshold']:.4g} ({summary.false_alarms(found['false_alarm_rate'])})"


def _headline(evaluations: list[Evaluation], config: RunConfig) -> Text:
    from blemish.evaluation.results import average_of

    average = average_of(evaluations, config.model, "pixel_auroc")
    where = f"results and figures are in {config.ckpt_path}"
    if average is None:
        return Text(f"nothing to average; what was learned is in {config.ckpt_path}")
    return Text.assemble(f"{where}\n", (f"average pixel AUROC {average:.4f}", "bold"))


EPILOGS = {
    "train": "Options of another model: add --model NAME. Underscores are taken as well: "
    "--batch_size, --learning_rate, --data_path, --ckpt_path.",
    "fit": "Options of another model: add --model NAME. Underscores are taken: --batch_size",
}
"""Last words of the help."""
COMMANDS: dict[str, Callable[..., None]] = {"train": train_command, "fit": fit_command}
"""The commands that take the settings of a run and the options of the detectors."""
