"""Score normalisation: offset and scale of anomaly maps on good images, so that different kinds can be averaged."""

from __future__ import annotations

from torch import Tensor


def offset_and_scale(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Offset (E,) and scale (E,) of E kinds of maps (E, B, h, w) of held-out good images.

    The offset is the median of all values; the scale is the mean over the images of their maximum, minus the offset.
    So normalised maps of all kinds give false alarms at about the same rate, which division by the standard deviation
    would not achieve for a heavy-tailed kind.
    """
    offset = maps.flatten(1).median(1).values
    scale = (maps.flatten(2).amax(2).mean(1) - offset).clamp_min(1e-6)
    return offset, scale


def normalised(maps: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """The maps (E, B, h, w) minus offset, divided by scale: 0 is a typical value, 1 the mean maximum of good images."""
    return (maps - offset[:, None, None, None]) / scale[:, None, None, None]
