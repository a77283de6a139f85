"""Runs beside each other: which is better, and by which test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from written_runs import NOISE, predictions_of

from blemish.data import find_categories
from blemish.evaluation.report_data import (
    ReportData,
)
from blemish.evaluation.results import format_value
from blemish.imaging.masks import read_mask
from blemish.metrics import Resamples, paired_bootstrap, rank_images, rank_labelled
from blemish.reporting.compare import best_of, compare_parts, compare_runs, verdicts_table
from blemish.reporting.read_runs import Part, Run
from blemish.types import Evaluation


def test_best_is_only_what_is_significantly_better(runs, summary):
    rows = summary["overview"]["pixel_auroc"]
    assert [cell["best"] for cell in rows[-1]["cells"]] == [True, False]
    twins = [runs[0], replace(runs[0], label="twin")]
    assert best_of("pixel_auroc", twins) == ""
    assert best_of("pixel_auroc", runs[:1]) == ""
    assert best_of("image_fpr_at_full_recall", list(reversed(runs)), "bolt") in ("", "good eyes")


def test_comparing_two_runs_is_the_paired_bootstrap(runs, data: Path):
    category = find_categories(data, ["bolt"])[0]
    samples = category.of("test")
    rankings = []
    for noise in NOISE.values():
        maps = [prediction.map for prediction in predictions_of(category, noise)]
        masks = [read_mask(sample.mask) if sample.mask else None for sample in samples]
        rankings.append(rank_labelled([bool(s.label) for s in samples], zip(masks, maps, strict=True)))
    expected = paired_bootstrap("pixel_auroc", *rankings, num_resamples=200)
    assert compare_parts(runs[0].parts[0], runs[1].parts[0], "pixel_auroc") == expected


def test_verdicts(runs):
    verdicts = {verdict.metric: verdict for verdict in compare_runs(runs)}
    assert verdicts["pixel_auroc"].better == "good eyes"
    assert verdicts["pixel_auroc"].first == pytest.approx(
        np.mean([p.evaluation.metrics["pixel_auroc"] for p in runs[0].parts])
    )
    assert verdicts["pixel_auroc"].categories == "fewer than six categories"
    assert "au_spro_0.05" not in verdicts
    assert all(not verdict.better for verdict in compare_runs([runs[0], replace(runs[0], label="twin")]))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(verdicts_table(list(verdicts.values())))
    row = next(line.split() for line in console.export_text().splitlines() if line.startswith("pixel AUROC"))
    pixel = verdicts["pixel_auroc"]
    assert row[2:5] == [format_value(pixel.first), format_value(pixel.second), f"{pixel.images.difference:+.3f}"]
    assert row[-2:] == ["good", "eyes"]


def test_the_bootstrap_of_an_average_resamples_categories_apart():
    generator = np.random.default_rng(0)
    draws = generator.normal(0, 0.1, 4000)

    def run(label: str, gain: float) -> Run:
        parts = [
            Part(
                Evaluation(label, name, {"image_auroc": 0.5 + gain}, images=[{"path": "a", "label": True}]),
                ReportData(resamples={"image_auroc": Resamples(0.5 + gain, 0.5 + gain + (gain > 0) * draws)}),
                Path(),
            )
            for name in "abcd"
        ]
        return Run(label, Path(label), tuple(parts))

    comparison = compare_runs([run("first", 0.0), run("second", 0.01)])[0].images
    assert comparison.high - comparison.low == pytest.approx(
        2 * 1.96 * 0.1 / 2, rel=0.08
    )  # not 0.1: four times as many


def test_runs_on_other_images_are_not_compared(runs):
    other = replace(runs[1].parts[0].evaluation, images=runs[1].parts[0].evaluation.images[:-1])
    part = replace(runs[1].parts[0], evaluation=other)
    assert compare_parts(runs[0].parts[0], part, "pixel_auroc") == "different test images in bolt"
    bare = replace(runs[1].parts[0], report_data=ReportData())
    assert compare_parts(runs[0].parts[0], bare, "pixel_auroc") == "no stored resamples of bolt"
    fewer = {name: replace(found, values=found.values[:50]) for name, found in part.report_data.resamples.items()}
    part = replace(runs[1].parts[0], report_data=replace(part.report_data, resamples=fewer))
    assert compare_parts(runs[0].parts[0], part, "pixel_auroc") == "bolt has different numbers of resamples"


def test_resamples_of_images_need_only_their_scores(runs):
    evaluation = runs[0].parts[0].evaluation
    labels, scores = ([row[name] for row in evaluation.images] for name in ("label", "score"))
    assert rank_images(labels, scores).num_anomalous == 8
    low, high = evaluation.intervals["image_auroc"]
    values = runs[0].parts[0].report_data.resamples["image_auroc"].values
    assert np.quantile(values, [0.025, 0.975]).tolist() == [low, high]
