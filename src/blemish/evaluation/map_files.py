"""Anomaly maps in files, of `blemish predict` or of any program: where the map of a test image lies, and what it says.

The one rule for all commands that take maps. In a folder that `predict` wrote, its rows name the map of each image. In
any other the layout is that of the official MVTec AD evaluation, `<category>/test/<type>/<stem>.tiff`, or .tif or .npy;
or a map lies in `<category>` as its image lies in the category's folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blemish.data.category import Category
from blemish.data.reading import file_digests
from blemish.errors import BlemishError
from blemish.files import read_bytes
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.read import read_image
from blemish.inference.maps import decode_own_map
from blemish.inference.rows import FOLDERS, ROWS, read_rows, row_file
from blemish.types import Prediction, Sample

SUFFIXES = (".tiff", ".tif", ".npy")
"""Of maps of other programs, in the order in which they are tried."""


def find_maps(folder: Path, category: Category) -> Iterator[tuple[Sample, tuple[Path, ...]]]:
    """Each test image of a category with the files that may be its map, in the order in which they are looked for.

    `folder` is the folder of all maps: that of other programs, or the output folder of `predict` or `maps` in it, where
    images are recognised by their content.
    """
    test = category.of("test")
    out = folder.parent if folder.name == FOLDERS["map"] and (folder.parent / ROWS).exists() else folder
    if not (out / ROWS).exists():
        yield from ((sample, _places(folder / category.name, category, sample)) for sample in test)
        return
    named = {row["sha256"]: file for row in read_rows(out).values() if (file := row_file(out, row, "map"))}
    digests = file_digests([replace(sample, mask=None) for sample in test])
    for sample in test:
        file = named.get(digests[sample.image])
        yield sample, (file,) if file else ()


def _places(within: Path, category: Category, sample: Sample) -> tuple[Path, ...]:
    inner = sample.image.relative_to(category.root).with_suffix("")
    official = within / "test" / (inner.relative_to("test") if inner.parts[0] == "test" else inner)
    return tuple(Path(f"{place}{suffix}") for place in (official, within / inner) for suffix in SUFFIXES)


def predictions_from_maps(folder: Path, category: Category) -> Iterator[Prediction]:
    """Predictions for the test images of a category, from the maps that `find_maps` finds.

    An image's score is the maximum of its map. Raises BlemishError if a map is missing, unreadable, or differs in size
    from its image.
    """
    for sample, places in find_maps(folder, category):
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise BlemishError(_missing(folder, sample, places))
        anomaly_map = _read_map(path)
        expected = read_image(sample.image, max(MAX_PIXELS, anomaly_map.size)).shape[:2]
        if anomaly_map.shape != expected:
            shapes = " x ".join(map(str, anomaly_map.shape)), " x ".join(map(str, expected))
            raise BlemishError(f"{path}: the map is {shapes[0]}, its image {shapes[1]}. Save maps at the images' size.")
        yield Prediction(sample, float(anomaly_map.max()), anomaly_map)


def _missing(folder: Path, sample: Sample, places: tuple[Path, ...]) -> str:
    if places:
        return f"{places[0]}: no such map (nor .tif or .npy). Every test image needs one."
    return f"{sample.image}: 'blemish predict' wrote no map of it to {folder}. Run it on all test images with --maps."


def _read_map(path: Path) -> NDArray[Any]:
    data = read_bytes(path)
    try:
        if path.suffix == ".npy":
            content = np.load(BytesIO(data), allow_pickle=False)
        elif (content := decode_own_map(data)) is None:  # whose integers have a scale of their own
            content = imagecodecs.tiff_decode(data)
    except (
        EOFError,
        ValueError,
        RuntimeError,
        LookupError,
        MemoryError,
    ):  # numpy's message suggests unpickling, which runs code
        content = None
    if not isinstance(content, np.ndarray) or content.ndim != 2 or content.dtype.kind not in "biuf":
        raise BlemishError(f"{path}: not an anomaly map of one numeric channel. Write it as float32 TIFF or as .npy.")
    if not np.isfinite(content).all():
        raise BlemishError(f"{path}: has values that are not finite numbers. Write a map without them.")
    return content
