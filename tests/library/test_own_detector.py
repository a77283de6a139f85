"""A detector that is no part of the package, in one file: it is registered, keeps the contract, and is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pytest
import torch
from detector_contract import *  # noqa: F403 - its tests and fixtures become those of this file
from torch import Tensor

import blemish
from blemish.detectors import DETECTORS
from blemish.detectors.base import Detector, Smoothing, scores_and_maps
from blemish.features.base import Side


class MeanImage(Detector):
    """How far each pixel is from the mean of the good images there."""

    mean: Tensor

    def __init__(self, size: Side = 64, smoothing: Smoothing = 1.0) -> None:
        super().__init__(size)
        self.smoothing = smoothing
        self.register_buffer("mean", torch.zeros(3, size, size))

    @torch.no_grad()
    def fit(self, images: Any, **_: Any) -> Self:
        """Takes the mean."""
        self.mean = images.batch(range(len(images))).to(self.device).mean(0)
        self.is_fitted = True
        return self

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mean distance over the channels, smoothed, and its maximum."""
        return scores_and_maps((images - self.mean).abs().mean(1), images, self.smoothing, inside)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    blemish.register_detector("mean_image", MeanImage)
    yield
    del DETECTORS["mean_image"]


pytestmark = pytest.mark.parametrize("name", ["mean_image"])


def test_it_is_fitted_saved_and_loaded_as_any_other(name, tmp_path):
    generator = np.random.default_rng(0)
    images = [generator.integers(90, 110, (40, 50, 3), np.uint8) for _ in range(6)]
    model = blemish.fit(images, method=name, size=32, smoothing=0.5)
    odd = images[0].copy()
    odd[10:20, 10:20] = 250
    assert model.predict(odd).score > model.predict(images[0]).score
    model.save(tmp_path / "model")
    assert blemish.load(tmp_path / "model").predict(odd).score == model.predict(odd).score
    with pytest.raises(blemish.BlemishError, match="width: not an option of MeanImage"):
        blemish.fit(images, method=name, width=3)
