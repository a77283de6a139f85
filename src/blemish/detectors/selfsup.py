"""A network that learns to find defects which were drawn on the good images, beside the distance to what is good."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from blemish.data.source import ImageSource
from blemish.detectors.base import LearningDetector, Smoothing, scores_and_maps
from blemish.detectors.ensemble import Ensemble
from blemish.detectors.parts.gaussians import GaussianOptions
from blemish.detectors.parts.memory_bank import BankOptions
from blemish.detectors.parts.moments import leave_one_out
from blemish.detectors.parts.one_by_one import one_core_workers
from blemish.detectors.parts.synthesis import OperatorNames, Synthesis, typical_contrast
from blemish.features.base import FeatureOptions, FilterBank, Side
from blemish.imaging.foreground import find_foreground
from blemish.training.settings import Training

HeadWidth = Annotated[int, Field(ge=4, le=1024, description="channels of the network")]
NumDrawn = Annotated[int, Field(ge=2, le=100_000, description="images drawn per epoch")]

LOOKED_AT = 60
"""Good images that tell where the part is and how strong a contrast is."""
UNTOUCHED = 0.15
"""Part of the pictures that no defect is drawn on."""
CERTAIN = 2
"""Logit below which the network's certainty that a place is good no longer counts: it knows drawn defects alone."""
RARE = 3
"""What is taken off every logit, so that learning begins with few defects (as in arXiv 1708.02002)."""
REACH = 1, 2, 4, 8
"""How many cells away each layer of the network looks around a place, one after the other."""
WORTH = 0.5
"""What the network's answer is multiplied with; 1 is the usual maximum of the distances in a good image."""


