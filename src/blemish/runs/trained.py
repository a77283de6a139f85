"""Which methods are trained in epochs, and the settings that only their training has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from blemish.detectors import DETECTORS, detector_class
from blemish.errors import BlemishError
from blemish.runs.config import RunConfig

OF_TRAINING = ("epochs", "learning_rate", "patience")
"""The settings of a run without meaning for a method that is not trained in epochs."""


def is_trained(model: str) -> bool:
    """Whether the method is trained in epochs; imports torch."""
    from blemish.detectors.base import LearningDetector

    return issubclass(detector_class(model), LearningDetector)


def given(config: RunConfig) -> dict[str, Any]:
    """The settings of OF_TRAINING that are not left to the method."""
    return {name: value for name in OF_TRAINING if (value := getattr(config, name)) is not None}


def training_defaults(model: str) -> dict[str, Any]:
    """How the method is trained where nothing else is asked for, as plain data; empty for one that is not."""
    return asdict(detector_class(model).settings) if is_trained(model) else {}


def ignored(config: RunConfig) -> str:
    """A line on a setting of the training that the method does not have; empty where there is none."""
    found = next(iter(given(config)), None)
    if found is None or is_trained(config.model):
        return ""
    trained = ", ".join(filter(is_trained, sorted(DETECTORS)))
    return (
        f"{found}: has no effect on {config.model}, which is not trained in epochs. Leave it out, or choose a method "
        f"that is: {trained}."
    )


def refuse_ignored(config: RunConfig) -> None:
    """Raises BlemishError for a setting of the training that the method does not have."""
    if line := ignored(config):
        raise BlemishError(line)
