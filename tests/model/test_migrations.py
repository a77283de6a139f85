"""What older versions wrote: folders of theirs are in tests/models, and score what they did then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from blemish.inference.inspector import Inspector
from blemish.model.changes import updating_model, write_model
from blemish.model.document import FORMAT_VERSION
from blemish.model.folder import DOCUMENT, TENSORS, read_model
from blemish.model.migrations import migrated

MODELS = Path(__file__).parents[1] / "models"
RAMP = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32), (1, 3, 32, 32)).copy()
SCORES = {"format1": pytest.approx(10.2439, abs=1e-3), "format3": pytest.approx(11.683732, rel=1e-4)}
"""Of the ramp, by the version that wrote the folder; the first one's bank is in 16 bits now."""


@pytest.mark.parametrize("name", SCORES)
def test_an_older_folder_scores_as_it_did_before_and_after_it_is_changed(name, tmp_path: Path):
    folder = Path(shutil.copytree(MODELS / name, tmp_path / "screw"))
    before = {path.name for path in folder.iterdir()}
    assert Inspector.load(folder).backend(RAMP)[0][0] == SCORES[name]
    with updating_model(folder, "test") as model:
        write_model(model)
    assert json.loads((folder / DOCUMENT).read_text())["format_version"] == FORMAT_VERSION
    assert {path.name for path in folder.iterdir()} == before
    assert Inspector.load(folder).backend(RAMP)[0][0] == SCORES[name]
    assert read_model(folder).category == "screw"  # the folder's name stood for it
    assert read_model(folder) == model


def test_an_older_folder_s_files_go_with_its_model(tmp_path: Path):
    folder = Path(shutil.copytree(MODELS / "format3", tmp_path / "screw"))
    with updating_model(folder, "test") as model:
        (folder / "new").write_bytes(model.file(TENSORS).read_bytes())
        new = write_model(model, {TENSORS: folder / "new"})
    assert {path.name for path in folder.iterdir()} == {DOCUMENT, "roi.png", new.files[TENSORS]}
    assert Inspector.load(folder).backend(RAMP)[0][0] == SCORES["format3"]


def test_each_version_is_brought_to_the_next_and_keeps_what_it_has():
    first = {"format_version": 1, "model": "padim", "options": {"size": 32}, "sha256": {TENSORS: "0"}}
    found = migrated(first | {"preprocess": {"size": [8, 8], "aspect": "pad"}}, Path("parts/screw"))
    assert found["preprocess"] == {
        "size": [8, 8],
        "aspect": "pad",
        "tile": None,
        "overlap": 0,
        "roi": None,
        "reference": None,
    }
    assert (found["calibration"], found["metrics"], found["exports"]) == (None, {}, {})
    assert (found["category"], found["files"]) == ("screw", {TENSORS: TENSORS})
    third = found | {"format_version": 3, "calibration": {"threshold": 1}}
    assert migrated(third, Path("other")) == third
    fourth = third | {"format_version": 4}
    assert migrated(fourth, Path("other")) is fourth
