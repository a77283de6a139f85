"""Thumbnails and masks that a run keeps, so that no file is decoded again for metrics and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blemish.data.check import MaskInfo
from blemish.data.source import FileInfo
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.mask_sources import marks_of
from blemish.imaging.masks import Marks, PackedMarks
from blemish.imaging.pixels import thumbnail
from blemish.imaging.read import read_image
from blemish.imaging.thumbnails import PICTURE_SIDE, Thumbnail, decoded
from blemish.types import MaskSource, Sample


@dataclass(frozen=True, slots=True)
class KeptImages:
    """Thumbnails of images, and masks; those that were not kept are read from their files."""

    pictures: Mapping[Path, bytes] = field(default_factory=dict)
    """Image -> a JPEG file with sides of at most PICTURE_SIDE."""
    masks: Mapping[MaskSource, PackedMarks] = field(default_factory=dict)

    @classmethod
    def of(
        cls, samples: Sequence[Sample], files: Sequence[FileInfo], masks: Mapping[MaskSource, MaskInfo]
    ) -> KeptImages:
        """The thumbnails and masks of these files; `files[i]` belongs to `samples[i]`."""
        pictures = {sample.image: info.picture for sample, info in zip(samples, files, strict=True) if info.picture}
        return cls(pictures, {mask: info.marks for mask, info in masks.items() if info.marks})

    def picture(self, sample: Sample) -> Thumbnail:
        """The thumbnail of the image: (h, w, 3) RGB."""
        if kept := self.pictures.get(sample.image):
            return decoded(kept)
        return thumbnail(read_image(sample.image), PICTURE_SIDE)

    def mask(self, mask: MaskSource, max_pixels: int = MAX_PIXELS) -> Marks:
        """(H, W): True where the mask marks a pixel."""
        kept = self.masks.get(mask)
        return marks_of(mask, max_pixels) if kept is None else kept.unpack()


NOTHING_KEPT = KeptImages()
