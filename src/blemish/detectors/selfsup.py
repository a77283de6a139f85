"""A self-supervised detector: an ensemble's distance plus a network trained on synthetic defects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from blemish.data.source import ImageSource
from blemish.detectors.base import LearningDetector, Smoothing, TopShare, scores_and_maps
from blemish.detectors.ensemble import Ensemble
from blemish.detectors.parts.gaussians import GaussianOptions
from blemish.detectors.parts.memory_bank import BankOptions
from blemish.detectors.parts.moments import leave_one_out
from blemish.detectors.parts.one_by_one import one_core_workers
from blemish.detectors.parts.synthesis import OperatorNames, Synthesis, typical_contrast
from blemish.features.base import FeatureOptions
from blemish.imaging.foreground import find_foreground
from blemish.training.settings import Training

HeadWidth = Annotated[int, Field(ge=4, le=1024, description="channels of the network")]
NumDrawn = Annotated[int, Field(ge=2, le=100_000, description="images drawn per epoch")]

SAMPLED = 60
"""Number of good images from which the foreground and the typical contrast are estimated."""
GOOD_SHARE = 0.15
"""Share of the examples without a defect."""
LOGIT_OFFSET = 2
"""Added to the logits before the softplus: logits far below -LOGIT_OFFSET add nothing to the map, since the network
knows only synthetic defects."""
PRIOR_LOGIT = 3
"""Subtracted from every logit, so that training starts with a low probability of defects (as in arXiv 1708.02002)."""
DILATIONS = 1, 2, 4, 8
"""Dilation in cells of each convolution of the network, one after the other."""
HEAD_WEIGHT = 0.5
"""Weight of the network's output relative to the ensemble's distance, whose mean maximum on good images is 1."""


class SelfSupervised(LearningDetector):
    """Map: the ensemble's distance plus the output of a small network; score: the mean of the map's highest cells.

    The input of the network at each cell is the whitened deviation of the features from their Gaussian, at all scales.
    It is trained to segment synthetic defects on good images, like SuperSimpleNet (arXiv 2408.03143), NSA (arXiv
    2109.15222) and DRAEM (arXiv 2108.07610). So it learns which deviations matter, and how defects look together with
    their surroundings. The ensemble's distance finds defects unlike the synthetic ones.
    """

    redraw = 5
    ema_decay = 0.99
    settings = Training(epochs=40, learning_rate=3e-3, patience=20)

    def __init__(
        self,
        feature_options: FeatureOptions = FeatureOptions(),
        bank_options: BankOptions = BankOptions(),
        gaussian_options: GaussianOptions = GaussianOptions(),
        head_width: HeadWidth = 32,
        num_drawn: NumDrawn = 1024,
        operators: OperatorNames = (),
        smoothing: Smoothing = 2.0,
        top_share: TopShare = 0.01,
    ) -> None:
        super().__init__(feature_options.size)
        self.feature_options, self.bank_options, self.gaussian_options = feature_options, bank_options, gaussian_options
        self.head_width, self.num_drawn = head_width, num_drawn
        self.operators, self.smoothing, self.top_share = operators, smoothing, top_share
        self.ensemble = Ensemble(feature_options, bank_options, gaussian_options)
        self.head = _Head(1, head_width)
        self._synthesis: Synthesis | None = None
        self._images: ImageSource | None = None
        self._drawn: dict[tuple[bool, int], tuple[int, Tensor, Tensor]] = {}
        """(is a training image, row) -> (seed, network input, target) of examples that are kept."""
        self._own: dict[int, Tensor] = {}
        """Row of a training image -> its deviations, without a defect."""

    @property
    def trained(self) -> nn.Module:
        """The network, without the ensemble."""
        return self.head

    @torch.no_grad()
    def prepare(self, images: ImageSource, validation: ImageSource | None, seed: int) -> None:
        """Fits the ensemble, and estimates the foreground and the contrast for drawing defects."""
        from blemish.training.loop import initialise

        self._images, self._drawn, self._own = images, {}, {}
        rows = np.random.default_rng(seed).permutation(len(images))[:SAMPLED]
        self._synthesis = _synthesis(images, rows.tolist(), self.operators)
        self.ensemble.fit(images, validation=validation, seed=seed)
        self.choices, self.reasons = self.ensemble.choices, self.ensemble.reasons
        scales, *_, dimensions = self._deviations(_image(images, 0)).shape
        head = _Head(scales * (dimensions + 1), self.head_width)
        initialise(head, seed)
        self.head = head.to(self.device)

    def finish(self) -> None:
        """Releases the images and the examples."""
        self._images, self._synthesis, self._drawn, self._own = None, None, {}, {}

    def num_examples(self, images: ImageSource) -> int:
        """`num_drawn` for training images, half as many for validation images."""
        return self.num_drawn if images is self._images else max(1, self.num_drawn // 2)

    def examples(self, images: ImageSource, rows: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Network inputs (B, C, h, w) of images with drawn defects, and the defective share of each cell (B, h, w)."""
        workers = one_core_workers(torch.get_num_threads())
        found = list(workers.map(partial(self._example, images), zip(rows, seeds, strict=True)))
        return torch.stack([inputs for inputs, _ in found]), torch.stack([share for _, share in found])

    def losses(self, *examples: Tensor) -> Tensor:
        """The mean focal loss of each example, (B,) (arXiv 1708.02002, exponent 1: easy cells have a small weight)."""
        inputs, share = examples
        logits = self.head(inputs).float()
        error = (torch.sigmoid(logits) - share).abs()
        losses = error * F.binary_cross_entropy_with_logits(logits, share, reduction="none")
        return losses.flatten(1).mean(1)

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores (B,) and maps (B, H, W) of both parts together, by `scores_and_maps`."""
        features = self.ensemble.features(images)
        logits = self.head(self._inputs(self.ensemble.gaussians.whitened(features))).float()
        distances = self.ensemble.distances(features) + HEAD_WEIGHT * F.softplus(logits + LOGIT_OFFSET)
        return scores_and_maps(distances, images, self.smoothing, inside, self.top_share)

    @torch.no_grad()
    def _example(self, images: ImageSource, row_and_seed: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """One example; it is kept, if there is memory, until its row gets another seed."""
        row, seed = row_and_seed
        key = images is self._images, row
        kept = self._drawn.get(key)
        if kept is None or kept[0] != seed:
            kept = seed, *self._draw(images, seed)
            if key in self._drawn or self._has_room(images, kept[1]):
                self._drawn[key] = kept
        return kept[1:]

    def _draw(self, images: ImageSource, seed: int) -> tuple[Tensor, Tensor]:
        """The network input (C, h, w) of a random image with defects, and the defective share of each cell (h, w).

        Training images have smaller deviations than new ones, so theirs are computed as if the Gaussians had been
        fitted without the image.
        """
        assert self._synthesis is not None
        rng = np.random.default_rng((seed, 1))
        row = int(rng.integers(len(images)))
        image, mask = _image(images, row), np.zeros(self.input_size, bool)
        drawn = image
        if rng.random() >= GOOD_SHARE:
            drawn, mask = self._synthesis(image, seed)
        deviations = self._deviations(drawn)
        if images is self._images:
            deviations = leave_one_out(deviations, self._own_deviations(row, image), int(self.ensemble.gaussians.count))
        height, width = deviations.shape[2:4]
        share = F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], (height, width))[0]
        return self._inputs(deviations)[0], share.to(self.device)

    def _own_deviations(self, row: int, image: NDArray[np.float32]) -> Tensor:
        """The deviations of a training image without defects, kept if there is memory."""
        assert self._images is not None
        found = self._own.get(row)
        if found is None:
            found = self._deviations(image)
            if self._has_room(self._images, found):
                self._own[row] = found
        return found

    def _deviations(self, image: NDArray[np.float32]) -> Tensor:
        """(S, 1, h, w, d): the whitened deviations of an image (H, W, 3) from the Gaussians at S scales."""
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
        return self.ensemble.gaussians.whitened(self.ensemble.features(batch))

    def _has_room(self, images: ImageSource, values: Tensor) -> bool:
        """Whether the memory budget allows to keep one more tensor of about this size."""
        return (len(self._drawn) + len(self._own)) * values.nbytes < images.memory_budget

    def _inputs(self, deviations: Tensor) -> Tensor:
        """The network's input (B, C, h, w): deviations (S, B, h, w, d) and their norms.

        Networks of earlier versions have room for a second scale, which is zero where there is one.
        """
        norms = deviations.square().mean(-1, keepdim=True).sqrt()
        inputs = torch.cat([deviations, norms], -1).permute(1, 0, 4, 2, 3).flatten(1, 2)
        return F.pad(inputs, (0, 0, 0, 0, 0, self.head.first.in_channels - inputs.shape[1]))


class _Head(nn.Module):
    """The network: inputs (B, C, h, w) to logits (B, h, w), by dilated convolutions with residual connections.

    How many channels it takes is known by the fitted ensemble, or by the weights that are loaded.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 1)
        self.around = nn.ModuleList(nn.Conv2d(width, width, 3, padding=cells, dilation=cells) for cells in DILATIONS)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logit of a defect at each cell."""
        hidden = F.gelu(self.first(inputs))
        for layer in self.around:
            hidden = hidden + F.gelu(layer(hidden))
        logits: Tensor = self.last(hidden)[:, 0] - PRIOR_LOGIT
        return logits

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        channels = state_dict[f"{prefix}first.weight"].shape[1]
        if channels != self.first.in_channels:
            self.first = nn.Conv2d(channels, self.first.out_channels, 1).to(self.last.weight.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _Images(Sequence[NDArray[np.float32]]):
    """The images of a source as arrays (H, W, 3), converted at each access."""

    def __init__(self, images: ImageSource):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        return _image(self._images, row)


def _image(images: ImageSource, row: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(images.batch([row])[0].permute(1, 2, 0).numpy())


def _synthesis(images: ImageSource, rows: list[int], operators: Sequence[str]) -> Synthesis:
    sampled = [_image(images, row) for row in rows]
    grey = all(images[row].pixels.shape[2] == 1 for row in rows)
    return Synthesis(_Images(images), find_foreground(sampled), typical_contrast(sampled), grey, operators)