class SelfSupervised(LearningDetector):
    """Map: the ensemble's distance from what is good, plus what a network says of the place; score: its maximum.

    The network sees at each place how the features deviate from their Gaussian there, at each of its scales. It learns
    to tell defects that are drawn on the good images, in the manner of SuperSimpleNet (arXiv 2408.03143), NSA (arXiv
    2109.15222) and DRAEM (arXiv 2108.07610): in which directions a deviation matters, and what a defect looks like
    with its surroundings. The distance is added to its answer for defects of kinds that were not drawn.
    """

    redraw = 5
    ema_decay = 0.99
    settings = Training(epochs=40, learning_rate=3e-3, patience=20)

    def __init__(
        self,
        size: Side = 256,
        bank_options: BankOptions = BankOptions(),
        gaussian_options: GaussianOptions = GaussianOptions(),
        head_width: HeadWidth = 32,
        num_drawn: NumDrawn = 1024,
        operators: OperatorNames = (),
        smoothing: Smoothing = 4.0,
    ) -> None:
        super().__init__(size)
        self.bank_options, self.gaussian_options = bank_options, gaussian_options
        self.head_width, self.num_drawn = head_width, num_drawn
        self.operators, self.smoothing = operators, smoothing
        self.ensemble = Ensemble(FeatureOptions(size), bank_options, gaussian_options)
        num_scales = max(len(gaussian_options.scales), len(FilterBank.scales))
        self.head = _Head(num_scales * (FilterBank.DIMENSIONS + 1), head_width)
        self._synthesis: Synthesis | None = None
        self._images: ImageSource | None = None
        self._drawn: dict[tuple[bool, int], tuple[int, Tensor, Tensor]] = {}
        self._own: dict[int, Tensor] = {}

    @property
    def trained(self) -> nn.Module:
        """The network alone."""
        return self.head

    @torch.no_grad()
    def prepare(self, images: ImageSource, validation: ImageSource | None, seed: int) -> None:
        """Learns what is good, where the part is, and how strong its contrasts are."""
        self._images, self._drawn, self._own = images, {}, {}
        rows = np.random.default_rng(seed).permutation(len(images))[:LOOKED_AT]
        self._synthesis = _synthesis(images, rows.tolist(), self.operators)
        self.ensemble.fit(images, validation=validation, seed=seed)
        self.choices, self.reasons = self.ensemble.choices, self.ensemble.reasons

    def finish(self) -> None:
        """Lets go of the images and of what was drawn on them."""
        self._images, self._synthesis, self._drawn, self._own = None, None, {}, {}

    def num_examples(self, images: ImageSource) -> int:
        """As many as are drawn; of held-out images, half as many."""
        return self.num_drawn if images is self._images else max(1, self.num_drawn // 2)

    def examples(self, images: ImageSource, rows: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What the network sees of the drawn pictures (B, C, h, w), and the part of each cell that is a defect."""
        workers = one_core_workers(torch.get_num_threads())
        found = list(workers.map(partial(self._example, images), zip(rows, seeds, strict=True)))
        return torch.stack([seen for seen, _ in found]), torch.stack([share for _, share in found])

    def losses(self, *examples: Tensor) -> Tensor:
        """Focal loss (arXiv 1708.02002, with exponent 1): cells that are right by far count little."""
        seen, drawn = examples
        logits = self.head(seen).float()
        wrong = (torch.sigmoid(logits) - drawn).abs()
        losses = wrong * F.binary_cross_entropy_with_logits(logits, drawn, reduction="none")
        return losses.flatten(1).mean(1)

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The two parts, brought to the images' size and smoothed, and their maximum."""
        features = self.ensemble.features(images)
        answers = self.head(self._seen(self.ensemble.gaussians.whitened(features))).float()
        distances = self.ensemble.distances(features) + WORTH * F.softplus(answers + CERTAIN)
        return scores_and_maps(distances, images, self.smoothing, inside)

    @torch.no_grad()
    def _example(self, images: ImageSource, numbered: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """One example; as long as there is memory it is kept until its row is drawn from another seed."""
        row, seed = numbered
        key = images is self._images, row
        kept = self._drawn.get(key)
        if kept is None or kept[0] != seed:
            kept = seed, *self._draw(images, seed)
            if key in self._drawn or self._has_room(images, kept[1]):
                self._drawn[key] = kept
        return kept[1:]

    def _draw(self, images: ImageSource, seed: int) -> tuple[Tensor, Tensor]:
        """What the network sees of one picture, as if that had not been among those learned from."""
        assert self._synthesis is not None
        rng = np.random.default_rng((seed, 1))
        row = int(rng.integers(len(images)))
        picture, mask = _picture(images, row), np.zeros(self.input_size, bool)
        drawn = picture
        if rng.random() >= UNTOUCHED:
            drawn, mask = self._synthesis(picture, seed)
        deviations = self._deviations(drawn)
        if images is self._images:
            deviations = leave_one_out(
                deviations, self._deviations_learned(row, picture), int(self.ensemble.gaussians.count)
            )
        height, width = deviations.shape[2:4]
        share = F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], (height, width))[0]
        return self._seen(deviations)[0], share.to(self.device)

    def _deviations_learned(self, row: int, picture: NDArray[np.float32]) -> Tensor:
        """Those of a picture that was learned from, kept as long as there is memory."""
        assert self._images is not None
        found = self._own.get(row)
        if found is None:
            found = self._deviations(picture)
            if self._has_room(self._images, found):
                self._own[row] = found
        return found

    def _deviations(self, picture: NDArray[np.float32]) -> Tensor:
        """(S, 1, h, w, d): how the features of a picture deviate from the Gaussians."""
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].to(self.device)
        return self.ensemble.gaussians.whitened(self.ensemble.features(image))

    def _has_room(self, images: ImageSource, values: Tensor) -> bool:
        """Whether one more of these tensors may be kept; all are about as large."""
        return (len(self._drawn) + len(self._own)) * values.nbytes < images.memory_budget

    def _seen(self, deviations: Tensor) -> Tensor:
        """(B, C, h, w): deviations (S, B, h, w, d) and their lengths; zeros for scales that were not chosen."""
        lengths = deviations.square().mean(-1, keepdim=True).sqrt()
        seen = torch.cat([deviations, lengths], -1).permute(1, 0, 4, 2, 3).flatten(1, 2)
        return F.pad(seen, (0, 0, 0, 0, 0, self.head.first.in_channels - seen.shape[1]))


class _Head(nn.Module):
    """(B, C, h, w) to logits (B, h, w): a hidden layer at each place, those that look around it, and the answer."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 1)
        self.around = nn.ModuleList(nn.Conv2d(width, width, 3, padding=cells, dilation=cells) for cells in REACH)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """The logits."""
        hidden = F.gelu(self.first(seen))
        for layer in self.around:
            hidden = hidden + F.gelu(layer(hidden))
        logits: Tensor = self.last(hidden)[:, 0] - RARE
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
