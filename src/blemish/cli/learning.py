"""`blemish train` and `blemish fit`: from good images to a fitted detector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.terminal import console, errors
from blemish.errors import BlemishError
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.config import RunConfig
    from blemish.types import Evaluation


def train_command(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> None:
    """Learn from good images, then find the defects in the test images and say how well.

    For every category: 10 % of the good training images, drawn at random, are held out; the epoch with the lowest
    loss on them is kept; the whole test set is scored at its own resolution.
    """
    from blemish.config import RunConfig

    merged = _merged(config_path, fields, options)
    for required in ("data_path", "ckpt_path"):
        if required not in merged:
            raise BlemishError(f"--{required} is missing: {RunConfig.model_fields[required].description}.")
    train(RunConfig.create(**merged))


def _merged(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What the TOML file says, and over it what the flags say."""
    from blemish.config import read_toml

    from_file = read_toml(config_path) if config_path else {}
    return {**from_file, **fields, "options": {**from_file.get("options", {}), **options}}


def fit_command(
    images: Annotated[Path, typer.Argument(help="Folder of good images, or one category of a data set.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the fitted detector.")] = None,
    update: Annotated[Path | None, typer.Option(help="Fitted detector that is to learn these images as well.")] = None,
    *,
    config_path: Path | None,
    fields: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Learn from a folder of good images; what is left open is chosen by what held-out good images say.

    The model is `ensemble` unless another is asked for. With --update a fitted detector learns further images without
    starting over; it keeps its settings, and its place unless --out names another.
    """
    from blemish.config import RunConfig
    from blemish.run import fit
    from blemish.update import update as update_model

    with shown_progress(images.name, errors) as phases:
        if update is not None:
            if fields or options or config_path:
                raise BlemishError("--update: a fitted detector keeps its settings. Leave the other options out.")
            model = update_model(update, images, out, phases)
        elif out is None:
            raise BlemishError("--out is missing: folder for the fitted detector.")
        else:
            merged = {"model": "ensemble", **_merged(config_path, fields, options)}
            model = fit(RunConfig.create(**{**merged, "data_path": images, "ckpt_path": out}), phases)
    console.print(
        f"{model.model} from {len(model.provenance['learned_from'])} images is in {model.folder}", highlight=False
    )


def train(config: RunConfig) -> list[Evaluation]:
    """Runs every category, prints a line for each and the headline last, and writes the results."""
    from blemish import figures
    from blemish.data import find_categories
    from blemish.devices import is_main_process
    from blemish.results import write_results
    from blemish.run import run

    evaluations = []
    for category in find_categories(config.data_path, config.category):
        with shown_progress(category.name, errors) as phases:
            evaluation = run(config.for_category(category.name), phases)
        evaluations.append(evaluation)
        if is_main_process():
            console.print(_line(evaluation), highlight=False, soft_wrap=True)
    if is_main_process():
        write_results(evaluations, config.ckpt_path)
        if any(evaluation.images for evaluation in evaluations):
            figures.averages(evaluations, config.ckpt_path / "figures" / "auroc.png")
        console.print(f"{_too_few(evaluations)}{_headline(evaluations, config)}", highlight=False, soft_wrap=True)
    return evaluations


def _line(evaluation: Evaluation) -> str:
    from blemish.results import shown

    if not evaluation.images:
        line = f"{evaluation.category}: trained; it has no test images, so there is nothing to evaluate"
        return line + _threshold(evaluation)
    pixel, image = (evaluation.metrics.get(name) for name in ("pixel_auroc", "image_auroc"))
    why = "; ".join(
        f"{name.replace('_', ' ')}: {evaluation.reasons[name]}"
        for name in ("pixel_auroc", "image_auroc")
        if name in evaluation.reasons
    )
    line = f"{evaluation.category}: pixel AUROC {shown(pixel)}, image AUROC {shown(image)}"
    return (f"{line} ({why})" if why else line) + _threshold(evaluation)


def _threshold(evaluation: Evaluation) -> str:
    """What the held-out images made of it, in words."""
    found = evaluation.calibration
    if found is None:
        return ", no threshold"
    return f", threshold {found['threshold']:.4g} ({found['false_alarm_rate']:.2g} false alarms)"


def _too_few(evaluations: list[Evaluation]) -> str:
    """One line where fewer images were held out than the usual false-alarm rate needs."""
    from blemish.calibration import FALSE_ALARM_RATE, num_images_for, smallest_rate

    fewest = min(len(evaluation.validation) for evaluation in evaluations)
    if smallest_rate(fewest) <= FALSE_ALARM_RATE:
        return ""
    needed = num_images_for(FALSE_ALARM_RATE)
    return (
        f"{fewest} held-out good images support a false-alarm rate of {smallest_rate(fewest):.2g} at the least, "
        f"{FALSE_ALARM_RATE:g} needs {needed}: see blemish calibrate --help\n"
    )


def _headline(evaluations: list[Evaluation], config: RunConfig) -> str:
    from blemish.results import average_of

    average = average_of(evaluations, config.model, "pixel_auroc")
    where = f"results and figures are in {config.ckpt_path}"
    if average is None:
        return f"nothing to average; what was learned is in {config.ckpt_path}"
    return f"{where}\n[bold]average pixel AUROC {average:.4f}[/]"


COMMANDS: dict[str, Callable[..., None]] = {"train": train_command, "fit": fit_command}
"""The commands that take the settings of a run and the options of the detectors."""
