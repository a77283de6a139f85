"""The public names, and that importing them or a model changes nothing of the process around."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import blemish

ROOT = Path(blemish.__file__).parents[2]
PUBLIC = [
    "BlemishError",
    "Model",
    "Result",
    "benchmark",
    "evaluate",
    "fit",
    "load",
    "register_detector",
    "register_features",
    "register_layout",
    "register_metric",
    "report",
]
METHODS = {
    "Model": [
        "calibrate", "calibration", "category", "export", "inspector", "method", "of", "options", "predict",
        "predict_many", "provenance", "save", "threshold", "update",
    ],
    "Result": [
        "calibration", "decision", "is_defect", "map", "overlay", "p_value", "path", "prediction", "regions", "score",
    ],
}  # fmt: skip


def test_the_public_names_are_these():
    assert blemish.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(blemish))
    assert all(getattr(blemish, name).__doc__ for name in PUBLIC)
    for name, members in METHODS.items():
        assert [member for member in dir(getattr(blemish, name)) if not member.startswith("_")] == members
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        _ = blemish.predict


def test_type_checkers_are_told_of_every_public_name():
    tree = ast.parse(Path(blemish.__file__).read_text())
    told = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name: part.module for part in told.body for alias in part.names}
    assert names == blemish._PLACES
    assert (Path(blemish.__file__).parent / "py.typed").exists()


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_neither_torch_nor_opencv():
    assert python("import blemish, sys; print({'torch', 'cv2', 'pydantic'} & set(sys.modules))") == "set()\n"


STATE = """
import logging, os, random, sys
import cv2, numpy, torch
import rich.console  # which draws a random number when it is imported
def state():
    log = [logging.root.level, list(logging.root.handlers), list(logging.getLogger("blemish").handlers)]
    return [
        cv2.getNumThreads(), cv2.utils.logging.getLogLevel(), torch.get_num_threads(), torch.get_num_interop_threads(),
        torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state().sum().item(), random.getstate(),
        torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic, numpy.geterr(), log,
        numpy.random.get_state()[1].tolist(), dict(os.environ), os.getcwd(), list(sys.path),
    ]
before = state()
import blemish
"""


@pytest.mark.slow
def test_fitting_loading_and_predicting_leave_the_process_as_it_was(model, run_folder, tmp_path):
    image, folder = run_folder / "data/part/test/bad/000.png", run_folder / "data/part/train/good"
    used = f"""
loaded = blemish.load({str(model)!r})
loaded.predict({str(image)!r})
fitted = blemish.fit({str(folder)!r}, method="patchcore", backbone="gabor", size=32, num_patches=50, seed=3)
list(fitted.predict_many([{str(image)!r}] * 3))
fitted.save({str(tmp_path / "saved")!r})
print([pair for pair in zip(before, state()) if pair[0] != pair[1]])
"""
    assert python(STATE + used) == "[]\n"


def test_loading_an_export_imports_no_torch(model):
    blemish.load(model).export("onnx")
    code = f"import blemish, sys; print(blemish.load({str(model)!r}, 'onnx').threshold, 'torch' in sys.modules)"
    assert python(code) == f"{blemish.load(model).threshold} False\n"
