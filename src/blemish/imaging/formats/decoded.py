"""What every format shares: the result, the checks before anything is allocated, and how damage is told."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError

Image = NDArray[Any]
"""(H, W) grey or (H, W, 3) RGB; uint8, uint16, or float32 in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of a file, and what was left out of them."""

    pixels: Image
    alpha: Image | None = None
    """(H, W): the alpha channel, which the pixels leave out; None where the file has none."""

    @property
    def has_alpha(self) -> bool:
        """Whether the file has an alpha channel."""
        return self.alpha is not None

    def upright(self, orientation: int) -> Decoded:
        """As EXIF's orientation (1 to 8) says that it is shown."""
        alpha = None if self.alpha is None else _upright(self.alpha, orientation)
        return Decoded(_upright(self.pixels, orientation), alpha)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises BlemishError where the size that a header names is none, or has more pixels than are read."""
    if width < 1 or height < 1:
        raise damaged(f"its header says {width}x{height} pixels")
    if width * height > max_pixels:
        raise BlemishError(
            f"{width}x{height} pixels are {_millions(width * height)}; at most {_millions(max_pixels)} are read. "
            "Cut it into smaller images, or raise --max-pixels."
        )


def damaged(reason: object) -> BlemishError:
    """The error for a file that is not whole, in one line."""
    words = " ".join(str(reason).split()).rstrip(".")
    return BlemishError(f"truncated or damaged ({words[:200]}). Replace or remove it.")


def several(number: int | str, what: str = "images") -> BlemishError:
    """The error for a file that holds more than one image."""
    return BlemishError(f"holds {number} {what}, of which none is meant by itself. Save each as a file of its own.")


@contextmanager
def strictly(harmless: str = "") -> Iterator[None]:
    """Has a decoder that fails, or warns of what it decoded, told as damage; nothing of it is printed.

    A warning that says `harmless` is none of the file.
    """
    before, heard = _heard.words, list[str]()
    _heard.words = heard
    try:
        yield
        words = [word for word in heard if not harmless or harmless not in word]
        if words:
            raise damaged(words[0])
    except (MemoryError, BlemishError):
        raise
    except (ValueError, RuntimeError, OverflowError, struct.error, cv2.error) as error:
        raise damaged(getattr(error, "err", None) or error or type(error).__name__) from None
    finally:
        _heard.words = before


def _upright(pixels: Image, orientation: int) -> Image:
    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(pixels, flips[orientation]) if orientation in flips else pixels


def without_alpha(pixels: Image) -> Decoded:
    """Of (H, W), (H, W, 1 to 4): what is left where a second or fourth channel is alpha."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 4:
        return Decoded(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), pixels[:, :, 3])
    if channels == 3:
        return Decoded(pixels)
    if channels == 2:
        return Decoded(np.ascontiguousarray(pixels[:, :, 0]), pixels[:, :, 1])
    return Decoded(np.ascontiguousarray(pixels.reshape(pixels.shape[:2])))


def exif_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, which begins as a TIFF does; 1 where it holds none, or cannot be understood."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    start = struct.unpack_from(order + "I", exif, 4)[0]
    if start + 2 > len(exif):
        return 1
    for entry in range(struct.unpack_from(order + "H", exif, start)[0]):
        place = start + 2 + 12 * entry
        if place + 12 > len(exif):
            return 1
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, place)
        if tag == 0x0112 and kind == 3:
            return int(value)
    return 1


def _millions(number: int) -> str:
    return f"{number / 1e6:,.0f} million" if number >= 1_000_000 else f"{number:,}"


class _Heard(logging.Filter, threading.local):
    """Keeps the warnings of imagecodecs to itself in a thread that decodes, and lets those of others pass."""

    words: list[str] | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if self.words is None:
            return True
        self.words.append(record.getMessage())
        return False


_heard = _Heard()
logging.getLogger("imagecodecs").addFilter(_heard)
