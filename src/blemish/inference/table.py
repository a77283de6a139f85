"""Inspecting files: which they are, and a row for each, written as it is known, so that a stopped run can go on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import Calibration, to_plain
from blemish.errors import BlemishError
from blemish.files import absolute, make_folder, replacing, write_json, writing
from blemish.imaging.read import read_image
from blemish.inference.inspector import Inspector
from blemish.model.folder import DOCUMENT
from blemish.progress import Progress, no_progress
from blemish.types import Decision, Prediction, Region, Unreadable

ROWS, TABLE, SETTINGS = "predictions.jsonl", "predictions.csv", "predictions.json"
MAPS, OVERLAYS = "maps", "overlays"
"""Folders of the pictures that are written."""
COLUMNS = ("path", "score", "decision", "p_value", "regions", "x", "y", "width", "height", "area", "peak", "error")
"""Of the table; the place is that of the region with the highest peak."""
DIFFERENCES = {
    "identity": "the model or the backend",
    "root": "the folder that the pictures have in common",
}
"""Setting -> what it is to a user, where its name does not say."""
Row = dict[str, Any]
_TABLE: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""How the table is opened: names of files need not be UTF-8."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the images, those of an earlier run included."""

    num_images: int
    num_defects: int
    num_unreadable: int
    rate: float
    """Images per second of this run."""
    first_error: str = ""
    """Of the first image that could not be read."""


def written_to(out: Path) -> list[Path]:
    """The folders in which `predict` leaves pictures, which are not to be inspected."""
    return [absolute(out / name) for name in (MAPS, OVERLAYS)]


