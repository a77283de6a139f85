"""Takes in images: decoded by the strict reader, within limits, under names that never become paths."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import cv2
from sqlalchemy import select

from blemish.data.listing import list_images
from blemish.errors import BlemishError, number_of, one_line
from blemish.files import ZIP_ERRORS, read_bytes
from blemish.imaging.contents import pixel_digest
from blemish.imaging.pixels import thumbnail
from blemish.imaging.read import decode_image, is_image
from blemish.imaging.thumbnails import PICTURE_SIDE, to_jpeg
from blemish.station import audit
from blemish.station.tables import Image
from blemish.station.workspace import Workspace

COMMON_SIDE = 512
"""Side in pixels at which the sharpness of images is compared."""
DAY = re.compile(r"(?<!\d)(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")
"""A day in a file's name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken at the most."""

    image_bytes: int = 256 << 20
    pixels: int = 100_000_000
    images: int = 20_000
    """Images of one archive or folder."""
    archive_bytes: int = 8 << 30
    """Bytes of an archive, and of what it holds."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The content of one image file, its name for display, and when it was taken, where that is known."""

    content: bytes
    name: str
    taken_at: float | None = None


def shown_name(name: str | None) -> str:
    """The last part of a name, printable and not too long; for display alone."""
    last = re.split(r"[/\\]", name or "")[-1]
    return one_line(last, 120) or "image"


def add_image(
    workspace: Workspace, product_id: int, arrived: Arrived, who: str, limits: Limits, *, is_defect: bool = False
) -> tuple[Image, bool]:
    """The image of a product, and whether it is new; the same file is kept once.

    Raises BlemishError for a file that is not a whole image, or exceeds the limits.
    """
    image = examined(workspace, product_id, arrived, who, limits, is_defect=is_defect)
    with workspace.store.writing() as session:
        same = select(Image).where(Image.product_id == product_id, Image.sha256 == image.sha256)
        if known := session.scalar(same):
            return known, False
        session.add(image)
    return image, True


def examined(
    workspace: Workspace, product_id: int, arrived: Arrived, who: str, limits: Limits, *, is_defect: bool = False
) -> Image:
    """The row of an image, whose files are stored; raises BlemishError as `add_image` does."""
    name = shown_name(arrived.name)
    if len(arrived.content) > limits.image_bytes:
        raise BlemishError(f"{name}: {len(arrived.content) >> 20} MB; at most {limits.image_bytes >> 20} MB are taken.")
    pixels = decode_image(arrived.content, Path(name), limits.pixels)
    small = thumbnail(pixels, COMMON_SIDE)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    workspace.blobs.put(arrived.content)
    return Image(
        product_id=product_id,
        sha256=hashlib.sha256(arrived.content).hexdigest(),
        pixel_sha256=pixel_digest(pixels),
        name=name,
        is_defect=is_defect,
        width=pixels.shape[1],
        height=pixels.shape[0],
        brightness=float(grey.mean()) / 255,
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        taken_at=arrived.taken_at or day_in(name),
        thumbnail=workspace.blobs.put(to_jpeg(thumbnail(small, PICTURE_SIDE))),
        added_by=who,
    )


def record_addition(workspace: Workspace, product: str, who: str, number: int, *, is_defect: bool) -> None:
    """Writes to the audit log that images were added."""
    if number:
        with workspace.store.writing() as session:
            kind = "defective" if is_defect else "good"
            audit.append(session, who, "images added", f"product {product}", None, {"number": number, "kind": kind})


def day_in(name: str) -> float | None:
    """The day that a file's name says, at midnight in UTC."""
    found = DAY.search(name)
    try:
        return datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC).timestamp() if found else None
    except ValueError:
        return None


def in_archive(file: IO[bytes], limits: Limits) -> Iterator[Arrived]:
    """The images in a zip archive.

    Raises BlemishError for a file that is no archive, is encrypted, names paths outside of itself, or is larger
    unpacked than the limits allow. What it says of its sizes is not believed: no more is unpacked.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if is_image(Path(entry.filename)) and not entry.is_dir()]
            _check_archive(archive.infolist(), entries, limits)
            total = 0
            for entry in entries:
                with archive.open(entry) as packed:
                    content = packed.read(limits.image_bytes + 1)
                total += len(content)
                if len(content) > limits.image_bytes or total > limits.archive_bytes:
                    raise BlemishError(f"{shown_name(entry.filename)}: is too large unpacked. Give smaller archives.")
                yield Arrived(content, entry.filename, _time_of(entry))
    except ZIP_ERRORS as error:
        raise BlemishError(f"the archive cannot be read ({one_line(error, 120)}). Give a zip file.") from None


def _check_archive(every: list[zipfile.ZipInfo], images: list[zipfile.ZipInfo], limits: Limits) -> None:
    for entry in every:
        parts = re.split(r"[/\\]", entry.filename)
        if ".." in parts or entry.filename.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", entry.filename):
            raise BlemishError(f"the archive names {shown_name(entry.filename)} outside of itself. It is not taken.")
        if entry.flag_bits & 1:
            raise BlemishError("the archive is encrypted. Give one without a password.")
    if len(images) > limits.images:
        raise BlemishError(f"the archive holds {number_of(len(images), 'image')}; at most {limits.images:,} are taken.")
    if not images:
        raise BlemishError("the archive holds no images. Give one with PNG, JPEG, TIFF, BMP or WebP files.")
    if sum(entry.file_size for entry in images) > limits.archive_bytes:
        raise BlemishError("the archive is too large unpacked. Give smaller ones.")


def _time_of(entry: zipfile.ZipInfo) -> float | None:
    try:
        return datetime(*entry.date_time).replace(tzinfo=UTC).timestamp() if entry.date_time[0] > 1980 else None
    except ValueError:
        return None


def in_folder(folder: Path, limits: Limits) -> Iterator[Arrived]:
    """The images in a folder of the station's machine and in its subfolders; raises BlemishError without any."""
    if not folder.is_dir():
        raise BlemishError(f"{folder}: no such folder on the station's machine.")
    images = list_images(folder).images
    if not images:
        raise BlemishError(f"{folder}: holds no images.")
    if len(images) > limits.images:
        raise BlemishError(f"{folder}: holds {len(images):,} images; at most {limits.images:,} are taken at once.")
    for path in images:
        yield Arrived(read_bytes(path, limits.image_bytes), path.name, path.stat().st_mtime)
