"""Decisions: whether a prediction shows a defect, and the defect regions of its anomaly map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import Calibration, p_value
from blemish.types import Decision, Prediction, Region


def decide(prediction: Prediction, calibration: Calibration) -> Decision:
    """The decision on an image: whether it is a defect, the p-value of its score, and its defect regions.

    An image is a defect if its score exceeds the threshold. If the calibration has a minimum area, it also needs a
    region of at least that area. An image that is no defect has no regions.
    """
    exceeds = prediction.score > calibration.threshold
    regions: tuple[Region, ...] = ()
    if exceeds:
        regions = find_regions(prediction.map, calibration.pixel_threshold, calibration.min_area)
    is_defect = exceeds and (calibration.min_area == 0 or bool(regions))
    return Decision(is_defect, p_value(prediction.score, calibration.good_scores), regions)


def find_regions(anomaly_map: NDArray[np.float32], threshold: float, min_area: int = 0) -> tuple[Region, ...]:
    """The 8-connected regions of a map (H, W) whose values exceed the threshold, sorted by peak, the highest first.

    Regions of fewer than `min_area` pixels are left out.
    """
    import cv2

    exceeds = (anomaly_map > threshold).view(np.uint8)
    x, y, width, height = cv2.boundingRect(exceeds)
    if not width:
        return ()
    window = slice(y, y + height), slice(x, x + width)  # the time of labelling grows with the area
    _, labels, stats, centroids = cv2.connectedComponentsWithStats(exceeds[window], connectivity=8)
    regions = [
        _region(label, labels, anomaly_map[window], stats[label], centroids[label], (x, y))
        for label in range(1, len(stats))
        if stats[label, cv2.CC_STAT_AREA] >= min_area
    ]
    return tuple(sorted(regions, key=lambda region: -region.peak))


def _region(
    label: int,
    labels: NDArray[Any],
    values: NDArray[Any],
    stats: NDArray[Any],
    centroid: NDArray[Any],
    offset: tuple[int, int],
) -> Region:
    """The region with this label; `offset` is (x, y) of the upper left pixel of `labels` and `values` in the map."""
    left, top, width, height, area = (int(value) for value in stats)
    x, y = offset
    box = slice(top, top + height), slice(left, left + width)
    inside = np.where(labels[box] == label, values[box], -np.inf)
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return Region(
        box=(x + left, y + top, width, height),
        area=area,
        peak=float(inside.max()),
        peak_at=(x + left + int(column), y + top + int(row)),
        centroid=(x + float(centroid[0]), y + float(centroid[1])),
    )
