"""The kinds of image file that are read: one file each, and a line in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from blemish.errors import BlemishError
from blemish.imaging.formats import bmp, jpeg, png, tiff, webp
from blemish.imaging.formats.decoded import Decoded, Image
from blemish.imaging.formats.unread import UNREAD, unread_kind

__all__ = ["EXTENSIONS", "FORMATS", "UNREAD", "Decoded", "Image", "decode", "num_pages", "unread_kind"]

Decoder = Callable[[bytes, int], Decoded]
"""From a file's content and the most pixels that an image may have; raises BlemishError, without the path."""

FORMATS: Mapping[bytes, Decoder] = MappingProxyType(
    {
        b"\x89PNG\r\n\x1a\n": png.decode,
        b"\xff\xd8\xff": jpeg.decode,
        b"II*\0": tiff.decode,
        b"MM\0*": tiff.decode,
        b"II+\0": tiff.decode,
        b"MM\0+": tiff.decode,
        b"BM": bmp.decode,
        b"RIFF": webp.decode,
    }
)
"""What a file begins with -> what decodes it. The name of a file says nothing of its kind."""

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def decode(data: bytes, max_pixels: int, page: int | None = None) -> Decoded:
    """The image in a file's content; `page`, from 1, of a TIFF that holds several.

    Raises BlemishError, without the path, where it is of another kind, damaged, too large, or one of several.
    """
    for start, decoder in FORMATS.items():
        if data.startswith(start):
            if decoder is tiff.decode:
                return tiff.decode(data, max_pixels, page)
            if page is not None:
                raise BlemishError("has no pages: only TIFF has.")
            return decoder(data, max_pixels)
    if kind := unread_kind(data):
        raise BlemishError(f"{kind}, which is not read. {UNREAD[kind]}")
    known = ", ".join(sorted(EXTENSIONS))
    raise BlemishError(f"truncated, or not an image in one of {known}. Replace or remove it.")


def num_pages(data: bytes) -> int:
    """How many images a file holds, reduced ones left out: 1 but for TIFF. Raises BlemishError for a damaged TIFF."""
    is_tiff = any(data.startswith(start) for start, decoder in FORMATS.items() if decoder is tiff.decode)
    return len(tiff.pages(data)) if is_tiff else 1
