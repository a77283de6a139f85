"""Layout of the magnetic tile defects: a folder for each type, shots of a tile with consecutive numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from blemish.data.layouts.layout import Found, Layout, has_folders, needed
from blemish.data.listing import images_in, list_folders
from blemish.types import GOOD, Sample

FREE = "MT_Free"
"""The folder of good tiles."""
EXPECTED = (
    "The magnetic tile set has MT_Free/Imgs and MT_<type>/Imgs, each with *.jpg and a mask *.png of the same stem."
)


def read_magnetic_tile(path: Path) -> Found:
    """{path: its samples} for the folder of MT_Free and the others; else empty.

    Shots of one tile (expN_num_M, consecutive M) are a group. The authors give no split.
    """
    folders = [folder for folder in list_folders(path) if re.fullmatch(r"MT_\w+", folder.name)]
    if not any(has_folders(folder, "Imgs") for folder in folders):
        return {}
    needed(path / FREE, EXPECTED)
    images = {
        image: folder.name
        for folder in folders
        for image in images_in(needed(folder / "Imgs", EXPECTED))
        if image.suffix.lower() == ".jpg"
    }
    tiles = _tiles(images)
    return {path: [_sample(image, kind, tiles[image]) for image, kind in images.items()]}


def _sample(image: Path, kind: str, tile: str) -> Sample:
    mask = needed(image.with_suffix(".png"), EXPECTED)
    if kind == FREE:
        return Sample(image, False, mask, GOOD, "train", tile)
    return Sample(image, True, mask, kind.removeprefix("MT_").lower(), "test", tile)


def _tiles(images: Iterable[Path]) -> dict[Path, str]:
    """Image -> the name of its tile; empty where the file's name has no number."""
    number_of = {image: re.fullmatch(r"exp\d+_num_(\d{1,18})", image.stem) for image in images}
    numbers = sorted({int(found[1]) for found in number_of.values() if found})
    tile_of: dict[int, int] = {}
    for before, number in zip([None, *numbers], numbers, strict=False):
        tile_of[number] = tile_of[before] if before is not None and number == before + 1 else number
    return {image: f"tile {tile_of[int(found[1])]}" if found else "" for image, found in number_of.items()}


LAYOUT = Layout(read_magnetic_tile, EXPECTED, has_split=False)
