"""Metrics of whole images: how well one score per image tells anomalous from good.

Every function takes labels (n,), 1 or True where the image is anomalous, and scores (n,), higher where more
anomalous, of any float or whole-number dtype. Every distinct score is a threshold; an image is reported when
its score is at least the threshold; equal scores are one threshold. Each raises NotApplicable where only one
class is there, and MetricInputError for scores that are not finite, labels that are not 0 or 1, and arrays of
different lengths.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from blemish.metrics.curves import best_f1
from blemish.metrics.ranking import rank_images
from blemish.metrics.registry import METRICS


def image_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the chance that an anomalous image scores higher than a good one, equal scores counting half.

    Source: J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a ROC curve", 1982; as
    sklearn.metrics.roc_auc_score.
    """
    return METRICS["image_auroc"](rank_images(labels, scores))


def image_average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the sum over the thresholds of the gain in recall times the precision, without interpolation.

    Source: sklearn.metrics.average_precision_score.
    """
    return METRICS["image_ap"](rank_images(labels, scores))


def image_f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the highest F1 = 2 TP / (2 TP + FP + FN) over all thresholds.

    The threshold is chosen with the labels in hand, so this says what a perfect choice would reach. Source:
    Y. Zou et al., "SPot-the-Difference", 2022.
    """
    return METRICS["image_f1_max"](rank_images(labels, scores))


def image_f1_max_threshold(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Return the highest F1, and the highest score from which on an image is reported to reach it."""
    return best_f1(rank_images(labels, scores))


def image_fpr_at_full_recall(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the part of the good images reported at the highest threshold that misses no anomalous one."""
    return METRICS["image_fpr_at_full_recall"](rank_images(labels, scores))
