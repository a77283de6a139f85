"""Where and in which precision a network computes: what was asked for or the hardware has, kept with the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from blemish.detectors import base, detector_class
from blemish.detectors.base import Detector
from blemish.errors import BlemishError
from blemish.features.devices import device_named, is_main_process, uses_bfloat16
from blemish.features.timm_features import NetworkFeatures
from blemish.imaging.preprocess import Preprocess
from blemish.model import artifact as artifact
from blemish.model.artifact import Artifact, load, load_detector, save
from blemish.model.folder import read_model
from blemish.runs import export
from blemish.runs.config import RunConfig
from blemish.runs.fit import fit

NETWORK = {"backbone": "resnet10t", "layers": (1, 2), "weights": "random"}
METHODS = ("ensemble", "padim", "patchcore")


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch):
    """Sets whether the hardware computes in bfloat16."""

    def has(bfloat16: bool) -> None:
        for module in (base, artifact):
            monkeypatch.setattr(module, "uses_bfloat16", lambda precision, device: bfloat16)

    return has


def create(name: str, **options) -> Detector:
    return detector_class(name).create(size=64, **{**NETWORK, **options})


def dtypes(detector: Detector) -> set[torch.dtype]:
    """Of the networks' weights."""
    networks = [module for module in detector.modules() if isinstance(module, NetworkFeatures)]
    assert networks
    weights = [value for features in networks for value in features.network.state_dict().values()]
    return {value.dtype for value in weights if value.is_floating_point()}


def saved(detector: Detector, name: str, folder: Path) -> Path:
    save(Artifact(name, detector, Preprocess((64, 64)), {}), folder)
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_a_network_computes_in_bfloat16_where_the_hardware_does(part_images, hardware, name):
    hardware(True)
    detector = create(name).fit(part_images)
    assert dtypes(detector) == {torch.bfloat16}
    assert detector.chosen("precision") == "bfloat16"
    assert [reason for reason in detector.reasons if "bfloat16" in reason] == [
        "precision: bfloat16, which this hardware supports"
    ]
    hardware(False)
    detector.fit(part_images)
    assert dtypes(detector) == {torch.float32}
    assert detector.chosen("precision") == "auto"
    assert not [reason for reason in detector.reasons if "bfloat16" in reason]


@pytest.mark.parametrize("name", METHODS)
def test_a_precision_that_is_asked_for_is_taken(part_images, hardware, name):
    for asked, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        for has in (True, False):
            hardware(has)
            assert dtypes(create(name, precision=asked).fit(part_images)) == {dtype}


@pytest.mark.parametrize("name", METHODS)
def test_filters_never_do(part_images, hardware, name):
    hardware(True)
    detector = detector_class(name).create(size=64, backbone="gabor").fit(part_images)
    assert detector.chosen("precision") == "auto"
    assert {values.dtype for values in detector.features.buffers()} == {torch.float32}


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_model_computes_as_it_was_fitted(part_images, hardware, tmp_path, name):
    hardware(True)
    detector, images = create(name).fit(part_images), part_images.batch(range(3))
    loaded = load_detector(read_model(saved(detector, name, tmp_path / "model")))
    assert loaded.options["precision"] == "bfloat16"
    for found, expected in zip(loaded(images), detector(images), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", METHODS)
def test_without_the_hardware_it_computes_in_float32_with_the_same_weights(part_images, hardware, tmp_path, name):
    hardware(True)
    detector, images = create(name).fit(part_images), part_images.batch(range(3)).clone()
    images[:, :, 20:40, 20:40] = 1
    folder = saved(detector, name, tmp_path / "model")
    exact = load_detector(read_model(folder), in_float32=True)
    hardware(False)
    loaded = load(folder).detector
    assert dtypes(loaded) == dtypes(exact) == {torch.float32}
    scores, exactly = loaded(images)[0], detector(images)[0]
    assert torch.equal(scores, exact(images)[0])
    torch.testing.assert_close(scores, exactly, rtol=0.02, atol=0)
    again = load_detector(read_model(saved(loaded, name, tmp_path / "again")))  # as `update` saves it
    assert torch.equal(again(images)[0], scores)


def test_a_model_of_an_earlier_blemish_in_int8_computes_in_float32(part_images, tmp_path):
    detector, images = create("padim", precision="float32").fit(part_images), part_images.batch(range(3))
    expected = detector(images)[0]
    detector.precision = "int8"
    detector.features.register_buffer("ranges", torch.zeros(4, 2))
    loaded = load_detector(read_model(saved(detector, "padim", tmp_path / "model")))
    assert loaded.options["precision"] == "float32"
    assert torch.equal(loaded(images)[0], expected)


def test_an_export_is_in_float32(make_category, tmp_path):
    make_category(tmp_path / "data")
    options = {**NETWORK, "num_patches": 40}
    given = {"model": "patchcore", "size": 64, "data_path": tmp_path / "data", "options": options}
    model = fit(RunConfig.create(**given, ckpt_path=tmp_path / "model", precision="bfloat16"))
    assert model.options["precision"] == "bfloat16"
    assert export.export(tmp_path / "model", "onnx").parity.score_error < 1e-3


def test_the_run_s_precision_is_the_detector_s(hardware, make_category, tmp_path):
    hardware(True)
    make_category(tmp_path / "data")
    given = {"model": "padim", "size": 64, "data_path": tmp_path / "data", "options": NETWORK}
    model = fit(RunConfig.create(**given, ckpt_path=tmp_path / "model", precision="float32"))
    assert model.options["precision"] == "float32"


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cpu\n"])
def test_a_device_of_another_name_is_refused(name):
    with pytest.raises(BlemishError, match="allowed are auto, cpu, cuda, cuda:1 or mps"):
        device_named(name)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BlemishError, match=r"cuda:2 was given, but torch .* finds 2 devices of that kind"):
        device_named("cuda:2")


def test_each_call_decides_anew(monkeypatch):
    """As in a notebook that trains here, then there."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    named = ["cpu", "cuda:1", "cuda", "cpu"]
    assert [str(device_named(name)) for name in named] == named


@pytest.mark.parametrize(("environment", "expected"), [({}, "cuda:0"), ({"LOCAL_RANK": "1"}, "cuda:1")])
def test_auto_is_the_accelerator_of_this_process(monkeypatch, environment, expected):
    for name in ("ACCELERATE_TORCH_DEVICE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device_named("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert device_named("auto") == torch.device(expected)


def test_naming_a_device_leaves_the_state_of_accelerate_alone():
    AcceleratorState._reset_state(reset_partial_state=True)
    host = Accelerator(cpu=True, mixed_precision="bf16")
    device_named("auto")
    assert is_main_process()
    assert host.mixed_precision == Accelerator().mixed_precision == "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(("rank", "is_main"), [(None, True), ("0", True), ("1", False)])
def test_the_first_process_is_the_one_that_writes(monkeypatch, rank, is_main):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert is_main_process() == is_main


def test_auto_is_what_the_hardware_has():
    cpu = torch.device("cpu")
    assert uses_bfloat16("auto", cpu) == bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert uses_bfloat16("bfloat16", cpu)
    assert not uses_bfloat16("float32", cpu)
    assert not uses_bfloat16("auto", torch.device("mps"))
