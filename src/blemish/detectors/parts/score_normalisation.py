"""How loud anomaly maps are on good images, so that maps of different kinds can be added."""

from __future__ import annotations

from torch import Tensor


def offset_and_scale(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Offset (E,) and scale (E,) of E kinds of maps (E, B, h, w) of good images.

    The offset is the median, the scale how far an image's maximum usually lies above it. So maps that were standardised
    by them call false alarms equally often; by its standard deviation a kind with a heavy tail would be louder.
    """
    offset = maps.flatten(1).median(1).values
    scale = (maps.flatten(2).amax(2).mean(1) - offset).clamp_min(1e-6)
    return offset, scale


def normalised(maps: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """The maps (E, B, h, w), 0 where they are as usual and 1 at the usual maximum of a good image."""
    return (maps - offset[:, None, None, None]) / scale[:, None, None, None]
