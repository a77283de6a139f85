"""A network that learns to find defects which were drawn on the good images, beside the distance to what is good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from blemish.blocks.backbones import FilterBank, batches
from blemish.blocks.coreset import spread
from blemish.blocks.filters import gaussian_blur
from blemish.blocks.foreground import find_foreground
from blemish.blocks.gabor import GaborFeatures
from blemish.blocks.neighbours import nearest
from blemish.blocks.synthesis import OperatorNames, Synthesis, typical_contrast
from blemish.data.source import ImageSource
from blemish.detectors.base import LearningDetector, Side, Smoothing, scores_and_maps

NumReferences = Annotated[
    int, Field(ge=1, le=100_000, description="patches of the good images that others are compared with")
]
HeadWidth = Annotated[int, Field(ge=4, le=1024, description="channels of the network that learns from drawn defects")]
NumDrawn = Annotated[int, Field(ge=2, le=100_000, description="pictures with drawn defects that an epoch sees")]

SAMPLED, MEASURED = 300, 60
"""Good images that the patches are taken from, and those of them that are compared with all others."""
CANDIDATES = 5
"""Patches drawn per patch kept."""
UNTOUCHED = 0.15
"""Part of the pictures that no defect is drawn on."""
CERTAIN = 2
"""Logit below which the network's certainty that a place is good no longer counts: it knows drawn defects alone."""
PRIOR = 10
"""Images that the variance of all places counts for at each place."""


