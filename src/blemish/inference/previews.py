"""Previews: small versions of an image, its map, its mask outline and regions, which a report shows.

A report needs neither the image file nor the detector.

A run keeps the previews of a category in one file (`evaluation.report_data`); `predict --report` keeps one file per
image, which it writes before the image's row, so that an interrupted run can be continued.
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

from blemish.calibration.decisions import find_regions
from blemish.calibration.thresholds import Calibration, to_dict
from blemish.data.kept import NOTHING_KEPT, KeptImages
from blemish.errors import BlemishError
from blemish.files import write_json
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.pixels import thumbnail
from blemish.imaging.read import decode_image, read_content
from blemish.imaging.thumbnails import PICTURE_SIDE, Thumbnail, small_map, to_jpeg
from blemish.types import Prediction, Region, Size

MAP_SIDE = 160
"""The longer side in pixels, at most, of a map that is kept for display."""
OUTLINE_UNITS = 4096
"""Outline coordinates are integers, scaled so that the longer side of the image has this length."""
MOST_REGIONS = 12
"""The most regions that are stored per image; all are counted."""
MOST_POLYGONS = 500
"""The most polygons that are stored of a mask outline, the longest; limits the size for masks of many specks."""
VERSION = 1
"""Format version of a preview file."""
INSPECTED_BY = "inspected_by.json"
"""The file beside the predictions that names the model, and contains its calibration."""
Outline = list[list[int]]
"""A list of polygons, each [x0, y0, x1, y1, ...], in units of OUTLINE_UNITS."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a report shows of one image."""

    path: str
    """The path in the image's row."""
    size: Size
    """(height, width) of the image file."""
    picture: bytes
    """The image as a JPEG file; empty if it could not be read again."""
    map: NDArray[np.float32] | None
    """(h, w), the map at display size; None if it was not stored."""
    outline: Outline = field(default_factory=list)
    """The outline of the mask and its holes, from `outline_of`; empty without a mask."""
    mask_area: float | None = None
    """The fraction of anomalous pixels; None without a mask."""
    at_maximum: float = 0.0
    """The fraction of pixels at which the map has its highest value."""
    reconstruction: bytes | None = None
    """The reconstruction as a JPEG file; None if the detector does not reconstruct images."""
    regions: Sequence[dict[str, Any]] | None = ()
    """The regions of the whole map above the pixel threshold, as plain data, the highest peak first; at most
    MOST_REGIONS. None if unknown."""
    num_regions: int = 0
    """The number of all regions."""
    largest_region: int | None = None
    """The area of the largest region in pixels, 0 without regions; None if unknown."""


HEADER_FIELDS = ("path", "size", "outline", "mask_area", "at_maximum", "regions", "num_regions", "largest_region")
"""The fields of a preview that are stored as JSON."""


def make_preview(
    prediction: Prediction,
    path: str,
    pixel_threshold: float | None = None,
    kept: KeptImages = NOTHING_KEPT,
    found: Sequence[Region] | None = None,
) -> Preview:
    """The preview of a prediction; with its regions where there is a pixel threshold.

    `found` are all regions above that threshold, the highest peak first, where they are known already.

    The image file is read anew where the prediction brings no image and none was `kept`; there is no picture where
    that fails, or it is another file by now.
    """
    sample, values = prediction.sample, prediction.map
    if found is None:
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
        np.count_nonzero(values == values.max()) / values.size,
        regions=[asdict(region) for region in found[:MOST_REGIONS]],
        num_regions=len(found),
        largest_region=None if pixel_threshold is None else max((region.area for region in found), default=0),
    )


def _picture(prediction: Prediction, size: Size) -> bytes:
    """What was inspected as a JPEG file; empty where it is not at hand any more."""
    image = prediction.image
    if image is None:
        image = read_thumbnail(prediction.sample.image, size, prediction.sha256)
    return b"" if image is None else picture_of(image)