def predict(
    inspector: Inspector,
    images: Sequence[Path],
    out: Path,
    *,
    identity: dict[str, Any] | None = None,
    maps: bool = False,
    overlays: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Inspects the images and writes `predictions.jsonl` and `predictions.csv` into `out`, row by row.

    A row is written after the map and the overlay of its image, and an image that has its row is not inspected again:
    the same call after a stop, however hard, goes on. Files that could not be used are tried again. Raises BlemishError
    where `out` holds a fitted detector, or rows of another model (`identity`), calibration or choice of files to write.
    """
    if (out / DOCUMENT).exists():
        raise BlemishError(f"out {out}: holds a fitted detector. Choose another folder.")
    root = Path(os.path.commonpath([absolute(path).parent for path in images]))
    settings = {
        "identity": identity or {},
        "calibration": _digest(inspector.calibration),
        "root": str(root),
        "maps": maps,
        "overlays": overlays,
    }
    with _rows(out, settings) as rows:
        names = _names(images, root, {name for row in rows.known.values() for name in _written(row)})
        wanted = {str(path) for path in images}
        left = [path for path in images if str(path) not in rows.known]
        started, before = time.monotonic(), len(images) - len(left)
        for done, found in enumerate(inspector.inspect(left), start=1):
            decision = inspector.decide(found) if isinstance(found, Prediction) else None
            row = to_row(found, decision)
            if isinstance(found, Prediction):
                name = names[found.sample.image]
                if maps:
                    row["map"] = write_image(out / MAPS / f"{name}.tiff", found.map, out)
                if overlays:
                    picture = overlay(found, decision, inspector.calibration)
                    row["overlay"] = write_image(out / OVERLAYS / f"{name}.png", picture[:, :, ::-1], out)
            rows.add(row)
            rate = done / max(time.monotonic() - started, 1e-9)
            progress(before + done, len(images), **{"images/s": rate})
        return _summary([row for path, row in rows.known.items() if path in wanted], len(left), started)


def to_row(found: Prediction | Unreadable, decision: Decision | None) -> Row:
    """One image as plain data: what stands in a line of predictions.jsonl."""
    path = str(found.sample.image)
    if isinstance(found, Unreadable):
        return {"path": path, "error": found.error}
    row: Row = {"path": path, "score": found.score, "decision": None, "p_value": None, "regions": []}
    if decision is not None:
        row["decision"] = "defect" if decision.is_defect else "good"
        row |= {"p_value": decision.p_value, "regions": [asdict(region) for region in decision.regions]}
    return row


class _Rows:
    """The rows that are known, and the two files that each new one is appended to."""

    def __init__(self, known: dict[str, Row], lines: TextIO, table: TextIO):
        self.known, self._lines, self._table = known, lines, table
        self._writer = csv.writer(table, lineterminator="\n")

    def add(self, row: Row) -> None:
        self.known[row["path"]] = row
        self._writer.writerow(_cells(row))
        self._table.flush()
        self._lines.write(json.dumps(row, allow_nan=False) + "\n")
        self._lines.flush()


@contextmanager
def _rows(out: Path, settings: dict[str, Any]) -> Iterator[_Rows]:
    """The rows of an earlier run with the same settings, whole ones only, and where new ones go."""
    make_folder(out)
    known = _known(out, settings)
    write_json(out / SETTINGS, settings)
    with replacing(out / ROWS) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in known.values()), encoding="utf-8")
    with replacing(out / TABLE) as temporary, temporary.open("w", **_TABLE) as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *map(_cells, known.values())])
    with (
        writing(out / ROWS),  # what is still to be written is written when they are closed
        (out / ROWS).open("a", encoding="utf-8") as lines,
        (out / TABLE).open("a", **_TABLE) as table,
    ):
        yield _Rows(known, lines, table)


def _known(out: Path, settings: dict[str, Any]) -> dict[str, Row]:
    """Path -> row of the images that an earlier run could use."""
    if not (out / ROWS).exists():
        return {}
    rows: dict[str, Row] = {}
    for line in (out / ROWS).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            rows |= {row["path"]: row} if "score" in row else {}
        except (ValueError, KeyError, TypeError):
            break  # the line that was being written when the run was killed
    if rows and (differing := _difference(out / SETTINGS, settings)):
        what = DIFFERENCES.get(differing, differing)
        raise BlemishError(f"{out}: holds predictions that differ in {what}. Choose another --out, or remove it.")
    return rows


def _difference(path: Path, settings: dict[str, Any]) -> str | None:
    """The first setting that is another one in the file; the file's name where it cannot be read."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        return next((name for name in settings if before.get(name) != settings[name]), None)
    except (OSError, ValueError, AttributeError):
        return path.name


def _cells(row: Row) -> list[Any]:
    if "error" in row:
        return [row["path"], *[""] * (len(COLUMNS) - 2), row["error"]]
    regions = row["regions"]
    place = [*regions[0]["box"], regions[0]["area"], regions[0]["peak"]] if regions else [""] * 6
    number = "" if row["decision"] is None else len(regions)
    return [row["path"], row["score"], row["decision"] or "", _or_empty(row["p_value"]), number, *place, ""]


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value


def _names(images: Sequence[Path], root: Path, taken: Collection[str]) -> dict[Path, str]:
    """Image -> name of its map below `out/maps`, without extension: its path below `root`.

    Its own extension stays where another image has the same stem, or the name is taken by one of an earlier run.
    """
    inner = {path: absolute(path).relative_to(root) for path in images}
    stems = Counter(str(own.with_suffix("")) for own in inner.values())
    others = {*map(str, inner.values()), *taken}
    names = {}
    for path, own in inner.items():
        stem = str(own.with_suffix(""))
        name = stem if stems[stem] == 1 and stem not in others else str(own)
        while name in taken:
            name += "_"
        names[path] = name
    return names


def _written(row: Row) -> Iterator[str]:
    """The names of the map and the overlay of a row."""
    for kind, folder in (("map", MAPS), ("overlay", OVERLAYS)):
        if kind in row:
            yield str(Path(row[kind]).relative_to(folder).with_suffix(""))


def _digest(calibration: Calibration | None) -> str | None:
    """A name for what decides."""
    if calibration is None:
        return None
    return hashlib.sha256(json.dumps(to_plain(calibration), sort_keys=True).encode()).hexdigest()[:16]


def _summary(rows: Sequence[Row], number: int, started: float) -> Summary:
    num_defects = sum(row.get("decision") == "defect" for row in rows)
    rate = number / max(time.monotonic() - started, 1e-9)
    errors = [str(row["error"]) for row in rows if "error" in row]
    return Summary(len(rows), num_defects, len(errors), rate, next(iter(errors), ""))


def write_image(path: Path, pixels: NDArray[Any], out: Path) -> str:
    """Writes float TIFF or PNG (by the name; colours in OpenCV's order) and gives its path below `out`."""
    _, encoded = cv2.imencode(path.suffix, pixels)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.part")  # what a killed run leaves is overwritten by the next
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(encoded.data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path.relative_to(out).as_posix()


def overlay(prediction: Prediction, decision: Decision | None, calibration: Calibration | None) -> NDArray[np.uint8]:
    """(H, W, 3): the grey picture with the map in colour over it, and a frame around each defect region.

    With a calibration all pictures share a scale: colour begins where a tenth of the good area lies above, and is half
    way at the pixel threshold. Without one the scale is the picture's own.
    """
    image = read_image(prediction.sample.image)
    scale = 1.0 if image.dtype == np.float32 else 1 / np.iinfo(image.dtype).max
    grey = (image if image.ndim == 2 else image.mean(axis=2)).astype(np.float32) * np.float32(scale)
    low, high = _heat_range(prediction.map, calibration)
    heat = np.clip((prediction.map - low) / max(high - low, 1e-12), 0, 1)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    opacity = np.clip(1.6 * heat, 0, 0.8)[:, :, None]
    picture: NDArray[np.uint8] = (grey[:, :, None] * 255 * (1 - opacity) + colours * opacity).astype(np.uint8)
    for region in decision.regions if decision else ():
        _frame(picture, region)
    return picture


def _heat_range(anomaly_map: NDArray[np.float32], calibration: Calibration | None) -> tuple[float, float]:
    if calibration is None or not calibration.pixel_levels:
        return float(np.median(anomaly_map)), float(anomaly_map.max())
    low = min(calibration.pixel_levels[0], calibration.pixel_threshold)
    return low, low + 2 * (calibration.pixel_threshold - low)


def _frame(picture: NDArray[np.uint8], region: Region) -> None:
    x, y, width, height = region.box
    thickness = max(1, round(max(picture.shape) / 400))
    corners = (x - thickness, y - thickness), (x + width - 1 + thickness, y + height - 1 + thickness)
    cv2.rectangle(picture, *corners, (0, 255, 255), thickness)
