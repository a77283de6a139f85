"""PatchCore: a place that looks like none of the good images' places is anomalous."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from pydantic import Field
from torch import Tensor

from blemish.data.source import ImageSource
from blemish.detectors.base import FeatureDetector, Side, Smoothing, scores_and_maps
from blemish.detectors.parts.coreset import greedy, spread
from blemish.detectors.parts.neighbours import Neighbours, nearest, whole
from blemish.features.base import BackboneName, ComputedIn, Layers, Weights, batches
from blemish.features.filters import owning
from blemish.progress import Progress, no_progress

logger = logging.getLogger("blemish")

NumPatches = Annotated[int, Field(ge=1, le=1_000_000, description="patches of the good images that are kept")]
Selection = Annotated[
    Literal["spread", "greedy"] | None,
    Field(
        description="how they are chosen: by distance and chance in a few rounds, or each the farthest from the rest; "
        "by default spread on filter banks, greedy on networks"
    ),
]
Position = Annotated[
    float | None,
    Field(
        ge=0,
        le=1000,
        description="cost of crossing the picture, in median distances between patches; by default 4 on filter banks, "
        "0 (none) on networks",
    ),
]
Reweighting = Annotated[
    bool | None,
    Field(description="the score counts less where the bank is dense; by default on networks, as in the paper"),
]

CANDIDATES = 5
"""Patches drawn per patch kept."""
COVERED = 0.99
"""Part of the bank's patches that lie within `radius` of a patch of another image."""
NEIGHBOURS = 9
"""Patches of the bank that a score is weighed by."""


