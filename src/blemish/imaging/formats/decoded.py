"""Shared by all formats: the decoded image, checks before memory is allocated, and the errors for damaged files."""

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
    """A decoded image file."""

    pixels: Image
    alpha: Image | None = None
    """(H, W): the alpha channel, which `pixels` do not contain; None where the file has none."""

    @property
    def has_alpha(self) -> bool:
        """Whether the file has an alpha channel."""
        return self.alpha is not None

    def upright(self, orientation: int) -> Decoded:
        """The image rotated or mirrored by an EXIF orientation from 1 to 8; unchanged for any other value."""
        alpha = None if self.alpha is None else _upright(self.alpha, orientation)
        return Decoded(_upright(self.pixels, orientation), alpha)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises BlemishError where a size is not positive, or has more than `max_pixels` pixels."""
    if width < 1 or height < 1:
        raise damaged(f"its header says {width}x{height} pixels")
    if width * height > max_pixels:
        raise BlemishError(
            f"{width}x{height} pixels are {_millions(width * height)}; at most {_millions(max_pixels)} are read. "
            "Cut it into smaller images, or raise max_pixels."
        )


def damaged(reason: object) -> BlemishError:
    """The error for a truncated or damaged file, in one line."""
    words = " ".join(str(reason).split()).rstrip(".")
    return BlemishError(f"truncated or damaged ({words[:200]}). Replace or remove it.")


def several_images(number: int | str, what: str = "images") -> BlemishError:
    """The error for a file that holds more than one image."""
    return BlemishError(f"holds {number} {what}, and only one per file is read. Save each as a file of its own.")


@contextmanager
def strict_decoding(harmless: str = "") -> Iterator[None]:
    """Turns exceptions and logged warnings of a decoder in the block into BlemishError (`damaged`); nothing is printed.

    Warnings that contain `harmless` are ignored.
    """
    before, messages = _collected.messages, list[str]()
    _collected.messages = messages
    try:
        yield
        warnings = [message for message in messages if not harmless or harmless not in message]
        if warnings:
            raise damaged(warnings[0])
    except (MemoryError, BlemishError):
        raise
    except (ValueError, RuntimeError, OverflowError, struct.error, cv2.error) as error:
        raise damaged(getattr(error, "err", None) or error or type(error).__name__) from None
    finally:
        _collected.messages = before


def _upright(pixels: Image, orientation: int) -> Image:
    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(pixels, flips[orientation]) if orientation in flips else pixels


def without_alpha(pixels: Image) -> Decoded:
    """Pixels (H, W) or (H, W, 1 to 4) without their alpha channel, which is the second of two or the fourth of four."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 4:
        return Decoded(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), pixels[:, :, 3])
    if channels == 3:
        return Decoded(pixels)
    if channels == 2:
        return Decoded(np.ascontiguousarray(pixels[:, :, 0]), pixels[:, :, 1])
    return Decoded(np.ascontiguousarray(pixels.reshape(pixels.shape[:2])))


def exif_orientation(exif: bytes) -> int:
    """The orientation tag of EXIF data, which has the structure of a TIFF; 1 where it is missing or cannot be read."""
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


class _Collected(threading.local):
    """The warnings of imagecodecs in a thread within `strict_decoding`; None outside of it."""

    messages: list[str] | None = None


class _CollectingLogger(logging.Logger):
    """The logger of imagecodecs: within `strict_decoding` it collects, however logging is configured.

    Other libraries disable all loggers that exist, and a disabled one would let damaged images pass.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        return _collected.messages is not None or super().isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        if _collected.messages is None:
            super().handle(record)
        else:
            _collected.messages.append(record.getMessage())


_collected = _Collected()
logging.getLogger("imagecodecs").__class__ = _CollectingLogger
