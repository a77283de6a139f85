"""Layout of KolektorSDD2: train and test, each with ID.png and the mask ID_GT.png."""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.labelled_by_masks import read_by_masks
from blemish.data.layouts.layout import Found, Layout, needed
from blemish.data.listing import images_in
from blemish.types import Split

EXPECTED = "KolektorSDD2 has train and test, each with ID.png and its mask ID_GT.png."


def read_kolektor_sdd2(path: Path) -> Found:
    """{path: its samples} for the folder of train and test; else empty.

    An image is anomalous where its mask marks a pixel; to learn from there are good ones alone.
    """
    if not any(_is_mask(image) for image in images_in(path / "train")):
        return {}
    splits: tuple[Split, ...] = ("train", "test")
    found = {}
    for split in splits:
        images = [image for image in images_in(needed(path / split, EXPECTED)) if not _is_mask(image)]
        pairs = [(image, needed(image.with_name(f"{image.stem}_GT.png"), EXPECTED)) for image in images]
        found[split] = read_by_masks(pairs, split)
    return {path: [*found["train"], *found["test"]]}


def _is_mask(path: Path) -> bool:
    return path.stem.endswith("_GT")


LAYOUT = Layout(read_kolektor_sdd2, EXPECTED)
