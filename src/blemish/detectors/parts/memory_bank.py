"""The patches of good images that are kept, and how far others are from the nearest of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from pydantic import Field
from torch import Tensor

from blemish.detectors.parts.coreset import greedy, spread
from blemish.detectors.parts.fitted import Fitted
from blemish.detectors.parts.neighbours import Neighbours, nearest, whole
from blemish.features.base import Backbone
from blemish.features.computed import ComputedFeatures
from blemish.progress import Progress

logger = logging.getLogger("blemish")

NumPatches = Annotated[int, Field(ge=1, le=1_000_000, description="patches that are kept")]
Selection = Annotated[
    Literal["spread", "greedy"] | None,
    Field(description="how they are chosen; default: spread on filter banks, greedy on networks"),
]
Position = Annotated[
    float | None,
    Field(
        ge=0,
        le=1000,
        description="how much the place counts; default: 4 on filter banks, 0 on networks",
    ),
]

CANDIDATES = 5
"""Patches drawn per patch kept."""
COVERED = 0.99
"""Part of the bank's patches that lie within `radius` of a patch of another image."""
NEIGHBOURS = 9
"""Patches of the bank that a score is weighed by."""


@dataclass(frozen=True, slots=True)
class BankOptions:
    """How many patches are kept, how they are chosen, and what their place counts."""

    num_patches: NumPatches = 8000
    selection: Selection = None
    position: Position = None


