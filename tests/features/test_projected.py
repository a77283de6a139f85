"""A network's levels on one grid: of which size, of which cells, and what the edges show."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from blemish.features.pretrained import PACKAGES
from blemish.features.projected import PADDING, ProjectedNetwork


def random(name: str = "resnet10t", *layers: int) -> ProjectedNetwork:
    """With random weights, and no components yet."""
    found = ProjectedNetwork(name, layers, "random")
    found.network.fit(None, seed=0)
    return found


def pooled(images: torch.Tensor) -> list[torch.Tensor]:
    """Levels of stride 4, 8 and 16 of a network that only averages."""
    return [F.avg_pool2d(images, stride) for stride in (4, 8, 16)]


@pytest.mark.parametrize("shape", [(64, 64), (32, 32), (48, 80)])
def test_a_cell_has_8_pixels_whatever_the_image_s_size(shape):
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    found = random().responses(images)
    assert found.shape == (2, 64 + 128 + 256, shape[0] // 8, shape[1] // 8)
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("name", "layers", "channels"),
    [("resnet10t", (2,), 128), ("resnet10t", (2, 4), 128 + 512), ("vit_tiny_patch16_224", (2,), 192)],
)
def test_layers_that_are_asked_for_are_on_the_same_grid(name, layers, channels):
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert random(name, *layers).responses(images).shape == (1, channels, 8, 8)


@pytest.mark.parametrize("shape", [(64, 64), (96, 32)])
def test_each_level_is_of_the_cells_that_it_shows(monkeypatch, shape):
    """Of averages, the finest level and the middle one are those of the cells, the coarsest is enlarged."""
    bank = random()
    monkeypatch.setattr(bank.network, "levels", pooled)
    images = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    cells = F.avg_pool2d(images, 8)
    coarse = F.interpolate(F.avg_pool2d(images, 16), size=cells.shape[-2:], mode="bilinear")
    around = F.avg_pool2d(torch.cat([cells, cells, coarse], 1), 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(bank.responses(images), around)


def test_the_edges_are_mirrored(monkeypatch):
    seen = []
    bank = random()
    monkeypatch.setattr(bank.network, "levels", lambda images: seen.append(images) or pooled(images))
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    bank.responses(images)
    (padded,) = seen
    assert padded.shape == (1, 3, 32 + 2 * PADDING, 48 + 2 * PADDING)
    assert torch.equal(padded[:, :, PADDING:-PADDING, PADDING:-PADDING], images)
    for distance in (1, 5, PADDING):
        assert torch.equal(padded[:, :, PADDING - distance, PADDING:-PADDING], images[:, :, distance])
        assert torch.equal(padded[:, :, PADDING:-PADDING, -PADDING - 1 + distance], images[:, :, :, -1 - distance])


def test_an_image_without_anything_looks_nearly_alike_at_its_edges():
    if PACKAGES["efficientnet_lite2"].path is None:
        pytest.skip("the package is not installed")
    bank = ProjectedNetwork("efficientnet_lite2")
    bank.network.fit(None, seed=0)
    images = torch.full((1, 3, 128, 128), 0.6)

    def unevenness(levels: torch.Tensor) -> float:
        """How far cells are from the middle one, at most, relative to its length."""
        middle = levels[:, :, levels.shape[2] // 2, levels.shape[3] // 2, None, None]
        return float(((levels - middle).norm(dim=1) / middle.norm(dim=1)).max())

    whole = bank.network.levels(images)
    assert max(map(unevenness, whole)) > 2 * unevenness(bank.responses(images))


def test_components_are_learned_and_the_network_is_not(part_images):
    bank = ProjectedNetwork("resnet10t", weights="random").fit(part_images, seed=4)
    weights = random().network.fit(None, seed=4).state_dict()
    assert all(
        torch.equal(value, weights[name]) for name, value in bank.network.state_dict().items() if name != "graph"
    )
    found = torch.cat([bank(part_images.batch([row])) for row in range(8)]).permute(0, 2, 3, 1).flatten(0, 2)
    covariance = torch.cov(found.double().T)
    assert covariance.shape == (96, 96)
    off = covariance - covariance.diagonal().diag()
    assert off.abs().max() < 1e-3 * covariance.diagonal().max()
    assert found.std().item() == pytest.approx(bank.deviation, rel=0.02)
    assert (covariance.diagonal().diff() < 1e-9).all()  # the leading ones first
