"""Features of any timm network, with weights from the hub, from a file, or random ones."""

from __future__ import annotations

import difflib
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from blemish.data.source import ImageSource
from blemish.errors import BlemishError
from blemish.features.base import FILTER_BANKS, Backbone
from blemish.features.optimise import optimise
from blemish.features.pretrained import PACKAGES, packaged_weights
from blemish.progress import Progress, no_progress

STRIDES = (8, 16)
"""Of the levels of a CNN that are taken by default: layers 2 and 3 of a ResNet, as in PatchCore."""


class NetworkFeatures(Backbone):
    """The features of some layers of a network.

    Layers are counted as timm's `features_only` counts them: for a ResNet 1 to 4 are its stages, for a ViT they are its
    blocks from 0 on. By default those of stride 8 and 16, and the blocks at half and three quarters of a ViT.
    The network alone computes in `dtype`; what is given and what is said are in float32.
    Until `fit`, or until a model's are loaded, the weights are whatever memory held.
    """

    neighbourhood, selection, reweighting = 3, "greedy", True  # as in the paper
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, name: str, layers: Sequence[int] = (), weights: str = "hub", dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.name, self.weights, self.dtype = name, weights, dtype
        network = timm_name(name)
        self.layers = tuple(layers) or _default_layers(network)
        self.network = _build(network, self.layers).to(dtype)
        self._optimised: tuple[tuple[Any, ...], nn.Module] | None = None
        self.patch = _strides(network)[0] if _is_transformer(_strides(network)) else 1
        self.register_buffer("mean", _per_channel(self.network, "mean"), persistent=False)
        self.register_buffer("deviation", _per_channel(self.network, "std"), persistent=False)
        self.eval().requires_grad_(False)

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Loads the weights from where they were asked to come from; raises BlemishError where they can't be had."""
        network = _with_weights(self.name, self.layers, self.weights, seed)
        self.network = network.to(self.mean.device, self.dtype)
        self._optimised = None
        self.eval().requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - torch's own signature
        """Changes nothing: a backbone is never trained."""
        return super().train(False)

    def levels(self, images: Tensor) -> list[Tensor]:
        """The features of each layer, in the order of the layers."""
        if self.patch > 1:  # a transformer takes whole patches
            sides = [max(1, round(side / self.patch)) * self.patch for side in images.shape[-2:]]
            images = F.interpolate(images, size=sides, mode="bilinear")
        return [level.float() for level in self._computes(self._normalised(images))]

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.deviation).to(self.dtype)

    def _computes(self, images: Tensor) -> list[Tensor]:
        """The levels, by the network, or by what computes the same faster; that is made at the first image."""
        if torch.compiler.is_exporting() or (images.requires_grad and torch.is_grad_enabled()):
            network = self.network
        else:
            kind, optimised = (images.shape[1:], images.dtype, images.device), self._optimised
            if optimised is None or optimised[0] != kind:
                self._optimised = optimised = kind, optimise(self.network, images[:1])
            network = optimised[1]
        levels: list[Tensor] = network(images)
        return levels

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_optimised": None}  # whose weights cannot be copied

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._optimised = None  # it is of weights that change now
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self._optimised = None
        state_dict.pop(f"{prefix}ranges", None)  # of a model that was fitted in int8, its weights are float32
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _per_channel(network: Any, name: str) -> Tensor:
    return torch.tensor(network.pretrained_cfg[name])[:, None, None]


def timm_name(name: str) -> str:
    """What timm calls the network of a backbone."""
    return PACKAGES[name].network if name in PACKAGES else name


def _with_weights(name: str, layers: tuple[int, ...], weights: str, seed: int) -> nn.Module:
    network = timm_name(name)
    if weights == "random":
        return _build(network, layers, seed)
    if weights == "hub":
        return _from_package(name, layers) if name in PACKAGES else _from_hub(network, layers)
    return _from_file(network, layers, Path(weights))


def _from_package(name: str, layers: tuple[int, ...]) -> nn.Module:
    """With the weights that an installed package carries."""
    network = timm_name(name)
    with torch.device("meta"):
        whole = _timm().create_model(network)
    expected = {key: value.shape for key, value in whole.state_dict().items()}
    return _from_state(network, layers, packaged_weights(name, expected))


def _from_hub(name: str, layers: tuple[int, ...]) -> nn.Module:
    """With the hub's weights: from its cache where they are there, so that no network is needed then."""
    if cached := _cached_weights(name):
        return _from_file(name, layers, cached)
    if not _can_be_found(str(urlparse(_hub().constants.ENDPOINT).hostname)):  # timm would try for a minute
        raise BlemishError(_unavailable(name, "its host is not to be found"))
    try:
        return _build(name, layers, pretrained=True)
    except BlemishError:
        raise
    except Exception as error:  # the hub, its cache and the network have no exception in common
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BlemishError(_unavailable(name, reason.rstrip("."))) from None


def _unavailable(name: str, reason: str) -> str:
    return (
        f"backbone {name}: its weights can't be had from the hub ({reason}). "
        f"Give a file with --weights FILE, or use --backbone {' or '.join(FILTER_BANKS)}, which need none."
    )


def _cached_weights(name: str) -> Path | None:
    """The file of the network's weights in the hub's cache; None where it is not there."""
    config = _timm().get_pretrained_cfg(name)
    files = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    if not config.hf_hub_id:
        return None
    cached = (_hub().try_to_load_from_cache(config.hf_hub_id, file) for file in files)
    return next((Path(path) for path in cached if isinstance(path, str)), None)


