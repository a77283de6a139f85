"""The steps of a run one by one, and how often each file is read and decoded in all of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import blemish.files
import blemish.imaging.read
from blemish.data.category import find_category, only_good
from blemish.evaluation.results import EVALUATION
from blemish.inference.inspector import Inspector
from blemish.runs.config import RunConfig
from blemish.runs.fit import fit as fit_run
from blemish.runs.run import run
from blemish.runs.steps import calibrate, fit, plan, prepare
from blemish.runs.testing import evaluate

SMALL = {"size": 32, "validation": 0.3}
GABOR = {"backbone": "gabor"}


@pytest.fixture
def folder(tmp_path: Path, make_category) -> Path:
    return make_category(tmp_path / "data", num_train=8, num_good=3, num_bad=3)


@pytest.fixture
def counted(monkeypatch) -> tuple[Counter[Path], Counter[str]]:
    """How often each path is opened, and each content decoded by its hash, from now on."""
    opens: Counter[Path] = Counter()
    decodes: Counter[str] = Counter()
    opened, decode = blemish.files.opened, blemish.imaging.read.decode

    def counting_opened(path: Path):
        opens[path] += 1
        return opened(path)

    def counting_decode(data: bytes, *rest):
        decodes[hashlib.sha256(data).hexdigest()] += 1
        return decode(data, *rest)

    monkeypatch.setattr(blemish.files, "opened", counting_opened)
    monkeypatch.setattr(blemish.imaging.read, "decode", counting_decode)
    return opens, decodes


def padim(folder: Path, out: Path, **fields) -> RunConfig:
    return RunConfig.create(model="padim", data_path=folder, ckpt_path=out, options=GABOR, **SMALL, **fields)


def contents(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")}


MODELS = [("padim", GABOR), ("ae", {"width": 4, "latent_dim": 4})]


@pytest.mark.parametrize("align", ["auto", "on"])
@pytest.mark.parametrize(("model", "options"), MODELS)
def test_each_file_of_a_run_is_read_and_decoded_once(folder, tmp_path, counted, model, options, align):
    """Hashing, aligning, fitting, measuring, figures and previews together; each mask too."""
    files, epochs = contents(folder), 1 if model == "ae" else None
    config = {"model": model, "options": options, "epochs": epochs, "align": align, **SMALL}
    run(RunConfig.create(data_path=folder, ckpt_path=tmp_path / "out", **config))
    assert (tmp_path / "out/part" / EVALUATION).exists()
    opens, decodes = counted
    assert {path: opens[path] for path in files} == dict.fromkeys(files, 1)
    assert {path: decodes[digest] for path, digest in files.items()} == dict.fromkeys(files, 1)


def test_with_a_region_of_interest_each_mask_is_read_once_too(folder, tmp_path, counted):
    cv2.imwrite(str(tmp_path / "roi.png"), np.full((48, 48), 255, np.uint8))
    files = contents(folder)
    run(padim(folder, tmp_path / "out", roi=tmp_path / "roi.png"))
    assert {path: counted[0][path] for path in files} == dict.fromkeys(files, 1)


def test_fitting_reads_and_decodes_each_file_once(folder, tmp_path, counted):
    files = contents(folder / "train/good")
    fit_run(padim(folder / "train/good", tmp_path / "out"))
    opens, decodes = counted
    assert {path: opens[path] for path in files} == dict.fromkeys(files, 1)
    assert {path: decodes[digest] for path, digest in files.items()} == dict.fromkeys(files, 1)


def test_without_memory_files_are_read_anew_and_the_result_is_the_same(folder, tmp_path):
    """A budget changes how often a file is read, and nothing else."""
    rows = []
    for budget in ("0", "4GB"):
        config = {"model": "ae", "options": MODELS[1][1], "epochs": 1, "align": "on", "memory_budget": budget, **SMALL}
        rows.append(run(RunConfig.create(data_path=folder, ckpt_path=tmp_path / budget, **config)))
    assert replace(rows[0], durations={}) == replace(rows[1], durations={})


def test_each_step_is_usable_alone(folder, tmp_path):
    """Two detectors are fitted to images that were decoded once; nothing is written."""
    config = padim(folder, tmp_path / "out")
    planned = plan(config, find_category(folder, "part"))
    prepared = prepare(planned)
    assert [len(prepared.of(split)) for split in ("train", "val", "test")] == [6, 2, 6]
    with pytest.raises(FrozenInstanceError):
        prepared.reasons = ()  # type: ignore[misc]
    calibrated = calibrate(fit(prepared))
    assert len(calibrated.held_out) == 2
    tested = evaluate(calibrated)
    expected = run(config)
    assert tested.measured.evaluation.metrics == expected.metrics
    assert tested.measured.evaluation.images == expected.images
    assert Inspector.load(tmp_path / "out/part").calibration == tested.calibration


def test_a_service_fits_without_evaluating(folder, tmp_path):
    config = padim(folder, tmp_path / "out")
    artifact = calibrate(fit(prepare(plan(config, only_good(find_category(folder, "part")))))).artifact
    assert artifact.calibration.num_images == 2
    assert not (tmp_path / "out").exists()
