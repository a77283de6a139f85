"""The processes that fit one detector together, as `torchrun` or `accelerate launch` starts them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from blemish.features.devices import accelerator_on

if TYPE_CHECKING:
    from accelerate import Accelerator


class Processes:
    """This process among those that each compute a share of the images; by default it is the only one."""

    def __init__(self, accelerator: Accelerator | None = None):
        self._accelerator = accelerator
        self.index = accelerator.process_index if accelerator else 0
        self.count = accelerator.num_processes if accelerator else 1

    @classmethod
    def joined(cls, device: torch.device) -> Self:
        """All that were started together, connected; each of them has to call this, and computes on its own device."""
        return cls(accelerator_on(str(device)) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None)

    def share(self, number: int) -> range:
        """Which of so many rows are those of this process."""
        return range(number)[self.index :: self.count]

    def total(self, values: Tensor) -> Tensor:
        """The sum of the tensors of all processes, in each of them."""
        return values if self._accelerator is None else self._accelerator.reduce(values, "sum")

    def gathered(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Each of these tensors of all processes, one below the other, in each of them; their lengths may differ."""
        if self._accelerator is None:
            return values
        from accelerate.utils import gather_object

        every = gather_object([[part.cpu() for part in values]])
        return tuple(torch.cat(parts).to(values[0].device) for parts in zip(*every, strict=True))
