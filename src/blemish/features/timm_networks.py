"""The networks of timm, with weights from a package, the Hugging Face hub, a file, or random ones."""

from __future__ import annotations

import difflib
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from blemish.errors import BlemishError
from blemish.features.base import FILTER_BANKS
from blemish.features.pretrained import PACKAGES, packaged_weights

STRIDES = (8, 16)
"""Strides of the default levels of a CNN: layers 2 and 3 of a ResNet, as in PatchCore."""


def timm_name(name: str) -> str:
    """timm's name of a backbone's network."""
    return PACKAGES[name].network if name in PACKAGES else name


def with_weights(name: str, layers: tuple[int, ...], weights: str, seed: int) -> nn.Module:
    """The network up to the last of the layers, with its weights; raises BlemishError where they cannot be had."""
    network = timm_name(name)
    if weights == "random":
        return build(network, layers, seed)
    if weights == "hub":
        return _from_package(name, layers) if name in PACKAGES else _from_hub(network, layers)
    return _from_file(network, layers, Path(weights))


def _from_package(name: str, layers: tuple[int, ...]) -> nn.Module:
    """The network with the weights of an installed package."""
    network = timm_name(name)
    with torch.device("meta"):
        whole = _timm().create_model(network)
    expected = {key: value.shape for key, value in whole.state_dict().items()}
    return _from_state(network, layers, packaged_weights(name, expected))


def _from_hub(name: str, layers: tuple[int, ...]) -> nn.Module:
    """The network with weights from the hub, or from its cache, which needs no internet connection."""
    if cached := _cached_weights(name):
        return _from_file(name, layers, cached)
    if not _has_address(str(urlparse(_hub().constants.ENDPOINT).hostname)):  # timm would try for a minute
        raise BlemishError(_unavailable(name, "its host cannot be found"))
    try:
        return build(name, layers, pretrained=True)
    except BlemishError:
        raise
    except Exception as error:  # the hub, its cache and the connection have no common exception
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BlemishError(_unavailable(name, reason.rstrip("."))) from None


def _unavailable(name: str, reason: str) -> str:
    return (
        f"backbone {name}: its weights cannot be loaded from the hub ({reason}). "
        f"Give a file as weights, or use the backbone {' or '.join(FILTER_BANKS)}, which needs none."
    )


def _cached_weights(name: str) -> Path | None:
    """The file with the network's weights in the hub's cache; None where it is missing."""
    config = _timm().get_pretrained_cfg(name)
    files = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    if not config.hf_hub_id:
        return None
    cached = (_hub().try_to_load_from_cache(config.hf_hub_id, file) for file in files)
    return next((Path(path) for path in cached if isinstance(path, str)), None)


def _from_state(name: str, layers: tuple[int, ...], weights: dict[str, Tensor]) -> nn.Module:
    """The network with these weights; raises RuntimeError or KeyError where one is missing or does not fit."""
    classifier = _timm().get_pretrained_cfg(name).classifier or ()
    heads = tuple(f"{head}." for head in ((classifier,) if isinstance(classifier, str) else classifier))
    state = {key: value for key, value in weights.items() if not key.startswith(heads)}
    # Without a classifier in the network and in the weights, timm requires that every weight fits.
    overlay = {"state_dict": state, "num_classes": 0, "classifier": None}
    return build(name, layers, pretrained=True, pretrained_cfg_overlay=overlay)


