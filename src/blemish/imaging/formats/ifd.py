"""Reads the directories (IFDs) of a TIFF, one per page; no offset or length is trusted beyond the end of the file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from blemish.imaging.formats.decoded import damaged


class Tag(IntEnum):
    """The TIFF tags that describe how pixels are stored."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_LENGTHS = 279
    PLANAR = 284
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_LENGTHS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    DEPTH = 32997
    DNG_VERSION = 50706


TYPES: Mapping[int, str] = MappingProxyType(
    {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
)
"""Type number of a tag's values -> format character of `struct`; rational and float values are not needed."""
MOST_PAGES = 100_000


@dataclass(frozen=True, slots=True)
class Page:
    """The tags of one directory."""

    order: str
    """The byte order of the file: "<" or ">"."""
    tags: dict[int, tuple[Any, ...]]

    def get(self, tag: Tag, default: int) -> int:
        """The first value of a tag, `default` where it is missing; BlemishError where it is not an integer."""
        values = self.tags.get(tag)
        if not values:
            return default
        if not isinstance(values[0], int):
            raise damaged(f"its {tag.name} is no whole number")
        return values[0]

    def all(self, tag: Tag) -> tuple[int, ...]:
        """All values of a tag; an empty tuple where it is missing."""
        return self.tags.get(tag, ())

    def bytes(self, tag: Tag) -> bytes:
        """The value of a tag as bytes; empty where it is missing."""
        values = self.tags.get(tag, (b"",))
        return values[0] if isinstance(values[0], bytes) else bytes(value & 255 for value in values)

    @property
    def is_reduced(self) -> bool:
        """Whether the page is a thumbnail or a transparency mask of another page."""
        return bool(self.get(Tag.NEW_SUBFILE_TYPE, 0) & 5) or self.get(Tag.SUBFILE_TYPE, 1) == 2


def read_pages(data: bytes) -> list[Page]:
    """All directories of a TIFF or BigTIFF in order; raises BlemishError where one is damaged or they form a cycle."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = len(data) >= 16 and struct.unpack_from(order + "H", data, 2)[0] == 43
    pages: list[Page] = []
    visited: set[int] = set()
    try:
        place = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)[0]
        while place:
            if place in visited or len(pages) >= MOST_PAGES:
                raise damaged("its directories have no end")
            visited.add(place)
            tags, place = _directory(data, order, place, is_big)
            pages.append(Page(order, tags))
    except struct.error:
        raise damaged("a directory lies outside of the file") from None
    if not pages:
        raise damaged("it has no directory")
    return pages


def _directory(data: bytes, order: str, place: int, is_big: bool) -> tuple[dict[int, tuple[Any, ...]], int]:
    """The tags of the directory at offset `place`, and the offset of the next directory; 0 after the last."""
    count_code, entry_code, size = ("Q", "HHQ8s", 20) if is_big else ("H", "HHI4s", 12)
    number = struct.unpack_from(order + count_code, data, place)[0]
    place += struct.calcsize(order + count_code)
    if place + number * size > len(data):
        raise damaged("a directory lies outside of the file")
    tags: dict[int, tuple[Any, ...]] = {}
    for entry in range(number):
        tag, kind, count, inline = struct.unpack_from(order + entry_code, data, place + entry * size)
        if tag in Tag._value2member_map_ and kind in TYPES:
            tags.setdefault(tag, _values(data, order, kind, count, inline))
    return tags, struct.unpack_from(order + ("Q" if is_big else "I"), data, place + number * size)[0]


def _values(data: bytes, order: str, kind: int, count: int, inline: bytes) -> tuple[Any, ...]:
    length = struct.calcsize(order + TYPES[kind]) * count
    if length > len(data):
        raise damaged("a value lies outside of the file")
    code = f"{order}{count}{TYPES[kind]}"
    if length <= len(inline):
        return struct.unpack_from(code, inline)
    place = struct.unpack(order + ("Q" if len(inline) == 8 else "I"), inline)[0]
    return struct.unpack_from(code, data, place)
