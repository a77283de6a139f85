"""Image-level metrics: how well one score per image separates anomalous from good images.

Every function takes labels (n,), 1 or True for anomalous images, and scores (n,) of any float or integer dtype; higher
means more anomalous. Every distinct score is a threshold, and an image is predicted anomalous if its score is at least
the threshold. All raise NotApplicable if there is only one class, and MetricInputError for scores that are not finite,
labels other than 0 and 1, and arrays of different lengths.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from blemish.metrics.curves import best_f1
from blemish.metrics.ranking import rank_images
from blemish.metrics.registry import METRICS


def image_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the probability that an anomalous image scores higher than a good one, equal scores counting half.

    Source: J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a ROC curve", 1982; as
    sklearn.metrics.roc_auc_score.
    """
    return METRICS["image_auroc"](rank_images(labels, scores))


def image_average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the sum over the thresholds of the increase of recall times the precision, without interpolation.

    Source: sklearn.metrics.average_precision_score.
    """
    return METRICS["image_ap"](rank_images(labels, scores))


def image_f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the highest F1 = 2 TP / (2 TP + FP + FN) over all thresholds.

    The threshold is chosen with the labels, so this is an upper bound for any choice without them. Source:
    Y. Zou et al., "SPot-the-Difference", 2022.
    """
    return METRICS["image_f1_max"](rank_images(labels, scores))


def image_f1_max_threshold(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Return the highest F1, and the highest threshold at which it is reached."""
    return best_f1(rank_images(labels, scores))


def image_fpr_at_full_recall(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the false-positive rate at the highest threshold that misses no anomalous image."""
    return METRICS["image_fpr_at_full_recall"](rank_images(labels, scores))
