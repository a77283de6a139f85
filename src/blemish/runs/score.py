"""Scores the images of a manifest, however many: in shards, each a parquet file that is there as a whole or not."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.data.addresses import Store
from blemish.data.manifest import Manifest, RemoteContent, sample_of
from blemish.errors import BlemishError
from blemish.inference.backends import identity_of
from blemish.inference.inspector import Inspector
from blemish.inference.maps import encode_map
from blemish.inference.rows import Row, to_row
from blemish.inference.scored import to_parquet
from blemish.model.folder import read_model
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress
from blemish.runs.cluster import Task, computed_on
from blemish.types import Prediction, Sample, Unreadable

SETTINGS, SCORES, MAPS = "score.json", "scores", "maps"
"""The file that says what the shards were made of, and the folders of the shards and of the maps."""
WRITERS = 2
"""Threads that encode rows and write maps while the next images are computed."""
SHARD_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Share:
    """The shards of one of several processes: those whose number leaves the rest `index` when divided by `count`."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """The share that is written I/N, with I from 0 to N - 1; raises BlemishError for anything else."""
        index, mark, count = text.partition("/")
        is_number = index.isascii() and index.isdigit() and count.isascii() and count.isdigit() and len(text) < 20
        if not (mark and is_number and int(index) < int(count)):
            raise BlemishError(f"shard: '{text}' was given. Give I/N with I from 0 to N - 1, such as 0/8.")
        return cls(int(index), int(count))

    def has(self, number: int) -> bool:
        """Whether the shard of this number is in the share."""
        return number % self.count == self.index


@dataclass(frozen=True)
class Job:
    """What a process needs to score shards: where the model is, and where the scores go."""

    model: Path
    """The folder of the fitted detector."""
    backend: str
    settings: Mapping[str, Any]
    """Further arguments of `Inspector.load`."""
    out: str
    """A folder, or an address of fsspec."""
    maps_above: float | None = None
    """Maps of the images whose score is above are written; None: no maps."""

    def inspector(self) -> Inspector:
        """The inspector of the model."""
        return Inspector.load(self.model, self.backend, **self.settings)


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts over the images of a shard."""

    num_images: int
    num_defects: int
    num_unreadable: int
    first_error: str

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Counts:
        """The counts of the rows."""
        errors = [str(row["error"]) for row in rows if row.get("error")]
        defects = sum(row.get("decision") == "defect" for row in rows)
        return cls(len(rows), defects, sum("score" not in row for row in rows), next(iter(errors), ""))


@dataclass
class Scored:
    """Counts over the images of this call."""

    num_shards: int = 0
    """Shards in the share."""
    num_done_before: int = 0
    """Those that an earlier call has written."""
    num_images: int = 0
    num_defects: int = 0
    num_unreadable: int = 0
    first_error: str = ""
    """The error of the first image that could not be used."""
    seconds: float = 0.0

    def add(self, shard: Counts) -> None:
        """Adds the counts of a shard."""
        self.num_images += shard.num_images
        self.num_defects += shard.num_defects
        self.num_unreadable += shard.num_unreadable
        self.first_error = self.first_error or shard.first_error


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"part-{number:06}.parquet"


