"""Where it is computed, and in which precision."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from blemish.errors import BlemishError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

_NAMES = "auto, cpu, cuda, cuda:1 or mps"


def _is_known(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError(f"allowed are {_NAMES}")
    return name


DeviceName = Annotated[str, AfterValidator(_is_known), Field(description=_NAMES)]
"""auto: the first accelerator there is, or the CPU."""
Precision = Literal["auto", "float32", "bfloat16"]
"""auto: bfloat16 where the hardware computes in it."""
NetworkPrecision = Literal[Precision, "int8"]
"""int8: the convolutions of a network whose weights are given, on a processor."""


def device_named(name: str) -> torch.device:
    """The device that a `DeviceName` stands for; raises BlemishError where there is none of this name."""
    device: torch.device = accelerator_on(name).device
    return device


def accelerator_on(name: str) -> Accelerator:
    """What trains there: several processes under `torchrun`, otherwise the device that was named.

    Raises BlemishError where there is no such device.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import patch_environment

    _refuse_missing(name)
    AcceleratorState._reset_state(reset_partial_state=True)  # it would stay on the device of an earlier call
    chosen = {} if name in ("auto", "cpu") else {"accelerate_torch_device": name}
    with patch_environment(**chosen):
        return Accelerator(cpu=name == "cpu" or (name == "auto" and not torch.accelerator.is_available()))


def is_main_process() -> bool:
    """Whether this is the process that writes: the only one, or the first of those that were launched together."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as was asked for, or where the hardware has it."""
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_onednn(device: torch.device) -> bool:
    """Whether torch computes there by oneDNN: on a processor, with a build that has the library."""
    import torch

    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def has_int8(device: torch.device) -> bool:
    """Whether torch multiplies 8-bit numbers fast there: on a processor with VNNI."""
    import torch

    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    has_vnni = torch.cpu._is_vnni_supported() or capabilities.get("avx_vnni", False)
    return has_onednn(device) and has_vnni and hasattr(torch.ops.onednn, "qconv_pointwise")


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
            f"device: {name} was given, but torch {torch.__version__} finds {count} devices of that kind. "
            "Use auto or cpu, or install the build of torch for it."
        )
