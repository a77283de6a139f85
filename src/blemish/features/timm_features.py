"""Features from any network of timm, computed by OpenVINO on a processor where it is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from threading import Lock
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from blemish.data.source import ImageSource
from blemish.errors import BlemishError
from blemish.features.base import Backbone
from blemish.features.engine import Engine, EngineError, Graph
from blemish.features.optimise import optimise
from blemish.features.pretrained import PACKAGES
from blemish.features.timm_networks import STRIDES, build, default_layers, patch_size, timm_name, with_weights
from blemish.progress import Progress, no_progress

logger = logging.getLogger("blemish")

_builds: ContextVar[bool] = ContextVar("builds", default=True)
_arranging = Lock()
_made: dict[tuple[Any, ...], Tensor] = {}
"""(name, layers, precision, shape of images) -> packed graph of a network whose weights came from a package. To make
one takes seconds, and several detectors in a process have the same."""
MOST_MADE = 8


@contextmanager
def without_networks() -> Iterator[None]:
    """Features that are made within are of weights alone, to be loaded: their graph needs neither timm nor its time.

    The network is built where torch has to compute it after all.
    """
    token = _builds.set(False)
    try:
        yield
    finally:
        _builds.reset(token)


class NetworkFeatures(Backbone):
    """The feature maps of some layers of a network.

    Layers have the numbers of timm's `features_only`: the stages of a ResNet are 1 to 4, the blocks of a ViT begin at
    0. The defaults are the layers of these `strides`, and for a ViT the blocks at half and at three quarters.
    The network computes in `dtype`; its input and its feature maps are float32.
    The weights are uninitialised until `fit` loads them, or a saved model's state is loaded.

    On a processor an `Engine` computes the network. Its graph is made at the first image, and is part of the state.
    """

    neighbourhood, selection, reweighting = 3, "greedy", True  # as in the paper
    mean: Tensor
    deviation: Tensor
    graph: Tensor
    """The packed `Graph` of the network, for images of the size that came last; empty where torch computes it."""

    def __init__(
        self,
        name: str,
        layers: Sequence[int] = (),
        weights: str = "hub",
        dtype: torch.dtype = torch.float32,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.name, self.layers, self.weights, self.dtype = name, tuple(layers), weights, dtype
        self.strides = strides
        self.network: nn.Module = _Weights()
        self._arranged: tuple[tuple[int, ...], Engine | None] | None = None
        """(1, 3, H, W) of images, and what computes them; None: torch."""
        self.register_buffer("graph", torch.empty(0, dtype=torch.uint8))
        self._is_packaged, self._builds = False, _builds.get()
        if self._builds and (self.layers or name not in PACKAGES):  # a package's is built when it is fitted or loaded
            self._build()

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Loads the weights from a package, the hub or a file, or draws random ones; BlemishError where that fails."""
        self.layers = self.layers or default_layers(timm_name(self.name), self.strides)
        self._take(with_weights(self.name, self.layers, self.weights, seed))
        self._is_packaged = self.name in PACKAGES and self.weights == "hub"
        self.graph, self._arranged = self.graph.new_empty(0), None
        return self

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - torch's own signature
        """Changes nothing: a backbone is never trained."""
        return super().train(False)

    def levels(self, images: Tensor) -> list[Tensor]:
        """The feature maps (B, C, h, w) of each layer, in the order of the layers."""
        is_traced = type(images) is not Tensor  # an export passes tensors of its own classes
        if images.device.type == "cpu" and not is_traced and not (images.requires_grad and torch.is_grad_enabled()):
            engine = self._engine((1, *images.shape[1:]))
            if engine is not None:
                return engine(images.detach().float())
        found: list[Tensor] = self._by_torch()(images)
        return found

    def _engine(self, shape: tuple[int, ...]) -> Engine | None:
        """What computes images of this shape; None where torch has to."""
        with _arranging:
            if self._arranged is None or self._arranged[0] != shape or not _is_usable(self._arranged[1]):
                self._arranged = shape, self._kept_engine(shape) or self._new_engine(shape)
            return self._arranged[1]

    def _kept_engine(self, shape: tuple[int, ...]) -> Engine | None:
        """The engine of the graph in the state, where it is for images of this shape."""
        if not len(self.graph):
            return None
        try:
            engine = Engine(Graph.unpacked(self.graph.numpy()), self.dtype == torch.bfloat16)
        except EngineError as error:
            logger.info("the network is arranged anew for this processor: %s", error)
            return None
        return engine if engine.shape == shape else None

    def _new_engine(self, shape: tuple[int, ...]) -> Engine | None:
        """The engine of a new graph for images of this shape, which is kept in the state."""
        made = self.name, self.layers, self.dtype, shape
        if self._is_packaged and made in _made:
            self.graph = _made[made]
            return self._kept_engine(shape)
        found = optimise(self._in_float32(), torch.empty(shape), self.dtype)
        self.graph = torch.from_numpy(found[0].packed()) if found else self.graph.new_empty(0)
        if self._is_packaged and found and len(_made) < MOST_MADE:
            _made[made] = self.graph
        return found[1] if found else None

    def _in_float32(self) -> _Levels:
        """What computes the levels in float32, by the network with its weights as they are."""
        levels = self._by_torch()
        return levels if self.dtype == torch.float32 else deepcopy(levels).to(torch.float32)

    def _by_torch(self) -> _Levels:
        """What computes the levels in torch; the network is built first where there are weights alone."""
        if isinstance(self.network, _Weights):
            self._build_from(self.network)
        return _Levels(self.network, self.mean, self.deviation, patch_size(timm_name(self.name)))

    def _build(self) -> None:
        """Builds the network with weights that are not initialised."""
        name = timm_name(self.name)
        self.layers = self.layers or default_layers(name, self.strides)
        self._take(build(name, self.layers))

    def _build_from(self, weights: _Weights) -> None:
        self._build()
        try:
            self.network.load_state_dict(weights.state_dict())
        except RuntimeError as error:
            self.network, reason = weights, str(error).strip().rpartition("\n")[2].strip()
            raise BlemishError(f"the model's weights do not fit {self.name} ({reason[:200]}). Fit it again.") from None

    def _take(self, network: nn.Module) -> None:
        self.network = network.to(self.graph.device, self.dtype)
        for name, key in (("mean", "mean"), ("deviation", "std")):
            per_channel = torch.tensor(network.pretrained_cfg[key])[:, None, None]  # type: ignore[index]
            self.register_buffer(name, per_channel.to(self.graph.device), persistent=False)
        self.eval().requires_grad_(False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arranged": None}  # what is compiled cannot be copied

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._arranged = None
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self._arranged, self._is_packaged = None, False
        state_dict.pop(f"{prefix}ranges", None)  # saved by earlier versions with int8; the weights are float32
        saved = state_dict.setdefault(f"{prefix}graph", self.graph.new_empty(0))  # earlier versions kept none
        if saved.ndim == 1:
            self.graph = self.graph.new_empty(saved.shape)
        if isinstance(self.network, _Weights) and self._builds:
            self._build()
        if isinstance(self.network, _Weights):
            start = f"{prefix}network."
            found = {name.removeprefix(start): value for name, value in state_dict.items() if name.startswith(start)}
            self.network = _Weights(found, self.dtype).to(self.graph.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _Weights(nn.Module):
    """The weights of a network by their names, without the network."""

    def __init__(self, tensors: Mapping[str, Tensor] = {}, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        for name, value in tensors.items():
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.register_buffer(last, torch.empty_like(value, dtype=dtype if value.is_floating_point() else None))


class _Levels(nn.Module):
    """A network from images in [0, 1] to its levels in float32; it computes in the precision of its weights."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor, patch: int):
        super().__init__()
        self.network, self.patch = network, patch
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """The levels, each (B, C, h, w)."""
        if self.patch > 1:  # the sides of a transformer's input are multiples of its patch size
            sides = [max(1, round(side / self.patch)) * self.patch for side in images.shape[-2:]]
            images = F.interpolate(images, size=sides, mode="bilinear")
        normal = ((images - self.mean) / self.deviation).to(next(self.network.parameters()).dtype)
        return [level.float() for level in self.network(normal)]


def _is_usable(engine: Engine | None) -> bool:
    return engine is None or engine.is_usable
