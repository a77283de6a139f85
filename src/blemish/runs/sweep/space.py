"""The space of a search: a dimension per option, from the option's own type, range and default."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

from blemish.detectors import detector_class
from blemish.errors import BlemishError, short_repr
from blemish.imaging.input_size import AnySize
from blemish.runs.config import RunConfig

FACTOR = 4
"""The search of a number reaches from its default divided by this to its default times this, within its range."""
NOT_SEARCHED = frozenset({"size", "precision", "weights", "backbone"})
"""Options that change the cost or the machine rather than the method; a space may name them all the same."""
OF_RUNS = ("learning_rate", "epochs", "batch_size", "patience", "size", "aspect", "align")
"""Settings of a run that a space may name."""
Value = bool | int | float | str | None


class Trial(Protocol):
    """What draws values; optuna's trials are of this kind."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """An integer in the range."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in the range."""


@dataclass(frozen=True)
class Dimension:
    """What an option may be: one of `choices`, or a number from `low` to `high`."""

    default: Value
    choices: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    step: int = 0
    """Of an integer; 0 for a number that is none."""
    is_log: bool = False
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    """(other option, its values) under which the option is searched; otherwise it stays at its default."""

    def draw(self, trial: Trial, name: str) -> Value:
        """A value that the trial draws."""
        if self.choices:
            value: Value = trial.suggest_categorical(name, self.choices)
            return value
        if self.step:
            step = 1 if self.is_log else self.step
            return trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.is_log)
        return trial.suggest_float(name, self.low, self.high, log=self.is_log)


Space = dict[str, Dimension]


def draw(space: Space, trial: Trial) -> dict[str, Value]:
    """The values of one configuration; an option whose condition does not hold is left out."""
    found: dict[str, Value] = {}
    for name in _in_order(space):
        if all(found.get(other, space[other].default) in values for other, values in space[name].when):
            found[name] = space[name].draw(trial, name)
    return found


def space_of(model: str, given: Mapping[str, Any]) -> Space:
    """The space of a method: of the options in `given` alone, or of all options with a range if it is empty.

    `given` is the table [space] of a TOML file: an option with a list of choices, with a table of low, high, log, step,
    choices and when, or with true for its own range. Raises BlemishError for what cannot be searched.
    """
    known = _known(model)
    if unknown := sorted(set(given) - set(known)):
        raise BlemishError(f"space: {unknown[0]} is not an option of {model}. It has {', '.join(sorted(known))}.")
    if not given:
        own = {name: _own(*pair) for name, pair in known.items() if name in _options(model)}
        found = {name: dimension for name, dimension in own.items() if dimension}
    else:
        found = {name: _given(name, wanted, *known[name]) for name, wanted in given.items()}
    _in_order(found)
    return found


