"""The archive that the evaluation server of MVTec AD 2 takes: its files, their encoding, and a check of a whole one."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts.mvtec_ad_2 import PRIVATE
from blemish.errors import BlemishError
from blemish.files import check_file
from blemish.types import Size

COUNTS = {
    "can": 321,
    "fabric": 314,
    "fruit_jelly": 255,
    "rice": 277,
    "sheet_metal": 142,
    "vial": 276,
    "wallplugs": 232,
    "walnuts": 228,
}
"""Object -> number of images in each of its two private test sets."""
MAPS, THRESHOLDED = "anomaly_images", "anomaly_images_thresholded"
"""Folders of the archive."""
LARGEST = 256 << 20
"""Bytes that a file of the archive may have at most."""


def image_names(split: str, count: int) -> list[str]:
    """The stems of the images of a private test set: 000_regular, 001_regular, ..."""
    return [f"{index:03}_{PRIVATE[split]}" for index in range(count)]


def expected_files(counts: Mapping[str, int] = COUNTS) -> set[str]:
    """The paths of all files in an archive."""
    return {
        path
        for name, count in counts.items()
        for split in PRIVATE
        for stem in image_names(split, count)
        for path in files_of(name, split, stem)
    }


def files_of(name: str, split: str, stem: str) -> tuple[str, str]:
    """The paths of the map and of the thresholded map of one image."""
    inner = f"{name}/{split}/{stem}"
    return f"{MAPS}/{inner}.tiff", f"{THRESHOLDED}/{inner}.png"


def encode(anomaly_map: NDArray[np.float32], threshold: float) -> tuple[bytes, bytes]:
    """The contents of both files of one image: the map (H, W) as TIFF of float16, and what is above the threshold.

    Values are divided by the threshold, so that those that matter are near 1, where float16 is fine enough; all images
    of an object have the same threshold, so the order of their pixels stays.
    """
    limit = float(np.finfo(np.float16).max)
    scaled = np.clip(anomaly_map / np.float32(abs(threshold) or 1), -limit, limit).astype(np.float16)
    detected = np.where(anomaly_map > threshold, np.uint8(255), np.uint8(0))
    packed = imagecodecs.tiff_encode(scaled, compression="deflate"), imagecodecs.png_encode(detected, level=6)
    return bytes(packed[0]), bytes(packed[1])


def check_archive(path: Path, counts: Mapping[str, int] = COUNTS) -> int:
    """Checks what the server would: every file of every object, and nothing else; returns the number of files.

    Maps have to be float16, finite and of two dimensions, thresholded maps of the values 0 and 255 and of the size of
    their map. Raises BlemishError with the first fault.
    """
    check_file(path)
    wanted, sizes = expected_files(counts), dict[str, Size]()
    left = set(wanted)
    for name, content in _members(path):
        if name not in left:
            what = "is there twice" if name in wanted else "does not belong there"
            raise BlemishError(f"{path}: {name} {what}. The archive holds {MAPS} and {THRESHOLDED} alone.")
        left.discard(name)
        size = _checked(f"{path}: {name}", content)
        stem = name.partition("/")[2].rpartition(".")[0]
        if sizes.setdefault(stem, size) != size:
            other = f"{sizes[stem][0]}x{sizes[stem][1]}"
            raise BlemishError(f"{path}: {name} is {size[0]}x{size[1]}, its other file {other}.")
    if left:
        raise BlemishError(f"{path}: {sorted(left)[0]} is missing, and {len(left) - 1} more of {len(wanted)} files.")
    return len(wanted)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isreg() or member.size > LARGEST:
                    raise BlemishError(f"{path}: {member.name} is a link, a device, or larger than {LARGEST >> 20} MB.")
                content = archive.extractfile(member)
                yield member.name.removeprefix("./"), content.read() if content else b""
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise BlemishError(f"{path}: not a .tar.gz file that can be read ({error}). Write it anew.") from None


def _checked(place: str, content: bytes) -> Size:
    """(height, width) of a file; raises BlemishError where its values are not those that the server takes."""
    is_map = place.endswith(".tiff")
    try:
        pixels: Any = imagecodecs.tiff_decode(content) if is_map else imagecodecs.png_decode(content)
    except (ValueError, RuntimeError, MemoryError, EOFError):
        raise BlemishError(f"{place} cannot be decoded. Write it anew.") from None
    kind = np.float16 if is_map else np.uint8
    if pixels.ndim != 2 or pixels.dtype != kind:
        raise BlemishError(f"{place} is of {pixels.dtype} and {pixels.shape}; {np.dtype(kind)} and (H, W) are needed.")
    if is_map and not np.isfinite(pixels).all():
        raise BlemishError(f"{place} has values that are not finite numbers.")
    if not is_map and not np.isin(pixels, (0, 255)).all():
        raise BlemishError(f"{place} has values beside 0 and 255.")
    return int(pixels.shape[0]), int(pixels.shape[1])
