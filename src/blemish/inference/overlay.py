"""Overlays: the image with its defect regions outlined, above a caption with the decision and its reason."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import Calibration
from blemish.types import Decision, Prediction

RgbImage = NDArray[np.uint8]
"""(h, w, 3) RGB."""
SMALLEST_SIDE = 480
"""An image whose longer side has fewer pixels is enlarged by an integer factor, so that outlines are visible."""
NARROWEST = 240
"""A narrower image gets a border on the right, so that the caption fits; in pixels."""
OUTLINE, RIM = (255, 40, 40), (255, 255, 255)
"""Colours of a region's outline and of a second line around it; one of the two is visible on any background."""
PAPER, INK = (24, 24, 24), (235, 235, 235)
VERDICTS = {True: ("DEFECT", (255, 92, 92)), False: ("GOOD", (110, 220, 130)), None: ("NOT DECIDED", (230, 190, 90))}
"""Whether an image is a defect -> the caption's first word and its colour."""
QUALITY = 80
"""JPEG quality."""


def overlay(prediction: Prediction, decision: Decision | None, calibration: Calibration | None) -> RgbImage:
    """The prediction's image with its regions outlined, above a caption: verdict, score, threshold, number of regions.

    Only the two lines around each region change the image's colours. Coordinates are the file's, times an integer
    factor if the image is small. Without a calibration the anomaly map is blended over the image. The prediction must
    contain its image.
    """
    assert prediction.image is not None, "inspect with with_images=True"
    canvas = _enlarged(prediction.image)
    if decision is None or calibration is None:
        canvas = _heated(canvas, prediction.map)
    elif decision.regions:
        canvas = _outlined(canvas, region_mask(prediction.map, calibration))
    caption = _caption(max(canvas.shape[1], NARROWEST), prediction, decision, calibration)
    border = np.full((canvas.shape[0], caption.shape[1] - canvas.shape[1], 3), PAPER, np.uint8)
    return np.vstack([np.hstack([canvas, border]), caption])


def to_jpeg(canvas: RgbImage) -> bytes:
    """The image as a JPEG file without chroma subsampling, which would blur thin outlines."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    return cv2.imencode(".jpg", canvas[:, :, ::-1], [*settings, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])[1].tobytes()


def region_mask(anomaly_map: NDArray[np.float32], calibration: Calibration) -> NDArray[np.bool_]:
    """(H, W): True in the regions that `find_regions` returns."""
    lit = (anomaly_map > calibration.pixel_threshold).view(np.uint8)
    if calibration.min_area <= 1:
        return lit.view(np.bool_)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lit, connectivity=8)
    is_large = stats[:, cv2.CC_STAT_AREA] >= calibration.min_area
    is_large[0] = False
    return np.asarray(is_large[labels])


def _enlarged(image: RgbImage) -> RgbImage:
    factor = max(1, -(-SMALLEST_SIDE // max(image.shape[:2])))
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def _outlined(canvas: RgbImage, mask: NDArray[np.bool_]) -> RgbImage:
    """The image with two lines around each region of the mask; pixels inside the mask stay unchanged."""
    height, width = canvas.shape[:2]
    inside = cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    line = max(1, round(max(height, width) / 500))
    around = inside
    for colour in (OUTLINE, RIM):
        wider = cv2.dilate(around, np.ones((2 * line + 1, 2 * line + 1), np.uint8))
        canvas[(wider > around)] = colour
        around = wider
    return canvas


def _heated(canvas: RgbImage, anomaly_map: NDArray[np.float32]) -> RgbImage:
    """The image with the colour-mapped map blended over it; opacity rises from the map's median to its maximum."""
    low, high = float(np.median(anomaly_map)), float(anomaly_map.max())
    heat = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1)
    heat = cv2.resize(heat, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    opacity = (0.8 * heat)[:, :, None]
    return np.asarray(canvas * (1 - opacity) + colours * opacity, np.uint8)


def _caption(
    width: int, prediction: Prediction, decision: Decision | None, calibration: Calibration | None
) -> RgbImage:
    """The caption as an image (h, width, 3), as high as its lines need."""
    verdict, colour = VERDICTS[decision.is_defect if decision else None]
    size = max(16, min(round(width / 40), 48))
    font = cv2.FontFace("sans")
    lines = _wrapped([verdict, *_facts(prediction, decision, calibration)], width - size, size, font)
    bar = np.full((round(size * (1.5 * len(lines) + 0.8)), width, 3), PAPER, np.uint8)
    bar[: max(2, size // 8)] = colour  # separates the caption from a dark image
    for row, words in enumerate(lines):
        place = size // 2, round(size * (1.5 * row + 1.55))
        for word in words:
            ink = colour if word is verdict else INK
            (right, _), _ = cv2.putText(bar, word, place, ink, font, size, 700 if word is verdict else 400)
            place = right + size, place[1]
    return bar


def _facts(prediction: Prediction, decision: Decision | None, calibration: Calibration | None) -> list[str]:
    if decision is None or calibration is None:
        return [f"score {prediction.score:.4g}", "no threshold"]
    sign = ">" if prediction.score > calibration.threshold else "≤"
    facts = [f"score {prediction.score:.4g} {sign} threshold {calibration.threshold:.4g}"]
    number = len(decision.regions)
    if sign == ">":
        size = f" of {calibration.min_area} pixels" if calibration.min_area > 1 and not number else ""
        facts.append(f"{number or 'no'} region{'' if number == 1 else 's'}{size}")
    return facts


def _wrapped(words: list[str], width: int, size: int, font: cv2.FontFace) -> list[list[str]]:
    """The words in lines that fit the width in pixels; a word that is wider has its own line."""
    lines: list[list[str]] = [[]]
    left = width
    for word in words:
        needed = cv2.getTextSize((width, size), word, (0, size), font, size, 700)[2] + size
        if lines[-1] and needed > left:
            lines.append([])
            left = width
        lines[-1].append(word)
        left -= needed
    return lines