class MemoryBank(Fitted):
    """Keeps patches of good images; the distance of a patch is that to the nearest of them.

    Candidates are drawn evenly from all images in one pass, so memory does not grow with their number.
    """

    centre: Tensor
    bank: Tensor
    weight: Tensor
    radius: Tensor

    def __init__(self, options: BankOptions, backbone: Backbone) -> None:
        super().__init__()
        self.num_patches = options.num_patches
        self.is_greedy = (options.selection or backbone.selection) == "greedy"
        self.position = backbone.position if options.position is None else options.position
        self.neighbourhood = backbone.neighbourhood
        self._arranged: Neighbours | None = None
        self._add_learned("centre", 1)
        self._add_learned("bank", 2, torch.float16)
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("radius", torch.zeros(()))

    def learn(self, features: ComputedFeatures, seed: int, progress: Progress) -> None:
        """Draws candidates, chooses the bank among them and weighs the position."""
        generator = np.random.default_rng(seed)
        found, places, owners = self._candidates(features, generator, progress)
        self.centre = found.mean(0)
        found -= self.centre
        choose = greedy if self.is_greedy else spread
        kept = choose(found, self.num_patches, generator, progress)
        owners, found, places = owners[kept], found[kept], places[kept]
        self.weight = self.position * _distances_to_others(found, owners, generator).median()
        found = torch.cat([found, self.weight * places], 1)
        self.radius = _distances_to_others(found, owners, generator).quantile(COVERED)
        self.bank = found.half()

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Adds the patches of further good images that are farther from the bank than good ones use to be.

        That is `radius`: 99 % of the patches it was chosen of were nearer to one of another image. Of each image the
        farthest patch comes first, until the rest lie within the radius.
        """
        for batch in features.batches(progress):
            for values in self.patches(self.neighbourhood_mean(batch)):
                distances, _ = self._neighbours.nearest(values)
                new = []
                while distances.amax() > self.radius:
                    new.append(values[distances.argmax()])
                    distances = torch.minimum(distances, (values - new[-1]).square().sum(1).sqrt())
                self.bank = torch.cat([self.bank, *(value[None].half() for value in new)])

    def distances(self, features: Tensor) -> Tensor:
        """Euclidean distances to the nearest patch of the bank, (B, h, w)."""
        return self.nearest_patches(features)[1].view(-1, *features.shape[2:])

    def nearest_patches(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The patches (B, h w, C + 2), and each one's distance (B, h w) to its nearest of the bank, and which it is."""
        patches = self.patches(self.neighbourhood_mean(features))
        if torch.compiler.is_exporting():
            distances, rows = nearest(patches.flatten(0, 1), self.bank.float())
        else:  # one image at a time, so that rounding does not depend on the batch
            found = zip(*(self._neighbours.nearest(values) for values in patches), strict=True)
            distances, rows = (torch.cat(parts) for parts in found)
        number = patches.shape[1]
        return patches, distances.view(-1, number), rows.view(-1, number)

    def reweighted_scores(self, patches: Tensor, distances: Tensor, rows: Tensor) -> Tensor:
        """(B,): the largest distance, less where the patch found nearest has others about as near (equation 7).

        Its weight is 1 - exp(d) / sum of exp(d') over the distances d' to the patches around the one found, itself
        among them. A bank of one has nothing to weigh by.
        """
        largest, place = distances.max(1)
        if len(self.bank) == 1:
            return largest
        patch = patches.gather(1, place[:, None, None].expand(-1, 1, patches.shape[2]))
        bank, half = whole(self.bank) if torch.compiler.is_exporting() else self._neighbours.whole
        found = bank[rows.gather(1, place[:, None])[:, 0]]
        half_squares = torch.addmm(half, found, bank.T, alpha=-1)
        around = half_squares.topk(min(NEIGHBOURS, len(self.bank)), largest=False).indices
        others = (patch - bank[around]).square().sum(2).sqrt()
        return largest * (1 - torch.exp(largest - torch.logsumexp(others, 1)))

    def neighbourhood_mean(self, features: Tensor) -> Tensor:
        """Each cell's mean over its neighbourhood."""
        side = self.neighbourhood
        return F.avg_pool2d(features, side, 1, side // 2, count_include_pad=False) if side > 1 else features

    def patches(self, features: Tensor) -> Tensor:
        """(B, h w, C + 2): what is there, and where."""
        batch, _, height, width = features.shape
        values = features.flatten(2).permute(0, 2, 1) - self.centre
        where = self.weight * _places(height, width).to(values)
        return torch.cat([values, where.expand(batch, -1, -1)], 2)

    @property
    def _neighbours(self) -> Neighbours:
        """The bank as it is asked, arranged anew where it has changed."""
        self._arranged = Neighbours.of(self.bank, self._arranged)
        return self._arranged

    def _candidates(
        self, features: ComputedFeatures, generator: np.random.Generator, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, C), places (N, 2) and the image (N,) of the patches that the bank is chosen from."""
        number, (channels, height, width) = len(features), features.shape
        count = self._candidates_per_image(number, height * width, channels, features.memory_budget)
        drawn = np.stack([generator.permutation(height * width)[:count] for _ in range(number)])
        device = self.weight.device
        cells = torch.from_numpy(drawn).to(device)
        found = torch.empty(number, count, channels, device=device)
        done = 0
        for batch in features.batches(progress):
            for maps in self.neighbourhood_mean(batch).flatten(2):
                found[done] = maps[:, cells[done]].T
                done += 1
        owners = torch.arange(number, device=device).repeat_interleave(count)
        return found.flatten(0, 1), _places(height, width).to(found)[cells.flatten()], owners

    def _candidates_per_image(self, num_images: int, num_cells: int, channels: int, budget: int) -> int:
        """All patches for the exact selection, else a few times as many as are kept; no more than the budget holds."""
        wanted = num_cells if self.is_greedy else -(-CANDIDATES * self.num_patches // num_images)
        row = 3 * 4 * channels  # bytes: the candidates, with their places, and what the selection computes
        held = max(1, budget // (row * num_images))
        count = min(num_cells, wanted, held)
        is_cut = held < min(num_cells, wanted)
        logger.log(
            logging.INFO if is_cut else logging.DEBUG,
            "patchcore: %s candidate patches of %s features take %.0f MB, the bank of %s %.1f MB%s",
            f"{count * num_images:,}",
            f"{channels:,}",
            count * num_images * row / 1e6,
            f"{min(self.num_patches, count * num_images):,}",
            min(self.num_patches, count * num_images) * 2 * (channels + 2) / 1e6,
            "; more would exceed memory_budget" if is_cut else "",
        )
        return count


def _distances_to_others(bank: Tensor, owners: Tensor, generator: np.random.Generator) -> Tensor:
    """The distances of some of the bank's rows to the nearest row of another image; 0 with one image."""
    rows = torch.from_numpy(generator.permutation(len(bank))[:1000]).to(bank.device)
    squares = bank.square().sum(1)
    distances = squares[rows, None] + squares - 2 * bank[rows] @ bank.T
    distances[owners[rows, None] == owners] = torch.inf
    return distances.amin(1).clamp_min(0).sqrt().nan_to_num(posinf=0)


def _places(height: int, width: int) -> Tensor:
    """(height width, 2): each cell's place, 1 being the picture's side."""
    rows, columns = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([rows, columns], -1).flatten(0, 1)
