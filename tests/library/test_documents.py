"""The code of docs/python.md runs, block after block, and so does every public name as the design has it."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import blemish
from blemish.metrics.registry import _METRICS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def parts(tmp_path: Path, make_category, monkeypatch) -> Path:
    """A folder `parts` with good ones and some with a scratch, beside `more/good` and `held_out/good`."""
    folder = make_category(tmp_path / "made", "part", num_train=45, num_bad=3)
    (tmp_path / "parts").mkdir()
    (folder / "test/bad").rename(tmp_path / "parts/scratch")
    (folder / "train/good").rename(tmp_path / "parts/good")
    generator = np.random.default_rng(5)
    for name in ("more", "held_out"):
        (tmp_path / name / "good").mkdir(parents=True)
        for index in range(12):
            image = generator.normal(np.linspace(60, 160, 48)[None, :, None], 8, (48, 48, 3))
            cv2.imwrite(str(tmp_path / f"{name}/good/new{index:02}.png"), np.clip(image, 0, 255).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "parts"


@pytest.mark.slow
def test_the_code_of_the_document_runs_in_order(parts, monkeypatch, capsys):
    monkeypatch.setitem(_METRICS, "image_youden", None)  # so that it is gone afterwards
    del _METRICS["image_youden"]
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["evaluation"].metrics["image_auroc"] == 1.0
    assert Path("report.html").stat().st_size > 100_000
    assert capsys.readouterr().out.strip().splitlines()[-1] == "1.0"


def test_the_public_names_work_as_the_design_has_them(parts, make_category, tmp_path):
    make_category(tmp_path / "mvtec", "bottle")
    small = {"size": 32, "align": "off"}
    model = blemish.fit("parts/good", method="ensemble", seed=0, **small)
    result = model.predict("parts/scratch/000.png")
    assert result.score > model.threshold
    assert result.map.shape == (48, 48)
    assert result.is_defect is True
    assert result.p_value == 1 / (4 + 1)
    assert result.regions[0].area > 0
    assert result.overlay().ndim == 3
    assert [found.score for found in model.predict_many(["parts/scratch/000.png"], batch_size=8)] == [result.score]
    model.calibrate(false_alarm_rate=0.4)
    model.update("more/good")
    model.save("model")
    model.export("onnx")
    for backend in ("torch", "onnx"):
        assert blemish.load("model", backend=backend).predict("parts/scratch/000.png").is_defect
    assert blemish.evaluate(model, "mvtec/bottle").category == "bottle"
    folder = blemish.benchmark(["padim", "patchcore"], "mvtec", out="benchmark", **small)
    assert folder == Path("benchmark")
    assert (folder / "benchmark.html").exists()
    assert blemish.report(folder, "report.html") == Path("report.html")
