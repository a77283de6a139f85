"""The command that repeats a run, as the report shows it."""

from __future__ import annotations

from blemish.reporting.command import words
from blemish.runs.config import RunConfig

ALWAYS = ("model", "seed", "data_path", "ckpt_path")
"""Settings that the command contains even at their default values."""


def words_of(config: RunConfig) -> list[str]:
    """The words of the command, without categories: ALWAYS, and the settings that differ from their defaults."""
    plain = config.model_dump(mode="json")
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
    given = {name: value for name, value in plain.items() if name in ALWAYS or value != defaults[name]}
    return words(given, plain["options"])
