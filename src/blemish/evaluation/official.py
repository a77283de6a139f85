"""The figures by which the authors of a data set judge a method, beside the metrics that every data set has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from statistics import fmean
from typing import Any

from blemish.metrics import METRICS, NotApplicable, Ranking, rank_images

Figures = dict[str, float | None]
"""Name of a figure -> its value in [0, 1]; None where it is not applicable."""
LOCO_TYPES = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
"""Name in the figures -> the defect type in MVTec LOCO AD."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of the test images of one category."""

    rows: Sequence[Mapping[str, Any]]
    """One per image: path (relative to the category's folder), defect, label, score."""
    pixels: Ranking | str
    """The ranking of their pixels in the same order, or why there is none."""
    metrics: Mapping[str, float | None]
    """Name of a metric -> its value."""


def official_figures(layout: str, measured: Measured) -> Figures:
    """The official figures of a data set of this layout; empty where its authors define none of their own."""
    return JUDGES[layout](measured) if layout in JUDGES else {}


def _loco(measured: Measured) -> Figures:
    """Image AUROC and AU-sPRO up to 5 % of good images against those of each type, and the means of the types.

    Source: P. Bergmann et al., "Beyond Dents and Scratches", IJCV 2022, and its official evaluation code.
    """
    found: Figures = {}
    for title, metric in (("image AUROC", "image_auroc"), ("AU-sPRO 5 %", "au_spro_0.05")):
        values = {kind: _against_good(measured, defect, metric) for kind, defect in LOCO_TYPES.items()}
        found |= {f"{title} {kind}": value for kind, value in values.items()}
        found[f"{title} mean"] = _mean(values.values())
    return found


def _ad_2(measured: Measured) -> Figures:
    """AU-PRO up to 5 %, and SegF1 at the threshold that good images of the validation set gave.

    Source: L. Heckler-Kram et al., "The MVTec AD 2 Dataset", 2025 (arXiv 2503.21622).
    """
    return {"AU-PRO 5 %": measured.metrics.get("aupro_0.05"), "SegF1": measured.metrics.get("seg_f1")}


def _single_view(measured: Measured) -> Figures:
    """AUROC of the images, and AU-PRO up to 30 % of the pixels.

    Source: C. Wang et al., "Real-IAD", CVPR 2024 (arXiv 2403.12580).
    """
    return {"I-AUROC": measured.metrics.get("image_auroc"), "P-AUPRO": measured.metrics.get("aupro")}


def _multi_view(measured: Measured) -> Figures:
    """As `_single_view`, and the AUROC of the parts: a part scores as its highest view, and has the defects of all."""
    parts: dict[PurePosixPath, tuple[bool, float]] = {}
    for row in measured.rows:
        part = PurePosixPath(row["path"]).parent
        label, score = parts.get(part, (False, float("-inf")))
        parts[part] = label or bool(row["label"]), max(score, row["score"])
    return {"S-AUROC": _image_auroc(parts.values())} | _single_view(measured)


def _against_good(measured: Measured, defect: str, metric: str) -> float | None:
    """A metric of the good images and the anomalous ones of one type."""
    places = [place for place, row in enumerate(measured.rows) if not row["label"] or row["defect"] == defect]
    if METRICS[metric].level == "image":
        return _image_auroc((measured.rows[place]["label"], measured.rows[place]["score"]) for place in places)
    if isinstance(measured.pixels, str):
        return None
    # A new ranking, since a ranking remembers its counts.
    part = replace(measured.pixels, images=tuple(measured.pixels.images[place] for place in places))
    return _value(metric, part)


def _image_auroc(labelled: Iterable[tuple[bool, float]]) -> float | None:
    labels, scores = zip(*labelled, strict=True)
    return _value("image_auroc", rank_images(labels, scores))


def _value(metric: str, ranking: Ranking) -> float | None:
    try:
        return METRICS[metric](ranking)
    except NotApplicable:
        return None


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else fmean(value for value in known if value is not None)


JUDGES: dict[str, Callable[[Measured], Figures]] = {
    "mvtec_loco": _loco,
    "mvtec_ad_2": _ad_2,
    "real_iad": _multi_view,
    "real_iad_sv": _single_view,
    "real_iad_fuiad": _multi_view,
    **{f"real_iad_fuiad_{share}": _multi_view for share in ("0.0", "0.1", "0.2", "0.4")},
}
"""Layout -> function that gives the official figures."""