class SelfSupervised(LearningDetector):
    """Map: how far a place is from the good ones, plus what the network says of it; score: its maximum.

    The network sees at each place what is there (features by formulas, without weights), how that differs from the
    nearest patch of the good images and from what is usual at this place, and the distance. It learns to tell defects
    that are drawn on the good images, in the manner of SuperSimpleNet (arXiv 2408.03143), NSA (arXiv 2109.15222) and
    DRAEM (arXiv 2108.07610), whose second input is likewise the difference to a good version. The distance is added
    again to its answer, for defects of kinds that were not drawn.
    """

    scale: Tensor
    bank: Tensor
    owners: Tensor
    weight: Tensor
    place: Tensor
    distance: Tensor
    level: Tensor
    redraw = 10
    patience = 20

    def __init__(
        self,
        size: Side = 256,
        num_references: NumReferences = 3000,
        head_width: HeadWidth = 48,
        num_drawn: NumDrawn = 256,
        operators: OperatorNames = (),
        smoothing: Smoothing = 4.0,
    ) -> None:
        super().__init__(size)
        self.num_references, self.head_width, self.num_drawn = num_references, head_width, num_drawn
        self.operators, self.smoothing = operators, smoothing
        self.features: FilterBank = GaborFeatures()
        channels = self.features.projection.shape[1]
        self.head = _Head(3 * channels + 1, head_width)
        self.register_buffer("scale", torch.ones(channels))
        self._add_learned("bank", 2)
        self._add_learned("owners", 1, torch.long)
        self.register_buffer("weight", torch.zeros(()))
        self._add_learned("place", 4)
        self._add_learned("distance", 3)
        self.register_buffer("level", torch.zeros(2))
        self._synthesis: Synthesis | None = None
        self._images: ImageSource | None = None
        self._drawn: dict[tuple[bool, int], tuple[int, Tensor, Tensor]] = {}

    @torch.no_grad()
    def prepare(self, images: ImageSource, seed: int) -> None:
        """Learns where the part is, which patches are good, and what is usual at each place."""
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.permutation(len(images))[:SAMPLED])
        self._images, self._drawn = images, {}
        self._synthesis = _synthesis(images, rows[rng.permutation(len(rows))[:MEASURED]].tolist(), self.operators)
        self.features.fit(images, seed)
        measured = np.sort(rng.permutation(len(rows))[:MEASURED])
        found, cells = self._collect(images, rows, set(measured.tolist()), rng)
        self._choose_bank(cells, rows, rng)
        self._learn_places(found)
        self._measure(found, rows[measured].tolist())

    def finish(self) -> None:
        """Lets go of the images and of what was drawn on them."""
        self._images, self._synthesis, self._drawn = None, None, {}

    def num_examples(self, images: ImageSource) -> int:
        """As many as are drawn; of held-out images, half as many."""
        return self.num_drawn if images is self._images else max(1, self.num_drawn // 2)

    @torch.no_grad()
    def examples(self, images: ImageSource, rows: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What the network sees of the drawn pictures (B, C, h, w), and the part of each cell that is a defect."""
        found = [self._example(images, row, seed) for row, seed in zip(rows, seeds, strict=True)]
        return torch.stack([seen for seen, _ in found]), torch.stack([share for _, share in found])

    def losses(self, images: Tensor, drawn: Tensor, /) -> Tensor:
        """Focal loss (arXiv 1708.02002, with exponent 1): cells that are right by far count little."""
        logits = self.head(images).float()
        wrong = (torch.sigmoid(logits) - drawn).abs()
        losses = wrong * F.binary_cross_entropy_with_logits(logits, drawn, reduction="none")
        return losses.flatten(1).mean(1)

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The two parts, brought to the images' size and smoothed, and their maximum."""
        seen = self._seen(self.features(images), self.bank)
        distances = (seen[:, -1] - self.level[0]) / self.level[1]
        return scores_and_maps(distances + F.softplus(self.head(seen).float() + CERTAIN), images, self.smoothing)

    def _example(self, images: ImageSource, row: int, seed: int) -> tuple[Tensor, Tensor]:
        """One example; as long as there is memory it is kept until its row is drawn from another seed."""
        key = images is self._images, row
        kept = self._drawn.get(key)
        if kept is None or kept[0] != seed:
            kept = seed, *self._draw(images, row % len(images), seed)
            if len(self._drawn) * kept[1].nbytes < images.memory_budget:
                self._drawn[key] = kept
        return kept[1:]

    def _draw(self, images: ImageSource, row: int, seed: int) -> tuple[Tensor, Tensor]:
        assert self._synthesis is not None
        picture, mask = _picture(images, row), np.zeros(self.input_size, bool)
        if np.random.default_rng((seed, 1)).random() >= UNTOUCHED:
            picture, mask = self._synthesis(picture, seed)
        features = self.features(torch.from_numpy(picture).permute(2, 0, 1)[None].to(self.device))
        bank = self._without(row) if images is self._images else self.bank
        share = F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], features.shape[2:])[0]
        return self._seen(features, bank)[0], share.to(self.device)

    def _without(self, row: int) -> Tensor:
        """The bank without the patches of one image, which would find itself; all of it where it has no others."""
        others = self.bank[self.owners != row]
        return others if len(others) else self.bank

    def _seen(self, features: Tensor, bank: Tensor) -> Tensor:
        """(B, 3 C + 1, h, w): what is there, the difference to the nearest, to the usual, and the distance."""
        batch, channels, height, width = features.shape
        where = (self.weight * _places(height, width).to(features)).expand(batch, -1, -1, -1)
        values = torch.cat([features, where], 1).permute(0, 2, 3, 1).flatten(0, 2)
        distances, rows = nearest(values, bank)
        difference = (values - bank[rows])[:, :channels].view(batch, height, width, channels).permute(0, 3, 1, 2)
        usual, spread_of_usual = self.distance
        calibrated = (distances.view(batch, 1, height, width) - usual) / spread_of_usual
        scale = self.scale[:, None, None]
        unusual = (features - self.place[0]) / self.place[1]
        return torch.cat([features / scale, difference / scale, unusual, calibrated], 1)

    def _collect(
        self, images: ImageSource, rows: NDArray[np.int64], measured: set[int], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The features (n, C, h, w) of the measured images, and drawn patches of all, (N, k, C + 2)."""
        found, cells = [], []
        for number, batch in enumerate(batches(images, rows.tolist(), self.device)):
            for index, features in enumerate(self.features(batch), start=number * 8):
                height, width = features.shape[1:]
                described = torch.cat([features, _places(height, width).to(features)]).flatten(1).T
                count = min(len(described), -(-CANDIDATES * self.num_references // len(rows)))
                cells.append(described[torch.from_numpy(rng.permutation(len(described))[:count]).to(self.device)])
                if index in measured:
                    found.append(features)
        return torch.stack(found), torch.stack(cells)

    def _choose_bank(self, cells: Tensor, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
        """The bank, and the weight of the place in it: `position` median distances for the picture's side."""
        owners = torch.from_numpy(rows).to(self.device).repeat_interleave(cells.shape[1])
        values = cells.flatten(0, 1)
        kept = spread(values[:, :-2], self.num_references, rng)
        values, self.owners = values[kept].clone(), owners[kept]
        deviations = values[:, :-2].std(0, correction=0)
        self.scale.copy_(deviations.clamp_min(0.05 * float(deviations.max()) + 1e-6))
        some = torch.from_numpy(rng.permutation(len(values))[:1000]).to(self.device)
        apart = torch.cdist(values[some, :-2], values[:, :-2])
        apart[self.owners[some, None] == self.owners] = torch.inf
        typical = apart.amin(1).nan_to_num(posinf=0).median()
        self.weight.copy_(self.features.position * typical)
        values[:, -2:] *= self.weight
        self.bank = values

    def _learn_places(self, found: Tensor) -> None:
        """Mean and deviation of the features at each place, its neighbours included, drawn to those of all places."""
        mean = gaussian_blur(found.mean(0, keepdim=True), 1.0)[0]
        variance = gaussian_blur((found - mean).square().mean(0, keepdim=True), 1.0)[0]
        overall = found.var((0, 2, 3), correction=0)[:, None, None]
        variance = (len(found) * variance + PRIOR * overall) / (len(found) + PRIOR)
        self.place = torch.stack([mean, variance.sqrt().clamp_min(0.05 * float(self.scale.max()))])

    def _measure(self, found: Tensor, rows: list[int]) -> None:
        """What distances the good images have at each place, each compared with the patches of the others."""
        self.distance = found.new_tensor([0.0, 1.0]).view(2, 1, 1).repeat(1, *found.shape[2:])
        pairs = zip(found, rows, strict=True)
        maps = torch.cat([self._seen(features[None], self._without(row))[:, -1:] for features, row in pairs])
        mean, deviation = maps.mean(0, keepdim=True), maps.std(0, correction=0, keepdim=True)
        mean, deviation = (gaussian_blur(values, 2.0)[0, 0] for values in (mean, deviation))
        self.distance = torch.stack([mean / 2, deviation + maps.std(correction=0) + 1e-6])
        maps = (maps[:, 0] - self.distance[0]) / self.distance[1]
        self.level.copy_(torch.stack([maps.mean(), maps.std(correction=0) + 1e-6]))


class _Head(nn.Module):
    """(B, C, h, w) to logits (B, h, w): a hidden layer at each place, one that looks around, and the answer."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 1)
        self.around = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """The logits."""
        hidden = F.gelu(self.first(seen))
        hidden = hidden + F.gelu(self.around(hidden))
        logits: Tensor = self.last(hidden)[:, 0]
        return logits


class _Pictures(Sequence[NDArray[np.float32]]):
    """The images of a source as pictures (H, W, 3), made when they are asked for."""

    def __init__(self, images: ImageSource):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        return _picture(self._images, row)


def _picture(images: ImageSource, row: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(images.batch([row])[0].permute(1, 2, 0).numpy())


def _synthesis(images: ImageSource, rows: list[int], operators: Sequence[str]) -> Synthesis:
    pictures = [_picture(images, row) for row in rows]
    grey = all(images[row].pixels.shape[2] == 1 for row in rows)
    return Synthesis(_Pictures(images), find_foreground(pictures), typical_contrast(pictures), grey, operators)


def _places(height: int, width: int) -> Tensor:
    """(2, height, width): each cell's place, 1 being the picture's side."""
    rows, columns = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([rows, columns])
