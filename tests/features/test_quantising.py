"""Convolutions of 8-bit numbers say what they stand for, change nothing that is read again, and are kept."""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from blemish.detectors import detector_class
from blemish.errors import BlemishError
from blemish.features import timm_features as networks
from blemish.features.devices import has_int8
from blemish.features.fusing import FusedConvolution, fused
from blemish.features.quantising import QuantisedConvolution, quantised, ranges_of
from blemish.features.timm_features import NetworkFeatures
from blemish.runs.config import RunConfig

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(not has_int8(CPU), reason="the processor has no 8-bit products (VNNI)")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def drawn(*shape: int, seed: int = 0) -> Tensor:
    found = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return found.to(memory_format=torch.channels_last) if len(shape) == 4 else found


def distance(one: Tensor, other: Tensor) -> float:
    """Of the first from the second, as a part of it."""
    return float(torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other))


def convolution(seed: int = 0, **how) -> nn.Conv2d:
    made = nn.Conv2d(8, 16, **how)
    for number, value in enumerate(made.parameters()):
        value.copy_(drawn(*value.shape, seed=seed + number))
    return made


@needs_int8
@pytest.mark.parametrize("rectifies", [True, False])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
        {"kernel_size": 3, "padding": (2, 1), "dilation": (2, 1), "groups": 2},
        {"kernel_size": 7, "padding": 3, "stride": (1, 2)},
    ],
)
def test_a_convolution_is_what_it_stands_for(how, adds, rectifies):
    own, images = convolution(**how), drawn(1, 8, 13, 18)
    exact = own(images)
    others = drawn(*exact.shape, seed=1) if adds else None
    made = QuantisedConvolution(own, images.shape, rectifies, float(images.min()), float(images.max()))
    expected = exact + others if adds else exact
    found = made(images, others)
    assert found.dtype == torch.float32
    assert distance(found, made.in_float32(images, others)) < 1e-5
    assert distance(found, F.relu(expected) if rectifies else expected) < 0.03
    assert torch.equal(images, drawn(1, 8, 13, 18))
    assert others is None or torch.equal(others, drawn(*exact.shape, seed=1))


@needs_int8
def test_what_lies_beyond_the_range_is_taken_for_its_end():
    made = QuantisedConvolution(convolution(kernel_size=1), torch.Size((1, 8, 4, 4)), False, -1, 2)
    of = {value: made(torch.full((1, 8, 4, 4), value)) for value in (-50.0, -1.5, -1.0, 2.0, 3.0, 50.0)}
    assert torch.equal(of[-50.0], of[-1.5])
    assert torch.equal(of[50.0], of[3.0])
    assert distance(of[3.0], of[2.0]) > 0.1  # half as much again as good images is told apart


@needs_int8
def test_where_nothing_is_read_but_zeros_the_answer_is_the_bias():
    own = convolution(kernel_size=1)
    found = QuantisedConvolution(own, torch.Size((1, 8, 2, 2)), False, 0, 0)(torch.zeros(1, 8, 2, 2))
    torch.testing.assert_close(found, own.bias[None, :, None, None].expand(1, 16, 2, 2))


class Residual(nn.Module):
    """Two residual blocks of eight channels, of which the first one's sum may be an answer, or be read afterwards."""

    def __init__(self, use: str = "") -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.inner, self.outer = (nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2)) for _ in range(2))
        self.use = use

    def forward(self, images: Tensor) -> list[Tensor]:
        found = [F.relu(self.stem(images))]
        for inner, outer in zip(self.inner, self.outer, strict=True):
            found.append(F.relu(outer(F.relu(inner(found[-1]))) + found[-1]))
        if self.use == "level":
            return found[1:]
        if self.use == "read later":
            return [found[2] + self.last(found[1])]
        if self.use == "view":
            return [found[2], found[1][:, :4].mean((2, 3))]
        return found[2:]


def made(network: nn.Module) -> nn.Module:
    for number, value in enumerate(network.parameters()):
        value.copy_(drawn(*value.shape, seed=number) * 0.3)
    return network.eval().to(memory_format=torch.channels_last)


def in_int8(network: nn.Module, images: Tensor) -> nn.Module:
    return quantised(network, images[:1], ranges_of(network, [images]))


@needs_int8
@pytest.mark.parametrize(("use", "num_overwriting"), [("", 2), ("level", 1), ("read later", 2), ("view", 1)])
def test_nothing_is_changed_that_is_read_again(use, num_overwriting):
    network, images = made(Residual(use)), drawn(3, 3, 16, 16)
    found = in_int8(network, images)
    convolutions = [module for module in found.modules() if isinstance(module, QuantisedConvolution)]
    assert sum(one.overwrites for one in convolutions) == num_overwriting
    assert sum(one.reader[2] == torch.uint8 for one in convolutions) == 2  # the first ones of the blocks
    for one, other in zip(found(images), network(images), strict=True):
        assert distance(one, other) < 0.03


