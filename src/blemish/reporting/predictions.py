"""What `blemish predict` left in a folder, as a report takes it up: a run on images that nobody labelled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import blemish
from blemish.calibration.thresholds import from_plain, to_plain
from blemish.errors import BlemishError
from blemish.evaluation.record import Record
from blemish.files import absolute
from blemish.imaging.thumbnails import to_jpeg
from blemish.inference.previews import INSPECTED_BY, MOST_REGIONS, Preview, picture_of, read_preview
from blemish.inference.rows import ROWS, Row, named_file, stored
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress, told
from blemish.reporting.decisions import part_summary
from blemish.reporting.pictures import Album
from blemish.reporting.read import Part, Run, labelled, refuse_twice
from blemish.types import Evaluation

IMAGES = "images"
"""The one category of a page of predictions."""
MOST_UNREADABLE = 200
"""Files that could not be used which a page lists; the table has all of them."""
Plain = dict[str, Any]


def holds_predictions(folder: Path) -> bool:
    """Whether `blemish predict` wrote to the folder."""
    return (folder / ROWS).is_file()


def read_predictions(folders: Sequence[Path], progress: Progress = no_progress) -> list[Run]:
    """The predictions in these folders, each a run of one part without labels.

    The facts of its record are what it was inspected by, and the rows without a score (`unreadable`). Raises
    BlemishError where a folder holds none, or they are damaged.
    """
    refuse_twice(folders)
    return labelled([_read_folder(folder, progress) for folder in folders])


def _read_folder(folder: Path, progress: Progress) -> Run:
    if not holds_predictions(folder):
        raise BlemishError(
            f"{folder}: holds no predictions, another folder does. "
            "Report on what 'blemish predict' left apart from what 'blemish train' left."
        )
    known, by = stored(folder), _read_inspected_by(folder)
    scored, facts = list(known.values()), by | {"unreadable": _unreadable(folder, known)}
    previews = list(
        told(map_ahead(lambda row: _preview(folder, row, by["calibration"]), scored), len(scored), progress)
    )
    images = [{"path": row["path"], "defect": IMAGES, "label": None, "score": row["score"]} for row in scored]
    evaluation = Evaluation(by["method"], IMAGES, {}, images=images, calibration=by["calibration"])
    # Whose regions count stands in the previews: those that the current calibration did not find are left out of them.
    level = (by["calibration"]["pixel_threshold"], 0) if by["calibration"] else None
    part = Part(evaluation, Record(previews, facts=facts, regions_by=level), folder)
    return Run(by["method"], folder, (part,))


def _unreadable(folder: Path, scored: Mapping[str, Row]) -> list[Row]:
    """The rows of files that could not be used: path and error."""
    rows: dict[str, Row] = {}
    for line in (folder / ROWS).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if "score" not in row and row["path"] not in scored:
                rows[row["path"]] = {"path": str(row["path"]), "error": str(row["error"])}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # such as the line that is being written
    return list(rows.values())


def _read_inspected_by(folder: Path) -> Plain:
    path = folder / INSPECTED_BY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        calibration = content["calibration"]
        return {
            **{name: str(content.get(name, "")) for name in ("model", "method", "backend")},
            "calibration": json.loads(json.dumps(to_plain(from_plain(calibration)))) if calibration else None,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BlemishError(f"{path}: missing or damaged. Run the same 'blemish predict' again: it goes on.") from None


def _preview(folder: Path, row: Row, calibration: Plain | None) -> Preview:
    """What is shown of a row: what was kept, or else the file as it is, where it is what was inspected."""
    file = named_file(folder, row, "preview")
    kept = read_preview(file) if file else None
    if kept is None:
        size = row["size"][0], row["size"][1]
        picture = picture_of(Path(row["path"]), size, row["sha256"])
        content = b"" if picture is None else to_jpeg(picture)
        return _with_regions(Preview(row["path"], size, content, None), row, calibration)
    if calibration and kept.pixel_threshold == calibration["pixel_threshold"]:
        return replace(kept.preview, path=row["path"])
    return _with_regions(replace(kept.preview, path=row["path"]), row, calibration)


def _with_regions(shown: Preview, row: Row, calibration: Plain | None) -> Preview:
    """The preview with the regions of the row, which are known where the score is above the threshold."""
    found = row["regions"] if calibration and row["score"] > calibration["threshold"] else None
    if found is None:
        return replace(shown, regions=None, num_regions=0, largest_region=None)
    largest = max((region["area"] for region in found), default=0)
    return replace(shown, regions=found[:MOST_REGIONS], num_regions=len(found), largest_region=largest)


def summarize_predictions(runs: Sequence[Run], album: Album) -> Plain:
    """Everything that a page of predictions shows: lists, dicts, numbers and strings, ready for JSON."""
    return {
        "blemish": blemish.__version__,
        "labelled": False,
        "methods": [run.label for run in runs],
        "categories": [IMAGES],
        "metrics": [],
        "parts": [_part(run, album) for run in runs],
        "pictures": album.addresses,
    }


def _part(run: Run, album: Album) -> Plain:
    """The summary of a folder's images; paths are as they are below the folder that they have in common."""
    (part,) = run.parts
    facts, summary = part.record.facts, part_summary(part, album)
    unreadable = facts["unreadable"]
    paths = [row["path"] for row in [*part.evaluation.images, *unreadable]]
    root = os.path.commonpath([absolute(Path(path)).parent for path in paths]) if paths else ""
    for image in summary["images"]:
        image["path"] = _printable(os.path.relpath(absolute(Path(image["path"])), root))
    errors = [{"path": _printable(row["path"]), "error": _printable(str(row["error"]))} for row in unreadable]
    return summary | {
        "folder": _printable(str(run.folder)),
        "root": _printable(root),
        "inspected_by": {name: facts[name] for name in ("model", "method", "backend")},
        "unreadable": errors[:MOST_UNREADABLE],
        "num_unreadable": len(errors),
        "num_previews": sum(shown.map is not None for shown in part.record.previews),
    }


def _printable(name: str) -> str:
    """The name without what no page can hold: names of files need not be UTF-8."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", name)
