"""Recognises image formats that are not supported, by content or by extension, and says how to convert them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_LOSSLESS = "Convert it to PNG."
_ONE = "Save each of its images as PNG."
_SENSOR = "Develop it to 16-bit TIFF or PNG."

UNREAD: Mapping[str, str] = MappingProxyType(
    {
        "GIF": _ONE,
        "HEIC": _LOSSLESS,
        "AVIF": _LOSSLESS,
        "RAW of a camera": _SENSOR,
        "JPEG 2000": _LOSSLESS,
        "JPEG XL": _LOSSLESS,
        "JPEG XR": _LOSSLESS,
        "Photoshop's PSD": _LOSSLESS,
        "OpenEXR": "Convert it to 16-bit PNG.",
        "Radiance HDR": "Convert it to 16-bit PNG.",
        "Netpbm": _LOSSLESS,
        "PDF": _ONE,
        "SVG": "Draw it as PNG.",
        "DICOM": "Convert it to 16-bit PNG.",
        "a numpy array": "Save it as 16-bit PNG.",
        "an archive": "Unpack it.",
    }
)
"""Format -> advice for an error message."""

_STARTS = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"II\xbc\x01": "JPEG XR",
    b"8BPS": "Photoshop's PSD",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"\x93NUMPY": "a numpy array",
    b"PK\x03\x04": "an archive",
    b"\x1f\x8b": "an archive",
    b"FUJIFILMCCD-RAW": "RAW of a camera",
    b"IIRO": "RAW of a camera",
    b"IIRS": "RAW of a camera",
    b"MMOR": "RAW of a camera",
    b"IIU\0": "RAW of a camera",
    **{b"P%d" % number: "Netpbm" for number in range(1, 8)},
}
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "RAW of a camera",
}
"""Brand of an ISO media file -> format."""

_NAMES = {
    ".gif": "GIF",
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".avif": "AVIF",
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".orf", ".raf", ".rw2", ".pef", ".srw", ".raw"),
        "RAW of a camera",
    ),
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG 2000"),
    ".jxl": "JPEG XL",
    ".jxr": "JPEG XR",
    ".psd": "Photoshop's PSD",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    **dict.fromkeys((".pbm", ".pgm", ".ppm", ".pnm"), "Netpbm"),
    ".pdf": "PDF",
    ".svg": "SVG",
    ".dcm": "DICOM",
    ".npy": "a numpy array",
}


def unread_kind(data: bytes) -> str | None:
    """The format, a key of UNREAD, of a file's content; None where it is not recognised."""
    if data[4:8] == b"ftyp":
        brands = [data[8:12], *(data[place : place + 4] for place in range(16, 40, 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    if data[128:132] == b"DICM":
        return "DICOM"
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)


def unread_name(extension: str) -> str | None:
    """The format, a key of UNREAD, that a file name extension stands for, in any case; None for others."""
    return _NAMES.get(extension.lower())
