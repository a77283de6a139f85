"""PatchCore: a place that looks like none of the good images' places is anomalous."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from blemish.blocks.features import STRIDE, GaborFeatures
from blemish.blocks.filters import gaussian_blur
from blemish.data.source import ImageSource, in_batches
from blemish.detectors.base import Detector, Side, Smoothing
from blemish.progress import Progress, no_progress

NumPatches = Annotated[int, Field(ge=1, le=1_000_000, description="patches of the good images that are kept")]
Position = Annotated[
    float,
    Field(ge=0, le=1000, description="cost of crossing the picture, in median distances between patches; 0: none"),
]

CANDIDATES = 5
"""Patches drawn per patch kept."""
DIMENSIONS, WHITENING = 48, 0.25
"""Components kept, and the exponent that evens out their variances (0: not at all, 1: fully)."""
BLOCK = 4096
"""Rows of a distance matrix that are held at once."""


class PatchCore(Detector):
    """Map: distance of each patch to the nearest patch kept from the good images; score: its maximum.

    After Roth et al. 2022 (arXiv 2106.08265), on analytic features instead of a pretrained network. Candidates are
    drawn evenly from all images in one pass, so memory does not grow with their number. The bank is chosen as
    k-means|| chooses its centres (arXiv 1203.6402): by rounds, the farther from what is kept the likelier.
    """

    mean: Tensor
    projection: Tensor
    bank: Tensor
    weight: Tensor

    def __init__(
        self, size: Side = 256, num_patches: NumPatches = 8000, position: Position = 4.0, smoothing: Smoothing = 4.0
    ) -> None:
        super().__init__(size)
        self.num_patches, self.position, self.smoothing = num_patches, position, smoothing
        self.features = GaborFeatures()
        self._add_learned("mean", 1)
        self._add_learned("projection", 2)
        self._add_learned("bank", 2)
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,  # noqa: ARG002 - nothing is chosen by it
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Self:
        """Draws candidates, whitens them, chooses the bank among them and weighs the position."""
        generator = np.random.default_rng(seed)
        found, places, owners = self._candidates(images, generator, progress)
        self.mean, self.projection = whitening(found, min(DIMENSIONS, found.shape[1]), WHITENING)
        found = (found - self.mean) @ self.projection
        kept = spread(found, self.num_patches, generator)
        typical = _distance_to_others(found[kept], owners[kept], generator)
        self.weight = found.new_tensor(self.position * typical)
        self.bank = torch.cat([found[kept], self.weight * places[kept]], 1)
        self.is_fitted = True
        return self

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The distance of each patch to its nearest, brought to the image's size and smoothed, and its maximum."""
        found = self.features(images)
        height, width = found.shape[-2:]
        flat = (found.permute(0, 2, 3, 1).flatten(0, 2) - self.mean) @ self.projection
        where = self.weight * _places(height, width).to(flat).repeat(len(images), 1)
        distances = nearest(torch.cat([flat, where], 1), self.bank).view(-1, 1, height, width)
        scaled = torch.nn.functional.interpolate(distances, scale_factor=STRIDE, mode="bilinear")
        maps = gaussian_blur(scaled, self.smoothing)[:, 0]
        return maps.amax((1, 2)), maps

    def _candidates(
        self, images: ImageSource, generator: np.random.Generator, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, C), places (N, 2) and the image (N,) of about CANDIDATES patches per patch kept."""
        grid = self.size // STRIDE
        count = min(grid**2, -(-CANDIDATES * self.num_patches // len(images)))
        features, places, done = [], _places(grid, grid).to(self.device), 0
        drawn = torch.from_numpy(np.stack([generator.permutation(grid**2)[:count] for _ in range(len(images))]))
        drawn = drawn.to(self.device)
        for rows in in_batches(range(len(images)), 4):
            maps = self.features(images.batch(rows).to(self.device)).flatten(2)
            features += [cells[:, drawn[row]].T for row, cells in zip(rows, maps, strict=True)]
            done += len(rows)
            progress(done, len(images))
        owners = torch.arange(len(images), device=self.device).repeat_interleave(count)
        return torch.cat(features), places[drawn.flatten()], owners


def whitening(values: Tensor, dimensions: int, exponent: float) -> tuple[Tensor, Tensor]:
    """The mean (C,) of values (N, C) and a projection (C, dimensions) to their leading principal components.

    Channels count alike, whatever their variance; a component is divided by its variance to the power exponent / 2.
    """
    double = values.double()
    mean, deviation = double.mean(0), double.std(0, correction=0) + 1e-4
    standard = (double - mean) / (deviation * values.shape[1] ** 0.5)
    variances, vectors = torch.linalg.eigh(standard.T @ standard / len(values))
    variances, vectors = variances.flip(0)[:dimensions], vectors.flip(1)[:, :dimensions]
    scale = (variances + 1e-3 * variances[0]).clamp_min(1e-12) ** (-exponent / 2)
    projection = vectors * scale / (deviation[:, None] * values.shape[1] ** 0.5)
    return mean.float(), projection.float()


def spread(values: Tensor, count: int, generator: np.random.Generator, rounds: int = 4) -> Tensor:
    """Rows of `count` values (N, C) that cover them: a quarter at random, then by squared distance to those kept."""
    if count >= len(values):
        return torch.arange(len(values), device=values.device)
    kept = np.zeros(len(values), bool)
    distances, number = np.ones(len(values)), count - count // rounds * (rounds - 1)
    while True:
        chance = np.where(kept, 0, np.maximum(distances, 1e-12))
        keys = np.log(generator.random(len(values)) + 1e-300) / np.maximum(chance, 1e-300)  # weighted, without return
        keys[kept] = -np.inf
        new = np.sort(np.argpartition(-keys, number - 1)[:number])
        kept[new] = True
        if kept.sum() == count:
            return torch.from_numpy(np.flatnonzero(kept)).to(values.device)
        found = nearest(values, values[torch.from_numpy(new).to(values.device)]).double().cpu().numpy() ** 2
        distances = found if kept.sum() == number else np.minimum(distances, found)
        number = count // rounds


def nearest(values: Tensor, bank: Tensor) -> Tensor:
    """(N,): the Euclidean distance of each of the values (N, C) to the nearest row of the bank (M, C).

    The nearest is found by a matrix product, its distance then computed directly, free of cancellation.
    """
    centre = bank.mean(0)  # the product is precise for values that are small
    centred = bank - centre
    half = centred.square().sum(1) / 2
    starts = range(0, len(values), BLOCK)
    rows = torch.cat([(half - (values[at : at + BLOCK] - centre) @ centred.T).argmin(1) for at in starts])
    return (values - bank[rows]).square().sum(1).sqrt()


def _distance_to_others(bank: Tensor, owners: Tensor, generator: np.random.Generator) -> float:
    """The median distance of some of the bank's rows to the nearest row of another image; 0 with one image."""
    rows = torch.from_numpy(generator.permutation(len(bank))[:1000]).to(bank.device)
    squares = bank.square().sum(1)
    distances = squares[rows, None] + squares - 2 * bank[rows] @ bank.T
    distances[owners[rows, None] == owners] = torch.inf
    found = distances.amin(1).clamp_min(0).sqrt()
    return float(found.median()) if bool(found.isfinite().all()) else 0.0


def _places(height: int, width: int) -> Tensor:
    """(height width, 2): each cell's place, 1 being the picture's side."""
    rows, columns = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([rows, columns], -1).flatten(0, 1)
