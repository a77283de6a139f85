"""State on disk is written whole or not at all; only regular files are read."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import BlemishError
from blemish.files import (
    FORMULA,
    check_file,
    csv_cells,
    make_folder,
    making_folder,
    read_bytes,
    replacing,
    write_json,
    write_text,
)
from blemish.imaging.read import read_image


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds "old"."""
    (tmp_path / "state.json").write_text("old")
    return tmp_path / "state.json"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_only_at_the_end(path: Path):
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent.parent == path.parent  # a rename is atomic within one file system only
        assert temporary.suffix == ".json"  # writers choose the format by it
        assert temporary.parent.name.startswith(".")
    assert path.read_text() == "new"
    assert names(path.parent) == ["state.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_a_writer_leaves_beside_its_file_is_gone(path: Path):
    # Trap: safetensors writes to a temporary file of its own, which a killed process left in the model folder.
    with replacing(path) as temporary:
        temporary.with_name(".tmpUClIC2").touch()
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["state.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("written", [False, True])
def test_what_goes_wrong_while_writing_leaves_the_old_file_alone(error, written, path: Path):
    def write_half() -> None:
        with replacing(path) as temporary:
            if written:
                temporary.write_text("ne")
            raise error

    with pytest.raises(BlemishError if error is OSError else error):
        write_half()
    assert path.read_text() == "old"
    assert names(path.parent) == ["state.json"]


def test_a_writer_that_removes_its_file_leaves_the_old_one(path: Path):
    with pytest.raises(BlemishError, match="No such file"), replacing(path) as temporary:
        temporary.unlink()
    assert path.read_text() == "old"
    assert names(path.parent) == ["state.json"]


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_process_that_is_stopped_while_writing_leaves_the_old_file(how, path: Path):
    code = (
        "import signal, sys, time, pathlib; from blemish.files import replacing\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have started the tests without it
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    file = temporary.open('w'); file.write('ne'); file.flush(); print('half', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.Signals[how])
    assert path.read_text() == "old"
    left = [name for name in names(path.parent) if name != "state.json"]
    # Nobody can clean up after SIGKILL but the next one who writes; until then what is left is hidden.
    assert all(name.startswith(".state.json.") for name in left)
    assert len(left) == (how == "SIGKILL")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["state.json"]


def test_nothing_but_what_was_left_of_the_same_file_is_removed(tmp_path: Path):
    others = [".run[1].json", ".run1.json.abcdefgh", ".run[1].json.abcdefgh.txt", "run[1].json.abcdefgh"]
    for name in (*others, ".run[1].json.abcdefgh"):
        (tmp_path / name).mkdir()
    write_text(tmp_path / "run[1].json", "new")
    assert names(tmp_path) == sorted([*others, "run[1].json"])


def test_of_two_who_write_at_the_same_time_one_fails_and_the_file_is_whole(path: Path):
    def write_twice() -> None:
        with replacing(path) as first:
            first.write_text("first")
            write_text(path, "second")

    with pytest.raises(BlemishError, match="No such file"):
        write_twice()
    assert path.read_text() == "second"
    assert names(path.parent) == ["state.json"]


def test_all_is_on_the_disk_before_the_file_takes_its_place(path: Path, monkeypatch):
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(handle: int) -> None:
        events.append(f"fsync {os.fstat(handle).st_size}")
        fsync(handle)

    def note_replace(self: Path, target: Path) -> Path:
        events.append(f"replace {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_text(path, "twelve bytes")
    assert events[:2] == ["fsync 12", "replace state.json"]


def test_text_is_utf_8_and_folders_are_made(tmp_path: Path):
    path = tmp_path / "a b" / "Größe" / "伤.txt"
    write_text(path, "Kratzer: 2 µm\n")
    assert path.read_bytes() == "Kratzer: 2 µm\n".encode()
    assert names(path.parent) == ["伤.txt"]


def test_json_keeps_order_and_numbers(path: Path):
    content = {"b": 0.1 + 0.2, "a": [1, None, True, "ü"]}
    write_json(path, content)
    assert json.loads(path.read_text()) == content
    assert list(json.loads(path.read_text())) == ["b", "a"]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_what_json_does_not_have_is_refused_before_the_old_file_is_touched(value, path: Path):
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"value": value})
    assert path.read_text() == "old"
    assert names(path.parent) == ["state.json"]


def test_a_folder_that_cannot_be_made_is_named(path: Path):
    for make in (
        make_folder,
        lambda folder: making_folder(folder).__enter__(),
        lambda folder: write_text(folder / "x.txt", ""),
    ):
        with pytest.raises(BlemishError, match=r"state\.json/results: cannot make this folder \(Not a directory\)"):
            make(path / "results")
    with pytest.raises(BlemishError, match=r"state\.json: cannot make this folder \(File exists\)"):
        make_folder(path)


def test_a_folder_that_nothing_came_into_is_gone_after_a_failure(tmp_path: Path):
    def fail(folder: Path, *written: Path) -> None:
        with making_folder(folder):
            for path in written:
                write_text(path, "")
            raise BlemishError("refused")

    kept = tmp_path / "kept"
    for arguments in ((tmp_path,), (tmp_path / "new/deep",), (kept / "deep", kept / "x.txt")):
        with pytest.raises(BlemishError, match="refused"):
            fail(*arguments)
    assert names(tmp_path) == ["kept"]
    assert names(kept) == ["x.txt"]
    with making_folder(tmp_path / "new/deep"):
        pass
    assert names(tmp_path / "new") == ["deep"]


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path):
    name = "x" * 250
    with pytest.raises(BlemishError, match=rf"{name}: cannot be written \(File name too long\)"):
        write_text(tmp_path / name, "")


def test_a_folder_in_the_place_of_the_file_is_not_replaced(tmp_path: Path):
    (tmp_path / "results.json").mkdir()
    with pytest.raises(BlemishError, match=r"results\.json: Is a directory"):
        write_text(tmp_path / "results.json", "new")
    assert names(tmp_path) == ["results.json"]


@pytest.mark.parametrize(
    "written",
    [
        "write_text(path, 'x' * 10_000)",
        "write_arrays(path, {'x': numpy.zeros(10_000)})",
        "write_tensors(path, {'x': torch.zeros(10_000)})",
    ],
)
def test_a_full_disk_is_one_line(written, path: Path):
    code = (
        "import resource, sys, pathlib, numpy, torch\n"
        "from blemish.errors import BlemishError\n"
        "from blemish.files import write_arrays, write_tensors, write_text\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        f"try: {written}\n"
        "except BlemishError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path}: cannot be written (")
    assert "File too large" in done.stdout
    assert done.stdout.endswith("). Free some space, or choose another place.\n")
    assert path.read_text() == "old"
    assert names(path.parent) == ["state.json"]


@given(st.lists(st.text() | st.floats(allow_nan=False) | st.integers() | st.none(), min_size=1))
def test_a_cell_is_no_formula_and_its_text_comes_back(values):
    text = io.StringIO()
    csv.writer(text).writerow(csv_cells(values))
    (cells,) = csv.reader(io.StringIO(text.getvalue(), newline=""))
    for value, cell in zip(values, cells, strict=True):
        if isinstance(value, str):
            assert cell.lstrip()[:1] not in FORMULA - {"'"}
            assert cell.removeprefix("'") == value if cell != value else True
        else:
            assert cell == ("" if value is None else str(value))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", " =", "'", "  +"])
def test_what_begins_a_formula_has_an_apostrophe_before_it(begin):
    assert csv_cells([begin + "1+1", "a" + begin, -1.5, None]) == [f"'{begin}1+1", "a" + begin, -1.5, ""]


@pytest.fixture
def special(tmp_path: Path, monkeypatch) -> dict[str, Path]:
    """Kind -> a path of it, none of which has a content to be read."""
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    os.mkfifo("fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    (tmp_path / "link").symlink_to("fifo")
    found = {"Is a directory": "folder", "a pipe (FIFO)": "fifo", "a socket": "socket", "a device": os.devnull}
    return {kind: Path(name) for kind, name in found.items()}


@pytest.mark.parametrize("read", [check_file, read_bytes])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(read, special):
    for kind, path in special.items():
        with pytest.raises(BlemishError) as raised:
            read(path)
        assert str(raised.value) == f"{path}: {kind}, where a file is expected."
    with pytest.raises(BlemishError, match=r"^link: a pipe"):
        read(Path("link"))


@pytest.mark.parametrize(
    ("name", "reason"), [("gone", "No such file"), ("a" * 300, "File name too long"), ("a\0b", "null")]
)
def test_a_path_that_names_no_file_is_told(name, reason, tmp_path: Path):
    with pytest.raises(BlemishError, match=reason):
        read_bytes(tmp_path / name)


def test_no_more_than_the_largest_size_is_read(path: Path):
    assert read_bytes(path, 3) == b"old"
    with pytest.raises(BlemishError, match="Give a smaller file"):
        read_bytes(path, 2)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(30 << 30)  # it takes no place on the disk
    with pytest.raises(BlemishError, match=r"huge\.png: 32,212 MB, where at most 3,267 MB are read"):
        read_image(tmp_path / "huge.png")


@pytest.mark.parametrize("kind", ["a pipe (FIFO)", "a socket", "Is a directory"])
def test_what_is_no_regular_file_is_never_replaced(kind, special):
    """A rename would take the place of a device for every process of the machine."""
    path = special[kind]
    before = path.stat()
    with pytest.raises(BlemishError, match=f"{path}: .*where a file is expected"):
        write_text(path, "new")
    assert (path.stat().st_mode, path.stat().st_ino) == (before.st_mode, before.st_ino)
