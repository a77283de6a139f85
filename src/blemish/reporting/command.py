"""The command line that runs a configuration again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

PLACES = {"category", "resume", "figures"}
"""Settings that the command leaves out: categories are named beside it, and the others change no result."""


def words(settings: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """The words of `blemish train` with these settings and options of the detector, those that are None left out."""
    given = {name: value for name, value in {**settings, **options}.items() if value is not None}
    flags = (_flag(name, value) for name, value in given.items() if name not in {*PLACES, "options"})
    return ["blemish", "train", *(word for flag in flags for word in flag)]


def command(facts: Mapping[str, Any], categories: Sequence[str]) -> str | None:
    """The command that does a run again on these categories, by the facts of its record; None where they lack it.

    An older record holds the configuration alone; all of its settings are named then.
    """
    if not {"command", "config"} & set(facts):
        return None
    found = facts.get("command") or words(facts["config"], facts["config"].get("options", {}))
    return shlex.join([*found, *(word for name in categories for word in ("--category", name))])


def _flag(name: str, value: Any) -> list[str]:
    """The words that set a field or an option on the command line."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *map(str, values)] if values else []
