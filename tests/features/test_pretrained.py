"""ImageNet weights that come as packages: every tensor at its place, and what they compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blemish.errors import BlemishError
from blemish.features import pretrained
from blemish.features.pretrained import COUNTERS, PACKAGES, Package, packaged_weights
from blemish.features.registry import create_backbone

LOGITS = {
    "efficientnet_lite0": (224, (-0.37878, 1.51058, -1.14489, -1.97726, -2.87997, -0.01466)),
    "efficientnet_lite1": (240, (0.86176, 1.74409, -2.25615, -0.52329, -1.19055, 1.89817)),
    "efficientnet_lite2": (260, (-1.85497, 0.57447, -0.45896, -0.91461, -0.03874, 1.04957)),
}
"""Side of the image -> the first logits of `image` in efficientnet-lite-pytorch 0.1.0, an implementation of its own."""


def image(side: int) -> torch.Tensor:
    """(1, 3, side, side) in [-1, 1]: waves of other lengths in each channel."""
    axis = torch.arange(side, dtype=torch.float64)
    waves = [torch.sin(axis[:, None] / (5 + 3 * channel)) * torch.cos(axis / (7 + channel)) for channel in range(3)]
    return torch.stack(waves)[None].float()


def network_of(name: str) -> torch.nn.Module:
    import timm

    return timm.create_model(PACKAGES[name].network).eval()


def weights_of(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    if PACKAGES[name].path is None:
        pytest.skip("the package is not installed")
    create_backbone(name, weights="random")  # which makes timm importable beside a CPU-only torch
    network = network_of(name)
    return network, packaged_weights(name, {key: value.shape for key, value in network.state_dict().items()})


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_every_tensor_is_at_its_place(name):
    network, weights = weights_of(name)
    own = {key for key in network.state_dict() if not key.endswith(COUNTERS)}
    assert set(weights) == own
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert all(key.endswith(COUNTERS) for key in missing)
    side, expected = LOGITS[name]
    with torch.no_grad():
        found = network(image(side))[0, : len(expected)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_a_backbone_has_the_features_of_the_network():
    network, weights = weights_of("efficientnet_lite0")
    network.load_state_dict(weights, strict=False)
    features = create_backbone("efficientnet_lite0", (2,)).fit(None, seed=0)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values = network.bn1(network.conv_stem((images - 0.5) / 0.5))
        for block in network.blocks[:3]:
            values = block(values)
        found = features(images)
    torch.testing.assert_close(found, values, rtol=1e-3, atol=1e-3)
    assert found.shape == (1, 40, 8, 8)


def test_what_is_not_installed_or_damaged_is_one_line(monkeypatch, tmp_path: Path):
    package = Package("efficientnet_lite9_pytorch_model", "weights.pth", "0" * 64, "tf_efficientnet_lite0")
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", package)
    with pytest.raises(BlemishError, match=r"lite9-pytorch-model, which is not installed.*blemish\[pretrained\]"):
        create_backbone("efficientnet_lite0").fit(None, seed=0)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    monkeypatch.setattr(Package, "path", property(lambda self: tmp_path / "weights.pth"))
    with pytest.raises(BlemishError, match="not the weights of efficientnet_lite0 that are known"):
        create_backbone("efficientnet_lite0").fit(None, seed=0)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a.weight": torch.zeros(2), "a.bias": torch.zeros(3)}, "does not fit"),
        ({"a.weight": torch.zeros(2), "a.weight2": torch.zeros(2)}, "does not fit"),
        ({"a.weight": torch.zeros(2)}, "holds 1 tensors where the network has 2"),
        ({"a.weight": torch.zeros(2), "a.bias": torch.zeros(2), "b.bias": torch.zeros(2)}, "holds 3 tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_named(monkeypatch, tmp_path: Path, tensors, said):
    torch.save(tensors, tmp_path / "weights.pth")
    digest = pretrained.hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGES, "made", replace(PACKAGES["efficientnet_lite0"], sha256=digest))
    monkeypatch.setattr(Package, "path", property(lambda self: tmp_path / "weights.pth"))
    shapes = {"weight": torch.Size([2]), "bias": torch.Size([2]), "num_batches_tracked": torch.Size([])}
    with pytest.raises(BlemishError, match=said):
        packaged_weights("made", shapes)
