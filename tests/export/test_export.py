"""Exports: compared before they are kept, the same decisions in every runtime, and no torch to run them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from blemish.cli import main
from blemish.detectors.autoencoder import Autoencoder
from blemish.detectors.base import Detector
from blemish.errors import EXTRAS, PURPOSES, BlemishError
from blemish.export.graphs import to_half, to_int8, to_onnx, write_onnx, write_openvino
from blemish.features.gabor import opponent_channels
from blemish.inference.backends import ONNX, OPENVINO, OnnxBackend, OpenVinoBackend
from blemish.inference.inspector import Inspector
from blemish.model.artifact import load, load_detector, save
from blemish.model.folder import read_model
from blemish.runs.export import TOLERANCES, compare, export
from blemish.types import Prediction

ROOT = Path(__file__).parents[2]
RUNTIMES = ("onnx", "openvino")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def graph(run_folder: Path) -> onnx.ModelProto:
    return to_onnx(load_detector(read_model(run_folder / "part")))


@pytest.fixture(autouse=True)
def _one_graph_for_all(graph, monkeypatch):
    """It takes seconds to make; the contract tests make one of every detector."""
    monkeypatch.setattr("blemish.runs.export.to_onnx", lambda *_: graph)


@pytest.fixture(scope="module")
def exported(run_folder: Path, graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with an export for each runtime. Not to be changed."""
    folder = Path(shutil.copytree(run_folder / "part", tmp_path_factory.mktemp("exported") / "part"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("blemish.runs.export.to_onnx", lambda *_: graph)
        for name in RUNTIMES:
            export(folder, name)
    return folder


@pytest.fixture
def images(run_folder: Path) -> list[Path]:
    return sorted((run_folder / "data" / "part" / "test").rglob("*.png"))


@pytest.mark.parametrize("backend", RUNTIMES)
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_scores_maps_and_decisions_are_those_of_torch(exported: Path, images, backend, batch_size):
    reference = Inspector.load(exported)
    candidate = Inspector.load(exported, backend, batch_size=batch_size, threads=1)
    decided = []
    for expected, found in zip(reference.predict(images), candidate.predict(images), strict=True):
        assert found.score == pytest.approx(expected.score, rel=1e-3)
        np.testing.assert_allclose(found.map, expected.map, rtol=1e-3, atol=1e-3 * expected.map.max())
        assert candidate.decide(found).is_defect == reference.decide(expected).is_defect
        decided.append(candidate.decide(found).is_defect)
    assert set(decided) == {True, False}


def test_what_was_written_is_recorded(exported: Path):
    model = read_model(exported)
    assert set(model.sha256) == {"model.safetensors", "model.onnx", "openvino/model.xml", "openvino/model.bin"}
    assert model.exports["openvino"]["precision"] == "float32"
    parity = model.exports["onnx"]["parity"]
    assert parity["num_images"] == 8
    assert parity["num_changed"] == 0
    assert 0 < parity["score_error"] < 1e-3
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert files == {"evaluation.json", "model.json", "record.safetensors", *model.files.values()}
    assert re.fullmatch(r"openvino/model-[0-9a-f]{12}\.xml", model.files["openvino/model.xml"])


def test_the_command_says_what_half_costs(model: Path, exported: Path, capsys):
    for left in (".staging-leftover", ".export-leftover"):  # of one that was killed, today or by an older version
        (model / left).mkdir()
    assert run("export", model, "--half") == 0
    said = capsys.readouterr().out
    assert re.search(r"half against torch on 8 images: scores differ by \S+ at most, .* 0 of 8 decisions changed", said)
    assert re.search(r"image AUROC 0\.\d+|image AUROC 1\.0000", said)
    assert "pixel AUROC" in said
    assert not list(model.glob(".*"))
    assert read_model(model).exports["onnx"]["precision"] == "half"
    again = export(model, "onnx")  # another precision takes its place
    assert read_model(model).exports["onnx"]["precision"] == again.precision == "float32"
    assert read_model(model).file(ONNX).read_bytes() == read_model(exported).file(ONNX).read_bytes()
    assert len(list(model.glob("model*.onnx"))) == 1


def test_half_takes_half_of_the_room(graph):
    """But for what is small, and what is in half precision already."""
    single = [t for t in graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    numbers = sum(size for tensor in single if (size := int(np.prod(tensor.dims))) >= 4096)
    saved = len(graph.SerializeToString()) - len(to_half(graph).SerializeToString())
    assert saved == pytest.approx(2 * numbers, rel=0.1)


def test_a_graph_looks_for_indices_in_groups_alone_since_all_would_take_most_of_its_time(graph):
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("ReduceMin") == 1
    assert kinds.count("ArgMin") == 2  # of the group, and within it
    assert "Einsum" not in kinds


def different(graph: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    for tensor in changed.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size > 5000:  # the bank
            tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))
    return changed


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.05, "{name} in float32 is too far from torch: scores differ by"), (np.nan, "its score is not a finite number")],
)
@pytest.mark.parametrize("before", ["model", "exported"])
def test_an_export_that_differs_leaves_nothing_behind(
    before, factor, expected, graph, tmp_path: Path, request, monkeypatch
):
    folder = Path(shutil.copytree(request.getfixturevalue(before), tmp_path / "copy" / "part"))
    known = content(folder)
    monkeypatch.setattr("blemish.runs.export.to_onnx", lambda *_: different(graph, factor))
    for name in RUNTIMES:
        with pytest.raises(BlemishError, match=expected.format(name=name)):
            export(folder, name)
    assert content(folder) == known


