"""Decoders of image files: one module per format, and a line in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from blemish.errors import BlemishError
from blemish.imaging.formats import bmp, jpeg, png, tiff, webp
from blemish.imaging.formats.decoded import Decoded, Image
from blemish.imaging.formats.unread import UNREAD, unread_kind

__all__ = ["EXTENSIONS", "FORMATS", "UNREAD", "Decoded", "Image", "decode", "num_pages", "unread_kind"]

Decoder = Callable[[bytes, int], Decoded]
"""(content of the file, largest number of pixels) -> the decoded image; raises BlemishError, without the path."""

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
"""First bytes of a file -> its decoder. The file's name does not matter."""

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""File name extensions, in lower case, by which image files are found in folders."""


def decode(data: bytes, max_pixels: int, page: int | None = None) -> Decoded:
    """Decodes the content of an image file; `page`, counted from 1, chooses an image of a TIFF with several.

    Raises BlemishError, without the path, for another format, a damaged file, more than `max_pixels` pixels, or a file
    of several images.
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
    """The number of images in a file, thumbnails not counted: 1 for all formats but TIFF.

    Raises BlemishError for a damaged TIFF.
    """
    is_tiff = any(data.startswith(start) for start, decoder in FORMATS.items() if decoder is tiff.decode)
    return len(tiff.pages(data)) if is_tiff else 1
