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

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from blemish.calibration.thresholds import Calibration, find_regions
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import Measured
from blemish.evaluation.results import EVALUATION
from blemish.files import check_file, write_arrays, write_json
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.pixels import fitted, thumbnail
from blemish.imaging.read import read_image, read_mask
from blemish.metrics import OperatingPoints, Resamples
from blemish.types import Prediction, Size

RECORD, VERSION = "record.safetensors", 1
PICTURE_SIDE, MAP_SIDE = 320, 160
"""The longer side in pixels, at most, of what is kept for display."""
QUALITY = 92
"""Of the pictures, as JPEG has it: ten times as fast to write as WebP."""
OUTLINE_UNITS = 4096
"""An outline's coordinates are whole numbers, this many to the picture's longer side."""
MOST_REGIONS = 12
"""Regions that are kept of an image; more are only counted."""
MOST_POLYGONS = 500
"""Edges that are drawn of a mask, the longest: a mask of countless specks must not make a record that is too large."""
Outline = list[list[int]]
"""One polygon per edge of the mask: x0, y0, x1, y1, ..."""
Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a report shows of one test image."""

    path: str
    """As in the evaluation's row."""
    size: Size
    """(height, width) of the file."""
    picture: bytes
    """A JPEG file."""
    map: NDArray[np.float32]
    """(h, w): the map at display size."""
    outline: Outline = field(default_factory=list)
    """Of the mask, holes included, by `outline_of`; empty where there is none."""
    mask_area: float | None = None
    """The anomalous part of the file's pixels, where it has a mask."""
    at_maximum: float = 0.0
    """The part of the file's pixels at which the map has its highest value."""
    reconstruction: bytes | None = None
    """A JPEG file, where the detector rebuilds images."""
    regions: Sequence[dict[str, Any]] = ()
    """Of the whole map, by the record's `regions_by`, as plain data, the highest peak first; MOST_REGIONS at most."""
    num_regions: int = 0
    """All of them."""


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


PLAIN = ("path", "size", "outline", "mask_area", "at_maximum", "regions", "num_regions")
"""The fields of a preview that stand in the header."""


def preview(prediction: Prediction, path: str, calibration: Calibration | None = None) -> Preview:
    """The preview of a prediction, whose image file is read anew; with its regions where there is a calibration."""
    sample, values = prediction.sample, prediction.map
    found = find_regions(values, calibration.pixel_threshold, calibration.min_area) if calibration else ()
    limit = max(MAX_PIXELS, values.size)  # an image that was taken once is taken again
    mask = read_mask(sample.mask, limit) if sample.mask else None
    side = fitted(values.shape, MAP_SIDE)[::-1]
    small = cv2.resize(np.asarray(values, np.float32), side, interpolation=cv2.INTER_AREA)
    return Preview(
        path,
        (values.shape[0], values.shape[1]),
        to_jpeg(thumbnail(read_image(sample.image, limit), PICTURE_SIDE)),
        np.asarray(small, np.float32),
        [] if mask is None else outline_of(mask),
        None if mask is None else float(mask.mean()),
        float((values == values.max()).mean()),
        regions=[asdict(region) for region in found[:MOST_REGIONS]],
        num_regions=len(found),
    )


def previewed(
    predictions: Iterable[Prediction], root: Path, previews: list[Preview], calibration: Calibration | None = None
) -> Iterator[Prediction]:
    """The predictions as they come, what a report shows of each put aside."""
    for prediction in predictions:
        previews.append(preview(prediction, prediction.sample.image.relative_to(root).as_posix(), calibration))
        yield prediction


def to_jpeg(picture: Picture) -> bytes:
    """The picture as a JPEG file."""
    return cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def decoded(content: bytes) -> Picture:
    """The picture in a file of any kind."""
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def outline_of(mask: NDArray[np.bool_]) -> Outline:
    """The edges of the regions of a mask (H, W), as polygons that deviate by half a pixel of the display at most.

    MOST_POLYGONS of them at most, the longest first where there are more.
    """
    side = max(mask.shape)
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if len(contours) > MOST_POLYGONS:
        contours = sorted(contours, key=len, reverse=True)[:MOST_POLYGONS]
    polygons = [cv2.approxPolyDP(contour, side / PICTURE_SIDE / 2, closed=True) for contour in contours]
    # A contour runs through the centres of pixels, which lie half a pixel from the picture's edge.
    scaled = [np.round((polygon.reshape(-1) + 0.5) * (OUTLINE_UNITS / side)).astype(int) for polygon in polygons]
    return [polygon.tolist() for polygon in scaled]


def write_measured(measured: Measured, previews: Sequence[Preview], facts: dict[str, Any], folder: Path) -> None:
    """Writes what a report of one category is made from: the record, and last evaluation.json."""
    decided = measured.evaluation.calibration
    regions_by = (decided["pixel_threshold"], decided["min_area"]) if decided else None
    write_record(folder, Record(previews, measured.resamples, measured.points, facts, regions_by))
    write_json(folder / EVALUATION, asdict(measured.evaluation))


def write_record(folder: Path, record: Record) -> None:
    """Writes the record of one category into its folder, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    for row, shown in enumerate(record.previews):
        arrays[f"picture.{row}"] = np.frombuffer(shown.picture, np.uint8)
        arrays[f"map.{row}"] = shown.map
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
