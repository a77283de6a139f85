"""Predicting on image files into a folder, reusing the results of earlier runs in it.

Each image has a row. A stored row is kept, decided again with the present calibration, or replaced by a new prediction.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from blemish.calibration.thresholds import Calibration
from blemish.data.source import read_file
from blemish.errors import BlemishError
from blemish.files import absolute
from blemish.imaging.read import read_content
from blemish.inference.inspector import Inspector
from blemish.inference.maps import decode_map
from blemish.inference.output_files import OutputFiles, file_names
from blemish.inference.previews import write_inspected_by
from blemish.inference.rows import (
    FOLDERS,
    NEEDS_IMAGE,
    SHOWS_DECISION,
    Row,
    check_identity,
    open_rows,
    read_rows,
    redecide,
    row_file,
    to_row,
)
from blemish.model.folder import DOCUMENT
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress
from blemish.types import MapFormat, Prediction, Sample, Unreadable

WRITERS = 2
"""Threads that write files while the next images are computed."""
BY_SCORE, BY_MAP, DRAWN = "decided again by score", "decided again by map", "drawn by map"
"""How a stored row was reused without predicting; also the words of the summary."""
CHANGED, GONE = "changed since then", "no longer readable"
NO_REGIONS, NO_FILES = "without known regions", "without a map or overlay file"
NO_MAP = "with a changed map or image file"
"""Why an image with a stored row is predicted again; also the words of the summary."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over the images, including those with a stored row."""

    num_images: int
    num_defects: int
    num_unreadable: int
    num_unwritten: int
    """Images with a prediction whose map, overlay or preview could not be written."""
    rate: float
    """Predicted images per second in this run; 0 if none was."""
    first_error: str = ""
    """The error of the first image that could not be used, or whose files could not be written."""
    from_stored: Mapping[str, int] = field(default_factory=dict)
    """BY_SCORE, BY_MAP or DRAWN -> number of stored rows that were reused so."""
    inspected_anew: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of images with a stored row that were predicted again."""

    def describe(self) -> list[str]:
        """One line on reused rows and one on images predicted again, each only if there are any."""
        counted = {"from stored results": self.from_stored, "inspected again": self.inspected_anew}
        return [
            f"{what}: {', '.join(f'{number} {how}' for how, number in counts.items())}"
            for what, counts in counted.items()
            if counts
        ]


def output_folders(out: Path) -> list[Path]:
    """The folders in `out` to which `predict` writes images, so that they are not taken for input."""
    return [absolute(out / name) for name in FOLDERS.values()]


@dataclass
class _Plan:
    """What `predict` does for each image: `rows` are final, `from_map` and `to_predict` are still to be done."""

    calibration: Calibration | None
    requested: frozenset[str]
    """The fields of FOLDERS whose files were requested for each image."""
    map_format: MapFormat | None
    rows: dict[str, Row] = field(default_factory=dict)
    """Path -> stored row, already decided with the present calibration as far as possible."""
    from_map: list[Path] = field(default_factory=list)
    """Images whose row or files can be computed from the stored map."""
    to_predict: list[Path] = field(default_factory=list)
    files: dict[str, frozenset[str]] = field(default_factory=dict)
    """Path -> the fields of FOLDERS whose files are to be written, if they differ from `requested`."""
    from_stored: Counter[str] = field(default_factory=Counter)
    inspected_anew: Counter[str] = field(default_factory=Counter)

    def inspect(self, path: Path, reason: str = "") -> None:
        """Plans a prediction; `reason` says why an image with a stored row needs it."""
        self.to_predict.append(path)
        if reason:
            self.inspected_anew[reason] += 1

    def reuse(self, out: Path, row: Row, is_given: bool = True) -> None:
        """Decides the row of an unchanged image again, and plans what its scores alone cannot give.

        `is_given` says whether the image is among those of this call.
        """
        path, again = row["path"], redecide(row, self.calibration)
        if again != row:  # files that show the former decision are outdated; the empty field makes a run write them
            again |= dict.fromkeys(SHOWS_DECISION & again.keys())
        self.rows[path] = again
        stored = frozenset(name for name in FOLDERS if name in row)
        existing = {name for name in FOLDERS if (file := row_file(out, again, name)) and file.is_file()}
        wanted = (self.requested | stored if is_given else stored - NEEDS_IMAGE) - existing
        is_coarser = self.map_format == "float32" != row.get("map_format")
        if "map" in existing and "map" in self.requested and is_given and is_coarser:
            wanted |= {"map"}
        lacks_regions = self.calibration is not None and again["regions"] is None
        if not wanted and not lacks_regions:
            self.from_stored[BY_SCORE] += again != row
        elif "map" in existing and "map" not in wanted:
            self.files[path] = wanted
            self.from_map.append(Path(path))
        elif is_given:
            self.files[path] = wanted | existing
            self.inspect(Path(path), NO_REGIONS if lacks_regions else NO_FILES)


def predict(
    inspector: Inspector,
    images: Sequence[Path],
    out: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    maps: MapFormat | None = None,
    overlays: bool = False,
    previews: bool = False,
    fresh: bool = False,
    about: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> Summary:
    """Predicts on image files and writes `predictions.jsonl` and `predictions.csv` to `out`, row by row.

    An interrupted call can be repeated: an image with a row is not predicted again while its content (SHA-256) is the
    same. If the calibration has changed, stored rows are decided again from their scores and maps. Files that could not
    be used are tried again.

    Args:
        inspector: Computes the predictions.
        images: The image files.
        out: The output folder.
        identity: The model and the backend, from `identity_of`; rows of another identity are an error.
        maps: The format of the anomaly maps; None: no maps.
        overlays: Whether to write overlays of the decisions.
        previews: Whether to write what a report shows of each image.
        fresh: Whether to discard the predictions in `out` first.
        about: Model, method and backend for the report.
        progress: Is called with the number of finished images and the total.

    Raises BlemishError if `out` holds a fitted detector, or rows of another identity.
    """
    if (out / DOCUMENT).exists():
        raise BlemishError(f"out {out}: holds a fitted detector. Choose another folder.")
    before = {} if fresh else read_rows(out)
    if before:
        check_identity(out, identity or {})
    wanted = {"map": maps is not None, "overlay": overlays, "preview": previews}
    requested = frozenset(name for name, is_wanted in wanted.items() if is_wanted)
    plan = _plan(_Plan(inspector.calibration, requested, maps), before, images, out, inspector)
    with open_rows(out, plan.rows, identity or {}) as rows:
        write_inspected_by(out, about or {}, plan.calibration)
        files = OutputFiles(out, file_names(images, plan.rows), plan.calibration, plan.map_format)
        started, num_left = time.monotonic(), len(plan.from_map) + len(plan.to_predict)
        num_done = max(0, len(images) - num_left)
        for done, row in enumerate(_computed(plan, inspector, files), start=1):
            rows.add(row)
            progress(num_done + done, num_done + num_left)
    rate = len(plan.to_predict) / max(time.monotonic() - started, 1e-9)
    return _summary([rows.known[str(path)] for path in images], plan, rate)


def _plan(plan: _Plan, before: Mapping[str, Row], images: Sequence[Path], out: Path, inspector: Inspector) -> _Plan:
    """The given plan, filled for the images and the stored rows `before`."""
    known = [path for path in images if str(path) in before]
    digest = partial(_digest, max_pixels=inspector.preprocess.max_pixels)
    digests = dict(zip(known, map_ahead(digest, known, inspector.workers), strict=True))
    for path in images:
        row = before.get(str(path))
        if row is None:
            plan.inspect(path)
        elif digests[path] != row["sha256"]:
            plan.inspect(path, CHANGED if digests[path] else GONE)
        else:
            plan.reuse(out, row)
    for other in before.keys() - set(map(str, images)):
        plan.reuse(out, before[other], is_given=False)
    plan.rows = {path: plan.rows[path] for path in before if path in plan.rows}
    return plan


def _digest(path: Path, max_pixels: int) -> str | None:
    """SHA-256 of an image file; None if it cannot be read."""
    try:
        return hashlib.sha256(read_content(path, max_pixels)).hexdigest()
    except BlemishError:
        return None


def _computed(plan: _Plan, inspector: Inspector, files: OutputFiles) -> Iterable[Row]:
    """The rows that need work: first from stored maps, then from new predictions."""

    def from_stored_map(path: Path) -> Row | None:
        before, fields = plan.rows[str(path)], plan.files[str(path)]
        prediction = _stored_prediction(before, files.out, inspector, bool(NEEDS_IMAGE & fields))
        if prediction is None:
            return None
        decision = inspector.decide(prediction)
        row = to_row(prediction, decision, plan.calibration)
        row |= {name: before[name] for name in (*FOLDERS, "map_format") if name in before}
        return row | files.write(prediction, decision, fields, before)

    for path, row in zip(plan.from_map, map_ahead(from_stored_map, plan.from_map, inspector.workers), strict=True):
        if row is None:
            plan.files[str(path)] |= {"map"}
            plan.inspect(path, NO_MAP)
            continue
        lacked_regions = plan.rows[str(path)]["regions"] is None and plan.calibration is not None
        plan.from_stored[BY_MAP if lacked_regions else DRAWN] += 1
        yield row
    yield from _predicted(plan, inspector, files)


def _stored_prediction(row: Row, out: Path, inspector: Inspector, with_image: bool) -> Prediction | None:
    """The prediction from a row and its map file; None if the map is not usable, or the image file has changed."""
    sample, shown = Sample(Path(row["path"])), None
    if with_image:
        _, info = read_file(sample, inspector.preprocess, with_image=True)
        if info.sha256 != row["sha256"] or info.error:
            return None
        shown = info.shown
    try:
        file = row_file(out, row, "map")
        values = decode_map(file.read_bytes() if file else b"", row["size"], row["sha256"])
    except (OSError, ValueError):
        return None
    return Prediction(sample, row["score"], values, row["sha256"], shown)


def _predicted(plan: _Plan, inspector: Inspector, files: OutputFiles) -> Iterable[Row]:
    """The rows of new predictions; the files of each are written."""
    fields = {path: plan.files.get(str(path), plan.requested) for path in plan.to_predict}
    before = dict(plan.rows)

    def finish(found: Prediction | Unreadable) -> Row:
        if isinstance(found, Unreadable):
            return to_row(found, None, None)
        decision = inspector.decide(found)
        row = to_row(found, decision, plan.calibration)
        path = found.sample.image
        return row | files.write(found, decision, fields[path], before.get(str(path), {}))

    with_images = any(NEEDS_IMAGE & wanted for wanted in fields.values())
    return map_ahead(finish, inspector.inspect(plan.to_predict, with_images=with_images), WRITERS, WRITERS)


def _summary(rows: Sequence[Row], plan: _Plan, rate: float) -> Summary:
    errors = [str(row["error"]) for row in rows if "error" in row]
    num_unreadable = sum("score" not in row for row in rows)
    return Summary(
        len(rows),
        sum(row.get("decision") == "defect" for row in rows),
        num_unreadable,
        len(errors) - num_unreadable,
        rate,
        next(iter(errors), ""),
        +plan.from_stored,
        +plan.inspected_anew,
    )
