"""A network that OpenVINO computes says what the network says; what it cannot compute is left to torch."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from blemish.data import find_categories
from blemish.data.source import load
from blemish.detectors.patchcore import PatchCore
from blemish.errors import BlemishError
from blemish.features import engine as engine_module
from blemish.features import timm_features
from blemish.features.engine import Engine, EngineError, Graph
from blemish.features.optimise import optimise
from blemish.features.threads import computing_on
from blemish.features.timm_features import NetworkFeatures, without_networks
from blemish.imaging.preprocess import Preprocess

pytest.importorskip("openvino")

SMALL = "resnet10t"


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


class Block(nn.Module):
    """A residual block with two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.shortcut = nn.Conv2d(8, 8, 1), nn.Conv2d(3, 8, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        inner = F.relu(self.norm(self.first(images)))
        return [inner, F.relu(self.second(inner) + self.shortcut(images))]


class Undecided(Block):
    """Its way depends on what it sees."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images) if images.mean() > 0 else [images]


def made(kind: type[nn.Module] = Block) -> nn.Module:
    network, generator = kind(), torch.Generator().manual_seed(0)
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.1)
    return network.eval()


def pictures(number: int = 1, side: int = 64) -> Tensor:
    return torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(1))


def features_of(name: str = SMALL, seed: int = 0, dtype: torch.dtype = torch.float32) -> NetworkFeatures:
    return NetworkFeatures(name, weights="random", dtype=dtype).fit(None, seed)


@pytest.fixture
def by_torch(monkeypatch):
    """Features that torch computes."""

    def compute(features: NetworkFeatures, images: Tensor) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(NetworkFeatures, "_engine", lambda self, shape: None)
            return features(images)

    return compute


@pytest.fixture
def optimised(monkeypatch) -> list[object]:
    """What was arranged meanwhile."""
    found: list[object] = []

    def noted(*given):
        found.append(optimise(*given))
        return found[-1]

    monkeypatch.setattr(timm_features, "optimise", noted)
    return found


def test_levels_are_those_of_the_network_which_stays_as_it_is():
    network, images = made(), pictures(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph, engine = optimise(network, images[:1])
    assert engine.shape == (1, 3, 64, 64)
    for one, other in zip(engine(images), network(images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    again = Engine(Graph.unpacked(graph.packed()), in_bfloat16=False)
    assert all(map(torch.equal, again(images), engine(images)))


def test_the_same_network_is_the_same_graph_whatever_was_arranged_before():
    first, _ = optimise(made(), pictures())
    optimise(made(Block), pictures(side=32))
    second, _ = optimise(made(), pictures())
    assert first == second


def test_float32_is_float32_and_bfloat16_is_near():
    network, images = made(), pictures()
    found = [optimise(network, images, dtype) for dtype in (torch.float32, torch.bfloat16)]
    if found[1] is None:
        pytest.skip("the kernels are limited to those without bfloat16, which OpenVINO does not expect")
    exact, rounded = (engine(images) for _, engine in found)
    for one, other, expected in zip(exact, rounded, network(images), strict=True):
        norm = torch.linalg.vector_norm
        assert norm(one - expected) < 1e-6 * norm(expected)
        assert norm(other - expected) < 0.05 * norm(expected)  # where a processor has no bfloat16 it is exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_depend_neither_on_threads_nor_on_the_batch(dtype):
    features, images = features_of(dtype=dtype), pictures(4)
    with computing_on(2):
        expected = features(images)
        assert torch.equal(torch.cat([features(image[None]) for image in images]), expected)
    with computing_on(1):
        assert torch.equal(features(images), expected)
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(features, images[:, None].repeat(4, 1, 1, 1, 1)))
    assert torch.equal(torch.cat(found), expected.repeat(4, 1, 1, 1))


def test_what_cannot_be_converted_or_differs_is_left_to_torch(monkeypatch, caplog):
    caplog.set_level("INFO", "blemish")
    assert optimise(made(Undecided), pictures()) is None
    assert caplog.messages.pop().startswith("the network is computed by torch, more slowly: ")
    compute = Engine.__call__
    monkeypatch.setattr(Engine, "__call__", lambda *given: [level * 1.001 for level in compute(*given)])
    assert optimise(made(), pictures()) is None
    assert caplog.messages[-1].endswith("its levels differ in OpenVINO")


def test_without_openvino_torch_computes_the_same(monkeypatch, caplog):
    images, features = pictures(2), features_of()
    expected = features(images)
    monkeypatch.setattr(engine_module, "import_openvino", lambda: (_ for _ in ()).throw(ImportError))
    engine_module._core.cache_clear()
    with caplog.at_level("INFO", "blemish"):
        found = features_of()(images)
    assert "pip install 'blemish[openvino]'" in caplog.text
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_features_are_those_of_the_network(name, by_torch, optimised):
    images, features = pictures(2), features_of(name)
    found, expected = features(images), by_torch(features, images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    if "vit" not in name:  # its positions are resampled in a way that OpenVINO may lack
        assert optimised[0] is not None


def test_other_weights_or_another_size_are_arranged_anew(optimised):
    images, features = pictures(), features_of()
    first = features(images)
    features(torch.cat([images, images]))
    assert len(optimised) == 1  # the number of images does not count
    features(images[:, :, :48, :48])
    assert len(optimised) == 2
    other = features_of(seed=1)
    features.load_state_dict(other.state_dict())
    assert torch.equal(features(images), other(images))
    assert not torch.allclose(features(images), first)


def loaded(state: dict[str, Tensor]) -> NetworkFeatures:
    with without_networks():
        features = NetworkFeatures(SMALL, weights="random")
    features.load_state_dict(state)
    return features.eval()


def test_a_graph_that_was_kept_needs_no_network(optimised, by_torch):
    images, features = pictures(2), features_of()
    expected, state = features(images), features.state_dict()
    found = loaded(state)
    assert torch.equal(found(images), expected)
    assert len(optimised) == 1
    assert not list(found.parameters())
    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    assert torch.equal(by_torch(found, images), by_torch(features, images))  # now it is built
    assert torch.equal(found(images), expected)


def test_the_first_image_of_a_loaded_model_imports_no_timm(tmp_path: Path):
    features = features_of()
    features(pictures())
    torch.save(features.state_dict(), tmp_path / "state.pth")
    code = (
        "import sys, torch\nfrom blemish.features.timm_features import NetworkFeatures, without_networks\n"
        f"with without_networks():\n    features = NetworkFeatures('{SMALL}')\n"
        f"features.load_state_dict(torch.load({str(tmp_path / 'state.pth')!r}))\n"
        "features(torch.rand(1, 3, 64, 64))\nassert 'timm' not in sys.modules and 'torchvision' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_state_of_an_earlier_version_has_no_graph():
    images, features = pictures(), features_of()
    expected, state = features(images), features.state_dict()
    del state["graph"]
    assert torch.equal(loaded(state)(images), expected)


@pytest.mark.parametrize(
    "damage",
    [
        lambda graph: graph[:7],
        lambda graph: graph[:-1],
        lambda graph: graph * 0,
        lambda graph: torch.cat([graph[:8], graph[8:].flip(0)]),
        lambda graph: torch.cat([torch.full((8,), 255, dtype=torch.uint8), graph[8:]]),
    ],
)
def test_a_damaged_graph_is_made_anew(damage, caplog):
    images, features = pictures(), features_of()
    expected, state = features(images), features.state_dict()
    with caplog.at_level("INFO", "blemish"):
        assert torch.equal(loaded(state | {"graph": damage(state["graph"])})(images), expected)
    assert "the network is arranged anew for this processor: " in caplog.text


def test_a_graph_with_a_document_type_or_constants_elsewhere_is_refused():
    graph, _ = optimise(made(), pictures())
    for xml in (b"<!DOCTYPE net>" + graph.xml, graph.xml.replace(b'offset="0"', b'offset="-1"'), b"<net", b"<other/>"):
        with pytest.raises(EngineError, match="its graph is damaged"):
            Graph.unpacked(Graph(xml, graph.weights).packed())


def test_weights_that_do_not_fit_are_said_in_a_line(by_torch):
    features = features_of()
    features(pictures())
    state = features.state_dict()
    del state["network.conv1.0.weight"]
    with pytest.raises(BlemishError, match=r"weights do not fit resnet10t .*conv1\.0\.weight.* Fit it again\."):
        by_torch(loaded(state), pictures())


@pytest.fixture
def detector(make_category, tmp_path) -> PatchCore:
    category = find_categories(make_category(tmp_path))[0]
    made = PatchCore.create(size=64, backbone=SMALL, weights="random", num_patches=200, precision="float32")
    return made.fit(load(category.of("train"), Preprocess((64, 64))))


def test_what_changes_while_many_threads_compute(detector):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    batch = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    expected = [detector(batch[..., :side, :side]) for side in (64, 48)]
    for side, known in zip((64, 48), expected, strict=True):
        detector.to("cpu")  # forgets what was arranged
        found = detector(batch[..., :side, :side])
        assert all(map(torch.equal, found, known))
    torch.set_num_threads(before)


def test_a_network_is_arranged_beside_another_that_computes():
    images, busy = pictures(), features_of()
    expected = busy(images)
    call, lookup = nn.Module.__call__, nn.Module.__getattr__
    with ThreadPoolExecutor(3) as pool, torch.inference_mode():
        others = [features_of(seed=1) for _ in range(4)]
        arranging = [pool.submit(other, images) for other in others]
        while not all(one.done() for one in arranging):
            assert torch.equal(busy(images), expected)
    found = [one.result() for one in arranging]
    assert all(torch.equal(one, found[0]) for one in found)
    assert (nn.Module.__call__, nn.Module.__getattr__) == (call, lookup)


def test_features_that_were_used_can_be_copied_and_give_gradients():
    images, features = pictures(), features_of()
    found = features(images)
    for copied in (deepcopy(features), pickle.loads(pickle.dumps(features))):  # noqa: S301 - our own
        assert torch.equal(copied(images), found)
    with torch.enable_grad():
        images.requires_grad = True
        features(images).sum().backward()
    assert images.grad.abs().max() > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_a_forked_process_computes_without_the_engine_s_threads():
    code = (
        "import os, signal, torch\nfrom blemish.features.timm_features import NetworkFeatures\n"
        "torch.set_num_threads(1)\nimages = torch.rand(1, 3, 64, 64)\n"
        f"features = NetworkFeatures('{SMALL}', weights='random').fit(None, 0)\nexpected = features(images)\n"
        "if (child := os.fork()) == 0:\n    signal.alarm(60)\n"
        "    os._exit(not torch.allclose(features(images), expected, rtol=1e-3, atol=1e-4))\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_process_stays_as_it_is():
    code = (
        "import os, torch, warnings\nfrom blemish.features.timm_features import NetworkFeatures\n"
        f"features = NetworkFeatures('{SMALL}', weights='random').fit(None, 0)\n"
        "cores = getattr(os, 'sched_getaffinity', id)\n"
        "state = lambda: (dict(os.environ), torch.get_num_threads(), warnings.filters[:], cores(0))\nbefore = state()\n"
        "features(torch.rand(1, 3, 64, 64))\nassert len(features.graph)\n"
        "for now, then in zip(state(), before): assert now == then, (now, then)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
