"""The settings of a benchmark: the fields of `BenchmarkConfig` are options of the command and keys of a TOML file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from blemish.detectors import DETECTORS
from blemish.errors import BlemishError, first_problem, short_repr
from blemish.imaging.input_size import InputSize
from blemish.runs.config import Categories, Method, RunConfig, load_toml, once_each

OWN = ("model", "seed", "data_path", "ckpt_path", "category", "resume", "figures", "options")
"""Fields of RunConfig that a benchmark sets itself; all others are settings of every run."""
SETTINGS = tuple(name for name in RunConfig.model_fields if name not in (*OWN, "size"))
"""Fields of RunConfig that can be given for all runs of a benchmark."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class BenchmarkConfig(BaseModel):
    """All settings of a benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    data_path: Path = Field(description="root of the data set, or one category's folder")
    out: Path = Field(description="folder for the cells, tables, figures and the page")
    methods: Annotated[tuple[Method, ...], AfterValidator(once_each)] = Field(
        (), description="methods to compare; default: all, or the approaches of --config"
    )
    category: Categories = Field((), description="categories; default: all")
    seeds: Annotated[tuple[Seed, ...], AfterValidator(once_each)] = Field((0,), description="seeds of each method")
    sizes: Annotated[tuple[InputSize, ...], AfterValidator(once_each)] = Field(
        (), description="sizes of the input; default: each method's own"
    )
    jobs: int = Field(1, ge=1, le=256, description="processes that compute cells at the same time")
    ray: str | None = Field(None, description="address of a Ray cluster that computes the cells; default: none")
    maps: dict[str, Path] = Field({}, description="name of another program -> folder of its anomaly maps")
    settings: dict[str, Any] = Field({}, description="settings of every run")
    approaches: dict[str, dict[str, Any]] = Field({}, description="name -> settings that differ from `settings`")

    @field_validator("seeds")
    @classmethod
    def _at_least_one(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("at least one is needed")
        return seeds

    @field_validator("maps", "approaches")
    @classmethod
    def _named(cls, found: dict[str, Any]) -> dict[str, Any]:
        for name in found:
            if not name.strip() or not name.isprintable() or len(name) > 60:
                raise ValueError(f"{short_repr(name)} is not a name; give 1 to 60 printable characters")
        return found

    @classmethod
    def create(cls, **fields: Any) -> BenchmarkConfig:
        """The configuration; raises BlemishError that names the first invalid field, also of a run."""
        try:
            config = cls(**fields)
        except ValidationError as error:
            raise BlemishError(first_problem(error)) from None
        labels = [label for label, _ in config.runs()]
        twice = {name for name in config.maps if name in labels} | {name for name in labels if labels.count(name) > 1}
        if twice:
            raise BlemishError(f"approaches: {min(twice)} is the name of two. Give each its own.")
        return config

    def runs(self) -> Iterator[tuple[str, RunConfig]]:
        """(label, settings of a run with the first seed) of each approach, once for each size.

        Raises BlemishError for a setting that does not exist or is out of range.
        """
        methods = self.methods or (() if self.approaches or self.maps else tuple(sorted(DETECTORS)))
        _refuse_others("settings", self.settings, {*SETTINGS, "size", "options"})
        for label, given in [*((name, {"model": name}) for name in methods), *self.approaches.items()]:
            _refuse_others(label, given, {*SETTINGS, "size", "options", "model"})
            if "model" not in given and label not in DETECTORS:
                known = ", ".join(sorted(DETECTORS))
                raise BlemishError(f"approaches: {label} names no model. Add model = one of {known}.")
            options = _options("settings", self.settings) | _options(label, given)
            merged = {"model": label, **self.settings, **given, "options": options}
            sizes = (None,) if "size" in given or not self.sizes else self.sizes
            for size in sizes:
                named = label if len(sizes) == 1 else f"{label} {size}"
                yield named, self._run(label, merged if size is None else {**merged, "size": size})

    def _run(self, label: str, fields: dict[str, Any]) -> RunConfig:
        places = {"data_path": self.data_path, "ckpt_path": self.out, "resume": True, "figures": 0}
        try:
            return RunConfig.create(**fields, **places, seed=self.seeds[0])
        except BlemishError as error:
            raise BlemishError(f"{label}: {error}") from None

    def seeded_runs(self) -> Iterator[tuple[str, RunConfig]]:
        """(label, settings of a run) of each approach, size and seed."""
        for (label, run), seed in product(self.runs(), self.seeds):
            yield label, run.model_copy(update={"seed": seed})


def _refuse_others(label: str, given: dict[str, Any], known: set[str]) -> None:
    if wrong := sorted(set(given) - known):
        raise BlemishError(f"{label}: {wrong[0]} is not a setting here. Settings are {', '.join(sorted(known))}.")


def _options(label: str, given: dict[str, Any]) -> dict[str, Any]:
    options = given.get("options", {})
    if not isinstance(options, dict):
        raise BlemishError(f"{label}: options is {short_repr(options)}, where names with values are needed.")
    return options


def read_benchmark_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; raises BlemishError where it cannot be read or has an unknown setting."""
    found = load_toml(path)
    if unknown := sorted(set(found) - set(BenchmarkConfig.model_fields)):
        known = ", ".join(BenchmarkConfig.model_fields)
        raise BlemishError(
            f"config {path}: {unknown[0]} is not a setting. Settings are {known}; those of every run belong below "
            "[settings]."
        )
    return found
