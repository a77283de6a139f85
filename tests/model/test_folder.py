"""The folder of a fitted detector: what is wrong with it is one line, nothing in it runs, yesterday's is read."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from blemish.calibration.thresholds import calibrate
from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.roi import Roi, read_roi
from blemish.inference.inspector import BACKENDS, Inspector
from blemish.model import artifact as artifact
from blemish.model.artifact import Artifact, load, save
from blemish.model.changes import write_model
from blemish.model.document import FORMAT_VERSION
from blemish.model.folder import DOCUMENT, TENSORS, find_model, read_model

YESTERDAY = Path(__file__).parents[1] / "models" / "format1"


def edit(folder: Path, **fields: Any) -> None:
    document = json.loads((folder / DOCUMENT).read_text())
    (folder / DOCUMENT).write_text(json.dumps(document | fields))


def replace_tensors(folder: Path, content: bytes) -> None:
    """Puts other content in the place of the tensors, and its hash in the document."""
    read_model(folder).path(TENSORS).write_bytes(content)
    edit(folder, sha256={TENSORS: hashlib.sha256(content).hexdigest()})


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/blemish-was-here",)


def a_pickle_as_tensors(folder: Path) -> None:
    replace_tensors(folder, pickle.dumps(Evil()))


def a_pickle_as_document(folder: Path) -> None:
    (folder / DOCUMENT).write_bytes(pickle.dumps(Evil()))


def truncated_tensors(folder: Path) -> None:
    replace_tensors(folder, read_model(folder).file(TENSORS).read_bytes()[:-100])


def wrong_hash(folder: Path) -> None:
    path = read_model(folder).file(TENSORS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_tensor(name: str, value: torch.Tensor | None) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(read_model(folder).file(TENSORS))
        tensors = {key: tensor for key, tensor in tensors.items() if key != name}
        save_file(tensors | ({} if value is None else {name: value}), folder / "other.safetensors")
        replace_tensors(folder, (folder / "other.safetensors").read_bytes())

    return spoil


def link_out_of_the_folder(folder: Path) -> None:
    path, outside = read_model(folder).file(TENSORS), folder.parent / "outside.safetensors"
    path.rename(outside)
    path.symlink_to(outside)


def preprocess(**fields: Any) -> Callable[[Path], None]:
    plain = {"size": [32, 32], "aspect": "squash", "tile": None, "overlap": 0, "roi": None, "reference": None}
    return lambda folder: edit(folder, preprocess=plain | fields)


def calibration(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, calibration=json.loads((folder / DOCUMENT).read_text())["calibration"] | fields)


NOT_FITTING = r"model-\w+\.safetensors: does not fit the detector"

SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle": (a_pickle_as_tensors, NOT_FITTING),
    "a pickle as document": (a_pickle_as_document, r"model\.json: not JSON"),
    "truncated": (truncated_tensors, NOT_FITTING),
    "wrong hash": (wrong_hash, r"model-\w+\.safetensors: not the file that model\.json was written for"),
    "wrong shape": (
        with_tensor("memory.bank", torch.zeros(7, 3)),
        NOT_FITTING,
    ),
    "wrong number of axes": (
        with_tensor("memory.bank", torch.zeros(7)),
        NOT_FITTING,
    ),
    "missing tensor": (with_tensor("memory.bank", None), NOT_FITTING),
    "unknown tensor": (with_tensor("more", torch.zeros(1)), NOT_FITTING),
    "newer": (lambda folder: edit(folder, format_version=FORMAT_VERSION + 1), "this blemish reads 1 to 4. Upgrade"),
    "no version": (lambda folder: edit(folder, format_version=None), "format_version None"),
    "climbs out": (lambda f: edit(f, sha256={"../outside.safetensors": "0" * 64}), "which is outside its folder"),
    "absolute": (lambda f: edit(f, sha256={"/etc/passwd": "0" * 64}), "which is outside its folder"),
    "a dot": (lambda f: edit(f, sha256={"onnx/../../x": "0" * 64}), "which is outside its folder"),
    "a link": (link_out_of_the_folder, "which is outside its folder"),
    "roi climbs out": (
        preprocess(roi="../mask.png"),
        r"model\.json: damaged, preprocess\.roi: input should be 'roi\.png'",
    ),
    "no tensors": (lambda folder: read_model(folder).path(TENSORS).unlink(), r"model-\w+\.safetensors: No such file"),
    "no document": (lambda folder: (folder / DOCUMENT).unlink(), r"model\.json: no such file"),
    "not an object": (lambda folder: (folder / DOCUMENT).write_text("[1]"), "format_version None"),
    "nested": (lambda folder: (folder / DOCUMENT).write_text("[" * 200_000), r"model\.json: not JSON"),
    "elsewhere": (lambda f: edit(f, files={TENSORS: "../outside.safetensors"}), "which is outside its folder"),
    "nowhere": (lambda folder: edit(folder, files={}), r"model\.json: damaged"),
    "no files": (lambda folder: edit(folder, files=None), r"model\.json: damaged"),
    "no options": (lambda folder: edit(folder, options=None), r"model\.json: damaged"),
    "unknown model": (lambda folder: edit(folder, model="os:system"), "model os:system: not a detector"),
    "unknown option": (lambda folder: edit(folder, options={"colour": 1}), "colour: not an option of PatchCore"),
    "wrong option": (
        lambda folder: edit(folder, options={"size": 10**9}),
        "size: sides should be multiples of 16 from 32 to 1024",
    ),
    "wrong size": (preprocess(size=[0, 32]), r"model\.json: damaged"),
    "another size": (preprocess(size=[32, 48]), r"preprocess\.size is 32 x 48, its detector's is 32 x 32"),
    "wrong aspect": (preprocess(aspect="crop"), r"model\.json: damaged"),
    "wrong tile": (preprocess(tile=32, overlap=17), r"model\.json: damaged"),
    "wrong threshold": (calibration(threshold=float("nan")), r"model\.json: damaged"),
    "wrong area": (calibration(min_area="x"), r"model\.json: damaged"),
    "negative area": (calibration(min_area=-1), r"model\.json: damaged"),
    "wrong rate": (calibration(pixel_rate="often"), r"model\.json: damaged"),
    "unknown calibration": (calibration(luck=1), r"model\.json: damaged"),
}


@pytest.mark.parametrize(("spoil", "expected"), SPOILED.values(), ids=SPOILED)
def test_a_folder_that_cannot_be_used_is_one_line(spoil, expected, model: Path):
    spoil(model)
    with pytest.raises(BlemishError, match=expected) as raised:
        Inspector.load(model)
    assert "\n" not in str(raised.value)
    assert not Path("/tmp/blemish-was-here").exists()


def test_yesterdays_format_is_read():
    """Written by format version 1, from four images of noise on a ramp; the score is what it gave then."""
    inspector = Inspector.load(YESTERDAY)
    ramp = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32), (1, 3, 32, 32)).copy()
    scores, maps = inspector.backend(ramp)
    assert scores[0] == pytest.approx(10.2439, abs=1e-3)  # its bank is in 16 bits now
    assert maps.shape == (1, 32, 32)
    assert (inspector.preprocess, inspector.calibration) == (Preprocess((32, 32), "pad"), None)
    assert load(YESTERDAY).provenance["versions"] == {"blemish": "0.1.0"}


def test_everything_comes_back(model: Path, tmp_path: Path):
    (tmp_path / "roi.json").write_text('{"size": [9, 9], "polygons": [[[0, 0], [5, 0], [0, 5]]]}')
    roi = read_roi(tmp_path / "roi.json")
    detector = load(model).detector
    calibration = calibrate([1.0, 2.0, 3.0], [float(level) for level in range(10)], 0.5)
    preprocess = Preprocess((32, 32), "pad", 64, 16, roi)
    metrics = {"pixel_auroc": 0.5, "aupro": None}
    artifact = Artifact("patchcore", detector, preprocess, {"seed": 3}, calibration, metrics, "screw")
    save(artifact, tmp_path / "saved")
    saved = read_model(tmp_path / "saved")
    assert {path.name for path in saved.folder.iterdir()} == {DOCUMENT, *saved.files.values()}
    assert saved.files.keys() == {TENSORS, "roi.png"}
    loaded = load(tmp_path / "saved")
    assert replace(loaded, detector=detector) == artifact
    assert read_model(tmp_path / "saved").metrics == {"pixel_auroc": 0.5, "aupro": None}
    saved.path("roi.png").write_bytes(Roi(roi.png).png + b" ")
    with pytest.raises(BlemishError, match=r"roi-\w+\.png: not the file"):
        load(tmp_path / "saved")


def test_what_was_there_is_whole_where_writing_fails(model: Path, monkeypatch: pytest.MonkeyPatch):
    """As `fit --update` writes to the model's own folder, with a disk that is full."""
    before, known = read_model(model), load(model)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact, "write_tensors", full)
    with pytest.raises(OSError, match="No space"):
        save(known, model)
    assert read_model(model) == before
    assert load(model).calibration == known.calibration


