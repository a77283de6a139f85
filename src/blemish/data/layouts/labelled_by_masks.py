"""Samples of images that each have a mask, which alone says whether they are good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.imaging.mask_sources import marks_of
from blemish.parallel import map_ahead
from blemish.types import GOOD, MaskFiles, Sample, Split

DEFECT = "defect"
"""The type of all defects, where the data set has one type alone."""


def read_by_masks(pairs: Sequence[tuple[Path, Path]], split: Split, group: str = "") -> list[Sample]:
    """Samples of (image, mask); anomalous where the mask marks a pixel. Anomalous images to learn from are left out."""
    masks = [MaskFiles((mask,)) for _, mask in pairs]
    is_marked = map_ahead(lambda mask: bool(marks_of(mask).any()), masks)
    samples = [
        Sample(image, marked, mask, DEFECT if marked else GOOD, split, group)
        for (image, _), mask, marked in zip(pairs, masks, is_marked, strict=True)
    ]
    return [sample for sample in samples if split == "test" or not sample.label]
