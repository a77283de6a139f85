"""Metrics of anomaly detection: exact, by their official definitions, and fast at full resolution.

They are pure functions of labels or masks and raw scores: numpy arrays in, floats out. A metric that is undefined for
a data set raises NotApplicable with the reason. `METRICS` contains all of them. All pixel metrics, curves and
confidence intervals can share one ranking of the pixels, from `rank_pixels`.
"""

from blemish.metrics.curves import (
    Curve,
    OperatingPoints,
    operating_points,
    pimo_curve,
    precision_recall_curve,
    pro_curve,
    roc_curve,
)
from blemish.metrics.images import (
    image_auroc,
    image_average_precision,
    image_f1_max,
    image_f1_max_threshold,
    image_fpr_at_full_recall,
)
from blemish.metrics.pixels import (
    au_spro,
    aupimo,
    aupimo_per_image,
    aupro,
    pixel_auroc,
    pixel_average_precision,
    pixel_f1_max,
    pixel_f1_max_threshold,
    seg_f1,
)
from blemish.metrics.ranking import Ranking, Regions, rank_images, rank_masks_and_maps, rank_pixels
from blemish.metrics.ranks import average_ranks, friedman, groups_alike, holm
from blemish.metrics.registry import METRICS, Metric, Value, evaluate_all, evaluate_rankings, rank_labelled
from blemish.metrics.scores import MetricInputError, NotApplicable
from blemish.metrics.statistics import (
    Comparison,
    Interval,
    Resamples,
    bootstrap,
    compare_categories,
    compare_resamples,
    paired_bootstrap,
    resample,
)

__all__ = [
    "METRICS",
    "Comparison",
    "Curve",
    "Interval",
    "Metric",
    "MetricInputError",
    "NotApplicable",
    "OperatingPoints",
    "Ranking",
    "Regions",
    "Resamples",
    "Value",
    "au_spro",
    "aupimo",
    "aupimo_per_image",
    "aupro",
    "average_ranks",
    "bootstrap",
    "compare_categories",
    "compare_resamples",
    "evaluate_all",
    "evaluate_rankings",
    "friedman",
    "groups_alike",
    "holm",
    "image_auroc",
    "image_average_precision",
    "image_f1_max",
    "image_f1_max_threshold",
    "image_fpr_at_full_recall",
    "operating_points",
    "paired_bootstrap",
    "pimo_curve",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_f1_max",
    "pixel_f1_max_threshold",
    "precision_recall_curve",
    "pro_curve",
    "rank_images",
    "rank_labelled",
    "rank_masks_and_maps",
    "rank_pixels",
    "resample",
    "roc_curve",
    "seg_f1",
]
