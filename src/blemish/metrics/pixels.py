"""Metrics of pixels: how well the maps tell anomalous pixels from good ones.

The pixels of all the images of a category are pooled, those of the good images too, each map at its file's
own size. Every function takes masks and maps: lists, stacked or memory-mapped (n, H, W) arrays, or iterators;
a mask is nonzero where anomalous, None for a good image. To compute several figures, rank once and call the
metrics of the table with the ranking: `METRICS["aupro"](rank_pixels(pairs))`. Every distinct score is a
threshold, a pixel is reported when its score is at least the threshold, and equal scores are one threshold.

All raise NotApplicable where no pixel is anomalous or none is good, and MetricInputError for maps that are
not finite or not 2-D and masks of another shape.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from blemish.metrics.curves import best_f1
from blemish.metrics.formulas import area_under
from blemish.metrics.pimo import PIMO_BOUNDS, image_aupimo
from blemish.metrics.points import exact_points
from blemish.metrics.ranking import Mask, rank_masks_and_maps
from blemish.metrics.registry import METRICS
from blemish.metrics.scores import MetricInputError


def pixel_auroc(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> float:
    """Return the chance that an anomalous pixel scores higher than a good one, equal scores counting half.

    Source: as sklearn.metrics.roc_auc_score on the pooled pixels.
    """
    return METRICS["pixel_auroc"](rank_masks_and_maps(masks, maps))


def pixel_average_precision(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> float:
    """Return the sum over the thresholds of the gain in recall times the precision, without interpolation.

    Source: as sklearn.metrics.average_precision_score on the pooled pixels.
    """
    return METRICS["pixel_ap"](rank_masks_and_maps(masks, maps))


def pixel_f1_max(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> float:
    """Return the highest F1 of the pooled pixels over all thresholds."""
    return METRICS["pixel_f1_max"](rank_masks_and_maps(masks, maps))


def pixel_f1_max_threshold(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> tuple[float, float]:
    """Return the highest F1 of the pooled pixels and the highest score from which on it is reached."""
    return best_f1(rank_masks_and_maps(masks, maps))


def seg_f1(masks: Iterable[Mask], maps: Iterable[ArrayLike], threshold: float) -> float:
    """Return F1 of the pooled pixels when those that score at least the threshold are reported.

    Source: L. Heckler-Kram et al., "The MVTec AD 2 Dataset", 2025 (arXiv 2503.21622), SegF1; the threshold
    has to come from good images alone.
    """
    return METRICS["seg_f1"](rank_masks_and_maps(masks, maps), threshold)


def aupro(masks: Iterable[Mask], maps: Iterable[ArrayLike], limit: float = 0.3) -> float:
    """Return the area under the per-region overlap up to a false-positive rate, divided by that rate.

    The overlap is the mean over the regions (the 8-connected components of the masks, large and small alike)
    of the part of the region that is reported; the false-positive rate is over all good pixels. The curve is
    straight between thresholds and cut at the limit.

    Args:
        masks: As the module says.
        maps: As the module says.
        limit: In (0, 1]; 0.3 for MVTec AD, 0.05 for MVTec AD 2.

    Source: P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, and its official evaluation
    code.
    """
    _check_limit(limit)
    x, y = exact_points(rank_masks_and_maps(masks, maps), "pro")
    return float(area_under(x, y, limit))


def au_spro(masks: Iterable[Mask], maps: Iterable[ArrayLike], limit: float = 0.05) -> float:
    """Return the area under the saturated region overlap up to a false-positive rate, divided by that rate.

    Each defect has a saturation area s; its overlap is min(pixels found / s, 1). The false-positive rate is
    over the pixels that lie in no defect.

    Args:
        masks: `Regions` per anomalous image (a plain mask: its components, each saturated at its area), None
            for good.
        maps: As the module says.
        limit: In (0, 1]; MVTec LOCO reports 0.01, 0.05, 0.1, 0.3 and 1.

    Raises:
        NotApplicable: No image has saturation areas.

    Source: P. Bergmann et al., "Beyond Dents and Scratches", IJCV 2022. The official code samples thresholds;
    here every one is used.
    """
    _check_limit(limit)
    x, y = exact_points(rank_masks_and_maps(masks, maps), "spro")
    return float(area_under(x, y, limit))


def aupimo(
    masks: Iterable[Mask],
    maps: Iterable[ArrayLike],
    bounds: tuple[float, float] = PIMO_BOUNDS,
    *,
    exact_bounds: bool = False,
) -> float:
    """Return the mean over the anomalous images of `aupimo_per_image`."""
    return float(np.mean(list(aupimo_per_image(masks, maps, bounds, exact_bounds=exact_bounds).values())))


def aupimo_per_image(
    masks: Iterable[Mask],
    maps: Iterable[ArrayLike],
    bounds: tuple[float, float] = PIMO_BOUNDS,
    *,
    exact_bounds: bool = False,
) -> dict[int, float]:
    """Return per anomalous image, by its index, its mean overlap over a range of low false-positive rates.

    The overlap is the part of the image's anomalous pixels that is reported. The rate is shared: the mean
    over the good images of the part of their pixels that is reported. The mean is taken over the logarithm of
    the rate.

    Args:
        masks: As the module says.
        maps: As the module says.
        bounds: The range of the shared rate, 0 < low < high <= 1.
        exact_bounds: False, as the reference: the area is taken between the rates nearest to the bounds that
            some threshold reaches, and divided by log(high / low) of the bounds themselves, so that scores in
            a few steps can fall short of their overlap. True: between the bounds, by interpolation. For maps
            with many distinct scores the two agree.

    Raises:
        NotApplicable: No image is good, or no two thresholds reach rates near the two bounds.

    Source: J. P. C. Bertoldo et al., "AUPIMO", BMVC 2024 (arXiv 2401.01984). The reference samples
    thresholds; here every one is used.
    """
    low, high = bounds
    if not 0 < low < high <= 1:
        raise MetricInputError(f"the bounds are {bounds}; 0 < low < high <= 1 is needed")
    return image_aupimo(rank_masks_and_maps(masks, maps), bounds, exact_bounds=exact_bounds)


def _check_limit(limit: float) -> None:
    if not 0 < limit <= 1:
        raise MetricInputError(f"the limit is {limit}; a false-positive rate in (0, 1] is needed")
