"""The rows of predictions.jsonl and predictions.csv, one per image.

A row is written as soon as it is known. It contains the SHA-256 of the image file and the thresholds of its decision,
so that a later run can tell whether it is up to date.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from blemish.calibration.thresholds import Calibration, p_value
from blemish.errors import BlemishError
from blemish.files import csv_cells, discard, make_folder, replacing, write_json, writing
from blemish.model.folder import sha256_of
from blemish.types import Decision, Prediction, Unreadable

ROWS, TABLE, SETTINGS = "predictions.jsonl", "predictions.csv", "predictions.json"
PAGE = "report.html"
"""The page that `predict` writes; SETTINGS then has its SHA-256, by which it is known from a page of the user's."""
FOLDERS = {"map": "maps", "overlay": "overlays", "preview": "previews"}
"""Field of a row that names a file -> the folder of these files."""
SHOWS_DECISION = frozenset({"overlay"})
"""The fields whose files show the decision, and are outdated by another one."""
NEEDS_IMAGE = SHOWS_DECISION | {"preview"}
"""The fields whose files need the pixels of the image."""
COLUMNS = (
    *("path", "score", "decision", "p_value", "threshold"),
    *("regions", "x", "y", "width", "height", "area", "peak", "error"),
)
"""The columns of the CSV file; x to peak are those of the region with the highest peak."""
DECIDED_BY = ("threshold", "pixel_threshold", "min_area")
"""The fields of a calibration that a row contains; None without calibration."""
Row = dict[str, Any]
_TABLE: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""Options to open the CSV file; file names need not be valid UTF-8."""
_CSV: dict[str, Any] = {"lineterminator": "\n", "quoting": csv.QUOTE_NONNUMERIC}
"""Strings are quoted, for spreadsheets with another separator."""


def to_row(found: Prediction | Unreadable, decision: Decision | None, calibration: Calibration | None) -> Row:
    """The row of one image, as in predictions.jsonl; the row of an `Unreadable` has only path and error."""
    path = str(found.sample.image)
    if isinstance(found, Unreadable):
        return {"path": path, "error": found.error}
    row: Row = {"path": path, "sha256": found.sha256, "size": list(found.map.shape), "score": found.score}
    row |= _undecided(calibration)
    if decision is not None:
        row |= {"decision": "defect" if decision.is_defect else "good", "p_value": decision.p_value}
        row["regions"] = [asdict(region) for region in decision.regions]
    return row


def _undecided(calibration: Calibration | None) -> Row:
    by = {name: None if calibration is None else getattr(calibration, name) for name in DECIDED_BY}
    return {"decision": None, "p_value": None, **by, "regions": None}


def redecide(row: Row, calibration: Calibration | None) -> Row:
    """A copy of a stored row, decided with another calibration from its score and regions alone.

    `regions` is None if they can only be found in the map; `decision` is None too if it depends on them.
    """
    if "score" not in row:
        return row
    again = {name: value for name, value in row.items() if name != "error"} | _undecided(calibration)
    if calibration is None:
        return again
    again["p_value"] = p_value(row["score"], calibration.good_scores)
    if not row["score"] > calibration.threshold:
        return again | {"decision": "good", "regions": []}
    again["regions"] = _known_regions(row, calibration)
    if calibration.min_area and again["regions"] is None:
        return again
    is_defect = calibration.min_area == 0 or bool(again["regions"])
    return again | {"decision": "defect" if is_defect else "good"}


def _known_regions(row: Row, calibration: Calibration) -> list[Any] | None:
    """The regions of the row that count now; None where others may count that it does not name."""
    were_found = row["regions"] is not None and row["threshold"] is not None and row["score"] > row["threshold"]
    if not were_found or row["pixel_threshold"] != calibration.pixel_threshold:
        return None
    if row["min_area"] > calibration.min_area:
        return None
    return [region for region in row["regions"] if region["area"] >= calibration.min_area]


class Rows:
    """The rows of a folder, and the two open files to which new ones are appended."""

    def __init__(self, out: Path, known: dict[str, Row], lines: TextIO, table: TextIO):
        self.known, self._out, self._lines, self._table = known, out, lines, table
        self._is_whole = True

    def add(self, row: Row) -> None:
        """Appends a row; it replaces an earlier row of the same path."""
        self._is_whole &= row["path"] not in self.known
        self.known[row["path"]] = row
        csv.writer(self._table, **_CSV).writerow(_cells(row))
        self._table.flush()
        self._lines.write(_line(row))
        self._lines.flush()

    def close(self) -> None:
        """Rewrites the files if they contain several rows of one path."""
        if not self._is_whole:
            _write(self._out, self.known.values())


@contextmanager
def open_rows(out: Path, known: dict[str, Row], identity: Mapping[str, Any]) -> Iterator[Rows]:
    """A context to append rows to the files of `out`, which are first rewritten with the known rows.

    Maps, overlays and previews that only replaced rows name are removed, and so is the page on the former rows.
    """
    make_folder(out)
    _remove_page(out)
    before = list(read_rows(out).values())
    _write(out, known.values())
    write_json(out / SETTINGS, {"identity": identity})
    _remove_unnamed(out, before, known.values())
    with (
        writing(out / ROWS),  # closing flushes, which can fail
        (out / ROWS).open("a", encoding="utf-8") as lines,
        (out / TABLE).open("a", **_TABLE) as table,
    ):
        rows = Rows(out, known, lines, table)
        yield rows
    rows.close()


def read_rows(out: Path) -> dict[str, Row]:
    """Path -> stored row of each image with a score; damaged lines are skipped."""
    if not (out / ROWS).exists():
        return {}
    rows: dict[str, Row] = {}
    for line in (out / ROWS).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if "score" in row and _is_row(row):
                rows[row["path"]] = row
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            continue  # such as an incomplete last line of a killed run
    return rows


def record_page(out: Path) -> None:
    """Notes in SETTINGS that PAGE was written by this command, so that the next one removes it."""
    write_json(out / SETTINGS, _settings(out) | {PAGE: sha256_of(out / PAGE)})


def _remove_page(out: Path) -> None:
    page, known = out / PAGE, _settings(out).get(PAGE)
    if known and page.is_file() and known == sha256_of(page):
        discard(page)


def _settings(out: Path) -> dict[str, Any]:
    """The content of SETTINGS; empty where it cannot be read."""
    try:
        return dict(json.loads((out / SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def check_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Raises BlemishError unless the rows in `out` were made by this model and backend; see `identity_of`."""
    before = _settings(out).get("identity")
    if before == identity:
        return
    what = f"a model that {SETTINGS} does not name"
    if isinstance(before, dict) and "backend" in before:
        what = "another backend" if before["backend"] != identity.get("backend") else "another model"
    advice = "Choose another --out, or remove them with --fresh"
    raise BlemishError(f"{out}: holds predictions of {what}. {advice}.")


