"""The memory bank: patches of good images, and the distances of other patches to the nearest of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from pydantic import Field
from torch import Tensor

from blemish.detectors.parts.coreset import greedy, means, spread
from blemish.detectors.parts.fitted import Fitted
from blemish.detectors.parts.neighbours import Neighbours, nearest_in_graph, rows_and_half_squares
from blemish.features.base import Backbone
from blemish.features.computed import ComputedFeatures
from blemish.features.processes import Processes
from blemish.progress import Progress

logger = logging.getLogger("blemish")

NumPatches = Annotated[
    int | None,
    Field(ge=1, le=1_000_000, description="patches in the bank; default: by selection"),
]
Selection = Annotated[
    Literal["means", "spread", "greedy"] | None,
    Field(description="2000 means or 8000 patches; default: means, networks greedy"),
]
Position = Annotated[
    float | None,
    Field(
        ge=0,
        le=1000,
        description="weight of a patch's position; default: 4 with filter banks, 0 with networks",
    ),
]

DEFAULT_NUMBERS = {"means": 2000, "spread": 8000, "greedy": 8000}
"""Selection -> the default number of patches."""
CANDIDATES = {"means": 20, "spread": 5}
"""Selection -> the number of candidate patches per patch of the bank; `greedy` takes all."""
COVERED = 0.99
"""Share of the bank's patches that lie within `radius` of a patch of another image."""
NEIGHBOURS = 9
"""Number of nearest patches that the weight of a score is computed from."""


@dataclass(frozen=True, slots=True)
class BankOptions:
    """The options of a memory bank: its size, the selection of its patches, and the weight of their positions."""

    num_patches: NumPatches = None
    selection: Selection = None
    position: Position = None