def test_an_interrupted_export_leaves_the_one_of_before(exported: Path, tmp_path: Path, monkeypatch):
    folder = Path(shutil.copytree(exported, tmp_path / "part"))
    before = content(folder)

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("blemish.model.changes.write_json", stopped)
        with pytest.raises(KeyboardInterrupt):
            export(folder, "openvino", "half")
    assert content(folder) == before
    assert Inspector.load(folder, "openvino")


def test_what_is_fitted_anew_has_no_export(exported: Path, tmp_path: Path):
    folder = Path(shutil.copytree(exported, tmp_path / "part"))
    save(load(folder), folder)
    with pytest.raises(BlemishError, match=r"lists no model\.onnx\. Write it with 'blemish export \S+ --format onnx'"):
        Inspector.load(folder, "onnx")


def test_a_changed_file_is_refused(exported: Path, tmp_path: Path):
    folder = Path(shutil.copytree(exported, tmp_path / "part"))
    for name in ("model.onnx", "openvino/model.bin"):
        read_model(folder).path(name).write_bytes(b"something else")
    for name in RUNTIMES:
        with pytest.raises(BlemishError, match=r"model-\w+\.(onnx|bin): not the file that model.json was written for"):
            Inspector.load(folder, name)


class Fixed:
    """An inspector whose predictions are given."""

    def __init__(self, reference: Inspector, scores: list[float], maps: list[list[float]]):
        self.calibration, self.decide = reference.calibration, reference.decide
        self._predictions = [
            Prediction(None, score, np.asarray([values], np.float32))
            for score, values in zip(scores, maps, strict=True)
        ]

    def predict(self, _):
        return iter(self._predictions)


class Images:
    samples = (None, None)


def test_errors_are_relative_to_the_image_s_own_and_decisions_are_counted(model: Path):
    reference = Inspector.load(model)
    threshold = reference.calibration.threshold
    maps = [[1.0, 4.0], [10.0, 0.0]]
    first = Fixed(reference, [0.9 * threshold, threshold * 4], maps)
    second = Fixed(reference, [1.1 * threshold, threshold * 4], [[1.0, 4.2], [9.0, 0.0]])
    parity = compare(first, second, Images())
    assert parity.score_error == pytest.approx(0.2 / 0.9)
    assert parity.map_error == pytest.approx(0.1)
    assert parity.num_changed == 1
    tied = Fixed(reference, [threshold, threshold * 4], maps)
    above = Fixed(reference, [threshold * (1 + 1e-6), threshold * 4], maps)
    assert compare(tied, above, Images()).num_changed == 0  # rounding decides there
    assert compare(tied, Fixed(reference, [np.nan, threshold * 4], maps), Images()).score_error == np.inf