def picture_of(image: NDArray[Any]) -> bytes:
    """The image of any depth, grey or colour, as a small JPEG file."""
    return to_jpeg(thumbnail(image, PICTURE_SIDE))


def read_thumbnail(path: Path, size: Size, sha256: str = "") -> Thumbnail | None:
    """The image of that size in a file, as small as it is kept; None where it cannot be read, or is another file."""
    try:
        data = read_content(path, _limit(size))
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            return None
        return thumbnail(decode_image(data, path, _limit(size)), PICTURE_SIDE)
    except BlemishError:
        return None


def _limit(size: Size) -> int:
    """The limit of pixels for reading an image again: at least its own size."""
    return max(MAX_PIXELS, size[0] * size[1])


def outline_of(mask: NDArray[np.bool_]) -> Outline:
    """The contours of a mask (H, W) as polygons, which deviate by at most half a pixel at display size.

    If there are more than MOST_POLYGONS, the longest are kept.
    """
    side = max(mask.shape)
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if len(contours) > MOST_POLYGONS:
        contours = sorted(contours, key=len, reverse=True)[:MOST_POLYGONS]
    polygons = [cv2.approxPolyDP(contour, side / PICTURE_SIDE / 2, closed=True) for contour in contours]
    # OpenCV's contours run through the centres of pixels, half a pixel from the image's border.
    scaled = [np.round((polygon.reshape(-1) + 0.5) * (OUTLINE_UNITS / side)).astype(int) for polygon in polygons]
    return [polygon.tolist() for polygon in scaled]


def write_inspected_by(out: Path, about: Mapping[str, str], calibration: Calibration | None) -> None:
    """Writes the model, method and backend of the predictions in `out`, and the calibration."""
    write_json(out / INSPECTED_BY, {**about, "calibration": to_dict(calibration) if calibration else None})


@dataclass(frozen=True, slots=True)
class StoredPreview:
    """The content of a preview file."""

    preview: Preview
    pixel_threshold: float | None
    """The threshold of its regions; None if the detector was not calibrated."""


def encode_preview(
    prediction: Prediction,
    pixel_threshold: float | None,
    kept: KeptImages = NOTHING_KEPT,
    found: Sequence[Region] | None = None,
) -> bytes:
    """The content of a preview file (20 to 40 kB): a checksum, a line of JSON, a JPEG of the image, a PNG of the map.

    The map is stored with 256 levels between its lowest and its highest value. `kept` and `found` are as in
    `make_preview`.
    """
    shown = make_preview(prediction, str(prediction.sample.image), pixel_threshold, kept, found)
    values = shown.map
    assert values is not None
    low, high = float(values.min()), float(values.max())
    grey = np.round((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    header = {name: getattr(shown, name) for name in HEADER_FIELDS}
    header |= {"version": VERSION, "pixel_threshold": pixel_threshold, "range": (low, high)}
    line = json.dumps(header | {"picture": len(shown.picture)}, allow_nan=False).encode() + b"\n"
    body = line + shown.picture + cv2.imencode(".png", grey)[1].tobytes()
    return zlib.crc32(body).to_bytes(4) + body


def read_preview(path: Path) -> StoredPreview | None:
    """The content of a preview file; None if it is missing, damaged or of another version."""
    try:
        content = path.read_bytes()
        line, _, pictures = content[4:].partition(b"\n")
        if content[:4] != zlib.crc32(content[4:]).to_bytes(4) or (header := json.loads(line))["version"] != VERSION:
            return None
        levels = cv2.imdecode(np.frombuffer(pictures[header["picture"] :], np.uint8), cv2.IMREAD_GRAYSCALE)
        low, high = header["range"]
        values = np.asarray(low + np.asarray(levels) * np.float32((high - low) / 255), np.float32)
        plain = {name: header[name] for name in HEADER_FIELDS} | {"size": tuple(header["size"])}
        return StoredPreview(
            Preview(**plain, picture=pictures[: header["picture"]], map=values), header["pixel_threshold"]
        )
    except (OSError, ValueError, KeyError, TypeError, cv2.error):
        return None
