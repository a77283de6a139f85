"""Pixel-level metrics: how well anomaly maps separate anomalous from good pixels.

The pixels of all images of a category, including good images, are pooled. Every function takes masks and maps as
lists, iterators, or stacked or memory-mapped arrays (n, H, W). A mask is nonzero at anomalous pixels, and None for a
good image. Every distinct score is a threshold, and a pixel is predicted anomalous if its score is at least the
threshold. To compute several metrics, rank the pixels once: `METRICS["aupro"](rank_pixels(pairs))`.

All raise NotApplicable if no pixel is anomalous or none is good, and MetricInputError for maps that are not finite or
not 2-D, and masks of another shape.
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
    """Return the probability that an anomalous pixel scores higher than a good one, equal scores counting half.

    Source: as sklearn.metrics.roc_auc_score on the pooled pixels.
    """
    return METRICS["pixel_auroc"](rank_masks_and_maps(masks, maps))


def pixel_average_precision(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> float:
    """Return the sum over the thresholds of the increase of recall times the precision, without interpolation.

    Source: as sklearn.metrics.average_precision_score on the pooled pixels.
    """
    return METRICS["pixel_ap"](rank_masks_and_maps(masks, maps))


def pixel_f1_max(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> float:
    """Return the highest F1 of the pooled pixels over all thresholds."""
    return METRICS["pixel_f1_max"](rank_masks_and_maps(masks, maps))


def pixel_f1_max_threshold(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> tuple[float, float]:
    """Return the highest F1 of the pooled pixels, and the highest threshold at which it is reached."""
    return best_f1(rank_masks_and_maps(masks, maps))


def seg_f1(masks: Iterable[Mask], maps: Iterable[ArrayLike], threshold: float) -> float:
    """Return the F1 of the pooled pixels, those that score at least the threshold being predicted anomalous.

    Source: L. Heckler-Kram et al., "The MVTec AD 2 Dataset", 2025 (arXiv 2503.21622), SegF1. The
    threshold must be chosen on good images only.
    """
    return METRICS["seg_f1"](rank_masks_and_maps(masks, maps), threshold)


def aupro(masks: Iterable[Mask], maps: Iterable[ArrayLike], limit: float = 0.3) -> float:
    """Return the area under the per-region overlap up to a false-positive rate, divided by that rate.

    The overlap is the mean over the regions (the 8-connected components of the masks, large and small alike)
    of the fraction of the region that is predicted anomalous. The false-positive rate is over all good pixels.
    The curve is linear between thresholds, and cut off at the limit.

    Args:
        masks: See the module.
        maps: See the module.
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
        maps: See the module.
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

    The overlap is the fraction of the image's anomalous pixels that is predicted anomalous. The rate is shared: the
    mean over the good images of the fraction of their pixels that is predicted anomalous. The mean overlap is
    taken over the logarithm of the rate.

    Args:
        masks: See the module.
        maps: See the module.
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
