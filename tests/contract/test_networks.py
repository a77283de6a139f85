"""The autoencoders with other networks than the default keep the contract of all detectors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from detector_contract import *  # noqa: F403 - its tests and fixtures become those of this file

import blemish
from blemish.detectors import DETECTORS
from blemish.detectors.autoencoder import Autoencoder
from blemish.detectors.parts.convolution import Blocks, Depth, LatentDim, Width
from blemish.detectors.parts.reconstruction import Loss
from blemish.detectors.vae import VariationalAutoencoder
from blemish.features.base import Side


class ResidualAutoencoder(Autoencoder):
    """With residual stages of two convolutions."""

    def __init__(
        self,
        size: Side = 128,
        width: Width = 16,
        latent_dim: LatentDim = 100,
        depth: Depth = 2,
        blocks: Blocks = "residual",
    ) -> None:
        super().__init__(size, width, latent_dim, depth, blocks)


class DeepVariationalAutoencoder(VariationalAutoencoder):
    """With stages of three convolutions, and the absolute error."""

    def __init__(
        self,
        size: Side = 128,
        width: Width = 16,
        latent_dim: LatentDim = 100,
        depth: Depth = 3,
        loss: Loss = "l1",
    ) -> None:
        super().__init__(size, width, latent_dim, depth, loss=loss)


NETWORKS = {"residual_ae": ResidualAutoencoder, "deep_vae": DeepVariationalAutoencoder}


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    for name, network in NETWORKS.items():
        blemish.register_detector(name, network)
    yield
    for name in NETWORKS:
        del DETECTORS[name]


pytestmark = pytest.mark.parametrize("name", sorted(NETWORKS))
