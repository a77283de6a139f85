"""Images of results as responses: the file, a reduced picture, the map, the overlay."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from fastapi import HTTPException, Response

from blemish.calibration.thresholds import Calibration
from blemish.errors import BlemishError
from blemish.imaging.pixels import thumbnail
from blemish.imaging.read import decode_image
from blemish.imaging.thumbnails import decoded, to_jpeg
from blemish.inference import overlay
from blemish.inference.previews import Preview, read_preview
from blemish.station.station import Station
from blemish.station.tables import Decision as Thresholds
from blemish.station.tables import Inspection
from blemish.types import Decision, Prediction, Region, Sample

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
KINDS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"II": "image/tiff",
    b"MM": "image/tiff",
    b"BM": "image/bmp",
    b"RIFF": "image/webp",
}
"""First bytes of a file -> its media type."""


def file_response(station: Station, sha256: str | None) -> Response:
    """The file of this name; raises HTTPException 404 where it is not kept any more."""
    content = station.workspace.blobs.read(sha256) if sha256 else None
    if content is None:
        raise HTTPException(404, "The image is not kept any more.")
    kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), "application/octet-stream")
    return Response(content, media_type=kind, headers=FOREVER)


def picture_response(station: Station, sha256: str | None, preview: str | None, side: int) -> Response:
    """The image with a longer side of at most `side` pixels, as JPEG; the preview's where the file is gone."""
    content = station.workspace.blobs.read(sha256) if sha256 else None
    if content is None or side <= 320:
        kept = preview_of(station, preview)
        if kept.picture:
            return Response(kept.picture, media_type="image/jpeg", headers=FOREVER)
    if content is None:
        raise HTTPException(404, "The image is not kept any more.")
    try:
        image = decode_image(content, Path("image"))
    except BlemishError as error:
        raise HTTPException(404, str(error)) from None
    return Response(to_jpeg(thumbnail(image, side)), media_type="image/jpeg", headers=FOREVER)


def preview_of(station: Station, sha256: str | None) -> Preview:
    """The preview of this name; raises HTTPException 404 where it is not kept any more."""
    if sha256:
        station.recorder.drawing.wait_for(sha256)
    found = read_preview(station.workspace.blobs.path(sha256)) if sha256 else None
    if found is None:
        raise HTTPException(404, "The map is not kept any more.")
    return found.preview


def map_response(station: Station, preview: str | None) -> Response:
    """The anomaly map at display size as a grey PNG; the headers say which values 0 and 255 stand for."""
    values = preview_of(station, preview).map
    assert values is not None
    low, high = float(values.min()), float(values.max())
    grey = np.round((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    headers = FOREVER | {"X-Map-Low": repr(low), "X-Map-High": repr(high)}
    return Response(cv2.imencode(".png", grey)[1].tobytes(), media_type="image/png", headers=headers)


def overlay_response(station: Station, row: Inspection, thresholds: Thresholds) -> Response:
    """The image with its regions outlined, above a caption, as JPEG; outlines are those of the map at display size."""
    kept = preview_of(station, row.preview)
    assert kept.map is not None
    content = station.workspace.blobs.read(row.image) if row.image else None
    image = thumbnail(decode_image(content, Path(row.name)), 1600) if content else decoded(kept.picture)
    regions = tuple(Region(**region) for region in row.regions)
    calibration = Calibration(thresholds.review_threshold, thresholds.pixel_threshold, None, None, (), ())
    prediction = Prediction(Sample(Path(row.name)), row.score, kept.map, image=image)
    decision = Decision(row.verdict != "good", row.p_value, regions)
    shown = overlay.overlay(prediction, decision, calibration)
    return Response(overlay.to_jpeg(shown), media_type="image/jpeg", headers=FOREVER)
