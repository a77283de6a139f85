"""Chooses the device and the precision that torch computes with."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from blemish.errors import BlemishError, number_of

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

_NAMES = "auto, cpu, cuda, cuda:1 or mps"


def _is_known(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError(f"allowed are {_NAMES}")
    return name


DeviceName = Annotated[str, AfterValidator(_is_known), Field(description=_NAMES)]
"""Name of a device; auto: the first accelerator, or the CPU where there is none."""
Precision = Literal["auto", "float32", "bfloat16"]
"""auto: bfloat16 where the hardware supports it, else float32."""


def device_named(name: str) -> torch.device:
    """The device that a `DeviceName` stands for; raises BlemishError where it does not exist.

    "auto" is the device in the environment variable ACCELERATE_TORCH_DEVICE; else the first accelerator, or the one of
    this process among several started by `torchrun`; else the CPU.
    """
    import torch

    _refuse_missing(name)
    if name != "auto":
        return torch.device(name)
    if named := os.environ.get("ACCELERATE_TORCH_DEVICE"):
        return torch.device(named)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", 0))) if accelerator else torch.device("cpu")


def accelerator_on(name: str) -> Accelerator:
    """An `Accelerator` for training on this device, together with the other processes that `torchrun` started.

    Raises BlemishError where the device does not exist.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import patch_environment

    device = device_named(name)
    AcceleratorState._reset_state(reset_partial_state=True)  # it would stay on the device of an earlier call
    with patch_environment(accelerate_torch_device=str(device)):
        return Accelerator(cpu=device.type == "cpu")


def is_main_process() -> bool:
    """Whether this process writes files: it is the only one, or the first of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether to compute in bfloat16 on this device; with "auto", whether the hardware supports it."""
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_onednn = device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _refuse_missing(name: str) -> None:
    import torch

    try:
        _is_known(name)
    except ValueError as error:
        raise BlemishError(f"device: {error}; {name!r} was given.") from None
    if name == "auto":
        return
    kind, _, number = name.partition(":")
    count = torch.get_device_module(kind).device_count()
    if int(number or 0) >= count:
        raise BlemishError(
            f"device: {name} was given, but torch {torch.__version__} finds {number_of(count, 'device')} of that kind. "
            "Use auto or cpu, or install the build of torch for it."
        )
