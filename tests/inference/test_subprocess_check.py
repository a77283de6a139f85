"""An export is first run in a process of its own, once for each content; what that process suffers is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.inference import subprocess_check
from blemish.inference.subprocess_check import check_in_subprocess


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess_check, "_passed", set())


def attempt(path: Path, *digests: str) -> None:
    check_in_subprocess("fakes:Fake", "numpy", path, (8, 8), digests)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("crash", r"the runtime crashes with it \(SIGSEGV\)"),
        ("hang", "loading it and computing one image takes more than 3 s"),
        ("raise", r"cannot be run \(RuntimeError: weights are odd\)"),
        ("memory", r"cannot be run \(\w*MemoryError: Unable to allocate"),
    ],
)
def test_what_ends_a_runtime_does_not_end_blemish(what, expected, tmp_path: Path, monkeypatch, capfd):
    (tmp_path / "model.onnx").write_text(what)
    if what == "hang":
        monkeypatch.setattr(subprocess_check, "SECONDS", 3)
    for _ in range(2):  # what failed is not remembered
        with pytest.raises(BlemishError, match=expected) as raised:
            attempt(tmp_path / "model.onnx", "a")
    assert str(raised.value).startswith(f"{tmp_path / 'model.onnx'}: ")
    assert "Export again" in str(raised.value)
    assert capfd.readouterr() == ("", "")


def runs(path: Path) -> int:
    return len((path / "runs").read_text())


def test_what_passed_is_remembered_by_its_content(tmp_path: Path, monkeypatch):
    (tmp_path / "model.onnx").write_text("work")
    attempt(tmp_path / "model.onnx", "a")
    attempt(tmp_path / "model.onnx", "a")
    assert runs(tmp_path) == 1
    monkeypatch.setattr(subprocess_check, "_passed", set())  # as in another process
    attempt(tmp_path / "model.onnx", "a")
    assert runs(tmp_path) == 1
    attempt(tmp_path / "model.onnx", "b")
    attempt(tmp_path / "model.onnx", "a", "b")
    assert runs(tmp_path) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are otherwise there")
@pytest.mark.parametrize("spoil", ["others may write", "a file", "no home"])
def test_without_a_safe_cache_it_is_remembered_in_memory(spoil, tmp_path: Path, monkeypatch):
    if spoil == "others may write":
        (tmp_path / "cache/blemish/tried").mkdir(parents=True)
        (tmp_path / "cache/blemish/tried").chmod(0o777)
    elif spoil == "a file":
        (tmp_path / "cache").touch()
    else:
        for name in ("BLEMISH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    (tmp_path / "model.onnx").write_text("work")
    attempt(tmp_path / "model.onnx", "a")
    attempt(tmp_path / "model.onnx", "a")
    assert runs(tmp_path) == 1
    monkeypatch.setattr(subprocess_check, "_passed", set())
    attempt(tmp_path / "model.onnx", "a")
    assert runs(tmp_path) == 2
