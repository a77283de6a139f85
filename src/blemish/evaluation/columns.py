"""Which figures of evaluations are columns of tables: the metrics, and the official figures of a data set's authors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from blemish.metrics import METRICS
from blemish.types import Evaluation

OFFICIAL = "official "
"""What the names of official figures begin with in tables; no metric is called so, since names have no spaces."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of evaluations; `value_in` gives its values."""

    name: str
    """The key in files: of a metric its name, of an official figure OFFICIAL and its name."""
    title: str
    direction: Literal["higher", "lower"]
    """Whether a higher or a lower value is better."""

    @property
    def plain(self) -> dict[str, str]:
        """The column as plain data."""
        return {"name": self.name, "title": self.title, "direction": self.direction}


def column(name: str) -> Column:
    """The column of this name."""
    if name.startswith(OFFICIAL):
        return Column(name, name, "higher")
    return Column(name, METRICS[name].title, METRICS[name].direction)


def columns(evaluations: Sequence[Evaluation]) -> list[Column]:
    """The columns with a value in any evaluation: metrics in the order of METRICS, then the official figures."""
    return [column(name) for name in (*applicable(evaluations), *official_names(evaluations))]


def applicable(evaluations: Sequence[Evaluation]) -> list[str]:
    """The names of the metrics with a value in any evaluation, in the order of METRICS."""
    return [name for name in METRICS if any(value_in(evaluation, name) is not None for evaluation in evaluations)]


def official_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """The names of the columns of all official figures, also of those that are not applicable."""
    return list(dict.fromkeys(OFFICIAL + name for evaluation in evaluations for name in evaluation.official))


def value_in(evaluation: Evaluation, name: str) -> float | None:
    """The value of an evaluation in the column of this name; None where it has none."""
    if name.startswith(OFFICIAL):
        return evaluation.official.get(name.removeprefix(OFFICIAL))
    return evaluation.metrics.get(name)


def why_not(evaluation: Evaluation, name: str) -> str:
    """Why an evaluation has no value in a column."""
    if name.startswith(OFFICIAL):
        return "not defined by these test images, or by no threshold"
    return evaluation.reasons.get(name, "no test images")
