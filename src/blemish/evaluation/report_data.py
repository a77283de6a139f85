"""The data that a report needs, stored by a run, so that a report needs neither the data set nor the detector.

It is one safetensors file per category. It contains the preview of each test image, the bootstrap resamples of each
metric, and plain data about the run in its header.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from blemish.calibration.thresholds import Calibration
from blemish.data.kept import NOTHING_KEPT, KeptImages
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import EvaluationDetails
from blemish.evaluation.results import EVALUATION
from blemish.files import check_file, discard, write_arrays, write_json
from blemish.imaging.thumbnails import Thumbnail, to_jpeg
from blemish.inference.previews import HEADER_FIELDS, Preview, make_preview
from blemish.metrics import OperatingPoints, Resamples
from blemish.types import Prediction

REPORT_DATA, VERSION = "record.safetensors", 1
PREVIEWS = ("picture.", "map.", "reconstruction.")
"""What the names of the arrays of previews begin with."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """The report data of one run on one category."""

    previews: Sequence[Preview] = ()
    """One per test image."""
    resamples: dict[str, Resamples] = field(default_factory=dict)
    """Metric name -> its values on the resamples."""
    points: OperatingPoints | None = None
    """Rates of the pixels at descending thresholds."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain data: the configuration, versions, machine, and problems of the data set."""
    regions_by: tuple[float, int] | None = None
    """The pixel threshold and the minimum area of the previews' regions; None without a calibration."""


def collect_previews(
    predictions: Iterable[Prediction],
    root: Path,
    previews: list[Preview],
    calibration: Calibration | None = None,
    kept: KeptImages = NOTHING_KEPT,
) -> Iterator[Prediction]:
    """Yields the predictions unchanged, and appends the preview of each to `previews`."""
    level = calibration.pixel_threshold if calibration else None
    for prediction in predictions:
        previews.append(make_preview(prediction, prediction.sample.image.relative_to(root).as_posix(), level, kept))
        yield prediction


def write_evaluation(
    measured: EvaluationDetails, previews: Sequence[Preview], facts: dict[str, Any], folder: Path
) -> None:
    """Writes the report data of one category, and then its evaluation.json."""
    decided = measured.evaluation.calibration
    regions_by = (decided["pixel_threshold"], 0) if decided else None
    write_report_data(folder, ReportData(previews, measured.resamples, measured.points, facts, regions_by))
    write_json(folder / EVALUATION, asdict(measured.evaluation))


def discard_evaluation(folder: Path) -> None:
    """Removes what `write_evaluation` wrote, which is wrong for another model in the folder."""
    for name in (EVALUATION, REPORT_DATA):
        discard(folder / name)


def write_report_data(folder: Path, data: ReportData) -> None:
    """Writes the report data of one category to its folder, atomically."""
    arrays: dict[str, NDArray[Any]] = {}
    for row, shown in enumerate(data.previews):
        arrays[f"picture.{row}"] = np.frombuffer(shown.picture, np.uint8)
        arrays[f"map.{row}"] = np.asarray(shown.map)
        if shown.reconstruction:
            arrays[f"reconstruction.{row}"] = np.frombuffer(shown.reconstruction, np.uint8)
    arrays |= {f"resamples.{name}": found.values for name, found in data.resamples.items()}
    points = asdict(data.points) if data.points else {}
    arrays |= {f"points.{name}": values for name, values in points.items()}
    header = {
        "version": VERSION,
        "images": [{name: getattr(shown, name) for name in HEADER_FIELDS} for shown in data.previews],
        "resamples": {name: [found.value, found.grid_error] for name, found in data.resamples.items()},
        "facts": data.facts,
        "regions_by": data.regions_by,
    }
    write_arrays(folder / REPORT_DATA, arrays, {"record": json.dumps(header, allow_nan=False)})


def read_report_data(folder: Path, *, with_previews: bool = True) -> ReportData | None:
    """The report data in a category's folder; None if there is none.

    Without previews it takes little memory, however many images there are. Raises BlemishError if it is damaged, or
    written by another version.
    """
    path = folder / REPORT_DATA
    if not path.exists():
        return None
    check_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["record"])
            if not with_previews:
                header["images"] = []
            names = [name for name in file.keys() if with_previews or not name.startswith(PREVIEWS)]  # noqa: SIM118
            arrays = {name: file.get_tensor(name) for name in names}
        if header["version"] != VERSION:
            raise BlemishError(f"{path}: version {header['version']}, this blemish reads {VERSION}. Run it again.")
        return _from_arrays(header, arrays)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BlemishError(f"{path}: damaged ({error!r}). Run it again, or copy it anew.") from None


def _from_arrays(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ReportData:
    previews = [
        Preview(
            **row | {"size": tuple(row["size"])},
            picture=arrays[f"picture.{index}"].tobytes(),
            map=arrays[f"map.{index}"],
            reconstruction=arrays[name].tobytes() if (name := f"reconstruction.{index}") in arrays else None,
        )
        for index, row in enumerate(header["images"])
    ]
    resamples = {
        name: Resamples(value, arrays[f"resamples.{name}"], error)
        for name, (value, error) in header["resamples"].items()
    }
    points = {name.removeprefix("points."): values for name, values in arrays.items() if name.startswith("points.")}
    found, by = OperatingPoints(**points) if points else None, header.get("regions_by")
    return ReportData(previews, resamples, found, header["facts"], tuple(by) if by else None)


def with_reconstructions(previews: Sequence[Preview], images: Sequence[Thumbnail]) -> list[Preview]:
    """Copies of the previews with the detector's reconstructions, one per preview."""
    return [replace(shown, reconstruction=to_jpeg(image)) for shown, image in zip(previews, images, strict=True)]
