"""Layout of the magnetic tile defects: a folder for each type, and several exposures of each tile."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from blemish.data.layouts.layout import Found, Layout, has_folders, needed
from blemish.data.listing import images_in, list_folders
from blemish.types import GOOD, Sample

FREE = "MT_Free"
"""The folder of good tiles."""
LARGEST_GAP = 200
"""The largest step of the number between two shots of a tile: its exposures follow each other within some 20 each, and
the next tile comes after hundreds."""
EXPECTED = (
    "The magnetic tile set has MT_Free/Imgs and MT_<type>/Imgs, each with *.jpg and a mask *.png of the same stem."
)


def read_magnetic_tile(path: Path) -> Found:
    """{path: its samples} for the folder of MT_Free and the others; else empty.

    Shots of one tile are a group: consecutive numbers M of expN_num_M, with rising exposures N. The authors give no
    split.
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
    """Image -> the name of its tile; empty where the file's name has no numbers."""
    named = {image: re.fullmatch(r"exp(\d{1,9})_num_(\d{1,18})", image.stem) for image in images}
    shots = sorted((int(found[2]), int(found[1]), image) for image, found in named.items() if found)
    tile_of, tile, before = dict.fromkeys(named, ""), "", (0, 0)
    for number, exposure, image in shots:
        gap = number - before[0]
        if not tile or (gap > 1 and (gap > LARGEST_GAP or exposure <= before[1])):
            tile = f"tile {number}"
        tile_of[image], before = tile, (number, exposure)
    return tile_of


LAYOUT = Layout(read_magnetic_tile, EXPECTED, has_split=False)
