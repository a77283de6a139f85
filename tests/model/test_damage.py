"""A model folder that is damaged anywhere is used, or refused in one line: the script of the benchmarks, briefly."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from blemish.runs.export import export

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "damaged_models.py"


@pytest.fixture(scope="module")
def damaging() -> ModuleType:
    found = importlib.util.spec_from_file_location("damaged_models", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["json", "tensors"])
@pytest.mark.parametrize("number", range(8))
def test_damage_is_used_or_refused_in_one_line(kind, number, damaging, run_folder: Path, model: Path, tmp_path: Path):
    damaging.damage(model, kind, np.random.default_rng([9, number]))
    images = str(run_folder / "data/part/test/bad")
    outcomes = damaging.use(str(model), images, kind, str(tmp_path / "out"), False)
    assert set(outcomes) <= {"used", "refused"}


@pytest.mark.slow
def test_a_hundred_damaged_models(run_folder: Path, model: Path):
    for name in ("onnx", "openvino"):
        export(model, name)
    images = run_folder / "data/part/test/bad"
    command = [sys.executable, str(SCRIPT), str(model), str(images), "100", "--patience", "120"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 damaged, 0 bad" in done.stdout
