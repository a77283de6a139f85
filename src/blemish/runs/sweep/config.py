"""The settings of a sweep: the fields of `SweepConfig` are options of the command and keys of a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from blemish.detectors import DETECTORS
from blemish.errors import BlemishError, first_problem, short_repr
from blemish.metrics import METRICS
from blemish.runs.benchmark.config import SETTINGS
from blemish.runs.config import Categories, Method, RunConfig, load_toml
from blemish.runs.sweep.space import Space, Value, space_of, split
from blemish.runs.trained import refuse_ignored

Objective = Literal["validation", "leave-one-out"]


class SweepConfig(BaseModel):
    """All settings of a sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    data_path: Path = Field(description="root of the data set, or one category's folder")
    out: Path = Field(description="folder for the trials, tables, figures and the page")
    model: Method = Field("ae", description=f"method: {', '.join(sorted(DETECTORS))}")
    objective: Objective = Field(
        "validation", description="drawn defects on held-out good images, or the tests of the other categories"
    )
    metric: str = Field("pixel_auroc", description="metric that is optimised")
    trials: int = Field(30, ge=2, le=100_000, description="configurations to try, the defaults among them")
    category: Categories = Field((), description="categories; default: all")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the runs and of the search")
    jobs: int = Field(1, ge=1, le=256, description="processes that compute categories at the same time")
    ray: str | None = Field(None, description="address of a Ray cluster that computes them; default: none")
    storage: str | None = Field(
        None, description="database of the trials that several sweeps share; default: OUT/study.db"
    )
    settings: dict[str, Any] = Field({}, description="settings of every run")
    space: dict[str, Any] = Field({}, description="option -> choices or range; default: all with a range")

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(f"not a metric; choose from {', '.join(METRICS)}")
        return name

    @classmethod
    def create(cls, **fields: Any) -> SweepConfig:
        """The configuration; raises BlemishError that names the first invalid field, also of a run or of the space."""
        try:
            config = cls(**fields)
        except ValidationError as error:
            raise BlemishError(first_problem(error)) from None
        known = {*SETTINGS, "size", "options"}
        if wrong := sorted(set(config.settings) - known):
            raise BlemishError(f"settings: {wrong[0]} is not a setting here. Settings are {', '.join(sorted(known))}.")
        fixed = set(config.settings) | set(config._options)
        if config.space and (twice := sorted(set(config.space) & fixed)):
            raise BlemishError(f"space: {twice[0]} is set for every run. Leave it out of one of both.")
        if not config.search_space:
            raise BlemishError(f"space: {config.model} has no option with a range. Give a space in --config.")
        refuse_ignored(config.run({}))
        return config

    @property
    def search_space(self) -> Space:
        """The dimensions of the search, without options that are set for every run."""
        space = space_of(self.model, self.space)
        fixed = set() if self.space else set(self.settings) | set(self._options)
        return {name: dimension for name, dimension in space.items() if name not in fixed}

    @property
    def _options(self) -> dict[str, Any]:
        options = self.settings.get("options", {})
        if not isinstance(options, dict):
            raise BlemishError(f"settings: options is {short_repr(options)}, where names with values are needed.")
        return options

    def run(self, values: dict[str, Value]) -> RunConfig:
        """The settings of a run with these values of the search; raises BlemishError for one that is out of range."""
        own, options = split(values)
        merged = {**self.settings, **own, "options": self._options | options}
        places = {"data_path": self.data_path, "ckpt_path": self.out, "resume": True, "figures": 0}
        return RunConfig.create(**merged, **places, model=self.model, seed=self.seed)


def read_sweep_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; raises BlemishError where it cannot be read or has an unknown setting."""
    found = load_toml(path)
    if unknown := sorted(set(found) - set(SweepConfig.model_fields)):
        known = ", ".join(SweepConfig.model_fields)
        raise BlemishError(f"config {path}: {unknown[0]} is not a setting. Settings are {known}.")
    return found
