"""What the detectors share that score images by the error of their reconstruction."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from blemish.features.filters import structural_similarity

Loss = Annotated[
    Literal["mse", "l1", "ssim"],
    Field(description="error that is minimised and shown as the map"),
]


def error_at_pixels(images: Tensor, reconstructed: Tensor, loss: Loss) -> Tensor:
    """The error (B, 1, H, W) at each pixel of images (B, 3, H, W), the mean over their channels.

    mse: squared; l1: absolute; ssim: the structural dissimilarity, 1 - SSIM, from 0 to 2.
    """
    if loss == "mse":
        return (images - reconstructed).square().mean(1, keepdim=True)
    if loss == "l1":
        return (images - reconstructed).abs().mean(1, keepdim=True)
    with torch.autocast(images.device.type, enabled=False):  # bfloat16 is too coarse for differences of squares
        return 1 - structural_similarity(images.float(), reconstructed).mean(1, keepdim=True)
