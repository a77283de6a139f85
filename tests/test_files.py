"""State on disk is written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import BlemishError
from blemish.files import FORMULA, csv_cells, make_folder, making_folder, replacing, write_json, write_text


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
        "import sys, time, pathlib; from blemish.files import replacing\n"
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
    with pytest.raises(BlemishError, match=r"results.json: cannot be written \(.*directory"):
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
