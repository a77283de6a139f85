"""Fits a model to good images in one call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError
from blemish.library.images import AnyImages, to_category
from blemish.library.model import Model
from blemish.runs.config import FIT_MODEL, RunConfig
from blemish.runs.steps import calibrate, plan, prepare
from blemish.runs.steps import fit as fit_step
from blemish.runs.trained import refuse_ignored

NOT_OF_FIT = ("data_path", "ckpt_path", "category", "resume", "figures", "options", "model")
"""Settings of a run that have no effect where nothing is evaluated or written."""


def fit(images: AnyImages, method: str = FIT_MODEL, seed: int = 0, **options: Any) -> Model:
    """A model fitted to good images: a folder, or a list of paths, arrays, PIL images or bytes.

    `options` are the settings of `blemish fit` (size, epochs, align, tile ...) and the options of the method. Some of
    the images are held out to choose the threshold. The model is in memory until it is saved. Raises BlemishError for
    an image that cannot be used, and for a method or option that is unknown or has no effect.
    """
    if wrong := sorted(set(options) & set(NOT_OF_FIT)):
        raise BlemishError(f"{wrong[0]}: not an option of fit. Give the settings of `blemish fit --help`.")
    config_of_data = {name: options[name] for name in ("layout", "group") if options.get(name)}
    category = to_category(images, "images", **config_of_data)
    is_folder = isinstance(images, str | os.PathLike)
    data_path = Path(images) if is_folder else category.root  # type: ignore[arg-type]
    config = configuration(method, seed, options, data_path=data_path, ckpt_path=Path())
    refuse_ignored(config)
    return Model.of(calibrate(fit_step(prepare(plan(config, category)))).artifact)


def configuration(method: str, seed: int, options: dict[str, Any], **places: Any) -> RunConfig:
    """The settings of a run; options that are not settings are passed to the method."""
    own = {name: value for name, value in options.items() if name in RunConfig.model_fields}
    others = {name: value for name, value in options.items() if name not in own}
    return RunConfig.create(**{**own, **places, "model": method, "seed": seed, "options": others})