@needs_int8
def test_ranges_are_those_of_what_is_read():
    network, images = made(Residual()), drawn(3, 3, 16, 16)
    found = ranges_of(network, torch.split(images, 1))
    assert found.shape == (5, 2)
    assert found[0].tolist() == pytest.approx([float(images.min()), float(images.max())])
    read = F.relu(network.stem(images))
    assert found[1].tolist() == pytest.approx([0, float(read.max())], rel=1e-4)
    assert torch.equal(found, ranges_of(network, [images]))


@needs_int8
def test_ranges_of_another_network_are_refused():
    network, images = made(Residual()), drawn(1, 3, 16, 16)
    ranges = ranges_of(network, [images])
    with pytest.raises(ValueError, match="1 ranges too many"):
        quantised(network, images, torch.cat([ranges, ranges[:1]]))
    with pytest.raises(IndexError):
        quantised(network, images, ranges[1:])


@needs_int8
def test_an_operator_that_computes_otherwise_is_not_taken(monkeypatch):
    network, images, compute = made(Residual()), drawn(1, 3, 16, 16), QuantisedConvolution.in_float32
    ranges = ranges_of(network, [images])
    monkeypatch.setattr(QuantisedConvolution, "in_float32", lambda *given: compute(*given) * 1.01)
    with pytest.raises(BlemishError, match=r"precision int8: torch .* does not compute it as it should"):
        quantised(network, images, ranges)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
def test_a_network_that_cannot_be_rearranged_is_refused():
    class Untraceable(Residual):
        def forward(self, images: Tensor) -> list[Tensor]:
            return super().forward(images) if images.mean() > 9 else [images]

    with pytest.raises(BlemishError, match=r"precision int8: this network can't be rearranged for it\. Use auto\."):
        ranges_of(made(Untraceable()), [drawn(1, 3, 16, 16)])


@needs_int8
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_features_are_near_those_in_float32(name, part_images):
    images = part_images.batch(range(3))
    exact = NetworkFeatures(name, weights="random").fit(part_images, seed=0)
    features = NetworkFeatures(name, weights="random", dtype=torch.int8).fit(part_images, seed=0)
    expected, found = exact(images), features(images)
    assert 0 < distance(found, expected) < 0.1
    kinds = {type(module) for module in features._arranged[1].modules()}
    assert QuantisedConvolution in kinds
    assert (FusedConvolution in kinds) == (name != "resnet18")  # convolutions of single channels stay in float32
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert torch.equal(features(images), found)
    torch.set_num_threads(threads)
    assert torch.equal(torch.cat([features(image) for image in images.split(1)]), found)
    for copied in (deepcopy(features), pickle.loads(pickle.dumps(features))):  # noqa: S301 - of our own
        assert torch.equal(copied(images), found)


@needs_int8
def test_the_network_that_int8_stands_for_is_kept_in_float32(part_images):
    features = NetworkFeatures("resnet10t", weights="random", dtype=torch.int8).fit(part_images, seed=0)
    assert {values.dtype for values in features.parameters()} == {torch.float32}
    exact = NetworkFeatures("resnet10t", weights="random")
    exact.load_state_dict(features.state_dict())
    images = part_images.batch([0])
    normalised = features._normalised(images)
    for one, other in zip(exact._computes(normalised), fused(features.network, normalised)(normalised), strict=True):
        assert torch.equal(one, other)


@needs_int8
@pytest.mark.parametrize("name", ["padim", "patchcore", "ensemble"])
def test_what_it_is_not_for_is_refused(name, part_images):
    create = detector_class(name).create
    with pytest.raises(BlemishError, match=r"precision int8: it is for networks of timm, not for gabor\. Use auto\."):
        create(size=64, precision="int8").fit(part_images)
    network = {"backbone": "vit_tiny_patch16_224", "weights": "random"}
    with pytest.raises(BlemishError, match="precision int8: vit_tiny_patch16_224 is a transformer"):
        create(size=64, precision="int8", **network).fit(part_images)


def test_a_processor_without_it_is_named(part_images, monkeypatch):
    monkeypatch.setattr(networks, "has_int8", lambda device: False)
    features = NetworkFeatures("resnet10t", weights="random", dtype=torch.int8)
    with pytest.raises(BlemishError, match=r"no processor with 8-bit products \(VNNI\) here\. Use auto\."):
        features.fit(part_images, seed=0)


@pytest.mark.parametrize("model", ["ae", "vae", "selfsup"])
def test_a_detector_without_a_network_of_timm_is_refused(model, tmp_path):
    with pytest.raises(BlemishError, match=f"precision: int8 is for networks of timm: .*, not with {model}"):
        RunConfig.create(model=model, precision="int8", data_path=tmp_path, ckpt_path=tmp_path)
