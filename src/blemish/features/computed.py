"""The feature maps of all images of a source, computed once and kept in memory as far as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

import torch
from torch import Tensor

from blemish.data.source import ImageSource, in_batches
from blemish.features.base import BATCH, Backbone
from blemish.features.processes import Processes
from blemish.progress import Progress, no_progress

KEPT_SHARE = 0.25
"""Share of a source's memory budget that its feature maps may use."""


class ComputedFeatures:
    """The feature maps of a source's images; what does not fit into memory is computed again at each use."""

    def __init__(
        self, images: ImageSource, backbone: Backbone, device: torch.device, processes: Processes | None = None
    ):
        self.images, self.memory_budget = images, images.memory_budget
        self.processes = processes or Processes()
        """Those that each compute a share of the images."""
        self.rows = self.processes.share(len(images))
        """The images of this process."""
        self._backbone, self._device = backbone, device
        self._kind: int | None = None
        self._kept: list[Tensor] = []
        self._room = KEPT_SHARE * images.memory_budget

    def __len__(self) -> int:
        """The number of images, those of other processes too."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the feature maps of one image."""
        first = next(self.batches(), None)
        if first is None:  # a process without a share
            first = self._of_kind(self._backbone(self.images.batch([0]).to(self._device)))
        _, channels, height, width = first.shape
        return channels, height, width

    @property
    def principal(self) -> Sequence[int] | None:
        """The channels that a Gaussian needs; None: all of them."""
        return self._backbone.principal

    def of_kind(self, number: int) -> ComputedFeatures:
        """The channels of one kind of the backbone's features, computed together with the others."""
        found = copy(self)
        found._kind = number
        return found

    def batches(self, progress: Progress = no_progress) -> Iterator[Tensor]:
        """The feature maps (B, C, h, w) of this process's images in order, in batches.

        They must not be changed in place.
        """
        done = 0
        for number, rows in enumerate(in_batches(self.rows, BATCH)):
            if number < len(self._kept):
                found = self._kept[number]
            else:
                found = self._backbone(self.images.batch(rows).to(self._device))
                self._keep(number, found)
            yield self._of_kind(found)
            done += len(rows)
            progress(done, len(self.rows))

    def _of_kind(self, found: Tensor) -> Tensor:
        return found if self._kind is None else self._backbone.split(found)[self._kind]

    def _keep(self, number: int, found: Tensor) -> None:
        if number == len(self._kept) and found.nbytes <= self._room:
            self._kept.append(found)
            self._room -= found.nbytes