class PatchCore(FeatureDetector):
    """Map: distance of each patch to the nearest patch kept from the good images; score: its maximum.

    With `reweighting` the score is the largest distance before smoothing, weighed as in the paper. Within a region of
    interest it is the largest of the cells that show some of it.

    After Roth et al. 2022 (arXiv 2106.08265). Candidates are drawn evenly from all images in one pass, so memory does
    not grow with their number.
    """

    centre: Tensor
    bank: Tensor
    weight: Tensor
    radius: Tensor

    def __init__(
        self,
        size: Side = 256,
        backbone: BackboneName = "auto",
        layers: Layers = (),
        weights: Weights = "hub",
        precision: ComputedIn = "auto",
        smoothing: Smoothing = 4.0,
        num_patches: NumPatches = 8000,
        selection: Selection = None,
        position: Position = None,
        reweighting: Reweighting = None,
    ) -> None:
        super().__init__(size, backbone, layers, weights, precision, smoothing)
        self.num_patches, self.selection, self.position = num_patches, selection, position
        self.reweighting = reweighting
        self._arranged: Neighbours | None = None
        self._add_learned("centre", 1)
        self._add_learned("bank", 2, torch.float16)
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("radius", torch.zeros(()))

    @torch.no_grad()
    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,  # noqa: ARG002 - nothing is chosen by it
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Self:
        """Draws candidates, chooses the bank among them and weighs the position."""
        generator = np.random.default_rng(seed)
        shape = self._fit_features(images, seed, progress)
        found, places, owners = self._candidates(images, shape, generator, progress)
        self.centre = found.mean(0)
        found -= self.centre
        choose = greedy if self._is_greedy else spread
        kept = choose(found, self.num_patches, generator, progress)
        position = self.features.position if self.position is None else self.position
        owners, found, places = owners[kept], found[kept], places[kept]
        self.weight = position * _distances_to_others(found, owners, generator).median()
        found = torch.cat([found, self.weight * places], 1)
        self.radius = _distances_to_others(found, owners, generator).quantile(COVERED)
        self.bank = found.half()
        self.is_fitted = True
        return self

    @torch.no_grad()
    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Adds the patches of further good images that are farther from the bank than good ones use to be.

        That is `radius`: 99 % of the patches it was chosen of were nearer to one of another image. Of each image the
        farthest patch comes first, until the rest lie within the radius.
        """
        for batch in batches(images, range(len(images)), self.device, progress):
            for values in self._described(self._local(self.features(batch))):
                distances, _ = self._neighbours.nearest(values)
                new = []
                while distances.amax() > self.radius:
                    new.append(values[distances.argmax()])
                    distances = torch.minimum(distances, (values - new[-1]).square().sum(1).sqrt())
                self.bank = torch.cat([self.bank, *(value[None].half() for value in new)])
        return self

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The distances, brought to the images' size and smoothed, and their maximum, or that weighed."""
        features = self.features(images)
        described, distances, rows = self._compared(features)
        maps = distances.view(-1, *features.shape[2:])
        scores, maps = scores_and_maps(maps, images, self.smoothing, inside)
        is_weighed = self.features.reweighting if self.reweighting is None else self.reweighting
        if not is_weighed:
            return scores, maps
        if inside is not None:
            counted = _cells(inside, features.shape[2], features.shape[3])
            distances = distances.masked_fill(~counted.flatten(1), -torch.inf)
        return self._weighed(described, distances, rows), maps

    def distances(self, features: Tensor) -> Tensor:
        """Euclidean distances to the nearest patch of the bank, (B, h, w)."""
        return self._compared(features)[1].view(-1, *features.shape[2:])

    def _compared(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The patches (B, h w, C + 2), and each one's distance (B, h w) to its nearest of the bank, and which it is."""
        described = self._described(self._local(features))
        if torch.compiler.is_exporting():
            distances, rows = nearest(described.flatten(0, 1), self.bank.float())
        else:  # one image at a time, so that rounding does not depend on the batch
            found = zip(*(self._neighbours.nearest(values) for values in described), strict=True)
            distances, rows = (torch.cat(parts) for parts in found)
        number = described.shape[1]
        return described, distances.view(-1, number), rows.view(-1, number)

    def _weighed(self, described: Tensor, distances: Tensor, rows: Tensor) -> Tensor:
        """(B,): the largest distance, less where the patch found nearest has others about as near (equation 7).

        Its weight is 1 - exp(d) / sum of exp(d') over the distances d' to the patches around the one found, itself
        among them. A bank of one has nothing to weigh by.
        """
        largest, place = distances.max(1)
        if len(self.bank) == 1:
            return largest
        patch = described.gather(1, place[:, None, None].expand(-1, 1, described.shape[2]))
        bank, half = whole(self.bank) if torch.compiler.is_exporting() else self._neighbours.whole
        found = bank[rows.gather(1, place[:, None])[:, 0]]
        half_squares = torch.addmm(half, found, bank.T, alpha=-1)
        around = half_squares.topk(min(NEIGHBOURS, len(self.bank)), largest=False).indices
        others = (patch - bank[around]).square().sum(2).sqrt()
        return largest * (1 - torch.exp(largest - torch.logsumexp(others, 1)))

    @property
    def _is_greedy(self) -> bool:
        return (self.selection or self.features.selection) == "greedy"

    @property
    def _neighbours(self) -> Neighbours:
        """The bank as it is asked, arranged anew where it has changed."""
        self._arranged = Neighbours.of(self.bank, self._arranged)
        return self._arranged

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "projection" in state_dict:  # of format 1, in which features were no part of their own
            for name in ("mean", "projection"):
                state_dict[f"{prefix}features.{name}"] = state_dict.pop(prefix + name)
            state_dict[prefix + "centre"] = torch.zeros(state_dict[f"{prefix}features.projection"].shape[1])
            state_dict[prefix + "radius"] = torch.zeros(())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _local(self, features: Tensor) -> Tensor:
        """Each cell's mean over its neighbourhood."""
        side = self.features.neighbourhood
        return F.avg_pool2d(features, side, 1, side // 2, count_include_pad=False) if side > 1 else features

    def _described(self, features: Tensor) -> Tensor:
        """(B, h w, C + 2): what is there, and where."""
        batch, _, height, width = features.shape
        values = features.flatten(2).permute(0, 2, 1) - self.centre
        where = self.weight * _places(height, width).to(values)
        return torch.cat([values, where.expand(batch, -1, -1)], 2)

    def _candidates(
        self, images: ImageSource, shape: tuple[int, int, int], generator: np.random.Generator, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, C), places (N, 2) and the image (N,) of the patches that the bank is chosen from."""
        channels, height, width = shape
        count = self._candidates_per_image(len(images), height * width, channels, images.memory_budget)
        drawn = np.stack([generator.permutation(height * width)[:count] for _ in range(len(images))])
        cells = torch.from_numpy(drawn).to(self.device)
        found = torch.empty(len(images), count, channels, device=self.device)
        done = 0
        for batch in batches(images, range(len(images)), self.device, progress):
            features = self._local(self.features(batch)).flatten(2)
            for maps in features:
                found[done] = maps[:, cells[done]].T
                done += 1
        owners = torch.arange(len(images), device=self.device).repeat_interleave(count)
        return found.flatten(0, 1), _places(height, width).to(found)[cells.flatten()], owners

    def _candidates_per_image(self, num_images: int, num_cells: int, channels: int, budget: int) -> int:
        """All patches for the exact selection, else a few times as many as are kept; no more than the budget holds."""
        wanted = num_cells if self._is_greedy else -(-CANDIDATES * self.num_patches // num_images)
        row = 3 * 4 * channels  # bytes: the candidates, with their places, and what the selection computes
        held = max(1, budget // (row * num_images))
        count = min(num_cells, wanted, held)
        logger.info(
            "patchcore: %s candidate patches of %s features take %.0f MB, the bank of %s %.1f MB%s",
            f"{count * num_images:,}",
            f"{channels:,}",
            count * num_images * row / 1e6,
            f"{min(self.num_patches, count * num_images):,}",
            min(self.num_patches, count * num_images) * 2 * (channels + 2) / 1e6,
            "; more would exceed memory_budget" if held < min(num_cells, wanted) else "",
        )
        return count


def _distances_to_others(bank: Tensor, owners: Tensor, generator: np.random.Generator) -> Tensor:
    """The distances of some of the bank's rows to the nearest row of another image; 0 with one image."""
    rows = torch.from_numpy(generator.permutation(len(bank))[:1000]).to(bank.device)
    squares = bank.square().sum(1)
    distances = squares[rows, None] + squares - 2 * bank[rows] @ bank.T
    distances[owners[rows, None] == owners] = torch.inf
    return distances.amin(1).clamp_min(0).sqrt().nan_to_num(posinf=0)


def _cells(inside: Tensor, height: int, width: int) -> Tensor:
    """(B, height, width): the cells of the grid that have a pixel inside, of (B, H, W)."""
    rows, columns = (
        owning(cells, pixels).to(inside.device) for cells, pixels in zip((height, width), inside.shape[1:], strict=True)
    )
    return (rows.T @ inside.float() @ columns) > 0


def _places(height: int, width: int) -> Tensor:
    """(height width, 2): each cell's place, 1 being the picture's side."""
    rows, columns = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([rows, columns], -1).flatten(0, 1)