def _from_state(name: str, layers: tuple[int, ...], weights: dict[str, Tensor]) -> nn.Module:
    """With these weights, each of which has to fit."""
    classifier = _timm().get_pretrained_cfg(name).classifier or ()
    heads = tuple(f"{head}." for head in ((classifier,) if isinstance(classifier, str) else classifier))
    state = {key: value for key, value in weights.items() if not key.startswith(heads)}
    # Without a classifier on either side timm insists that every weight fits.
    overlay = {"state_dict": state, "num_classes": 0, "classifier": None}
    return _build(name, layers, pretrained=True, pretrained_cfg_overlay=overlay)


def _from_file(name: str, layers: tuple[int, ...], path: Path) -> nn.Module:
    try:
        return _from_state(name, layers, _read_weights(path))
    except (RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise BlemishError(
            f"weights {path}: do not fit {name} ({reason[:200]}). Give a file that was saved for {name}."
        ) from None


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or .pth file; nothing in it is run."""
    if not path.is_file():
        raise BlemishError(f"weights {path}: no such file. Give hub, random, or a .safetensors or .pth file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise BlemishError(f"weights {path}: damaged ({error}). Copy it anew.") from None
    except Exception as error:  # torch raises pickle's, zipfile's and its own
        raise BlemishError(
            f"weights {path}: not a file of tensors alone ({str(error).splitlines()[0][:120]}). "
            "Save the state_dict, best as .safetensors."
        ) from None
    for key in ("state_dict", "model", "teacher"):
        content = content[key] if isinstance(content, dict) and isinstance(content.get(key), dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BlemishError(f"weights {path}: holds no state_dict. Save the network's state_dict alone.")
    return content


def _build(name: str, layers: tuple[int, ...], seed: int | None = None, **options: Any) -> nn.Module:
    """The network up to the last of the layers, in timm's feature extractor; random weights need a seed."""
    strides = _strides(name)
    if not layers or min(layers) < 0 or max(layers) >= len(strides):
        wrong = " ".join(map(str, layers)) or "none"
        raise BlemishError(f"layers: {wrong} was given; {name} has 0 to {len(strides) - 1}. Choose among them.")
    if _is_transformer(strides):
        options["dynamic_img_size"] = True
    try:
        with torch.random.fork_rng(devices=[]), _Unfilled() if seed is None else nullcontext():
            torch.manual_seed(seed or 0)
            with _quiet_about_what_is_left_out():
                network: nn.Module = _timm().create_model(name, features_only=True, out_indices=layers, **options)
            # Channels last: a sixth faster in bfloat16.
            return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    except TypeError as error:
        raise BlemishError(
            f"backbone {name}: timm gives no features of it for images of any size ({error}). Choose another network."
        ) from None


@contextmanager
def _quiet_about_what_is_left_out() -> Iterator[None]:
    """timm warns of weights that the features have no use for, as the classifier's and the last layers' are."""

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Unexpected keys")

    builder = logging.getLogger("timm.models._builder")
    builder.addFilter(is_news)
    try:
        yield
    finally:
        builder.removeFilter(is_news)


class _Unfilled(TorchFunctionMode):
    """Draws no random weights while a network is built whose own come from elsewhere: of a large one a second."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch calls in place of its functions."""
        return args[0] if function in (Tensor.normal_, Tensor.uniform_) else function(*args, **(kwargs or {}))


def _default_layers(name: str) -> tuple[int, ...]:
    """Those of stride 8 and 16, or the blocks at half and three quarters of a transformer."""
    strides = _strides(name)
    if _is_transformer(strides):
        return len(strides) // 2, len(strides) * 3 // 4
    return tuple(level for level, stride in enumerate(strides) if stride in STRIDES)


def _is_transformer(strides: list[int]) -> bool:
    return len(strides) > 1 and len(set(strides)) == 1


@cache
def _strides(name: str) -> list[int]:
    """Pixels per cell of each layer. Raises BlemishError where timm has no network of this name."""
    timm = _timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise BlemishError(f"backbone {name}: neither {', '.join(FILTER_BANKS)} nor a network of timm.{hint}")
    try:
        with torch.device("meta"):
            network = timm.create_model(name)
    except NotImplementedError:  # its shape depends on numbers that it computes
        network = timm.create_model(name)
    info = getattr(network, "feature_info", None) or []
    return [level["reduction"] for level in info]


@cache
def _timm() -> ModuleType:
    """Timm, also beside a CPU-only torch, with which torchvision's operators cannot be loaded.

    The networks need none of them; torchvision only wants to find two by name.
    """
    try:
        with suppress(RuntimeError):
            import torchvision  # noqa: F401 - where its operators can be loaded, nothing may have taken their names
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                arguments = "(Tensor dets, Tensor scores, float iou_threshold)"
                torch.library.define(f"torchvision::{name}", f"{arguments} -> Tensor")
        import timm
    except ImportError:
        raise BlemishError(
            "a network as backbone needs timm: pip install 'blemish[timm]'. "
            f"The backbones {' and '.join(FILTER_BANKS)} need nothing."
        ) from None
    return timm


def _hub() -> ModuleType:
    import huggingface_hub
    import huggingface_hub.constants

    return huggingface_hub


def _can_be_found(host: str) -> bool:
    if getproxies():
        return True  # the proxy knows
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False
