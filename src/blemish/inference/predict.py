"""Inspecting files: which they are, and a row for each, kept, decided again or inspected anew as is needed."""

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
    OF_IMAGE,
    SHOWN,
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
"""Threads that write maps and overlays while the next images are computed."""
BY_SCORE, BY_MAP, DRAWN = "decided again by score", "decided again by map", "drawn by map"
"""What is done with rows of an earlier run without inspecting."""
CHANGED, GONE = "changed since", "that can no longer be read"
NO_REGIONS, NO_FILES = "whose regions are not known", "whose map or overlay is not there"
NO_MAP = "whose map or image is no longer what was stored"
"""Why images are inspected anew."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the images, those of an earlier run included."""

    num_images: int
    num_defects: int
    num_unreadable: int
    num_unwritten: int
    """Images that were inspected, but whose map or overlay could not be written."""
    rate: float
    """Images per second that were inspected in this run; 0 where none was."""
    first_error: str = ""
    """Of the first image that could not be used, or whose files could not be written."""
    from_stored: Mapping[str, int] = field(default_factory=dict)
    """BY_SCORE, BY_MAP or DRAWN -> rows of an earlier run that this was done with."""
    inspected_anew: Mapping[str, int] = field(default_factory=dict)
    """Why -> images of an earlier run that were inspected anew."""

    def describe(self) -> list[str]:
        """A line for what was done with stored rows, and one for what was inspected anew, where there is any."""
        told = {"from what is stored": self.from_stored, "inspected anew": self.inspected_anew}
        return [
            f"{what}: {', '.join(f'{number} {how}' for how, number in counts.items())}"
            for what, counts in told.items()
            if counts
        ]


def output_folders(out: Path) -> list[Path]:
    """The folders in which `predict` leaves pictures, which are not to be inspected."""
    return [absolute(out / name) for name in FOLDERS.values()]


@dataclass
class _Plan:
    """What is to be done for the images, and the rows as they are known before any of it."""

    calibration: Calibration | None
    asked: frozenset[str]
    """Fields of FOLDERS that each image is to have."""
    form: MapFormat | None
    known: dict[str, Row] = field(default_factory=dict)
    by_map: list[Path] = field(default_factory=list)
    inspected: list[Path] = field(default_factory=list)
    pictures: dict[str, frozenset[str]] = field(default_factory=dict)
    """Path -> the fields whose files are to be written, where they are others than those that were asked for."""
    from_stored: Counter[str] = field(default_factory=Counter)
    inspected_anew: Counter[str] = field(default_factory=Counter)

    def inspect(self, path: Path, reason: str = "") -> None:
        """Has an image inspected; the reason is that of one that was inspected before."""
        self.inspected.append(path)
        if reason:
            self.inspected_anew[reason] += 1

    def settle(self, out: Path, row: Row, is_given: bool = True) -> None:
        """Decides a row of an image again that has not changed, or plans what else that takes."""
        path, again = row["path"], redecide(row, self.calibration)
        if again != row:  # these tell of the former decision: the row keeps the field, so that a later run knows of it
            again |= dict.fromkeys(SHOWN & again.keys())
        self.known[path] = again
        had = frozenset(name for name in FOLDERS if name in row)
        there = {name for name in FOLDERS if (file := row_file(out, again, name)) and file.is_file()}
        wanted = (self.asked | had if is_given else had - OF_IMAGE) - there
        if "map" in there and "map" in self.asked and is_given and self.form == "float32" != row.get("map_format"):
            wanted |= {"map"}
        lacks_regions = self.calibration is not None and again["regions"] is None
        if not wanted and not lacks_regions:
            self.from_stored[BY_SCORE] += again != row
        elif "map" in there and "map" not in wanted:
            self.pictures[path] = wanted
            self.by_map.append(Path(path))
        elif is_given:
            self.pictures[path] = wanted | there
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
    """Inspects the images and writes `predictions.jsonl` and `predictions.csv` into `out`, row by row.

    A row is written after the map and the overlay of its image, and an image that has its row, its content being the
    same (SHA-256), is not inspected again: the same call after a stop, however hard, goes on. Where the calibration is
    another one, all rows are decided again, from their scores and maps as far as these tell. What a row had, it keeps.
    Files that could not be used are tried again. With `previews` what a report shows of each image is kept; `about`
    tells it what the images are inspected by: model, method and backend. `fresh` removes what is in `out` first.
    Raises BlemishError where `out` holds a fitted detector, or rows of another model (`identity`).
    """
    if (out / DOCUMENT).exists():
        raise BlemishError(f"out {out}: holds a fitted detector. Choose another folder.")
    before = {} if fresh else read_rows(out)
    if before:
        check_identity(out, identity or {})
    wishes = {"map": maps is not None, "overlay": overlays, "preview": previews}
    asked = frozenset(name for name, is_asked in wishes.items() if is_asked)
    plan = _plan(_Plan(inspector.calibration, asked, maps), before, images, out, inspector)
    with open_rows(out, plan.known, identity or {}) as rows:
        write_inspected_by(out, about or {}, plan.calibration)
        pictures = OutputFiles(out, file_names(images, plan.known), plan.calibration, plan.form)
        started, num_left = time.monotonic(), len(plan.by_map) + len(plan.inspected)
        num_settled = max(0, len(images) - num_left)
        for done, row in enumerate(_made(plan, inspector, pictures), start=1):
            rows.add(row)
            progress(num_settled + done, num_settled + num_left)
    rate = len(plan.inspected) / max(time.monotonic() - started, 1e-9)
    return _summary([rows.known[str(path)] for path in images], plan, rate)


