"""Layout of Real-IAD: images in several resolutions, and a protocol as one JSON file per category."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from blemish.data.layouts.layout import (
    Found,
    Layout,
    has_folders,
    inside,
    needed,
    read_document,
    sorted_samples,
)
from blemish.data.listing import list_folders
from blemish.errors import BlemishError, short_repr
from blemish.files import absolute
from blemish.types import GOOD, MaskFiles, Sample, Split

RESOLUTIONS = ("realiad_1024", "realiad_512", "realiad_256", "realiad_raw")
"""Folders of images; of several the first one is read, unless the path names one."""
EXPECTED = (
    "Real-IAD has realiad_1024 (or _512, _256, _raw)/<category>/OK and NG, and beside it "
    "realiad_jsons{}/<category>.json with the lists train and test."
)


def read_real_iad(path: Path, protocol: str = "") -> Found:
    """{folder of a category: its samples} for the root, a resolution's folder or a category's; else empty.

    `protocol` is the end of the name of the folder of JSON files. Anomalous images to learn from have no label, as in
    the protocol of learning without labels. Images of one part are a group.
    """
    images, name = _images(absolute(path))
    if images is None:
        return {}
    expected, jsons = EXPECTED.format(protocol), f"realiad_jsons{protocol}"
    nested = images.parent / "realiad_jsons" / jsons  # as the archive of the protocols is unpacked
    documents = needed(nested if has_folders(nested.parent, jsons) else images.parent / jsons, expected)
    folders = [folder for folder in list_folders(images) if name in ("", folder.name)]
    found = {folder: _samples(needed(documents / f"{folder.name}.json", expected), folder) for folder in folders}
    return sorted_samples(found)


def _images(path: Path) -> tuple[Path | None, str]:
    """The folder of a resolution, and the category that the path names; empty: all."""
    if path.name in RESOLUTIONS:
        return path, ""
    if path.parent.name in RESOLUTIONS:
        return path.parent, path.name
    return next((path / name for name in RESOLUTIONS if has_folders(path, name)), None), ""


def _samples(document: Path, folder: Path) -> list[Sample]:
    content = read_document(document)
    lists = content if isinstance(content, dict) else {}
    splits: tuple[Split, ...] = ("train", "test")
    if not all(isinstance(lists.get(split), list) for split in splits):
        raise BlemishError(f"{document}: must have the lists train and test.")
    return [_sample(entry, split, document, folder) for split in splits for entry in lists[split]]


def _sample(entry: Any, split: Split, document: Path, folder: Path) -> Sample:
    fields = entry if isinstance(entry, dict) else {}
    kind, name, mask = fields.get("anomaly_class"), fields.get("image_path"), fields.get("mask_path")
    if not isinstance(kind, str) or not isinstance(name, str) or not isinstance(mask, str | None):
        raise BlemishError(f"{document}: {short_repr(entry)} lacks anomaly_class, image_path or mask_path.")
    image, is_good = inside(folder, name, document), kind == "OK"
    group = image.parent.relative_to(folder).as_posix()
    if split == "train":
        return Sample(image, False if is_good else None, split=split, group=group)
    found = MaskFiles((inside(folder, mask, document),)) if mask and not is_good else None
    return Sample(image, not is_good, found, GOOD if is_good else kind, split, group)


def _protocol(name: str) -> Layout:
    return Layout(partial(read_real_iad, protocol=name), EXPECTED.format(name))


LAYOUT, SINGLE_VIEW, UNSUPERVISED = _protocol(""), _protocol("_sv"), _protocol("_fuiad")
NOISY = {share: _protocol(f"_fuiad_{share}") for share in ("0.0", "0.1", "0.2", "0.4")}
"""Share of anomalous images among those to learn from -> its layout."""
