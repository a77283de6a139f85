"""The cells of a benchmark, each one approach with one seed on one category, named by the hash of settings and data.

A cell is plain data, so that any process can compute it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import blemish
from blemish.data.category import Category, data_hash, find_categories
from blemish.data.reading import FileReader, file_digests
from blemish.data.shared import SharedReader
from blemish.detectors import detector_class
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import NUM_RESAMPLES
from blemish.evaluation.map_files import find_maps
from blemish.evaluation.results import EVALUATION
from blemish.files import read_bytes
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.roi import Roi, read_roi
from blemish.progress import Phases, no_phases, with_progress
from blemish.reporting.read_runs import CELLS
from blemish.runs.benchmark.config import BenchmarkConfig
from blemish.runs.config import RunConfig
from blemish.runs.evaluate import evaluate_maps
from blemish.runs.provenance import identity_of
from blemish.runs.run import run_planned
from blemish.runs.steps import Planned, plan
from blemish.runs.trained import training_defaults
from blemish.types import Evaluation

DECODED = "decoded"
"""The folder of decoded images, while a benchmark runs."""


@dataclass(frozen=True)
class Data:
    """A category with the hashes of its files."""

    category: Category
    digests: Mapping[Path, str]
    sha256: str


@dataclass(frozen=True)
class Cell:
    """One approach with one seed on one category: a run, or the maps of another program."""

    key: str
    """Hash of the configuration and the data; cells with equal keys have equal results."""
    approach: str
    data: Data
    out: Path
    """The folder of the benchmark."""
    run: RunConfig | None = None
    maps: Path | None = None
    """The folder of the maps of another program, where there is no run."""
    result: ClassVar[str] = EVALUATION
    """The file with the metrics, which is written last."""

    @property
    def folder(self) -> Path:
        """The folder that holds the category's folder with the results."""
        return self.out / CELLS / self.key

    @property
    def is_finished(self) -> bool:
        """Whether its results are there."""
        return self.path.exists()

    @property
    def path(self) -> Path:
        """The file with the metrics."""
        return self.folder / self.data.category.name / self.result

    def metrics(self) -> dict[str, float | None]:
        """The metrics of a finished cell; raises BlemishError where their file is damaged."""
        try:
            return dict(json.loads(read_bytes(self.path))["metrics"])
        except (ValueError, KeyError, TypeError):
            raise BlemishError(f"{self.path}: damaged. Remove it, and run the command again.") from None

    @property
    def seed(self) -> int | None:
        """The seed of the run; None for the maps of another program."""
        return self.run.seed if self.run else None

    @property
    def words(self) -> str:
        """The cell as it is named to a reader."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.approach} on {self.data.category.name}{seed}"

    @property
    def row(self) -> dict[str, Any]:
        """The cell in benchmark.json."""
        named = {"key": self.key, "approach": self.approach, "category": self.data.category.name, "seed": self.seed}
        return named | {
            "config": self.run.identity if self.run else None,
            "maps": str(self.maps) if self.maps else None,
        }

    def decoded(self) -> Path:
        """The folder of the category's decoded images."""
        return self.out / DECODED / self.data.sha256[:16]

    def planned(self, category: Category, workers: int) -> Planned:
        """The run on a category, planned, with images that are decoded once for all processes."""
        assert self.run is not None
        config = self.run.model_copy(update={"workers": self.run.workers or workers, "ckpt_path": self.folder})
        config = config.for_category(category.name)
        shared = SharedReader(self.decoded(), self.data.digests, config.max_pixels, config.memory_budget)
        return plan(config, category, reader=shared)

    def compute(self, workers: int = 0) -> Evaluation:
        """Computes the results and writes them; what a killed process has finished of them is reused.

        `workers` threads decode; 0: as the settings say. Raises BlemishError where it cannot be computed.
        """
        if self.run is None:
            assert self.maps is not None
            return evaluate_maps(self.maps, self.data.category, self.approach, self.folder, NUM_RESAMPLES)
        return run_planned(self.planned(self.data.category, workers))


def cells_of(config: BenchmarkConfig, phases: Phases = no_phases) -> list[Cell]:
    """All cells in the order of their computation: category by category, so that few images are kept decoded.

    Raises BlemishError where the data cannot be read.
    """
    runs = list(config.seeded_runs())
    limit = max((run.max_pixels for _, run in runs), default=MAX_PIXELS)
    found = []
    kinds = {name: config.settings[name] for name in ("layout", "group") if config.settings.get(name)}
    for data in read_data(config.data_path, config.category, limit, phases, **kinds):
        found += [run_cell(label, run, data, config.out) for label, run in runs]
        found += [_maps_cell(name, folder, data, config.out) for name, folder in config.maps.items()]
    return found


def read_data(
    data_path: Path, names: Sequence[str], max_pixels: int = MAX_PIXELS, phases: Phases = no_phases, **kinds: str
) -> list[Data]:
    """The categories with the hashes of all their files, each of which is read once.

    `kinds` are the `layout` and the `group` of `find_categories`. Raises BlemishError where one has no test images.
    """
    found, categories = [], find_categories(data_path, names, **kinds)
    for category in with_progress(categories, len(categories), phases("hashing the data"), "categories"):
        if not category.of("test"):
            raise BlemishError(f"{category.root}: category {category.name} has no test images to compare methods on.")
        digests = file_digests(category.samples, reader=FileReader(max_pixels))
        found.append(Data(category, digests, data_hash(category, digests)))
    return found


def run_cell(label: str, run: RunConfig, data: Data, out: Path) -> Cell:
    """The cell of a run on a category; a detector whose defaults have changed makes another one, of training too."""
    defaults = {name: default for name, (_, default) in detector_class(run.model).option_fields().items()}
    identity = identity_of(run, data.sha256, _roi(run.roi)) | {"options": defaults | run.options}
    if training := training_defaults(run.model):
        identity |= {"training": training}
    return Cell(_key(identity, data), label, data, out, run=run)


def _maps_cell(label: str, folder: Path, data: Data, out: Path) -> Cell:
    digest = hashlib.sha256()
    for path in _map_files(folder, data.category):
        digest.update(f"{os.path.relpath(path, folder)} ".encode("utf-8", "surrogateescape"))
        digest.update(hashlib.sha256(read_bytes(path)).digest())
    identity = {"maps": digest.hexdigest(), "name": label, "data_sha256": data.sha256}
    return Cell(_key(identity, data), label, data, out, maps=folder)


def _map_files(folder: Path, category: Category) -> Sequence[Path]:
    found = (next((path for path in places if path.is_file()), None) for _, places in find_maps(folder, category))
    return sorted({path for path in found if path})


def _key(identity: Mapping[str, Any], data: Data) -> str:
    """The first 16 hexadecimal digits of the hash of an identity, the category's name and this version."""
    whole = {"identity": identity, "category": data.category.name, "blemish": blemish.__version__}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def _roi(path: Path | None) -> Roi | None:
    return read_roi(path) if path else None


def by_category(cells: Sequence[Cell]) -> Iterator[tuple[Path, list[Cell]]]:
    """(folder of decoded images, cells) for each category."""
    folders: dict[Path, list[Cell]] = {}
    for cell in cells:
        folders.setdefault(cell.decoded(), []).append(cell)
    yield from folders.items()
