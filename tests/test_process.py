"""Who imports blemish keeps the process as it was: only the command sets what is the whole process's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STATE = """
import json, logging, os, pkgutil, signal, sys, warnings
import cv2, numpy, torch

def state():
    return {
        "environment": dict(os.environ),
        "warnings": [str(entry) for entry in warnings.filters],
        "OpenCV's threads": cv2.getNumThreads(),
        "OpenCV's log level": cv2.utils.logging.getLogLevel(),
        "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's mode": (torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()),
        "torch's types": (str(torch.get_default_dtype()), torch.get_float32_matmul_precision()),
        "torch's backend": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "torch's generator": hash(str(torch.get_rng_state().tolist())),
        "numpy's generator": hash(str(numpy.random.get_state())),
        "errors of numpy": numpy.geterr(),
        "log": (logging.root.level, str(logging.root.handlers)),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "hooks": [str(hook) for hook in (sys.excepthook, sys.unraisablehook)],
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval()),
        "folder": os.getcwd(),
    }
"""
LOAD = """
import accelerate, matplotlib.figure, onnxruntime, openvino, pydantic, rich, scipy, typer
before = state()
import blemish
for module in pkgutil.walk_packages(blemish.__path__, "blemish."):
    if not module.name.endswith("__main__") and "timm" not in module.name and ".migrations." not in module.name:
        __import__(module.name)
from pathlib import Path
from blemish.errors import BlemishError
from blemish.imaging.read import read_image
from blemish.inference.inspector import Inspector
images = sorted(Path(sys.argv[1]).rglob("*.png"))
read_image(images[0])
for damaged in sorted(Path(sys.argv[3]).iterdir()):
    try:
        read_image(damaged)
    except BlemishError:
        continue
    raise SystemExit(f"{damaged} was read")
for threads in (0, 1, 2, 3):
    assert len(list(Inspector.load(Path(sys.argv[2]), threads=threads, device="cpu").predict(images[:3]))) == 3
after = state()
print(json.dumps({name: (before[name], after[name]) for name in before if before[name] != after[name]}))
"""


def run(code: str, *arguments: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("OPENCV", "THP"))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=known | environment)


@pytest.mark.slow
def test_importing_reading_and_loading_leave_the_process_as_it_was(run_folder: Path, tmp_path: Path):
    whole = next((run_folder / "data").rglob("*.png")).read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "short.tiff").write_bytes(b"II*\0" + bytes(40))
    (tmp_path / "short.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))
    (tmp_path / "short.bmp").write_bytes(b"BM" + bytes(90))
    (tmp_path / "short.webp").write_bytes(b"RIFF\x20\0\0\0WEBPVP8L" + bytes(24))
    done = run(STATE + LOAD, run_folder / "data/part/train", run_folder / "part", tmp_path, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
    assert done.stderr == ""


@pytest.mark.parametrize(("given", "expected"), [({}, [1, 0, "1"]), ({"OPENCV_FOR_THREADS_NUM": "2"}, [2, 0, "1"])])
def test_the_command_sets_what_is_its_own_process_but_not_what_the_user_has_set(given, expected):
    code = """
import json, os, sys
from blemish.cli import main
assert "cv2" not in sys.modules
assert "torch" not in sys.modules
try:
    main(["--version"])
except SystemExit:
    pass
import cv2
found = cv2.getNumThreads(), cv2.utils.logging.getLogLevel(), os.environ["THP_MEM_ALLOC_ENABLE"]
print(json.dumps(found))
"""
    done = run(code, **given)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == expected
