"""A network whose convolutions multiply 8-bit numbers: twice as fast as bfloat16 where the processor has VNNI.

What a convolution reads is brought to one of 256 steps of a range a little wider than that of good images, its weights
to one of 255 steps for each filter. Products are added up in 32 bits, and all else is in float32, so that what a
network adds up from layer to layer is not rounded again and again. torch has operators for it, which its own compiler
calls and which are not public; each is compared once with what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, fx, nn

from blemish.errors import BlemishError
from blemish.features.fusing import FusedConvolution, called, fused, rearranged

STEPS = 255
"""Between the least and the largest number of 8 bits."""
HEADROOM = 1.5
"""By which a range is wider than that of good images: of a defect a network may say more. Noise on cookies was 15 % off
in a Wide ResNet-50 without (1), 2 % with 1.5 and with 2, and what is good 2.5, 3.1 and 3.8 %."""
TINY = 1e-30
TOLERANCE = 1e-3
"""How far, in norm, a convolution may be from the same in float32 of the same steps: a step here and there."""


def ranges_of(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """(N, 2): the least and the largest number that each convolution reads of good images (B, 3, H, W); 0 is between.

    Those are counted that mix channels, in the network's order. Raises BlemishError where it can't be rearranged.
    """
    observed: list[_Observed] = []

    def make(convolution: nn.Conv2d, size: torch.Size, rectifies: bool) -> nn.Module:
        made = _Observed(convolution, size, rectifies)
        observed.extend([made] if _mixes(convolution) else [])
        return made

    graph = None
    for images in batches:
        if graph is None:
            graph = fused(network, images[:1], make)
            if graph is network:
                raise BlemishError("precision int8: this network can't be rearranged for it. Use auto.")
            for one in observed:
                one.low = one.high = 0.0  # forgets the noise
        graph(images)
    return torch.tensor([[one.low, one.high] for one in observed])


def quantised(network: nn.Module, images: Tensor, ranges: Tensor) -> nn.Module:
    """What computes the network's levels of images like these (1, 3, H, W) in 8 bits, on a processor.

    Raises BlemishError where an operator of torch does not compute what it should, and IndexError or ValueError where
    the ranges are too few or too many for this network.
    """
    left = ranges.tolist()

    def make(convolution: nn.Conv2d, size: torch.Size, rectifies: bool) -> nn.Module:
        if not _mixes(convolution):
            return FusedConvolution(convolution, size, rectifies)
        return QuantisedConvolution(convolution, size, rectifies, *left.pop(0))

    graph = rearranged(network, images, make)
    if left:
        raise ValueError(f"{len(left)} ranges too many for its convolutions")
    _connect(graph)
    if not _Check(graph).is_passed(images):
        raise BlemishError(f"precision int8: torch {torch.__version__} does not compute it as it should. Use float32.")
    return _OneByOne(graph)


class _OneByOne(nn.Module):
    """Computes each image by itself: of several at once oneDNN wants the weights arranged anew, every time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> list[Tensor]:
        if len(images) == 1:
            return list(self.network(images))
        return [torch.cat(levels) for levels in zip(*map(self.network, torch.split(images, 1)), strict=True)]


class _Observed(FusedConvolution):
    """Remembers the range of what it read."""

    low = high = 0.0  # of what is beyond the border

    def forward(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        self.low, self.high = min(self.low, float(images.min())), max(self.high, float(images.max()))
        return super().forward(images, others)


class QuantisedConvolution(nn.Module):
    """A convolution of 8-bit numbers, and after it perhaps an addition and a rectifier.

    It takes float32, or its steps at once, and gives float32, or the steps of the convolution that `reader` says.
    """

    def __init__(self, convolution: nn.Conv2d, size: torch.Size, rectifies: bool, low: float, high: float) -> None:
        super().__init__()
        own, weight = convolution, convolution.weight.detach()
        low, high = low * HEADROOM, high * HEADROOM
        self.step = max(high - low, TINY) / STEPS
        self.zero = round(-low / self.step)
        self.offset = torch.tensor(self.zero + 0.5)
        self.steps = weight.abs().amax((1, 2, 3)).clamp_min(TINY) / (STEPS // 2)
        self.integers = (weight / self.steps[:, None, None, None]).round().to(torch.int8)
        self.how: list[Any] = [list(own.stride), list(own.padding), list(own.dilation), own.groups]
        pack = torch.ops.onednn.qconv_prepack
        self.packed = pack(self.integers, self.steps, self.step, self.zero, *self.how, list(size))
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = None if own.bias is None else own.bias.detach()
        self.rectifies, self.overwrites = rectifies, False
        self.reader: tuple[float, int, torch.dtype] = 1.0, 0, torch.float32

    def forward(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """The convolution of the images, with the others added where there are any."""
        given = self._in_steps(images), self.step, self.zero, self.packed, self.steps, self.zeros
        how = self.bias, *self.how, *self.reader
        rectifier: tuple[str, list[None], str] = "relu" if self.rectifies else "none", [], ""
        if others is None:
            found: Tensor = torch.ops.onednn.qconv_pointwise(*given, *how, *rectifier)
        else:
            sums = others if self.overwrites else others.clone()
            found = torch.ops.onednn.qconv2d_pointwise.binary(*given, sums, *how, 1.0, 0, "sum", 1.0, *rectifier)
        return found

    def in_float32(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """The same, by what is public."""
        read = (self._in_steps(images).float() - self.zero) * self.step
        weight = self.integers * self.steps[:, None, None, None]
        found = F.conv2d(read, weight, self.bias, *self.how)
        found = found if others is None else found + others
        found = F.relu(found) if self.rectifies else found
        step, zero, dtype = self.reader
        return found if dtype == torch.float32 else (found / step + zero).round_().clamp_(0, STEPS)

    def _in_steps(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return images
        steps = torch.add(self.offset, images, alpha=1 / self.step).clamp_(0, STEPS)
        return steps.to(torch.int16).to(torch.uint8)  # at once is ten times as slow


class _Check(fx.Interpreter):
    """Compares each convolution with what it stands for."""

    def is_passed(self, images: Tensor) -> bool:
        self.is_same = True
        self.run(images)
        return self.is_same

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if not isinstance(module, QuantisedConvolution):
            return super().call_module(target, args, kwargs)
        expected, found = module.in_float32(*args), module(*args)
        difference, length = torch.linalg.vector_norm(found - expected), torch.linalg.vector_norm(expected)
        self.is_same &= bool(difference <= TOLERANCE * length)
        return found


def _mixes(convolution: nn.Conv2d) -> bool:
    """Whether its outputs each look at several channels; others are not much faster in 8 bits."""
    return convolution.weight.shape[1] > 1


def _connect(graph: fx.GraphModule) -> None:
    """Lets convolutions hand over steps, and add to what no other reads afterwards.

    Steps are what one convolution alone reads. What is added to is another's result, read by such alone, of which this
    is the last.
    """
    nodes = list(graph.graph.nodes)
    order = {node: place for place, node in enumerate(nodes)}
    made = {node for node in nodes if isinstance(called(graph, node), FusedConvolution | QuantisedConvolution)}
    for node in made:
        module, users = called(graph, node), list(node.users)
        if not isinstance(module, QuantisedConvolution):
            continue
        for others in node.args[1:]:
            module.overwrites = others in made and all(
                user in made and order[user] <= order[node] for user in others.users
            )
        reader = called(graph, users[0]) if len(users) == 1 and node not in users[0].args[1:] else None
        if len(node.args) == 1 and isinstance(reader, QuantisedConvolution):
            module.reader = reader.step, reader.zero, torch.uint8
