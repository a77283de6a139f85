"""Anomaly maps as compressed TIFF files, of 16-bit integers with a scale, or of exact 32-bit floats.

The files are standard TIFF (deflate with a predictor), which any viewer opens. Reading accepts only files written here;
the checksum of deflate detects damage.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.types import MapFormat, Size

Map = NDArray[np.float32]
LEVELS = 4095
"""Number of steps between the lowest and the highest value; more would mostly store noise."""
COMPRESSION_LEVEL = 4
"""zlib's level; 6 takes three times as long, and saves a tenth of the size."""
_TEXT, _SHORT, _LONG = 2, 3, 4
"""Types of TIFF fields."""
_WIDTH, _HEIGHT, _BITS, _DESCRIPTION, _OFFSET, _LENGTH, _SAMPLE = 256, 257, 258, 270, 273, 279, 339
"""Tags of TIFF."""


def encode_map(anomaly_map: Map, map_format: MapFormat = "uint16", sha256: str = "") -> bytes:
    """The content of a TIFF file with a map (H, W) of finite values; `sha256` is the hash of its image file.

    The tag ImageDescription contains JSON: low, step and sha256. A map value is `low + step * pixel`.
    """
    pixels: NDArray[Any] = anomaly_map
    low, step = 0.0, 1.0
    if map_format == "uint16":
        low = float(anomaly_map.min())
        step = (float(anomaly_map.max()) - low) / LEVELS
        above = np.subtract(anomaly_map, low, dtype=np.float64)
        pixels = np.rint(above / (step or 1)).astype(np.uint16)
    description = json.dumps({"low": low, "step": step, "sha256": sha256}).encode() + b"\0"
    packed = _FLOAT.pack(pixels) if map_format == "float32" else _INTEGER.pack(pixels)
    return _tiff(pixels, description, zlib.compress(packed, COMPRESSION_LEVEL))


def decode_map(content: bytes, size: Size, sha256: str = "") -> Map:
    """The map of shape `size` = (H, W) from the content of a file that `encode_map` wrote.

    Raises ValueError if the content is anything else, is damaged, or belongs to another size or image (`sha256`).
    """
    try:
        fields = _fields(content)
        about = json.loads(fields[_DESCRIPTION].rstrip(b"\0"))
        kind = _FLOAT if fields[_SAMPLE] == 3 else _INTEGER
        if (fields[_HEIGHT], fields[_WIDTH]) != tuple(size) or about["sha256"] != sha256:
            raise ValueError("a map of another image")
        packed = content[fields[_OFFSET] : fields[_OFFSET] + fields[_LENGTH]]
        pixels = kind.unpack(_inflated(packed, size[0] * size[1] * kind.bytes), size)
        values = pixels if kind is _FLOAT else float(about["low"]) + float(about["step"]) * pixels
        return np.asarray(values, np.float32)
    except (KeyError, IndexError, TypeError, AttributeError, struct.error, zlib.error) as error:
        raise ValueError(f"not a map that blemish wrote ({error!r})") from None


def decode_own_map(content: bytes) -> Map | None:
    """The map (H, W) in the content of any file that `encode_map` wrote; None for a file of another program.

    Raises ValueError if blemish wrote the file and it is damaged.
    """
    try:
        fields = _fields(content)
        about = json.loads(fields[_DESCRIPTION].rstrip(b"\0"))
        size, sha256 = (fields[_HEIGHT], fields[_WIDTH]), about["sha256"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error):
        return None
    return decode_map(content, size, sha256)


class _Kind:
    """The TIFF predictor of one pixel type: differences of horizontal neighbours, which compress well."""

    def __init__(self, bits: int, sample: int, predictor: int, pack: Callable[..., bytes], unpack: Callable[..., Any]):
        self.bytes, self.sample, self.predictor, self.pack, self.unpack = bits // 8, sample, predictor, pack, unpack


def _pack_integers(pixels: NDArray[Any]) -> bytes:
    differences = pixels.astype("<u2")
    differences[:, 1:] -= pixels[:, :-1]
    return differences.tobytes()


def _unpack_integers(packed: bytes, size: Size) -> NDArray[Any]:
    return np.cumsum(np.frombuffer(packed, "<u2").reshape(size), axis=1, dtype=np.uint16)


def _pack_floats(pixels: NDArray[Any]) -> bytes:
    """Floating-point predictor: the most significant bytes of a row first (Adobe's TIFF Technical Note 3)."""
    height, width = pixels.shape
    planes = np.ascontiguousarray(pixels.astype(">f4")).view(np.uint8).reshape(height, width, 4).transpose(0, 2, 1)
    flat = planes.reshape(height, 4 * width)
    return np.diff(flat, axis=1, prepend=np.zeros((height, 1), np.uint8)).tobytes()


def _unpack_floats(packed: bytes, size: Size) -> NDArray[Any]:
    height, width = size
    flat = np.cumsum(np.frombuffer(packed, np.uint8).reshape(height, 4 * width), axis=1, dtype=np.uint8)
    planes = flat.reshape(height, 4, width).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).view(">f4").reshape(size)


_INTEGER = _Kind(16, 1, 2, _pack_integers, _unpack_integers)
_FLOAT = _Kind(32, 3, 3, _pack_floats, _unpack_floats)


def _tiff(pixels: NDArray[Any], description: bytes, packed: bytes) -> bytes:
    """A little-endian TIFF file of one channel in one strip: header, fields, description, pixels."""
    height, width = pixels.shape
    kind = _FLOAT if pixels.dtype == np.float32 else _INTEGER
    fields = {
        _WIDTH: width,
        _HEIGHT: height,
        _BITS: 8 * kind.bytes,
        259: 8,  # compression: deflate
        262: 1,  # photometric: 0 is black
        _DESCRIPTION: description,
        _OFFSET: 0,
        277: 1,  # samples per pixel
        278: height,  # rows per strip
        _LENGTH: len(packed),
        317: kind.predictor,
        _SAMPLE: kind.sample,
    }
    start = 8 + 2 + 12 * len(fields) + 4
    fields[_OFFSET] = start + len(description)
    table = b"".join(_field(tag, value, start) for tag, value in fields.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + table + bytes(4) + description + packed


def _field(tag: int, value: int | bytes, start: int) -> bytes:
    if isinstance(value, bytes):
        return struct.pack("<HHII", tag, _TEXT, len(value), start)
    is_long = tag in (_WIDTH, _HEIGHT, _OFFSET, _LENGTH, 278)
    return struct.pack("<HHII", tag, _LONG if is_long else _SHORT, 1, value)


def _fields(content: bytes) -> dict[int, Any]:
    """Tag -> value of a file that `_tiff` wrote."""
    if content[:8] != struct.pack("<2sHI", b"II", 42, 8):
        raise ValueError("not a map that blemish wrote")
    (number,) = struct.unpack_from("<H", content, 8)
    found: dict[int, Any] = {}
    for place in range(number):
        tag, kind, length, value = struct.unpack_from("<HHII", content, 10 + 12 * place)
        found[tag] = content[value : value + length] if kind == _TEXT else value
    return found


def _inflated(packed: bytes, length: int) -> bytes:
    """The decompressed bytes; raises ValueError unless there are exactly `length`, and the checksum is right."""
    machine = zlib.decompressobj()
    content = machine.decompress(packed, length + 1)
    if len(content) != length or not machine.eof:
        raise ValueError("a map that is damaged")
    return content
