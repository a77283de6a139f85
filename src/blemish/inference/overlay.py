"""The picture of a decision: the image as it is, its defect regions outlined, and in words what was decided and why."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import Calibration
from blemish.types import Decision, Prediction

Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""
SMALLEST_SIDE = 480
"""Pixels: an image whose longer side is shorter is enlarged by a whole number, so that its outlines can be seen."""
NARROWEST = 240
"""Pixels: beside an image that is narrower there is a border, so that the caption has room."""
OUTLINE, RIM = (255, 40, 40), (255, 255, 255)
"""Colours of a region's outline and of the rim outside of it: one of the two shows on any surface."""
PAPER, INK = (24, 24, 24), (235, 235, 235)
VERDICTS = {True: ("DEFECT", (255, 92, 92)), False: ("GOOD", (110, 220, 130)), None: ("NOT DECIDED", (230, 190, 90))}
"""What the caption says first, and in which colour."""
QUALITY = 80
"""Of JPEG."""


def overlay(prediction: Prediction, decision: Decision | None, calibration: Calibration | None) -> Picture:
    """The image that was inspected, its regions outlined, above a caption: verdict, score, threshold, regions.

    The image keeps its colours, but for two lines around each region. A place in the picture is the place in the
    file, times a whole number where the image is small. Without a calibration the map is laid over the image.
    """
    assert prediction.image is not None, "inspect with with_images=True"
    picture = _enlarged(prediction.image)
    if decision is None or calibration is None:
        picture = _heated(picture, prediction.map)
    elif decision.regions:
        picture = _outlined(picture, region_mask(prediction.map, calibration))
    caption = _caption(max(picture.shape[1], NARROWEST), prediction, decision, calibration)
    border = np.full((picture.shape[0], caption.shape[1] - picture.shape[1], 3), PAPER, np.uint8)
    return np.vstack([np.hstack([picture, border]), caption])


def to_jpeg(picture: Picture) -> bytes:
    """The picture as a JPEG file whose colours are as sharp as its brightness, since outlines are thin."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    return cv2.imencode(".jpg", picture[:, :, ::-1], [*settings, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])[1].tobytes()


def region_mask(anomaly_map: NDArray[np.float32], calibration: Calibration) -> NDArray[np.bool_]:
    """(H, W): the pixels of the regions that `find_regions` tells of."""
    lit = (anomaly_map > calibration.pixel_threshold).view(np.uint8)
    if calibration.min_area <= 1:
        return lit.view(np.bool_)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lit, connectivity=8)
    is_large = stats[:, cv2.CC_STAT_AREA] >= calibration.min_area
    is_large[0] = False
    return np.asarray(is_large[labels])


def _enlarged(image: Picture) -> Picture:
    factor = max(1, -(-SMALLEST_SIDE // max(image.shape[:2])))
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def _outlined(picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    """The picture with two lines around each region of the mask: what is in it stays as it is."""
    height, width = picture.shape[:2]
    inside = cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    line = max(1, round(max(height, width) / 500))
    around = inside
    for colour in (OUTLINE, RIM):
        wider = cv2.dilate(around, np.ones((2 * line + 1, 2 * line + 1), np.uint8))
        picture[(wider > around)] = colour
        around = wider
    return picture


def _heated(picture: Picture, anomaly_map: NDArray[np.float32]) -> Picture:
    """The picture with the map in colour over it, from its median on: the higher, the less is seen through."""
    low, high = float(np.median(anomaly_map)), float(anomaly_map.max())
    heat = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1)
    heat = cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    opacity = (0.8 * heat)[:, :, None]
    return np.asarray(picture * (1 - opacity) + colours * opacity, np.uint8)


def _caption(width: int, prediction: Prediction, decision: Decision | None, calibration: Calibration | None) -> Picture:
    """(h, width, 3): as many lines as the words need."""
    verdict, colour = VERDICTS[decision.is_defect if decision else None]
    size = max(16, min(round(width / 40), 48))
    font = cv2.FontFace("sans")
    lines = _wrapped([verdict, *_facts(prediction, decision, calibration)], width - size, size, font)
    bar = np.full((round(size * (1.5 * len(lines) + 0.8)), width, 3), PAPER, np.uint8)
    bar[: max(2, size // 8)] = colour  # sets it off from a dark image, and shows the verdict from afar
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
    """The words in lines that are no wider than `width` where a single word is not."""
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
