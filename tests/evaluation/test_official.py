"""The official figures of MVTec LOCO AD, MVTec AD 2 and Real-IAD against their definitions, written down directly."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from trees import SATURATIONS, SIDE, TREES

from blemish.data import find_categories
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.map_files import predictions_from_maps
from blemish.evaluation.results import official_tables
from blemish.imaging.mask_sources import marks_of, read_defects, saturation_area
from blemish.types import MaskFiles, Prediction, Saturation

LIMIT = 0.05


def predictions(samples, seed: int = 0) -> list[Prediction]:
    """Noisy maps that rise, more or less, at the defects; few distinct values, so that many are equal."""
    generator = np.random.default_rng(seed)
    found = []
    for sample in samples:
        noise = generator.normal(0, 1, (SIDE, SIDE))
        if sample.mask is not None:
            noise += 2.5 * marks_of(sample.mask)
        anomaly_map = np.round(noise, 1).astype(np.float32)
        found.append(Prediction(sample, float(anomaly_map.max()), anomaly_map))
    return found


def area_up_to(fprs: list[float], ys: list[float], limit: float) -> float:
    """The area under the points up to a false-positive rate, the last piece cut off at the limit, over the limit."""
    order = np.lexsort((ys, fprs))
    x, y = np.array(fprs)[order], np.array(ys)[order]
    inside = x <= limit
    x_cut, y_cut = [*x[inside], limit], [*y[inside], np.interp(limit, x, y)]
    return float(np.trapezoid(y_cut, x_cut)) / limit


def roc_area(good: list[float], bad: list[float]) -> float:
    pairs = [(b > g) + 0.5 * (b == g) for b, g in product(bad, good)]
    return float(np.mean(pairs))


def spro_area(found: list[Prediction]) -> float:
    """AU-sPRO as the evaluation code of MVTec LOCO AD defines it, at every threshold."""
    config = {one["pixel_value"]: one for one in SATURATIONS}
    defects, good = [], []
    for prediction in found:
        union = np.zeros((SIDE, SIDE), bool)
        for path in prediction.sample.mask.files if prediction.sample.mask else ():
            channel = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            of = config[int(channel.max())]
            area, threshold = int((channel > 0).sum()), of["saturation_threshold"]
            saturation = int(threshold * area) if of["relative_saturation"] else min(threshold, area)
            defects.append((prediction.map[channel > 0], saturation))
            union |= channel > 0
        good.append(prediction.map[~union])
    good_scores = np.concatenate(good)
    fprs, spros = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([prediction.map.ravel() for prediction in found]))[::-1]:
        fprs.append(float((good_scores >= threshold).mean()))
        spros.append(float(np.mean([min((scores >= threshold).sum() / s, 1) for scores, s in defects])))
    return area_up_to(fprs, spros, LIMIT)


def test_loco(tmp_path: Path):
    category = find_categories(TREES["mvtec_loco"](tmp_path))[1]
    found = predictions(category.of("test"))
    measured = evaluate(
        found, category.of("test"), method="m", category="pushpins", root=category.root, layout="mvtec_loco"
    )
    expected = {}
    for kind in ("logical", "structural"):
        part = [p for p in found if p.sample.defect in ("good", f"{kind}_anomalies")]
        scores = {label: [p.score for p in part if p.sample.label is label] for label in (False, True)}
        expected[f"image AUROC {kind}"] = roc_area(scores[False], scores[True])
        expected[f"AU-sPRO 5 % {kind}"] = spro_area(part)
    for title in ("image AUROC", "AU-sPRO 5 %"):
        expected[f"{title} mean"] = (expected[f"{title} logical"] + expected[f"{title} structural"]) / 2
    assert measured.official == pytest.approx(expected, abs=1e-9)
    assert 0 < expected["AU-sPRO 5 % mean"] < 1
    assert measured.metrics["au_spro_0.05"] == pytest.approx(spro_area(found), abs=1e-9)  # of all types at once
    (table,) = official_tables([measured, measured], "m")
    assert [str(column.header) for column in table.columns] == ["category", *measured.official]
    assert len(table.rows) == 3


@pytest.mark.parametrize(
    ("threshold", "relative", "area", "expected"),
    [(20, False, 80, 20), (20, False, 7, 7), (0.5, True, 15, 7), (1.0, True, 15, 15), (0.01, True, 15, 1)],
)
def test_saturation_areas(threshold, relative, area, expected):
    assert saturation_area(Saturation(255, threshold, relative), area) == expected


def test_a_defect_of_an_unknown_value_is_refused(tmp_path: Path):
    category = find_categories(TREES["autovi"](tmp_path))[0]
    mask = next(sample.mask for sample in category.samples if sample.label)
    with pytest.raises(Exception, match=r"has the values 25[45]; one of those in defects_config\.json: 7"):
        read_defects(MaskFiles(mask.files, (Saturation(7, 1.0),)))


def test_ad_2(tmp_path: Path):
    category = find_categories(TREES["mvtec_ad_2"](tmp_path))[0]
    found = predictions(category.of("test"))
    options = {"method": "m", "category": "can", "root": category.root, "layout": "mvtec_ad_2"}
    measured = evaluate(found, category.of("test"), pixel_threshold=1.5, **options)
    marks = [marks_of(p.sample.mask) if p.sample.mask else np.zeros((SIDE, SIDE), bool) for p in found]
    detected = np.concatenate([(p.map > 1.5).ravel() for p in found])
    true = np.concatenate([mark.ravel() for mark in marks])
    f1 = 2 * (detected & true).sum() / (detected.sum() + true.sum())
    fprs, pros = [0.0], [0.0]
    scores = np.concatenate([p.map.ravel() for p in found])
    for threshold in np.unique(scores)[::-1]:
        fprs.append(float((scores[~true] >= threshold).mean()))
        overlaps = [(p.map[m] >= threshold).mean() for p, m in zip(found, marks, strict=True) if m.any()]
        pros.append(float(np.mean(overlaps)))
    assert measured.official == pytest.approx({"AU-PRO 5 %": area_up_to(fprs, pros, 0.05), "SegF1": f1}, abs=1e-9)
    without = evaluate(found, category.of("test"), **options)
    assert without.official["SegF1"] is None  # there is no threshold that good images gave


def test_real_iad(tmp_path: Path):
    root = TREES["real_iad"](tmp_path, ("realiad_256",))
    for layout, names in (("real_iad", {"S-AUROC", "I-AUROC", "P-AUPRO"}), ("real_iad_sv", {"I-AUROC", "P-AUPRO"})):
        (category,) = find_categories(root, layout=layout)
        samples = category.of("test")
        found = predictions(samples, seed=3)
        measured = evaluate(found, samples, method="m", category="toy", root=category.root, layout=layout)
        assert set(measured.official) == names
        if layout == "real_iad":
            parts = {sample.group for sample in samples}
            score = {part: max(p.score for p in found if p.sample.group == part) for part in parts}
            bad = {part for part in parts if part.startswith("NG")}
            expected = roc_area([score[part] for part in parts - bad], [score[part] for part in bad])
            assert measured.official["S-AUROC"] == pytest.approx(expected)
        images = {label: [p.score for p in found if p.sample.label is label] for label in (False, True)}
        assert measured.official["I-AUROC"] == pytest.approx(roc_area(images[False], images[True]))
        assert measured.official["P-AUPRO"] == measured.metrics["aupro"]


def test_maps_may_lie_as_their_images_do(tmp_path: Path):
    """As the offline code of MVTec AD 2 writes them: <object>/test_public/<type>/<stem>.tiff."""
    (can, _) = find_categories(TREES["mvtec_ad_2"](tmp_path / "data"))
    found = predictions(can.of("test"))
    for one in found:
        path = tmp_path / "maps/can" / one.sample.image.relative_to(can.root).with_suffix(".tiff")
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), one.map)
    read = list(predictions_from_maps(tmp_path / "maps", can))
    assert all(np.array_equal(one.map, other.map) for one, other in zip(read, found, strict=True))