def _from_file(name: str, layers: tuple[int, ...], path: Path) -> nn.Module:
    try:
        return _from_state(name, layers, _read_weights(path))
    except (RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise BlemishError(
            f"weights {path}: do not fit {name} ({reason[:200]}). Give a file that was saved for {name}."
        ) from None


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or .pth file, loaded without running code; raises BlemishError where it fails."""
    if not path.is_file():
        raise BlemishError(f"weights {path}: no such file. Give hub, random, or a .safetensors or .pth file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise BlemishError(f"weights {path}: damaged ({error}). Copy the file again.") from None
    except Exception as error:  # torch raises its own errors, and those of pickle and zipfile
        raise BlemishError(
            f"weights {path}: not a file of tensors only ({str(error).splitlines()[0][:120]}). "
            "Save the state_dict, best as .safetensors."
        ) from None
    for key in ("state_dict", "model", "teacher"):
        content = content[key] if isinstance(content, dict) and isinstance(content.get(key), dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BlemishError(f"weights {path}: holds no state_dict. Save the network's state_dict alone.")
    return content


def build(name: str, layers: tuple[int, ...], seed: int | None = None, **options: Any) -> nn.Module:
    """timm's feature extractor up to the last of the layers; its weights are drawn from `seed`, None: uninitialised."""
    strides = _strides(name)
    if not layers or min(layers) < 0 or max(layers) >= len(strides):
        wrong = " ".join(map(str, layers)) or "none"
        raise BlemishError(f"layers: {wrong} was given; {name} has 0 to {len(strides) - 1}. Choose among them.")
    if _is_transformer(strides):
        options["dynamic_img_size"] = True
    try:
        with torch.random.fork_rng(devices=[]), _Uninitialised() if seed is None else nullcontext():
            torch.manual_seed(seed or 0)
            with _without_warnings_of_unused_weights():
                network: nn.Module = _timm().create_model(name, features_only=True, out_indices=layers, **options)
            # The channels-last memory format is a sixth faster in bfloat16.
            return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    except TypeError as error:
        raise BlemishError(
            f"backbone {name}: timm has no feature maps of it for images of any size ({error}). Choose another network."
        ) from None


@contextmanager
def _without_warnings_of_unused_weights() -> Iterator[None]:
    """Suppresses timm's warnings of weights that feature extraction does not use, such as the classifier's."""

    def is_other_warning(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Unexpected keys")

    builder = logging.getLogger("timm.models._builder")
    builder.addFilter(is_other_warning)
    try:
        yield
    finally:
        builder.removeFilter(is_other_warning)


class _Uninitialised(TorchFunctionMode):
    """Skips drawing random weights, which for a large network takes a second, where others are loaded afterwards."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch in place of each of its functions."""
        return args[0] if function in (Tensor.normal_, Tensor.uniform_) else function(*args, **(kwargs or {}))


def default_layers(name: str, among: Sequence[int] = STRIDES) -> tuple[int, ...]:
    """The layers whose stride is `among` the given ones, or the blocks at half and three quarters of a transformer."""
    strides = _strides(name)
    if _is_transformer(strides):
        return len(strides) // 2, len(strides) * 3 // 4
    return tuple(level for level, stride in enumerate(strides) if stride in among)


def patch_size(name: str) -> int:
    """The side in pixels of a transformer's patches; 1 for other networks."""
    return _strides(name)[0] if _is_transformer(_strides(name)) else 1


def _is_transformer(strides: list[int]) -> bool:
    return len(strides) > 1 and len(set(strides)) == 1


@cache
def _strides(name: str) -> list[int]:
    """The stride in pixels of each layer. Raises BlemishError where timm has no network of this name."""
    timm = _timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise BlemishError(f"backbone {name}: neither {', '.join(FILTER_BANKS)} nor a network of timm.{hint}")
    try:
        with torch.device("meta"):
            network = timm.create_model(name)
    except NotImplementedError:  # the network's shape depends on computed values, which the meta device does not have
        network = timm.create_model(name)
    info = getattr(network, "feature_info", None) or []
    return [level["reduction"] for level in info]


@cache
def _timm() -> ModuleType:
    """The module timm, imported so that it also works where torchvision's compiled operators cannot be loaded.

    That is so beside a CPU-only torch. The networks do not use the operators, but importing torchvision needs the
    schemas of two of them, which are then defined here.
    """
    try:
        with suppress(RuntimeError):
            import torchvision  # noqa: F401 - first: it fails to load its operators where their schemas are defined
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


def _has_address(host: str) -> bool:
    if getproxies():
        return True  # the proxy looks up the address
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False