def _plan(plan: _Plan, before: Mapping[str, Row], images: Sequence[Path], out: Path, inspector: Inspector) -> _Plan:
    """The plan, filled with what each row and each image takes."""
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
            plan.settle(out, row)
    for other in before.keys() - set(map(str, images)):
        plan.settle(out, before[other], is_given=False)
    plan.known = {path: plan.known[path] for path in before if path in plan.known}
    return plan


def _digest(path: Path, max_pixels: int) -> str | None:
    """The SHA-256 of an image file; None where it cannot be read."""
    try:
        return hashlib.sha256(read_content(path, max_pixels)).hexdigest()
    except BlemishError:
        return None


def _made(plan: _Plan, inspector: Inspector, pictures: OutputFiles) -> Iterable[Row]:
    """The rows that are made in this run: by stored maps, where these can be used, and by inspecting."""

    def again(path: Path) -> Row | None:
        before, fields = plan.known[str(path)], plan.pictures[str(path)]
        found = _from_map(before, pictures.out, inspector, bool(OF_IMAGE & fields))
        if found is None:
            return None
        decision = inspector.decide(found)
        row = to_row(found, decision, plan.calibration)
        row |= {name: before[name] for name in (*FOLDERS, "map_format") if name in before}
        return row | pictures.write(found, decision, fields, before)

    for path, row in zip(plan.by_map, map_ahead(again, plan.by_map, inspector.workers), strict=True):
        if row is None:
            plan.pictures[str(path)] |= {"map"}
            plan.inspect(path, NO_MAP)
            continue
        was_open = plan.known[str(path)]["regions"] is None and plan.calibration is not None
        plan.from_stored[BY_MAP if was_open else DRAWN] += 1
        yield row
    yield from _inspected(plan, inspector, pictures)


def _from_map(row: Row, out: Path, inspector: Inspector, with_image: bool) -> Prediction | None:
    """The prediction that a row and its map tell; None where they do not, or the image is another one by now."""
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


def _inspected(plan: _Plan, inspector: Inspector, pictures: OutputFiles) -> Iterable[Row]:
    """The rows of the images that are to be inspected, their maps and overlays written."""
    fields = {path: plan.pictures.get(str(path), plan.asked) for path in plan.inspected}
    before = dict(plan.known)

    def finish(found: Prediction | Unreadable) -> Row:
        if isinstance(found, Unreadable):
            return to_row(found, None, None)
        decision = inspector.decide(found)
        row = to_row(found, decision, plan.calibration)
        path = found.sample.image
        return row | pictures.write(found, decision, fields[path], before.get(str(path), {}))

    with_images = any(OF_IMAGE & wanted for wanted in fields.values())
    return map_ahead(finish, inspector.inspect(plan.inspected, with_images=with_images), WRITERS, WRITERS)


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
