"""Reading the results of `blemish predict` for a report: a run on images without labels."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import blemish
from blemish.calibration.thresholds import from_dict, to_dict
from blemish.errors import BlemishError
from blemish.evaluation.report_data import ReportData
from blemish.files import absolute
from blemish.imaging.thumbnails import to_jpeg
from blemish.inference.previews import INSPECTED_BY, MOST_REGIONS, Preview, read_preview, read_thumbnail
from blemish.inference.rows import ROWS, Row, read_rows, row_file
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress, with_progress
from blemish.reporting.decisions import part_summary
from blemish.reporting.page_images import PageImages
from blemish.reporting.read_runs import Part, Run, labelled, refuse_twice
from blemish.types import Evaluation

CATEGORY = "images"
"""The name of the only category of a page of predictions."""
MOST_UNREADABLE = 200
"""The most unreadable files that a page lists; predictions.csv contains all."""
JsonDict = dict[str, Any]


def holds_predictions(folder: Path) -> bool:
    """Whether the folder contains predictions."""
    return (folder / ROWS).is_file()


def read_predictions(folders: Sequence[Path], progress: Progress = no_progress) -> list[Run]:
    """The predictions in these folders, each as a run of one part without labels.

    The facts in its report data are the model, method, backend and calibration, and the rows of unreadable files.
    Raises BlemishError if a folder contains no predictions, or they are damaged.
    """
    refuse_twice(folders)
    return labelled([_read_folder(folder, progress) for folder in folders])


def _read_folder(folder: Path, progress: Progress) -> Run:
    if not holds_predictions(folder):
        raise BlemishError(
            f"{folder}: holds no predictions, another folder does. "
            "Make separate reports on the folders of 'blemish predict' and 'blemish train'."
        )
    known, by = read_rows(folder), _read_inspected_by(folder)
    scored, facts = list(known.values()), by | {"unreadable": _unreadable(folder, known)}
    previews = list(
        with_progress(map_ahead(lambda row: _preview(folder, row, by["calibration"]), scored), len(scored), progress)
    )
    images = [{"path": row["path"], "defect": CATEGORY, "label": None, "score": row["score"]} for row in scored]
    evaluation = Evaluation(by["method"], CATEGORY, {}, images=images, calibration=by["calibration"])
    # Regions of another calibration have been removed from the previews, so they all have the present threshold.
    level = (by["calibration"]["pixel_threshold"], 0) if by["calibration"] else None
    part = Part(evaluation, ReportData(previews, facts=facts, regions_by=level), folder)
    return Run(by["method"], folder, (part,))


def _unreadable(folder: Path, scored: Mapping[str, Row]) -> list[Row]:
    """The rows of unreadable files, with path and error."""
    rows: dict[str, Row] = {}
    for line in (folder / ROWS).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if "score" not in row and row["path"] not in scored:
                rows[row["path"]] = {"path": str(row["path"]), "error": str(row["error"])}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # such as an incomplete last line
    return list(rows.values())


def _read_inspected_by(folder: Path) -> JsonDict:
    path = folder / INSPECTED_BY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        calibration = content["calibration"]
        return {
            **{name: str(content.get(name, "")) for name in ("model", "method", "backend")},
            "calibration": json.loads(json.dumps(to_dict(from_dict(calibration)))) if calibration else None,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BlemishError(f"{path}: missing or damaged. Repeat the same 'blemish predict': it continues.") from None


def _preview(folder: Path, row: Row, calibration: JsonDict | None) -> Preview:
    """The preview of a row: the stored one, or one made from the image file if it is unchanged."""
    file = row_file(folder, row, "preview")
    kept = read_preview(file) if file else None
    if kept is None:
        size = row["size"][0], row["size"][1]
        image = read_thumbnail(Path(row["path"]), size, row["sha256"])
        content = b"" if image is None else to_jpeg(image)
        return _with_regions(Preview(row["path"], size, content, None), row, calibration)
    if calibration and kept.pixel_threshold == calibration["pixel_threshold"]:
        return replace(kept.preview, path=row["path"])
    return _with_regions(replace(kept.preview, path=row["path"]), row, calibration)


def _with_regions(shown: Preview, row: Row, calibration: JsonDict | None) -> Preview:
    """A copy of the preview with the regions of the row, which are known if the score exceeds the threshold."""
    found = row["regions"] if calibration and row["score"] > calibration["threshold"] else None
    if found is None:
        return replace(shown, regions=None, num_regions=0, largest_region=None)
    largest = max((region["area"] for region in found), default=0)
    return replace(shown, regions=found[:MOST_REGIONS], num_regions=len(found), largest_region=largest)


def summarize_predictions(runs: Sequence[Run], page_images: PageImages) -> JsonDict:
    """All data of a page of predictions, ready for JSON."""
    return {
        "blemish": blemish.__version__,
        "labelled": False,
        "methods": [run.label for run in runs],
        "categories": [CATEGORY],
        "metrics": [],
        "parts": [_part(run, page_images) for run in runs],
        "pictures": page_images.addresses,
    }


def _part(run: Run, page_images: PageImages) -> JsonDict:
    """The summary of a folder's images; their paths become relative to the common parent folder."""
    (part,) = run.parts
    facts, summary = part.report_data.facts, part_summary(part, page_images)
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
        "num_previews": sum(shown.map is not None for shown in part.report_data.previews),
    }


def _printable(name: str) -> str:
    """The name with lone surrogates replaced; file names need not be valid UTF-8."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", name)
