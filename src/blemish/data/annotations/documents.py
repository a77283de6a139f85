"""What reading annotations takes: fields of documents, embedded masks, and what is wrong with an entry."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blemish.data.annotations.shapes import Shape
from blemish.errors import BlemishError
from blemish.imaging.masks import Marks
from blemish.imaging.read import decode_file

LARGEST_MASK = 256 << 20
"""Bytes that an embedded mask may have unpacked."""
WRONG = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, zlib.error, BlemishError)
"""What reading a malformed entry may raise."""


class Drawn:
    """Collects the shapes of an image, and what of it cannot be taken."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []
        self.refused: list[str] = []

    def add(self, kind: str, make: Callable[[], Shape | None]) -> None:
        """Adds the shape that `make` gives, or refuses the kind where it is None or cannot be read."""
        try:
            shape = make()
        except WRONG as error:
            self.refused.append(f"{kind} that cannot be read ({error})")
            return
        if shape is None:
            self.refused.append(kind)
        else:
            self.shapes.append(shape)


def embedded_mask(text: str, *, compressed: bool = False) -> Marks:
    """(h, w) of an image file in base64: its alpha channel where it has one, else what is not 0.

    Raises ValueError or BlemishError where it cannot be decoded.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if compressed:
        machine = zlib.decompressobj()
        data = machine.decompress(data, LARGEST_MASK)
        if not machine.eof:
            raise ValueError("cut off or too large")
    decoded = decode_file(data, Path("mask"))
    pixels = decoded.pixels if decoded.alpha is None else decoded.alpha
    return (pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0


def listed(document: Any, field: str) -> list[Any]:
    """The list in a field of a document; empty where there is none."""
    found = document.get(field) if isinstance(document, dict) else None
    return found if isinstance(found, list) else []


def size_of(document: Any, height: str, width: str) -> tuple[int, int] | None:
    """(height, width) in two fields of a document; None where they are not whole numbers."""
    high, wide = (document.get(height), document.get(width)) if isinstance(document, dict) else (None, None)
    return (high, wide) if isinstance(high, int) and isinstance(wide, int) else None
