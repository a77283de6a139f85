"""What describes each place of a picture by a vector, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from pydantic import Field
from torch import Tensor, nn

from blemish.data.source import ImageSource, in_batches
from blemish.features.devices import Precision
from blemish.progress import Progress, no_progress

FILTER_BANKS: dict[str, str | type[Backbone]] = {
    "gabor": "blemish.features.gabor:GaborFeatures",
    "pca": "blemish.features.pca:PcaFeatures",
}
"""Name -> class of the features that need no weights, or where it is. Every other name is that of a timm network."""
BATCH = 8
"""Images whose features are computed at once while fitting."""

Side = Annotated[
    int, Field(ge=32, le=1024, multiple_of=16, description="side of the squares images are brought to, in pixels")
]
BackboneName = Annotated[
    str,
    Field(
        min_length=1,
        description=f"{', '.join(FILTER_BANKS)}, a network of timm, or auto",
    ),
]
Layers = Annotated[
    tuple[int, ...],
    Field(description="levels of a CNN, blocks of a ViT; default: middle ones"),
]
Weights = Annotated[str, Field(description="of a network: hub, random, or a file")]
ComputedIn = Annotated[
    Precision,
    Field(description="of a network: float32, bfloat16, or auto: bfloat16 where the hardware computes in it"),
]


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """Which features an image is described by, and the size that it is brought to before."""

    size: Side = 256
    backbone: BackboneName = "auto"
    layers: Layers = ()
    weights: Weights = "hub"
    precision: ComputedIn = "auto"


class Backbone(nn.Module, ABC):
    """Images (B, 3, H, W) in [0, 1] -> features (B, C, h, w) on a grid; fitted to good images where it learns."""

    neighbourhood = 1
    """Cells along a side that PatchCore averages, so that a patch knows its surroundings."""
    position = 0.0
    """PatchCore's default weight of the place in the picture."""
    scales: tuple[float, ...] = (0.0,)
    """PaDiM's default widths in cells over which features are averaged before they are compared."""
    selection = "spread"
    """How PatchCore chooses its bank by default."""
    reweighting = False
    """Whether PatchCore's score counts less where the bank is dense, by default."""

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Learns, or loads, what the features need beside formulas."""
        return self

    @abstractmethod
    def levels(self, images: Tensor) -> list[Tensor]:
        """The features of each level on its own grid, the finest first: (B, C, h, w) in float32."""

    def forward(self, images: Tensor) -> Tensor:
        """The features of each cell, (B, sum of the levels' C, h, w): coarser levels are brought to the finest grid."""
        first, *rest = self.levels(images)
        if not rest:
            return first
        coarser = [F.interpolate(level, size=first.shape[-2:], mode="bilinear") for level in rest]
        return torch.cat([first, *coarser], 1)


class FilterBank(Backbone):
    """Responses of filters, weighed by what the good images show.

    Channels count alike, whatever their variance; then `DIMENSIONS` principal components are kept, whose variances are
    evened out a little.
    """

    DIMENSIONS, WHITENING = 48, 0.25
    """Components kept, and the exponent that evens out their variances (0: not at all, 1: fully)."""
    SAMPLED, CELLS = 100, 400
    """Images and cells of each that the components are learned from."""
    position = 4.0
    scales = (0.0, 3.0)
    num_responses: int
    mean: Tensor
    projection: Tensor

    def __init__(self) -> None:
        super().__init__()
        dimensions = min(self.DIMENSIONS, self.num_responses)
        self.register_buffer("mean", torch.zeros(self.num_responses))
        self.register_buffer("projection", torch.zeros(self.num_responses, dimensions))

    @abstractmethod
    def responses(self, images: Tensor) -> Tensor:
        """(B, num_responses, h, w)."""

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:
        """Learns the components from some of the images, drawn by the seed."""
        generator, found = np.random.default_rng(seed), []
        rows = np.sort(generator.permutation(len(images))[: self.SAMPLED]).tolist()
        for batch in batches(images, rows, self.mean.device, progress):
            cells = self.responses(batch).flatten(2)
            drawn = torch.from_numpy(generator.permutation(cells.shape[2])[: self.CELLS]).to(cells.device)
            found.append(cells[:, :, drawn].permute(0, 2, 1).flatten(0, 1))
        mean, projection = whitening(torch.cat(found), self.projection.shape[1], self.WHITENING)
        self.mean.copy_(mean)
        self.projection.copy_(projection)
        return self

    def levels(self, images: Tensor) -> list[Tensor]:
        """The components of each cell, (B, DIMENSIONS, h, w), as the one level."""
        return [torch.einsum("bchw,cd->bdhw", self.responses(images) - self.mean[:, None, None], self.projection)]


def batches(
    images: ImageSource, rows: Sequence[int], device: torch.device, progress: Progress = no_progress
) -> Iterator[Tensor]:
    """The images of these rows in batches on the device, progress told after each was used."""
    done = 0
    for some in in_batches(rows, BATCH):
        yield images.batch(some).to(device)
        done += len(some)
        progress(done, len(rows))


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
