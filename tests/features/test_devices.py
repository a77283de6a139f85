"""Where and in which precision a network computes: what was asked for or the hardware has, kept with the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from blemish.detectors import base, detector_class
from blemish.detectors.base import Detector
from blemish.errors import BlemishError
from blemish.features.devices import device_named, has_int8, uses_bfloat16
from blemish.features.timm_features import NetworkFeatures
from blemish.imaging.preprocess import Preprocess
from blemish.model import tensors as artifact
from blemish.model.folder import read_model
from blemish.model.tensors import Artifact, load, load_detector, save
from blemish.runs import export
from blemish.runs.config import RunConfig
from blemish.runs.run import fit

NETWORK = {"backbone": "resnet10t", "layers": (1, 2), "weights": "random"}
METHODS = ("ensemble", "padim", "patchcore")
needs_int8 = pytest.mark.skipif(not has_int8(torch.device("cpu")), reason="the processor has no 8-bit products (VNNI)")


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
    return {values.dtype for network in networks for values in network.parameters()}


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
        "precision: bfloat16, which this hardware computes in"
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
    detector = detector_class(name).create(size=64).fit(part_images)
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
    assert not torch.equal(scores, exactly)
    again = load_detector(read_model(saved(loaded, name, tmp_path / "again")))  # as `update` saves it
    assert torch.equal(again(images)[0], scores)


@needs_int8
@pytest.mark.parametrize("name", METHODS)
def test_a_model_fitted_in_int8_is_the_same_when_loaded(part_images, monkeypatch, tmp_path, name):
    detector, images = create(name, precision="int8").fit(part_images), part_images.batch(range(3)).clone()
    images[:, :, 20:40, 20:40] = 1
    folder = saved(detector, name, tmp_path / "model")
    scores, maps = detector(images)
    found = load_detector(read_model(folder))(images)
    assert torch.equal(found[0], scores)
    assert torch.equal(found[1], maps)
    assert torch.equal(torch.cat([detector(alone)[0] for alone in images.split(1)]), scores)
    exact = load_detector(read_model(folder), in_float32=True)
    monkeypatch.setattr(artifact, "has_int8", lambda device: False)
    elsewhere = load(folder).detector
    assert elsewhere.options["precision"] == "float32"
    assert torch.equal(elsewhere(images)[0], exact(images)[0])
    torch.testing.assert_close(exact(images)[0], scores, rtol=0.1, atol=0)
    again = load_detector(read_model(saved(elsewhere, name, tmp_path / "again")))  # as `update` saves it
    assert torch.equal(again(images)[0], exact(images)[0])


@needs_int8
def test_ranges_that_are_not_of_the_network_are_refused(part_images, tmp_path):
    detector = create("padim", precision="int8").fit(part_images)
    detector.features.ranges = detector.features.ranges[1:]
    with pytest.raises(BlemishError, match="does not fit the detector"):
        load_detector(read_model(saved(detector, "padim", tmp_path / "model")))


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("int8", marks=needs_int8)])
def test_an_export_is_in_float32(make_category, tmp_path, precision):
    make_category(tmp_path / "data")
    options = {**NETWORK, "num_patches": 40}
    given = {"model": "patchcore", "size": 64, "data_path": tmp_path / "data", "options": options}
    model = fit(RunConfig.create(**given, ckpt_path=tmp_path / "model", precision=precision))
    assert model.options["precision"] == precision
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
    """As in a notebook that trains here, then there: accelerate alone would stay on the first device."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    named = ["cpu", "cuda:1", "cuda", "cpu", "auto"]
    assert [str(device_named(name)) for name in named][:4] == named[:4]
    assert device_named("auto").type == Accelerator().device.type


def test_auto_is_what_the_hardware_has():
    cpu = torch.device("cpu")
    assert uses_bfloat16("auto", cpu) == bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert uses_bfloat16("bfloat16", cpu)
    assert not uses_bfloat16("float32", cpu)
    assert not uses_bfloat16("auto", torch.device("mps"))