def row_file(out: Path, row: Row, field: str) -> Path | None:
    """The path of the file that a row names in a field of FOLDERS; None without one, or if it is outside its folder."""
    name = row.get(field)
    if not isinstance(name, str):
        return None
    inner = PurePosixPath(name).parts
    return out / name if inner[:1] == (FOLDERS[field],) and len(inner) > 1 and ".." not in inner else None


def _remove_unnamed(out: Path, before: Iterable[Row], rows: Iterable[Row]) -> None:
    """Removes files that the rows `before` name, and `rows` do not."""
    named = {file for row in rows for field in FOLDERS if (file := row_file(out, row, field))}
    for row in before:
        for field in FOLDERS:
            if (file := row_file(out, row, field)) and file not in named:
                with writing(file):
                    file.unlink(missing_ok=True)


def _is_row(row: Row) -> bool:
    """Whether a parsed line is a complete row with a score; it may also raise KeyError, TypeError or ValueError."""
    by = [row[name] for name in DECIDED_BY]
    regions, (height, width) = row["regions"], row["size"]
    numbers = [row["score"], height, width, *(region["area"] for region in regions or ())]
    numbers += [] if by == [None] * len(by) else by
    _cells(row), _line(row)  # raise if a field is missing, or a number is not finite
    is_text = isinstance(row["path"], str) and isinstance(row["sha256"], str)
    return is_text and isinstance(regions, list | None) and all(map(math.isfinite, numbers))


def _write(out: Path, rows: Iterable[Row]) -> None:
    rows = list(rows)
    with replacing(out / ROWS) as temporary:
        temporary.write_text("".join(map(_line, rows)), encoding="utf-8")
    with replacing(out / TABLE) as temporary, temporary.open("w", **_TABLE) as file:
        csv.writer(file, **_CSV).writerows([COLUMNS, *map(_cells, rows)])


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _cells(row: Row) -> list[Any]:
    if "score" not in row:
        return csv_cells([row["path"], *[""] * (len(COLUMNS) - 2), row["error"]])
    regions = row["regions"]
    place = [*regions[0]["box"], regions[0]["area"], regions[0]["peak"]] if regions else [None] * 6
    number = None if regions is None else len(regions)
    decided = row["score"], row["decision"], row["p_value"], row["threshold"]
    return csv_cells([row["path"], *decided, number, *place, row.get("error")])
