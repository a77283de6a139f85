"""Layouts, metrics and features that are no part of the package, each in a few lines; and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

import blemish
from blemish.data.layouts import LAYOUTS
from blemish.detectors import DETECTORS
from blemish.detectors.base import Detector
from blemish.detectors.padim import PaDiM
from blemish.features.base import FILTER_BANKS, Backbone
from blemish.features.gabor import GaborFeatures
from blemish.metrics import METRICS, Metric
from blemish.metrics.registry import _METRICS
from blemish.reporting.read_runs import read_runs
from blemish.types import Sample

SMALL = {"backbone": "gabor", "size": 32, "align": "off"}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """What a test registers is gone after it."""
    tables = DETECTORS, LAYOUTS, FILTER_BANKS, _METRICS
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


def read_bins(path: Path) -> dict[Path, list[Sample]]:
    """A line that sorts parts into bins: `bin-ok` and `bin-scrap`, every third good one for the test."""
    good = [Sample(file, False, split="train") for file in sorted((path / "bin-ok").glob("*.png"))]
    bad = [Sample(file, True, defect="scrap") for file in sorted((path / "bin-scrap").glob("*.png"))]
    return {path: [*good[3:], *(Sample(one.image, False) for one in good[:3]), *bad]} if good else {}


@pytest.fixture
def bins(tmp_path: Path, make_category) -> Path:
    """The same images in the bins of a line, which would be defects of two types to the layout of a folder."""
    folder = make_category(tmp_path, num_train=9)
    for source, name in (("train/good", "bin-ok"), ("test/bad", "bin-scrap")):
        (folder / source).rename(folder / name)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and path.name not in ("bin-ok", "bin-scrap"):
            for file in path.glob("*.png"):
                file.unlink()
            path.rmdir()
    return folder


def test_a_layout_is_tried_before_those_that_are_known(bins):
    blemish.register_layout("bins", read_bins)
    model = blemish.fit(bins, method="padim", **SMALL)
    assert len(model.provenance["learned_from"]) + len(model.provenance["held_out"]) == 6
    evaluation = blemish.evaluate(model, bins)
    assert [row["defect"] for row in evaluation.images] == ["good"] * 3 + ["scrap"] * 2
    assert evaluation.metrics["image_auroc"] == 1.0
    assert next(iter(LAYOUTS)) == "bins"


@pytest.mark.parametrize("given", [[1], {"part": []}, {Path("part"): ["a.png"]}])
def test_a_layout_that_gives_something_else_is_named(given, tmp_path):
    blemish.register_layout("odd", lambda path: given)
    with pytest.raises(blemish.BlemishError, match="layout odd: must return a dict"):
        blemish.fit(tmp_path)


def test_a_metric_is_in_every_evaluation_from_then_on(tmp_path, make_category):
    def most_apart(false_positives, true_positives):
        totals = (np.maximum(counts[..., -1:], 1) for counts in (true_positives, false_positives))
        return (true_positives / next(totals) - false_positives / next(totals)).max(-1).clip(0, 1)

    blemish.register_metric("image_youden", Metric("image", "higher", "image Youden's J", "counts", most_apart))
    assert list(METRICS)[-1] == "image_youden"
    run = blemish.benchmark(["padim"], make_category(tmp_path), tmp_path / "runs", **SMALL)
    ((evaluation,),) = ([part.evaluation for part in found.parts] for found in read_runs([run]))
    assert evaluation.metrics["image_youden"] == 1.0
    assert evaluation.intervals["image_youden"] == [1.0, 1.0]
    assert "image_youden" in (run / "tables/results.csv").read_text()
    assert "image Youden's J" in blemish.report(run, tmp_path / "report.html").read_text().replace("&#39;", "'")


class Patches(Backbone):
    """The mean colour of each 4x4 patch."""

    def levels(self, images: Tensor) -> list[Tensor]:
        """One level of three channels."""
        return [F.avg_pool2d(images, 4)]


@pytest.mark.parametrize("method", ["padim", "patchcore", "ensemble"])
def test_features_serve_every_detector_that_compares_features(method, tmp_path, make_category):
    blemish.register_features("patches", Patches)
    folder = make_category(tmp_path)
    model = blemish.fit(folder / "train/good", method=method, **SMALL | {"backbone": "patches"})
    assert blemish.evaluate(model, folder).metrics["image_auroc"] == 1.0
    model.save(tmp_path / "model")
    image = folder / "test/bad/000.png"
    assert blemish.load(tmp_path / "model").predict(image).score == model.predict(image).score


class Unfinished(Detector):
    pass


class Untyped(PaDiM):
    def __init__(self, size=32):
        super().__init__()


class Undecided(PaDiM):
    def __init__(self, width: int):
        super().__init__()


@pytest.mark.parametrize(
    ("register", "name", "what", "message"),
    [
        (blemish.register_detector, "padim", PaDiM, "detector padim: the name is taken"),
        (blemish.register_detector, "My Own", PaDiM, "detector 'My Own': not a name"),
        (blemish.register_detector, 3, PaDiM, "detector 3: not a name"),
        (blemish.register_detector, "mine", "padim", "'padim' is no class of"),
        (blemish.register_detector, "mine", torch.nn.Linear, "is no class of"),
        (blemish.register_detector, "mine", Unfinished, "Unfinished has no fit, score"),
        (blemish.register_detector, "mine", Untyped, "Untyped has an option without a type: 'size'"),
        (blemish.register_detector, "mine", Undecided, "Undecided has options without a default: width"),
        (blemish.register_layout, "mvtec", read_bins, "layout mvtec: the name is taken"),
        (blemish.register_layout, "bins", None, "layout bins: None is not a function"),
        (blemish.register_metric, "aupro", METRICS["aupro"], "metric aupro: the name is taken"),
        (blemish.register_metric, "mine", max, "metric mine: <built-in function max> is no"),
        (
            blemish.register_metric,
            "mine",
            Metric("picture", "higher", "mine", "counts", max),
            "metric mine: level is 'picture'; allowed are image, pixel",
        ),
        (blemish.register_features, "gabor", GaborFeatures, "features gabor: the name is taken"),
        (blemish.register_features, "mine", Patches(), "is no class of"),
        (blemish.register_features, "mine", Backbone, "Backbone has no levels"),
    ],
)
def test_what_cannot_be_registered_is_refused_in_one_line(register, name, what, message):
    before = [dict(table) for table in (DETECTORS, LAYOUTS, FILTER_BANKS, METRICS)]
    with pytest.raises(blemish.BlemishError, match=message):
        register(name, what)
    assert [dict(table) for table in (DETECTORS, LAYOUTS, FILTER_BANKS, METRICS)] == before
