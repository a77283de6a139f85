"""`Backbone`, the interface of all that computes feature maps, and `FilterBank`, its base for filter responses."""

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
from blemish.imaging.input_size import InputSize, Sides
from blemish.progress import Progress, no_progress

FILTER_BANKS: dict[str, str | type[Backbone]] = {
    "gabor": "blemish.features.gabor:GaborFeatures",
    "pca": "blemish.features.pca:PcaFeatures",
}
"""Name -> class of the features that need no weights, or where it is. Every other name is that of a timm network."""
BATCH = 8
"""Batch size while fitting."""

Side = Annotated[int, Sides(), Field(description="side in pixels of the square images are resized to")]
BackboneName = Annotated[
    str,
    Field(
        min_length=1,
        description=f"{', '.join(FILTER_BANKS)}, a network of timm, several joined by +, or auto",
    ),
]
Layers = Annotated[
    tuple[int, ...],
    Field(description="levels of a CNN, blocks of a ViT; default: middle ones"),
]
Weights = Annotated[str, Field(description="network weights: hub, random or a file")]
ComputedIn = Annotated[
    Precision,
    Field(description="precision of a network: float32, bfloat16, or auto (bfloat16 where the hardware supports it)"),
]


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """The options of the features that a detector works on: the backbone, and the size of its input."""

    size: InputSize = 256
    backbone: BackboneName = "auto"
    layers: Layers = ()
    weights: Weights = "hub"
    precision: ComputedIn = "auto"


class Backbone(nn.Module, ABC):
    """Computes feature maps (B, C, h, w) of images (B, 3, H, W) in [0, 1]; the h x w places are called cells.

    A backbone is fitted to good images (or loads its weights) by `fit`. The class attributes are the defaults of
    detectors for the options that suit its features.
    """

    neighbourhood = 1
    """PatchCore: side in cells of the square neighbourhood over which features are averaged."""
    position = 0.0
    """PatchCore: weight of a patch's position in the image."""
    selection = "means"
    """PatchCore: how the patches of the memory bank are selected."""
    reweighting = False
    """PatchCore: whether the score is lowered where the patches of the memory bank are dense."""

    @property
    def kinds(self) -> Sequence[Backbone]:
        """The kinds of features, which the channels hold one after the other: by default one."""
        return (self,)

    def split(self, features: Tensor) -> Sequence[Tensor]:
        """The channels of each kind, of feature maps (B, C, h, w)."""
        return (features,)

    @property
    def principal(self) -> Sequence[int] | None:
        """The channels that a Gaussian needs, the others adding little to them; None: all of them."""
        return None

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Learns filters from good images, or loads pretrained weights; does nothing where there are neither."""
        return self

    @abstractmethod
    def levels(self, images: Tensor) -> list[Tensor]:
        """The feature maps of each level on its own grid, the finest first: each (B, C, h, w) in float32."""

    def forward(self, images: Tensor) -> Tensor:
        """All levels concatenated, (B, sum of C, h, w); coarser ones are enlarged bilinearly to the finest grid."""
        first, *rest = self.levels(images)
        if not rest:
            return first
        coarser = [F.interpolate(level, size=first.shape[-2:], mode="bilinear") for level in rest]
        return torch.cat([first, *coarser], 1)


class FilterBank(Backbone):
    """A backbone that projects filter responses to principal components learned from good images.

    The responses are standardised first, then `DIMENSIONS` components are kept and partly whitened.
    """

    DIMENSIONS, WHITENING = 48, 0.25
    """Number of components, and how far their variances are made equal (0: not at all, 1: completely)."""
    SAMPLED, CELLS = 100, 400
    """Images, and cells of each image, that the components are learned from, at most."""
    position = 4.0
    num_responses: int
    mean: Tensor
    projection: Tensor
    deviation = 1.0
    """The standard deviation of the components that `fit` saw, over all of them."""

    def __init__(self) -> None:
        super().__init__()
        dimensions = min(self.DIMENSIONS, self.num_responses)
        self.register_buffer("mean", torch.zeros(self.num_responses))
        self.register_buffer("projection", torch.zeros(self.num_responses, dimensions))

    @abstractmethod
    def responses(self, images: Tensor) -> Tensor:
        """The filter responses (B, num_responses, h, w) of images (B, 3, H, W) in [0, 1]."""

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:
        """Learns the components from images and cells drawn at random by the seed."""
        generator, found = np.random.default_rng(seed), []
        rows = np.sort(generator.permutation(len(images))[: self.SAMPLED]).tolist()
        for batch in batches(images, rows, self.mean.device, progress):
            cells = self.responses(batch).flatten(2)
            drawn = torch.from_numpy(generator.permutation(cells.shape[2])[: self.CELLS]).to(cells.device)
            found.append(cells[:, :, drawn].permute(0, 2, 1).flatten(0, 1))
        values = torch.cat(found)
        self.mean, self.projection = whitening(values, min(self.DIMENSIONS, values.shape[1]), self.WHITENING)
        self.deviation = float(((values - self.mean) @ self.projection).std())
        return self

    def levels(self, images: Tensor) -> list[Tensor]:
        """One level: the components of each cell, (B, DIMENSIONS, h, w)."""
        centred = self.responses(images) - self.mean[:, None, None]
        found = self.projection.T @ centred.flatten(2)
        return [found.view(centred.shape[0], -1, *centred.shape[2:])]


def batches(
    images: ImageSource, rows: Sequence[int], device: torch.device, progress: Progress = no_progress
) -> Iterator[Tensor]:
    """The images of these rows in batches (B, 3, H, W) on the device; progress is reported after each batch."""
    done = 0
    for some in in_batches(rows, BATCH):
        yield images.batch(some).to(device)
        done += len(some)
        progress(done, len(rows))


def whitening(values: Tensor, dimensions: int, exponent: float) -> tuple[Tensor, Tensor]:
    """The mean (C,) of values (N, C), and a projection (C, dimensions) to their leading principal components.

    The channels are standardised first. Each component is divided by its variance to the power exponent / 2.
    """
    double = values.double()
    mean, deviation = double.mean(0), double.std(0, correction=0) + 1e-4
    standard = (double - mean) / (deviation * values.shape[1] ** 0.5)
    variances, vectors = torch.linalg.eigh(standard.T @ standard / len(values))
    variances, vectors = variances.flip(0)[:dimensions], vectors.flip(1)[:, :dimensions]
    scale = (variances + 1e-3 * variances[0]).clamp_min(1e-12) ** (-exponent / 2)
    projection = vectors * scale / (deviation[:, None] * values.shape[1] ** 0.5)
    return mean.float(), projection.float().contiguous()  # as a saved one is: another layout has other bits