def test_a_file_that_is_added_is_hashed_and_the_others_are_left(model: Path):
    (model / "written").write_bytes(b"anything")
    before = read_model(model)
    after = write_model(before, {"onnx/model.onnx": model / "written"})
    assert after.file("onnx/model.onnx").read_bytes() == b"anything"
    assert after.sha256[TENSORS] == before.sha256[TENSORS]
    assert read_model(model) == after
    after.path("onnx/model.onnx").write_bytes(b"other")
    with pytest.raises(BlemishError, match=r"model-\w+\.onnx: not the file"):
        after.file("onnx/model.onnx")


def test_the_folder_of_a_run_stands_for_its_only_model(model: Path, tmp_path: Path):
    assert find_model(model) == find_model(tmp_path) == model
    assert find_model(tmp_path / "nothing") == tmp_path / "nothing"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / DOCUMENT).write_text("{}")
    with pytest.raises(BlemishError, match="holds several fitted detectors"):
        find_model(tmp_path)


def test_reading_the_document_imports_no_torch(model: Path):
    import subprocess

    code = "import sys; from pathlib import Path; from blemish.model.folder import read_model\n"
    code += "print(read_model(Path(sys.argv[1])).calibration.num_images, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "40 False"


def test_a_backend_that_does_not_exist(model: Path):
    with pytest.raises(BlemishError, match="backend tensorrt: unknown"):
        Inspector.load(model, "tensorrt")
    assert "torch" in BACKENDS
