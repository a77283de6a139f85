"""Gaussian smoothing, resizing as matrices, and the structural similarity (SSIM)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images (B, C, H, W) smoothed by a Gaussian of `sigma` pixels, mirrored at the edges; unchanged for sigma 0."""
    if sigma == 0:
        return images
    radius = min(math.ceil(3 * sigma), images.shape[-1] - 1, images.shape[-2] - 1)
    return _separable(F.pad(images, (radius,) * 4, mode="reflect"), gaussian_kernel(sigma, radius))


def upsampling_matrix(cells: int, pixels: int, sigma: float) -> Tensor:
    """A matrix (pixels, cells) that enlarges one axis of a grid bilinearly and then smooths it like `gaussian_blur`.

    Both operations are linear and separable, so `rows @ grid @ columns.T` replaces an interpolation and two
    convolutions at the full size.
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
    """A matrix (pixels, cells) along one axis of a grid: 1 where a pixel belongs to a cell, else 0."""
    return F.interpolate(torch.eye(cells)[None], size=pixels, mode="nearest")[0].T


def gaussian_kernel(sigma: float, radius: int) -> Tensor:
    """A Gaussian kernel (2 radius + 1,) that sums to 1."""
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """The SSIM (B, C, H, W) at each pixel of two batches of images (B, C, H, W) in [0, 1]; 1 where they are equal.

    Window 11x11 with sigma 1.5, constants 0.01 and 0.03 (Wang et al. 2004, "Image quality assessment: from error
    visibility to structural similarity"). Images are mirrored at the edges.
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
    """Each channel convolved with `weights` along both axes, without padding."""
    channels = images.shape[1]
    kernel = weights.to(images).expand(channels, 1, -1)
    rows = F.conv2d(images, kernel[:, :, :, None], groups=channels)
    return F.conv2d(rows, kernel[:, :, None, :], groups=channels)
