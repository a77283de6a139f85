"""Whatever a command raises ends as one line on standard error and an exit code."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from blemish.cli import main
from blemish.cli.boundary import boundary
from blemish.errors import BlemishError


def told(error: BaseException, capsys: pytest.CaptureFixture[str], command: str = "fit") -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped, boundary(command, str):
        raise error
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) <= 1
    assert len(said.err) <= 500
    return int(stopped.value.code or 0), said.err.strip()


KNOWN: dict[str, tuple[Exception, str]] = {
    "ours": (BlemishError("a.png: truncated.\nReplace it."), "error a.png: truncated. Replace it."),
    "ours, long": (BlemishError("x" * 9000), "error xxx"),
    "no permission": (
        PermissionError(errno.EACCES, "Permission denied", "data/locked"),
        "error data/locked: Permission denied. Check the path and its permissions.",
    ),
    "a read-only disk": (OSError(errno.EROFS, "Read-only file system", "m/x"), "error m/x: Read-only file system."),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), "error No space left on device. Free some space"),
    "many files": (OSError(errno.EMFILE, "Too many open files", "a"), "error a: Too many open files. Allow more"),
    "a failing disk": (OSError(errno.EIO, "Input/output error", b"odd\xff"), r"error odd\udcff: Input/output error."),
    "a system without words": (OSError("gone"), "error gone. Check the path"),
    "a timeout": (TimeoutError(), "error TimeoutError. Check the path"),
    "memory": (MemoryError(), "error out of memory (no more was given). Use smaller images"),
    "torch's memory": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error out of memory (DefaultCPU"),
    "nesting": (RecursionError("maximum recursion depth exceeded"), "error something that was given is nested too"),
    "a zip": (zipfile.BadZipFile("File is not a zip file"), "error a file is damaged or not what it should be (BadZip"),
    "a stream": (zlib.error("Error -3"), "error a file is damaged or not what it should be (error: Error -3)"),
    "an end": (EOFError(), "error a file is damaged or not what it should be (EOFError"),
    "letters": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "error a file is damaged or not"),
    "a NUL": (ValueError("embedded null byte"), "error a path holds a NUL character"),
    "no package": (ModuleNotFoundError("No module named 'onnx'", name="onnx"), "error onnx is not installed; it is"),
}


@pytest.mark.parametrize(("error", "expected"), KNOWN.values(), ids=KNOWN)
def test_what_a_file_or_the_system_explains_is_one_line_and_exit_code_2(error, expected, capsys):
    code, said = told(error, capsys)
    assert code == 2
    assert said.startswith(expected)


def test_a_fault_in_blemish_says_so_and_keeps_where_it_was(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, said = told(KeyError("colour\n" * 500), capsys)
    assert code == 1
    assert said.startswith("error unexpected KeyError: 'colour")
    assert "This is a fault in blemish." in said
    log = Path(re.search(r"is in (\S+\.log)", said)[1])
    assert log.parent == tmp_path
    assert "raise error" in log.read_text()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("predict", "stopped. The same command goes on from here."),
        ("train", "stopped. The same command with --resume goes on from here."),
        ("synth", "stopped."),
    ],
)
def test_an_interrupted_command_says_whether_it_goes_on(command, expected, capsys):
    assert told(KeyboardInterrupt(), capsys, command) == (130, expected)


def test_ctrl_c_within_a_command(capsys, monkeypatch, tmp_path: Path):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.data.synthetic.synthesize", interrupt)
    with pytest.raises(SystemExit) as stopped:
        main(["synth", str(tmp_path / "out")])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.strip() == "stopped."


def command(*arguments: str, **how: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "blemish", *arguments], stderr=subprocess.PIPE, **how)


def test_a_reader_that_went_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    process = command("--help", stdout=writing)
    os.close(writing)
    assert process.communicate()[1] == b""
    assert process.returncode != 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_output_that_cannot_be_written_is_one_line():
    with Path("/dev/full").open("wb") as full:
        said = command("--version", stdout=full).communicate()[1].decode()
    assert said.startswith("error No space left on device.")
    assert len(said.splitlines()) == 1


def test_names_that_are_no_utf8_are_printed_with_escapes(tmp_path: Path):
    odd = tmp_path / "odd\udcff"
    process = command("synth", str(odd), "--category", "gear", "--size", "64", stdout=subprocess.PIPE)
    out, err = process.communicate()
    assert (process.returncode, err.strip().startswith(b"drawing: ")) == (0, True)
    assert b"odd\\udcff" in out
    assert len(list(odd.rglob("*.png"))) > 5
