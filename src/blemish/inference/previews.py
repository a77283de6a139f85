"""What is kept of an image that was inspected, so that a page can show it when image and detector are gone.

A run keeps the previews of a category in one file (`evaluation.record`); `blemish predict --report` keeps one file per
image, written whole before the image's row is, so that a stopped run goes on.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import Calibration, find_regions, to_plain
from blemish.data.kept import NOTHING_KEPT, KeptImages
from blemish.errors import BlemishError
from blemish.files import write_json
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.pixels import thumbnail
from blemish.imaging.read import decode_image, read_content
from blemish.imaging.thumbnails import PICTURE_SIDE, Picture, small_map, to_jpeg
from blemish.types import Prediction, Size

MAP_SIDE = 160
"""The longer side in pixels, at most, of a map that is kept for display."""
OUTLINE_UNITS = 4096
"""An outline's coordinates are whole numbers, this many to the picture's longer side."""
MOST_REGIONS = 12
"""Regions that are kept of an image; more are only counted."""
MOST_POLYGONS = 500
"""Edges that are drawn of a mask, the longest: a mask of countless specks must not make a record that is too large."""
VERSION = 1
"""Of the file of a preview."""
INSPECTED_BY = "inspected_by.json"
"""Beside the predictions: the detector and the calibration, which says what the scores of good images are."""
Outline = list[list[int]]
"""One polygon per edge of the mask: x0, y0, x1, y1, ..."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a report shows of one image."""

    path: str
    """As in the image's row."""
    size: Size
    """(height, width) of the file."""
    picture: bytes
    """A JPEG file; empty where the image could not be read again."""
    map: NDArray[np.float32] | None
    """(h, w): the map at display size; None where it was not kept."""
    outline: Outline = field(default_factory=list)
    """Of the mask, holes included, by `outline_of`; empty where there is none."""
    mask_area: float | None = None
    """The anomalous part of the file's pixels, where it has a mask."""
    at_maximum: float = 0.0
    """The part of the file's pixels at which the map has its highest value."""
    reconstruction: bytes | None = None
    """A JPEG file, where the detector rebuilds images."""
    regions: Sequence[dict[str, Any]] | None = ()
    """Of the whole map above the pixel threshold, as plain data, the highest peak first; MOST_REGIONS at most. None
    where they are not known."""
    num_regions: int = 0
    """All of them."""
    largest_region: int | None = None
    """Pixels of the largest of all of them, 0 where there is none; None where it is not known."""


PLAIN = ("path", "size", "outline", "mask_area", "at_maximum", "regions", "num_regions", "largest_region")
"""The fields of a preview that are no arrays."""


def preview(
    prediction: Prediction, path: str, pixel_threshold: float | None = None, kept: KeptImages = NOTHING_KEPT
) -> Preview:
    """The preview of a prediction; with its regions where there is a pixel threshold.

    The image file is read anew where the prediction brings no image and none was `kept`; there is no picture where
    that fails, or it is another file by now.
    """
    sample, values = prediction.sample, prediction.map
    found = () if pixel_threshold is None else find_regions(values, pixel_threshold)
    size = values.shape[0], values.shape[1]
    mask = kept.mask(sample.mask, _limit(size)) if sample.mask else None
    return Preview(
        path,
        size,
        kept.pictures.get(sample.image) or _picture(prediction, size),
        small_map(values, MAP_SIDE),
        [] if mask is None else outline_of(mask),
        None if mask is None else float(mask.mean()),
        float((values == values.max()).mean()),
        regions=[asdict(region) for region in found[:MOST_REGIONS]],
        num_regions=len(found),
        largest_region=None if pixel_threshold is None else max((region.area for region in found), default=0),
    )


def _picture(prediction: Prediction, size: Size) -> bytes:
    """What was inspected as a JPEG file; empty where it is not at hand any more."""
    image = prediction.image
    if image is None:
        image = picture_of(prediction.sample.image, size, prediction.sha256)
    return b"" if image is None else to_jpeg(thumbnail(image, PICTURE_SIDE))


def picture_of(path: Path, size: Size, sha256: str = "") -> Picture | None:
    """The image of that size in a file, as small as it is kept; None where it cannot be read, or is another file."""
    try:
        data = read_content(path, _limit(size))
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            return None
        return thumbnail(decode_image(data, path, _limit(size)), PICTURE_SIDE)
    except BlemishError:
        return None


def _limit(size: Size) -> int:
    """Pixels that are read at most: an image that was taken once is taken again."""
    return max(MAX_PIXELS, size[0] * size[1])


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


def write_inspected_by(out: Path, about: Mapping[str, str], calibration: Calibration | None) -> None:
    """Writes what the predictions in `out` are made (model, method, backend) and decided by."""
    write_json(out / INSPECTED_BY, {**about, "calibration": to_plain(calibration) if calibration else None})


@dataclass(frozen=True, slots=True)
class Kept:
    """The preview of an inspected image as it lies on the disk."""

    preview: Preview
    pixel_threshold: float | None
    """What its regions were found by; None where the detector was not calibrated."""


def encode_preview(prediction: Prediction, pixel_threshold: float | None) -> bytes:
    """A file of the preview of a prediction, some 20 to 40 kB: a checksum, a line of JSON, a JPEG and a PNG of the map.

    The map has 256 levels between its lowest and its highest value.
    """
    shown = preview(prediction, str(prediction.sample.image), pixel_threshold)
    values = small_map(prediction.map, MAP_SIDE)
    low, high = float(values.min()), float(values.max())
    grey = np.round((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    header = {name: getattr(shown, name) for name in PLAIN}
    header |= {"version": VERSION, "pixel_threshold": pixel_threshold, "range": (low, high)}
    line = json.dumps(header | {"picture": len(shown.picture)}, allow_nan=False).encode() + b"\n"
    body = line + shown.picture + cv2.imencode(".png", grey)[1].tobytes()
    return zlib.crc32(body).to_bytes(4) + body


def read_preview(path: Path) -> Kept | None:
    """What `encode_preview` made; None where the file is gone, damaged or of another version: a page can do without."""
    try:
        content = path.read_bytes()
        line, _, pictures = content[4:].partition(b"\n")
        if content[:4] != zlib.crc32(content[4:]).to_bytes(4) or (header := json.loads(line))["version"] != VERSION:
            return None
        levels = cv2.imdecode(np.frombuffer(pictures[header["picture"] :], np.uint8), cv2.IMREAD_GRAYSCALE)
        low, high = header["range"]
        values = np.asarray(low + np.asarray(levels) * np.float32((high - low) / 255), np.float32)
        plain = {name: header[name] for name in PLAIN} | {"size": tuple(header["size"])}
        return Kept(Preview(**plain, picture=pictures[: header["picture"]], map=values), header["pixel_threshold"])
    except (OSError, ValueError, KeyError, TypeError, cv2.error):
        return None
