"""A network rearranged for the processor says what the network says; where it cannot be rearranged it is left alone."""

from __future__ import annotations

import operator
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from blemish.data import find_categories
from blemish.data.source import load
from blemish.detectors.patchcore import PatchCore
from blemish.features import optimise as module
from blemish.features.devices import has_onednn
from blemish.features.optimise import FusedConvolution, optimise
from blemish.features.timm_features import NetworkFeatures
from blemish.imaging.preprocess import Preprocess

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


class Block(nn.Module):
    """A residual block, with `add` to say how the two ways meet."""

    def __init__(self, add=operator.add, bias: bool = False, rectify=F.relu):
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(8)
        self.nothing, self.act = nn.Identity(), nn.ReLU(inplace=True)
        self.second, self.shortcut = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 8, 1, stride=1)
        self.add, self.rectify = add, rectify

    def forward(self, images: Tensor) -> list[Tensor]:
        inner = self.act(self.nothing(self.norm(self.first(images))))
        summed = self.add(self.second(inner), self.shortcut(images))
        return [inner, self.rectify(summed)]


def made(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.1)
    return network.eval()


def pictures(channels: int = 4, side: int = 12) -> Tensor:
    drawn = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(1))
    return drawn.to(memory_format=torch.channels_last)


def num_fused(network: nn.Module) -> int:
    return sum(isinstance(module, FusedConvolution) for module in network.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("add", [operator.add, operator.iadd, torch.add])
@pytest.mark.parametrize("bias", [True, False])
def test_a_block_is_one_pass_for_each_convolution(dtype, add, bias):
    network, images = made(Block(add, bias)).to(dtype), pictures().to(dtype)
    found = optimise(network, images)
    if not has_onednn(images.device, dtype):
        assert found is network
        return
    assert num_fused(found) == 3
    called = [node.target for node in found.graph.nodes if node.op.startswith("call")]
    assert len(called) == 3  # no norm, no rectifier and no addition is left
    for one, other in zip(found(images), network(images), strict=True):
        difference = torch.linalg.vector_norm((one - other).float()) / torch.linalg.vector_norm(other.float())
        assert difference < (1e-5 if dtype == torch.float32 else 0.01)


def test_the_network_itself_keeps_its_weights():
    network, images = made(Block()), pictures()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimise(network, images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def shifted(first: Tensor, second: Tensor) -> Tensor:
    second += first
    return second


class Shared(Block):
    """What is added to in place is used again, which tracing does not know of."""

    def forward(self, images: Tensor) -> list[Tensor]:
        other = self.shortcut(images)
        summed = shifted(self.second(self.norm(self.first(images))), other)
        return [summed, other, self.rectify(other * 2)]


class Twice(Block):
    """A convolution whose result is used before its norm as well, and one that is added to itself."""

    def forward(self, images: Tensor) -> list[Tensor]:
        inner = self.first(images)
        outer = self.second(self.norm(inner))
        return [inner, outer + outer, F.relu(outer)]


class Broadcast(Block):
    """What is added is of another shape."""

    def forward(self, images: Tensor) -> list[Tensor]:
        inner = self.norm(self.first(images))
        return [self.second(inner) + inner.mean((2, 3), keepdim=True)]


@pytest.mark.parametrize("kind", [Twice, Broadcast])
def test_what_is_used_elsewhere_too_stays_what_it_is(kind):
    network, images = made(kind()), pictures()
    found = optimise(network, images)
    assert num_fused(found) > 0
    for one, other in zip(found(images), network(images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("says", [True, False])
def test_a_processor_without_bfloat16_computes_by_the_network_itself(monkeypatch, caplog, says):
    """Whether it says so beforehand or refuses to lay the weights out, as oneDNN does where only AVX2 is allowed."""
    network, images = made(Block()).bfloat16(), pictures().bfloat16()

    def refuse(*_):
        raise RuntimeError("bf16 path needs avx512bw")

    monkeypatch.setattr(module, "has_onednn", lambda device, dtype: says)
    monkeypatch.setattr(FusedConvolution, "__init__", refuse)
    with caplog.at_level("DEBUG", "blemish"):
        assert optimise(network, images) is network
    assert "the network is used as it is" in caplog.text
    assert ("bf16 path needs avx512bw" in caplog.text) == says


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_compute_where_only_avx2_is_allowed(limit, precision):
    code = (
        "import torch\n"
        "from blemish.features import timm_features\n"
        "def features(images, precision):\n"
        "    made = timm_features.NetworkFeatures('resnet10t', weights='random', dtype=getattr(torch, precision))\n"
        "    return made.fit(None, seed=0)(images).float()\n"
        "images = torch.rand(1, 3, 64, 64)\n"
        f"found = features(images, '{precision}')\n"
        "timm_features.optimise = lambda network, images: network\n"
        "expected = features(images, 'float32')\n"
        "assert (found - expected).norm() <= 0.05 * expected.norm()\n"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | limit, check=True)


class Untraceable(Block):
    """Its way depends on what it sees."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images) if images.mean() > 0 else [images]


def test_what_cannot_be_traced_or_is_not_for_a_processor_is_left_alone():
    network = made(Untraceable())
    assert optimise(network, pictures()) is network
    network = made(Block())
    assert optimise(network.double(), pictures().double()) is network
    assert optimise(network.to("meta"), pictures().to("meta")) is network


def test_what_differs_from_the_network_is_not_taken(monkeypatch):
    network = made(Shared())
    assert optimise(network, pictures()) is network
    network, images, compute = made(Block()), pictures(), FusedConvolution.forward
    monkeypatch.setattr(FusedConvolution, "forward", lambda *given: compute(*given) * 1.001)
    assert optimise(network, images) is network
    monkeypatch.setattr(module, "_fuse_convolutions", lambda graph, shapes: graph.no_such_thing)
    assert optimise(network, images) is network


@pytest.fixture
def optimised(monkeypatch) -> list[nn.Module]:
    """The networks that were optimised meanwhile."""
    made: list[nn.Module] = []

    def noted(network: nn.Module, images: Tensor) -> nn.Module:
        made.append(optimise(network, images))
        return made[-1]

    monkeypatch.setattr("blemish.features.timm_features.optimise", noted)
    return made


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "resnet10t"])
def test_features_are_those_of_the_network(name, optimised, monkeypatch):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    features = NetworkFeatures(name, weights="random").fit(None, seed=0)
    found = features(images)
    assert num_fused(optimised[0]) > 10
    monkeypatch.setattr("blemish.features.timm_features.optimise", lambda network, images: network)
    features = NetworkFeatures(name, weights="random").fit(None, seed=0)
    torch.testing.assert_close(found, features(images), rtol=1e-3, atol=1e-4)


def test_other_weights_or_another_size_are_rearranged_anew(optimised):
    images = torch.rand(1, 3, 64, 64)
    features = NetworkFeatures("resnet18", weights="random").fit(None, seed=0)
    first = features(images)
    features(images)
    features(torch.cat([images, images]))
    assert len(optimised) == 1  # the number of images does not count
    features(images[:, :, :48, :48])
    assert len(optimised) == 2
    other = NetworkFeatures("resnet18", weights="random").fit(None, seed=1)
    features.load_state_dict(other.state_dict())
    assert torch.equal(features(images), other(images))
    assert not torch.allclose(features(images), first)
    before = len(optimised)
    features.float()(images)
    assert len(optimised) == before + 1


@pytest.fixture
def detector(make_category, tmp_path) -> PatchCore:
    category = find_categories(make_category(tmp_path))[0]
    made = PatchCore.create(size=64, backbone="resnet18", weights="random", num_patches=200, precision="float32")
    return made.fit(load(category.of("train"), Preprocess((64, 64))))


def test_what_changes_while_many_threads_compute(detector):
    """Tracing swaps how modules are called, for the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    batch = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    expected = [detector(batch[..., :side, :side]) for side in (64, 48)]
    for _ in range(5):
        for side, known in zip((64, 48), expected, strict=True):
            detector.to("cpu")  # forgets what was arranged
            found = detector(batch[..., :side, :side])
            assert all(map(torch.equal, found, known))
    torch.set_num_threads(before)


def test_a_network_is_optimised_beside_another_that_computes():
    images = torch.rand(1, 3, 64, 64)
    busy = NetworkFeatures("resnet18", weights="random").fit(None, seed=0)
    expected = busy(images)
    call, lookup = nn.Module.__call__, nn.Module.__getattr__
    with ThreadPoolExecutor(3) as pool, torch.inference_mode():
        others = [NetworkFeatures("resnet10t", weights="random").fit(None, seed=0) for _ in range(8)]
        arranging = [pool.submit(other, images) for other in others]
        while not all(one.done() for one in arranging):
            busy.network(images)
            assert torch.equal(busy(images), expected)
    found = [one.result() for one in arranging]
    assert all(torch.equal(one, found[0]) for one in found)
    assert (nn.Module.__call__, nn.Module.__getattr__) == (call, lookup)


def test_features_that_were_used_can_be_copied_and_give_gradients():
    images = torch.rand(1, 3, 64, 64)
    features = NetworkFeatures("resnet18", weights="random").fit(None, seed=0)
    found = features(images)
    for copied in (deepcopy(features), pickle.loads(pickle.dumps(features))):  # noqa: S301 - our own
        assert torch.equal(copied(images), found)
    with torch.enable_grad():
        images.requires_grad = True
        features(images).sum().backward()
    assert images.grad.abs().max() > 0