def split(values: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """The values that are settings of a run, and those that are options of the method."""
    settings = {name: value for name, value in values.items() if name in RunConfig.model_fields}
    return settings, {name: value for name, value in values.items() if name not in settings}


def _options(model: str) -> list[str]:
    """The names that are searched by default."""
    from blemish.detectors.base import LearningDetector

    cls = detector_class(model)
    own = [name for name in cls.option_fields() if name not in NOT_SEARCHED]
    return [*own, "learning_rate"] if issubclass(cls, LearningDetector) else own


def _known(model: str) -> dict[str, tuple[Any, Value]]:
    """Name -> (annotation, default) of every option, and of the settings of a run that matter."""
    cls = detector_class(model)
    options = cls.option_fields()
    found: dict[str, tuple[Any, Value]] = {}
    for name in OF_RUNS:
        field = RunConfig.model_fields[name]
        default = getattr(cls.settings, name, field.default) if name != "batch_size" else field.default
        found[name] = Annotated[field.annotation, field], default
    return found | options


def _own(annotation: Any, default: Value) -> Dimension | None:
    """The dimension of an option from its annotation; None for text, lists, and a range without a default."""
    kind, limits, is_optional = _parts(annotation)
    if kind is bool or get_origin(kind) is Literal:
        choices = (False, True) if kind is bool else get_args(kind)
        return Dimension(default, (None, *choices) if is_optional and default is None else choices)
    if kind not in (int, float) or not isinstance(default, int | float):
        return None
    step = int(limits.get("multiple_of", 1)) if kind is int else 0
    lowest, highest = limits.get("ge", limits.get("gt", default / FACTOR)), limits.get("le", default * FACTOR)
    low, high = max(lowest, default / FACTOR), min(highest, default * FACTOR)
    if kind is int:
        low, high = max(step, round(low / step) * step), round(high / step) * step
    return Dimension(default, (), low, high, step, is_log=default > 0 and step <= 1) if low < high else None


def _given(name: str, wanted: Any, annotation: Any, default: Value) -> Dimension:
    """The dimension that a file gives."""
    own = _own(annotation, default)
    if wanted is True and own:
        return own
    table = {"choices": wanted} if isinstance(wanted, list) else wanted
    if not isinstance(table, dict) or set(table) - {"choices", "low", "high", "log", "step", "when"}:
        raise BlemishError(
            f"space.{name}: {short_repr(wanted)} was given. Give a list of choices, a table with low and high "
            f"(and log, step, when){', or true' if own else ''}."
        )
    when = _conditions(name, table.get("when", {}))
    if choices := table.get("choices"):
        if not isinstance(choices, list) or not all(isinstance(choice, bool | int | float | str) for choice in choices):
            raise BlemishError(f"space.{name}: choices must be a list of numbers or words.")
        return Dimension(default, tuple(choices), when=when)
    ends = [float(table[end]) for end in ("low", "high") if _is_number(table.get(end))]
    low, high = ends if len(ends) == 2 else (0.0, 0.0)
    if not low < high or (table.get("log") and low <= 0):
        raise BlemishError(f"space.{name}: low and high must be numbers, low below high, and above 0 with log.")
    kind, limits, _ = _parts(annotation)
    step = int(table.get("step", limits.get("multiple_of", 1))) if kind is int else 0
    return Dimension(default, (), low, high, step, is_log=bool(table.get("log", False)), when=when)


def _conditions(name: str, given: Any) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if not isinstance(given, dict):
        raise BlemishError(f"space.{name}: when is {short_repr(given)}. Give a table of options and their values.")
    lists = {other: values if isinstance(values, list) else [values] for other, values in given.items()}
    return tuple((other, tuple(values)) for other, values in lists.items())


def _in_order(space: Space) -> list[str]:
    """The names, each after those that its condition names; raises BlemishError where that is not possible."""
    found: list[str] = []
    waiting = dict(space)
    while waiting:
        ready = [name for name, own in waiting.items() if all(other in found for other, _ in own.when)]
        if not ready:
            name = min(waiting)
            raise BlemishError(f"space.{name}: its condition names an option outside of the space, or itself.")
        found += ready
        for name in ready:
            del waiting[name]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parts(annotation: Any) -> tuple[Any, dict[str, float], bool]:
    """The bare type of an annotation, its limits by their names in pydantic, and whether it may be None."""
    limits: dict[str, float] = {}
    is_optional = False
    while get_origin(annotation) in (Annotated, Union, types.UnionType):
        if get_origin(annotation) is Annotated:
            annotation, *notes = get_args(annotation)
            for limit in (limit for note in notes for limit in getattr(note, "metadata", (note,))):
                names = ("ge", "gt", "le", "lt", "multiple_of")
                limits |= {name: getattr(limit, name) for name in names if hasattr(limit, name)}
            continue
        inner = [part for part in get_args(annotation) if part is not type(None)]
        is_optional = is_optional or len(inner) < len(get_args(annotation))
        if len(inner) != 1 and annotation != AnySize:
            break
        annotation = inner[0]
    return annotation, limits, is_optional