def score(
    job: Job,
    manifest: Manifest,
    share: Share = Share(),
    shard_size: int = SHARD_SIZE,
    ray: str | None = None,
    progress: Progress = no_progress,
) -> Scored:
    """Scores the images of a share of the manifest, and writes `scores/part-NNNNNN.parquet` to `job.out`.

    Row i of shard s belongs to row s * shard_size + i of the manifest. A shard that is there is not computed again, so
    a call that was stopped or killed can be repeated, and several processes can each take a share. A file that cannot
    be used has a row with its error.

    Args:
        job: The model, and where the scores go.
        manifest: The images.
        share: The shards of this process.
        shard_size: Images in a shard.
        ray: The address of a Ray cluster whose nodes compute the shards; None: this process does.
        progress: Is called with the number of finished images and the total of this call.

    Raises BlemishError if `job.out` holds shards of another model, manifest or settings, or cannot be written.
    """
    inspector = job.inspector() if ray is None else None
    store, identity = Store(job.out), identity_of(read_model(job.model), job.backend)
    settings = {"manifest": manifest.sha256, "num_rows": manifest.num_rows, "shard_size": shard_size}
    settings |= {"maps_above": job.maps_above, "identity": identity}
    _check_settings(store, settings)
    written = store.names(SCORES)
    own = [number for number in range(-(-manifest.num_rows // shard_size)) if share.has(number)]
    missing = {number for number in own if shard_name(number) not in written}
    total = sum(min(shard_size, manifest.num_rows - number * shard_size) for number in missing)
    found, started = Scored(len(own), len(own) - len(missing)), time.monotonic()
    blocks = manifest.blocks(shard_size, missing.__contains__)
    about = json.dumps(settings)
    for counts in _here(inspector, job, blocks, about) if inspector else _there(job, blocks, about, ray or "auto"):
        found.add(counts)
        progress(found.num_images, total)
    found.seconds = time.monotonic() - started
    return found


def _here(inspector: Inspector, job: Job, blocks: Iterable[tuple[int, list[str]]], about: str) -> Iterator[Counts]:
    """Computes the shards in this process."""
    store = Store(job.out)
    for number, rows in _shards(inspector, blocks, store, job.maps_above):
        store.write(f"{SCORES}/{shard_name(number)}", to_parquet(rows, {"blemish": about}))
        yield Counts.of(rows)


def _there(job: Job, blocks: Iterable[tuple[int, list[str]]], about: str, address: str) -> Iterator[Counts]:
    """Computes the shards on a Ray cluster, each on as many CPUs as the job has threads."""
    cpus = job.settings.get("threads") or 1
    needs_gpu = job.backend == "torch" and job.settings.get("device") != "cpu"
    tasks = (Task(_score_block, (job, *block, about), needs_gpu, cpus) for block in blocks)
    for _, found in computed_on(address, tasks):
        if isinstance(found, BlemishError):
            raise found
        yield found


def _score_block(job: Job, number: int, addresses: list[str], about: str) -> Counts:
    """Computes a shard in any process, which keeps the model for the next one."""
    if about not in _inspectors:
        _inspectors.clear()
        _inspectors[about] = job.inspector()
    store = Store(job.out)
    ((_, rows),) = _shards(_inspectors[about], [(number, addresses)], store, job.maps_above)
    store.write(f"{SCORES}/{shard_name(number)}", to_parquet(rows, {"blemish": about}))
    return Counts.of(rows)


_inspectors: dict[str, Inspector] = {}
"""What the scores are of -> the loaded model, in a process of a cluster."""


def _check_settings(store: Store, settings: Mapping[str, Any]) -> None:
    """Writes the settings, or raises BlemishError if the folder holds those of other shards."""
    before = store.read(SETTINGS)
    if before is None:
        store.write(SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())
        return
    try:
        known = dict(json.loads(before))
    except (ValueError, TypeError):
        known = {}
    different = [name for name in settings if known.get(name) != settings[name]]
    if different:
        words = {"identity": "another model or backend", "manifest": "another manifest", "num_rows": "another manifest"}
        what = words.get(different[0], f"another {different[0].replace('_', ' ')}")
        raise BlemishError(f"{store.address}: holds scores of {what}. Choose another --out.")


def _shards(
    inspector: Inspector, blocks: Iterable[tuple[int, list[str]]], store: Store, maps_above: float | None
) -> Iterator[tuple[int, list[Row]]]:
    """(number, rows) of each block, in order; images of the next one are decoded while this one is finished.

    Raises BlemishError where none of a block's files could be reached, so that an outage leaves no shard of errors.
    """
    started: deque[tuple[int, int]] = deque()
    """(number, number of rows) of the blocks whose images were asked for."""
    places: deque[_Place] = deque()
    """The images that were asked for."""

    def samples() -> Iterator[Sample]:
        for number, addresses in blocks:
            started.append((number, len(addresses)))
            for row, address in enumerate(addresses):
                places.append((number, row, address))
                yield sample_of(address, inspector.preprocess.max_pixels)

    def finish(item: tuple[Prediction | Unreadable, _Place]) -> tuple[Row, bool]:
        found, place = item
        return _row(inspector, found, place, store, maps_above), _is_unreached(found.sample)

    results = ((found, places.popleft()) for found in inspector.inspect(samples()))
    rows: list[Row] = []
    num_unreached = 0
    for row, is_unreached in map_ahead(finish, results, WRITERS, WRITERS):
        rows.append(row)
        num_unreached += is_unreached
        number, count = started[0]
        if len(rows) == count:
            started.popleft()
            if num_unreached == count:
                raise BlemishError(str(row["error"]))
            yield number, rows
            rows, num_unreached = [], 0


_Place = tuple[int, int, str]
"""The number of an image's block, its row in it, and its address."""


def _is_unreached(sample: Sample) -> bool:
    return isinstance(sample.content, RemoteContent) and sample.content.is_unreached


def _row(
    inspector: Inspector, found: Prediction | Unreadable, place: _Place, store: Store, maps_above: float | None
) -> Row:
    """The row of an image; its map is written where its score is above."""
    number, row, address = place
    if isinstance(found, Unreadable):
        error = found.error.replace(str(found.sample.image), address)
        return to_row(found, None, None) | {"path": address, "error": error}
    written = to_row(found, inspector.decide(found), inspector.calibration) | {"path": address}
    if maps_above is not None and found.score > maps_above:
        written["map"] = f"{MAPS}/{number:06}/{row:06}.tiff"
        store.write(written["map"], encode_map(found.map, "uint16", found.sha256))
    return written
