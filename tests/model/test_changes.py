"""A model changes as a whole: what killed writers left goes, who reads meanwhile gets one or the other."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.calibration.thresholds import with_thresholds
from blemish.errors import BlemishError
from blemish.inference.inspector import Inspector
from blemish.model import folder as reading_module
from blemish.model.artifact import load, save
from blemish.model.changes import locked_folder, updating_model, write_model
from blemish.model.document import parse
from blemish.model.folder import DOCUMENT, TENSORS, read_consistently, read_model


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def with_other_tensors(folder: Path) -> None:
    """Gives the model tensors with other bytes, of the same values."""
    with updating_model(folder, "test") as model:
        content = bytearray(model.file(TENSORS).read_bytes())
        header = int.from_bytes(content[:8], "little") + 8
        (folder / "new").write_bytes((header).to_bytes(8, "little") + content[8:header] + b" " * 8 + content[header:])
        write_model(model, {TENSORS: folder / "new"})


def test_what_was_left_is_cleared_by_the_next_that_changes_anything(model: Path):
    expected = names(model)
    left = ["model-0123456789ab.safetensors", "roi-0123456789ab.png", "openvino/model-0123456789ab.xml", ".lock"]
    for name in left:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"left")
    for name in (".staging-abcdefgh", ".export-abcdefgh", ".model.json.abcdefgh"):
        (model / name).mkdir()
        (model / name / "file").write_bytes(b"left")
    others = ["notes-0123456789ab.txt", "model.png", "my-model.safetensors", "model-v2.safetensors"]
    for name in others:
        (model / name).write_bytes(b"of somebody else")
    with updating_model(model, "test"):
        pass
    assert names(model) == expected | set(others) | {"openvino"}


def test_nothing_is_cleared_where_model_json_cannot_be_read(model: Path):
    content = (model / DOCUMENT).read_bytes()
    (model / DOCUMENT).write_bytes(content[:-9])
    before = names(model)
    with locked_folder(model, "test"):
        pass
    assert names(model) == before
    (model / DOCUMENT).write_bytes(content)
    assert load(model)


@pytest.mark.parametrize("name", ["../precious", "ROOT/precious", 7, None])
def test_replacing_a_model_removes_nothing_outside_of_its_folder(name, model: Path):
    known = load(model)
    (model.parent / "precious").write_text("kept")
    content = json.loads((model / DOCUMENT).read_text())
    named = name.replace("ROOT", str(model.parent)) if isinstance(name, str) else name
    (model / DOCUMENT).write_text(json.dumps(content | {"files": content["files"] | {"model.onnx": named}}))
    save(known, model)
    assert (model.parent / "precious").read_text() == "kept"
    assert load(model).calibration == known.calibration


def test_the_files_of_before_go_once_the_new_ones_stand(model: Path):
    before, old = names(model), read_model(model)
    with_other_tensors(model)
    new = read_model(model)
    assert names(model) == before - {old.files[TENSORS]} | {new.files[TENSORS]}
    assert load(model).calibration == old.calibration


def test_a_change_of_nothing_leaves_the_same_bytes(model: Path):
    before = {name: (model / name).read_bytes() for name in names(model)}
    with updating_model(model, "test") as known:
        write_model(known)
    save(load(model), model)
    assert load(model)
    with updating_model(model, "test") as known:
        write_model(replace(known, metrics=read_model(model).metrics))
    assert {name: (model / name).read_bytes() for name in names(model)} == before


def test_changes_wait_for_each_other_so_that_none_is_lost(model: Path):
    """Each adds one to a number that it has read."""

    def add() -> None:
        for _ in range(10):
            with updating_model(model, "test", 60) as known:
                write_model(replace(known, provenance=known.provenance | {"n": known.provenance.get("n", 0) + 1}))

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_model(model).provenance["n"] == 30


def test_who_reads_while_it_is_replaced_reads_again(model: Path):
    reads = []

    def slowly(found):
        reads.append(found.files[TENSORS])
        if len(reads) < 3:
            with_other_tensors(model)
        return found.file(TENSORS).read_bytes()

    assert read_consistently(model, slowly) == read_model(model).file(TENSORS).read_bytes()
    assert len(set(reads)) == 3


def test_a_file_that_is_gone_for_good_is_one_line(model: Path, monkeypatch):
    read_model(model).path(TENSORS).unlink()
    calls = []
    monkeypatch.setattr(reading_module, "parse", lambda *given: calls.append(1) or parse(*given))
    with pytest.raises(BlemishError, match=r"model-\w+\.safetensors: No such file"):
        Inspector.load(model)
    assert len(calls) == 1


def test_readers_beside_a_writer_read_the_one_or_the_other(model: Path):
    stop, errors = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                load(model)
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        with_other_tensors(model)
    stop.set()
    reader.join()
    assert errors == []


def test_what_is_no_model_gets_no_lock(tmp_path: Path):
    with pytest.raises(BlemishError, match=r"model\.json: no such file"), updating_model(tmp_path, "test"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_model_is_whole_wherever_it_is_copied(model: Path, tmp_path: Path):
    with updating_model(model, "test") as known:
        write_model(replace(known, calibration=with_thresholds(known.calibration, threshold=3.0)))
    copied = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    found = read_model(copied)
    assert (found.category, found.calibration.threshold) == ("part", 3.0)
