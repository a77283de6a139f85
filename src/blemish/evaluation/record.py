"""What a run keeps beside its figures, so that a report needs neither the data set nor the detector.

One safetensors file per category: of each test image a small picture, its map and the outline of its mask; of each
metric the resamples that intervals and comparisons are made of; and plain facts in the header.
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
from blemish.evaluation.evaluate import Measured
from blemish.evaluation.results import EVALUATION
from blemish.files import check_file, write_arrays, write_json
from blemish.imaging.thumbnails import Picture, to_jpeg
from blemish.inference.previews import PLAIN, Preview, preview
from blemish.metrics import OperatingPoints, Resamples
from blemish.types import Prediction

RECORD, VERSION = "record.safetensors", 1


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of one run on one category."""

    previews: Sequence[Preview] = ()
    resamples: dict[str, Resamples] = field(default_factory=dict)
    """Metric -> its resamples."""
    points: OperatingPoints | None = None
    """Of the pixels, at falling thresholds."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain data: the configuration, versions, machine, what was found in the data."""
    regions_by: tuple[float, int] | None = None
    """Pixel threshold and minimum area that the regions were found by; None where there was no calibration."""


def previewed(
    predictions: Iterable[Prediction],
    root: Path,
    previews: list[Preview],
    calibration: Calibration | None = None,
    kept: KeptImages = NOTHING_KEPT,
) -> Iterator[Prediction]:
    """The predictions as they come, what a report shows of each put aside."""
    level = calibration.pixel_threshold if calibration else None
    for prediction in predictions:
        previews.append(preview(prediction, prediction.sample.image.relative_to(root).as_posix(), level, kept))
        yield prediction


def write_measured(measured: Measured, previews: Sequence[Preview], facts: dict[str, Any], folder: Path) -> None:
    """Writes what a report of one category is made from: the record, and last evaluation.json."""
    decided = measured.evaluation.calibration
    regions_by = (decided["pixel_threshold"], 0) if decided else None
    write_record(folder, Record(previews, measured.resamples, measured.points, facts, regions_by))
    write_json(folder / EVALUATION, asdict(measured.evaluation))


def write_record(folder: Path, record: Record) -> None:
    """Writes the record of one category into its folder, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    for row, shown in enumerate(record.previews):
        arrays[f"picture.{row}"] = np.frombuffer(shown.picture, np.uint8)
        arrays[f"map.{row}"] = np.asarray(shown.map)
        if shown.reconstruction:
            arrays[f"reconstruction.{row}"] = np.frombuffer(shown.reconstruction, np.uint8)
    arrays |= {f"resamples.{name}": found.values for name, found in record.resamples.items()}
    points = asdict(record.points) if record.points else {}
    arrays |= {f"points.{name}": values for name, values in points.items()}
    header = {
        "version": VERSION,
        "images": [{name: getattr(shown, name) for name in PLAIN} for shown in record.previews],
        "resamples": {name: [found.value, found.grid_error] for name, found in record.resamples.items()},
        "facts": record.facts,
        "regions_by": record.regions_by,
    }
    write_arrays(folder / RECORD, arrays, {"record": json.dumps(header, allow_nan=False)})


def read_record(folder: Path) -> Record | None:
    """The record in a category's folder; None where there is none.

    Raises BlemishError where it is damaged or was written by another version.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    check_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["record"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if header["version"] != VERSION:
            raise BlemishError(f"{path}: version {header['version']}, this blemish reads {VERSION}. Run it again.")
        return _record(header, arrays)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BlemishError(f"{path}: damaged ({error!r}). Run it again, or copy it anew.") from None


def _record(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Record:
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
    return Record(previews, resamples, found, header["facts"], tuple(by) if by else None)


def with_reconstructions(previews: Sequence[Preview], pictures: Sequence[Picture]) -> list[Preview]:
    """The previews, each with what the detector takes the good version of its image to be."""
    return [replace(shown, reconstruction=to_jpeg(picture)) for shown, picture in zip(previews, pictures, strict=True)]