class MemoryBank(Fitted):
    """Patches of good images, selected from candidates that are drawn evenly from all images in one pass, or the means
    of groups of like candidates, of which fewer do.

    A patch is a vector of C + 2 values: the features of a cell, averaged over its neighbourhood and centred, and the
    cell's position times a weight.
    """

    centre: Tensor
    bank: Tensor
    weight: Tensor
    radius: Tensor

    def __init__(self, options: BankOptions, backbone: Backbone) -> None:
        super().__init__()
        self.selection = options.selection or backbone.selection
        self.num_patches = options.num_patches or DEFAULT_NUMBERS[self.selection]
        self.position = backbone.position if options.position is None else options.position
        self.neighbourhood = backbone.neighbourhood
        self._search: Neighbours | None = None
        self._add_learned("centre", 1)
        self._add_learned("bank", 2, torch.float16)
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("radius", torch.zeros(()))

    def learn(self, features: ComputedFeatures, seed: int, progress: Progress) -> None:
        """Draws candidates, makes the bank of them, and sets the weight of the position and the radius.

        Several processes make the same bank, of the candidates of all of them.
        """
        generator = np.random.default_rng(seed)
        found, places, owners = self._candidates(features, generator, progress)
        self.centre = _mean(found, features.processes)
        found -= self.centre
        choose = greedy if self.selection == "greedy" else spread
        if features.processes.count > 1:
            found, places, owners = self._of_all(features.processes, found, places, owners, seed)
        kept = choose(found, self.num_patches, generator, progress)
        self.weight = self.position * _distances_to_others(found[kept], owners[kept], generator).median()
        bank = self._with_places(found[kept], places[kept])
        self.radius = _distances_to_others(bank, owners[kept], generator).quantile(COVERED)
        if self.selection == "means":
            bank = means(self._with_places(found, places), bank)
        self.bank = bank.half()

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Adds patches of additional good images, until all of their patches lie within `radius` of the bank.

        In each image the farthest patch is added first. The radius is the distance within which 99 % of the bank's
        patches have a patch of another image.
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
        """Euclidean distances (B, h, w) to the nearest patch of the bank, of features (B, C, h, w)."""
        return self.nearest_patches(features)[1].view(-1, *features.shape[2:])

    def nearest_patches(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The patches (B, h w, C + 2) of features (B, C, h, w), and the distance (B, h w) and row (B, h w) of the
        nearest patch of the bank.
        """
        patches = self.patches(self.neighbourhood_mean(features))
        if torch.compiler.is_exporting():
            distances, rows = nearest_in_graph(patches.flatten(0, 1), self.bank.float())
        else:  # one image at a time, so that rounding does not depend on the batch
            found = zip(*(self._neighbours.nearest(values) for values in patches), strict=True)
            distances, rows = (torch.cat(parts) for parts in found)
        number = patches.shape[1]
        return patches, distances.view(-1, number), rows.view(-1, number)

    def reweighted_scores(self, patches: Tensor, distances: Tensor, rows: Tensor) -> Tensor:
        """(B,): the largest distance of each image times a weight (equation 7 of the PatchCore paper).

        The weight is 1 - exp(d) / sum of exp(d'), where d is the largest distance and d' are the distances to the
        NEIGHBOURS patches of the bank around the nearest one. The arguments are the results of `nearest_patches`. With
        a single patch in the bank the weight is 1.
        """
        largest, cell = distances.max(1)
        if len(self.bank) == 1:
            return largest
        patch = patches.gather(1, cell[:, None, None].expand(-1, 1, patches.shape[2]))
        bank, half = rows_and_half_squares(self.bank) if torch.compiler.is_exporting() else self._neighbours.whole
        nearest_patch = bank[rows.gather(1, cell[:, None])[:, 0]]
        half_squares = torch.addmm(half, nearest_patch, bank.T, alpha=-1)
        around = half_squares.topk(min(NEIGHBOURS, len(self.bank)), largest=False).indices
        others = (patch - bank[around]).square().sum(2).sqrt()
        return largest * (1 - torch.exp(largest - torch.logsumexp(others, 1)))

    def neighbourhood_mean(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) averaged over the neighbourhood of each cell."""
        side = self.neighbourhood
        return F.avg_pool2d(features, side, 1, side // 2, count_include_pad=False) if side > 1 else features

    def patches(self, features: Tensor) -> Tensor:
        """Patches (B, h w, C + 2) of features (B, C, h, w): the centred features and the weighted position."""
        batch, _, height, width = features.shape
        values = features.flatten(2).permute(0, 2, 1) - self.centre
        positions = self.weight * _positions(height, width).to(values)
        return torch.cat([values, positions.expand(batch, -1, -1)], 2)

    def _with_places(self, values: Tensor, places: Tensor) -> Tensor:
        """Patches (N, C + 2) of centred features (N, C) at these places (N, 2)."""
        return torch.cat([values, self.weight * places], 1)

    @property
    def _neighbours(self) -> Neighbours:
        """The search structure of the bank, rebuilt where the bank has changed."""
        self._search = Neighbours.of(self.bank, self._search)
        return self._search

    def _candidates(
        self, features: ComputedFeatures, generator: np.random.Generator, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The features (N, C), positions (N, 2) and image numbers (N,) of the candidates in this process's images."""
        (channels, height, width), rows = features.shape, features.rows
        count = self._candidates_per_image(features, channels, height * width)
        drawn = np.stack([generator.permutation(height * width)[:count] for _ in range(len(features))])
        device = self.weight.device
        cells = torch.from_numpy(drawn[rows.start :: rows.step]).to(device)
        found = torch.empty(len(rows), count, channels, device=device)
        done = 0
        for batch in features.batches(progress):
            for maps in self.neighbourhood_mean(batch).flatten(2):
                found[done] = maps[:, cells[done]].T
                done += 1
        owners = torch.tensor(rows, device=device).repeat_interleave(count)
        return found.flatten(0, 1), _positions(height, width).to(found)[cells.flatten()], owners

    def _of_all(
        self, processes: Processes, found: Tensor, places: Tensor, owners: Tensor, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates of all processes, in the order of one process.

        For `greedy`, whose candidates are all patches, those are left that each process selects from its own. The
        farthest patch is then at most four times as far from the bank as by the best selection, and twice with one
        process (Malkomes et al. 2015, Fast Distributed k-Center Clustering).
        """
        if self.selection == "greedy" and len(found) > self.num_patches:
            own = greedy(found, self.num_patches, np.random.default_rng(seed)).sort().values
            found, places, owners = found[own], places[own], owners[own]
        found, places, owners = processes.gathered(found, places, owners)
        order = owners.argsort(stable=True)
        return found[order], places[order], owners[order]

    def _candidates_per_image(self, features: ComputedFeatures, channels: int, num_cells: int) -> int:
        """How many candidates to draw from each image: all for the selection `greedy`, else some times as many as the
        bank has patches; at most as many as fit into the memory budget.
        """
        times = CANDIDATES.get(self.selection)
        wanted = num_cells if times is None else -(-times * self.num_patches // len(features))
        row = 3 * 4 * channels  # bytes per candidate, including temporary arrays of the selection
        num_images = -(-len(features) // features.processes.count) if times is None else len(features)
        held = max(1, features.memory_budget // (row * num_images))
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


def _mean(values: Tensor, processes: Processes) -> Tensor:
    """The mean (C,) of the values (N, C) of all processes."""
    if processes.count == 1:
        return values.mean(0)
    return processes.total(values.sum(0)) / processes.total(values.new_tensor(len(values)))


def _distances_to_others(bank: Tensor, owners: Tensor, generator: np.random.Generator) -> Tensor:
    """The distances of up to 1000 rows of the bank to the nearest row of another image; 0 with a single image."""
    rows = torch.from_numpy(generator.permutation(len(bank))[:1000]).to(bank.device)
    squares = bank.square().sum(1)
    distances = squares[rows, None] + squares - 2 * bank[rows] @ bank.T
    distances[owners[rows, None] == owners] = torch.inf
    return distances.amin(1).clamp_min(0).sqrt().nan_to_num(posinf=0)


def _positions(height: int, width: int) -> Tensor:
    """(height width, 2): row and column of each cell, in [0, 1)."""
    rows, columns = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([rows, columns], -1).flatten(0, 1)