def test_int8_of_a_network(tmp_path: Path):
    torch.manual_seed(0)
    detector = Autoencoder(32, width=8, latent_dim=8)
    detector.is_fitted = True
    detector.eval()
    images = torch.rand(8, 3, 32, 32)
    small = to_int8(to_onnx(detector), (image[None].numpy() for image in images))
    write_onnx(small, tmp_path)
    types = {tensor.data_type for tensor in small.graph.initializer if np.prod(tensor.dims) > 1000}
    assert onnx.TensorProto.INT8 in types
    with torch.inference_mode():
        expected = detector(images)
    for found, wanted in zip(OnnxBackend(tmp_path / "model.onnx", 1)(images.numpy()), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCES["int8"].error)
        assert np.abs(found - wanted.numpy()).max() > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--format", "tflite"], "format tflite: unknown. Choose from: onnx, openvino."),
        (["--half", "--int8"], "half, int8: only one precision is possible."),
        (["--int8"], "int8: this detector has no convolution that 8 bits would speed up. Use half."),
        (["--data_path", "nowhere"], "data_path nowhere: no such folder. Give --data-path"),
    ],
)
def test_what_cannot_be_exported_is_one_line(arguments, expected, model: Path, capsys):
    known = content(model)
    assert run("export", model, *arguments) == 2
    assert expected in capsys.readouterr().err
    assert content(model) == known


WITHOUT = """
import sys
from blemish.errors import EXTRAS
for package in EXTRAS:
    if package not in sys.argv[1].split(","):
        sys.modules[package] = None
from blemish.cli import main
try:
    main(sys.argv[2:])
finally:
    print("telemetry", sys.modules.get("openvino_telemetry"), file=sys.stderr)
"""


def without_extras(installed: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, in which every package of an extra but one is missing."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT, installed, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("backend", "installed"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_predict_needs_the_runtime_alone(backend, installed, exported: Path, images, tmp_path: Path):
    arguments = ["predict", exported, *images, "--out", tmp_path, "--backend", backend, "--threads", "1"]
    done = without_extras(installed, *arguments, "--maps", "--overlays")
    assert done.returncode == 0, done.stderr
    assert "telemetry None" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    inspector = Inspector.load(exported)
    for row, expected in zip(rows, inspector.predict(images), strict=True):
        assert row["score"] == pytest.approx(expected.score, rel=1e-3)
        assert row["decision"] == ("defect" if inspector.decide(expected).is_defect else "good")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], "torch is not installed; it is needed for training, .*: pip install 'blemish[train]'"),
        (["predict", "MODEL", "x.png", "--out", "o"], "torch is not installed; .*: pip install 'blemish[train]'"),
        (["predict", "MODEL", "x.png", "--out", "o", "--backend", "onnx"], "onnxruntime is not .* 'blemish[runtime]'"),
        (
            ["predict", "MODEL", "x.png", "--out", "o", "--backend", "openvino"],
            "openvino is not .* 'blemish[openvino]'",
        ),
    ],
)
def test_a_missing_extra_is_one_line(arguments, expected, exported: Path):
    done = without_extras("", *[str(exported) if argument == "MODEL" else argument for argument in arguments])
    assert done.returncode == 2
    assert re.search(expected.replace("[", r"\["), done.stderr)
    assert "Traceback" not in done.stderr


def test_the_packages_of_the_extras_are_those_that_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}

    declared = {extra: names(packages) for extra, packages in project["optional-dependencies"].items()}
    assert (
        set(EXTRAS.values()) == set(PURPOSES) == set(declared) - {"dev", "pretrained"}
    )  # weights: nothing is imported
    called = {"argon2": "argon2-cffi", "sklearn": "scikit-learn"}  # packages of another name than their module
    for module, extra in EXTRAS.items():
        assert called.get(module, module.replace("_", "-")) in declared[extra]
    assert not names(project["dependencies"]) & set(EXTRAS)


class Normalised(Detector):
    """Shows a picture as the filter banks see it."""

    def fit(self, images, *, validation=None, seed=0, progress=None):
        raise NotImplementedError

    def score(self, images):
        maps = opponent_channels(images)[:, 0]
        return maps.amax((1, 2)), maps


def test_the_mean_of_many_numbers_keeps_its_digits(tmp_path: Path):
    # Trap: runtimes added 196,608 numbers one by one in float32; maps on bright, even pictures moved by 1e-3.
    detector = Normalised(256)
    detector.register_buffer("nothing", torch.zeros(1))
    detector.is_fitted = True
    graph = to_onnx(detector)
    write_onnx(graph, tmp_path)
    write_openvino(graph, tmp_path)
    images = torch.full((1, 3, 256, 256), 0.57139)
    images[..., :16, :16] = 0.8
    expected = detector(images)[1].numpy()
    for backend in (OnnxBackend(tmp_path / ONNX, 1), OpenVinoBackend(tmp_path / OPENVINO[0], 1)):
        np.testing.assert_allclose(backend(images.numpy())[1], expected, atol=2e-4)
