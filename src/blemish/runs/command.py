"""The command that does a run again, as it stands in the run's record."""

from __future__ import annotations

from blemish.reporting.command import words
from blemish.runs.config import RunConfig

ALWAYS = ("model", "seed", "data_path", "ckpt_path")
"""Settings that are named though they are at their defaults."""


def words_of(config: RunConfig) -> list[str]:
    """The words of the command, without categories: what differs from the defaults."""
    plain = config.model_dump(mode="json")
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
    given = {name: value for name, value in plain.items() if name in ALWAYS or value != defaults[name]}
    return words(given, plain["options"])
