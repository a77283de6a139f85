"""Reads anomalous images with a folder of masks for each, and how much of each defect has to be found (MVTec LOCO)."""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.layout import read_document
from blemish.data.listing import images_in
from blemish.errors import BlemishError, short_repr
from blemish.types import MaskFiles, Sample, Saturation

CONFIG = "defects_config.json"
"""The file with the saturations, in a category's folder."""


def read_several_masks(folder: Path, masks: Path, saturations: tuple[Saturation, ...]) -> list[Sample]:
    """Samples of the anomalous images in a folder, whose name is the defect type; `masks/<stem>` holds the masks."""
    found = []
    for image in images_in(folder):
        files = tuple(images_in(masks / image.stem))
        mask = MaskFiles(files, saturations) if files else None
        found.append(Sample(image, True, mask, folder.name, "test"))
    return found


def read_saturations(path: Path) -> tuple[Saturation, ...]:
    """The saturations in a defects_config.json; raises BlemishError where one lacks a field or has a wrong one."""
    entries = read_document(path)
    if not isinstance(entries, list):
        raise BlemishError(f"{path}: must be a list of defects.")
    return tuple(_saturation(entry, path) for entry in entries)


def _saturation(entry: object, path: Path) -> Saturation:
    fields = entry if isinstance(entry, dict) else {}
    value, threshold = fields.get("pixel_value"), fields.get("saturation_threshold")
    relative = fields.get("relative_saturation")
    is_number = isinstance(threshold, int | float) and threshold > 0
    if not isinstance(value, int) or not is_number or not isinstance(relative, bool):
        wanted = (
            "pixel_value (a whole number), saturation_threshold (more than 0) and relative_saturation (true or false)"
        )
        raise BlemishError(f"{path}: {short_repr(entry)} is not a defect, which has {wanted}.")
    return Saturation(value, float(threshold or 0), relative)
