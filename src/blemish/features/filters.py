"""Gaussian smoothing and the structural similarity built upon it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W) smoothed by a Gaussian of `sigma` pixels, mirrored at the border; sigma 0 changes nothing."""
    if sigma == 0:
        return images
    radius = min(math.ceil(3 * sigma), images.shape[-1] - 1, images.shape[-2] - 1)
    return _separable(F.pad(images, (radius,) * 4, mode="reflect"), gaussian_kernel(sigma, radius))


def upsampling_matrix(cells: int, pixels: int, sigma: float) -> Tensor:
    """(pixels, cells): what enlarges one axis of a grid bilinearly, then smooths it as `gaussian_blur` does.

    Both are linear and separable, so `rows @ grid @ columns.T` does at once what would cost two convolutions at the
    size in pixels.
    """
    wide = F.interpolate(torch.eye(cells)[None], size=pixels, mode="linear")[0].T
    if sigma == 0:
        return wide
    radius = min(math.ceil(3 * sigma), pixels - 1)
    taps = torch.arange(pixels)[:, None] + torch.arange(-radius, radius + 1)
    mirrored = (pixels - 1) - ((pixels - 1) - taps.abs()).abs()
    smoothing = torch.zeros(pixels, pixels).scatter_add(1, mirrored, gaussian_kernel(sigma, radius).expand(pixels, -1))
    return smoothing @ wide


def membership_matrix(cells: int, pixels: int) -> Tensor:
    """(pixels, cells): 1 where a pixel lies in a cell of the grid, along one axis."""
    return F.interpolate(torch.eye(cells)[None], size=pixels, mode="nearest")[0].T


def gaussian_kernel(sigma: float, radius: int) -> Tensor:
    """(2 radius + 1,): a Gaussian that sums to 1."""
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """(B, C, H, W): the SSIM of two images in [0, 1] around each pixel, 1 where they are alike.

    Window 11x11 with sigma 1.5, constants 0.01 and 0.03 (Wang et al. 2004, "Image quality assessment: from error
    visibility to structural similarity"); images are mirrored at the border, so the result is of their size.
    """
    mean_1, mean_2, square_1, square_2, product = (
        _window(values) for values in (first, second, first * first, second * second, first * second)
    )
    variance = square_1 + square_2 - mean_1**2 - mean_2**2
    covariance = product - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + 0.01**2) / (mean_1**2 + mean_2**2 + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variance + 0.03**2)


def _window(images: Tensor) -> Tensor:
    return _separable(F.pad(images, (5,) * 4, mode="reflect"), gaussian_kernel(1.5, 5))


def _separable(images: Tensor, weights: Tensor) -> Tensor:
    """Each channel convolved with `weights` along both axes; only where the window fits."""
    channels = images.shape[1]
    kernel = weights.to(images).expand(channels, 1, -1)
    rows = F.conv2d(images, kernel[:, :, :, None], groups=channels)
    return F.conv2d(rows, kernel[:, :, None, :], groups=channels)
