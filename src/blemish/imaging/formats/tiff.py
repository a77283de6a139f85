"""Decodes one page of a TIFF; the length of each strip or tile is checked, and a damaged one is an error."""

from __future__ import annotations

import lzma
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.imaging.formats import jpeg, lzw
from blemish.imaging.formats.decoded import Decoded, check_size, damaged, several_images, strict_decoding
from blemish.imaging.formats.ifd import Page, Tag, read_pages

WHITE_IS_ZERO, GREY, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
"""Photometric interpretations that are supported."""
OTHERS = {4: "a transparency mask", 5: "CMYK", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32844: "LogL"}
"""Photometric interpretations that are named in an error message."""
SENSOR = (32803, 34892)
"""Photometric interpretations of raw sensor data."""
TYPES = {(8, 1): np.uint8, (16, 1): np.uint16, (32, 3): np.float32}
"""(bits, sample format) -> type of the pixels."""
FORMATS = {1: "uint", 2: "int", 3: "float", 4: "bits", 5: "complex int", 6: "complex"}
Bytes = bytes | NDArray[np.uint8]
Decoder = Callable[[Sequence[bytes], int], Iterable[Bytes]]
"""(stored bytes of strips or tiles, decoded length of each) -> their decoded bytes; the caller checks the lengths."""
JPEG = 7
REFUSED = {
    2: "CCITT (2)",
    3: "CCITT fax 3",
    4: "CCITT fax 4",
    6: "old JPEG (6)",
    33003: "JPEG 2000 (33003)",
    33005: "JPEG 2000 (33005)",
    34712: "JPEG 2000 (34712)",
    34892: "lossy JPEG (34892)",
    50001: "WebP (50001)",
    50002: "JPEG XL (50002)",
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the pixels of a page are stored."""

    page: Page
    width: int
    height: int
    samples: int
    bits: int
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    is_planar: bool
    block_width: int
    block_height: int
    """Size of a block, which is a tile or a strip; only the last strip may have fewer rows."""

    @property
    def is_tiled(self) -> bool:
        return Tag.TILE_OFFSETS in self.page.tags

    @property
    def block_samples(self) -> int:
        return 1 if self.is_planar else self.samples

    @property
    def grid(self) -> tuple[int, int, int]:
        """(separately stored bands, blocks down, blocks across)."""
        down, across = -(-self.height // self.block_height), -(-self.width // self.block_width)
        return self.samples if self.is_planar else 1, down, across

    def block_bytes(self, rows: int) -> int:
        """The length of `rows` rows of a decoded block; each row begins at a byte."""
        return rows * ((self.block_width * self.block_samples * self.bits + 7) // 8)


def pages(data: bytes) -> list[Page]:
    """The pages of a TIFF without thumbnails and masks. Raises BlemishError for a damaged file and for raw data."""
    found = read_pages(data)
    if Tag.DNG_VERSION in found[0].tags or any(page.get(Tag.PHOTOMETRIC, 1) in SENSOR for page in found):
        raise BlemishError("RAW of a camera, which is not read. Develop it to 16-bit TIFF or PNG.")
    return [page for page in found if not page.is_reduced] or found


def decode(data: bytes, max_pixels: int, page: int | None = None) -> Decoded:
    """Decodes a TIFF file; `page`, counted from 1, chooses one of several images.

    Raises BlemishError where there are several images and `page` is None, where a strip or tile is missing or damaged,
    for more than `max_pixels` pixels, and for pixels other than grey or RGB of 8 bits, 16 bits or float32.
    """
    found = pages(data)
    if page is None and len(found) > 1:
        raise BlemishError(
            f"holds {len(found)} images (pages). Save each as a file of its own, or run 'blemish predict --pages'."
        )
    if page is not None and page > len(found):
        raise BlemishError(f"has no page {page}: it holds {len(found)}.")
    chosen = found[(page or 1) - 1]
    _refuse_stack(chosen, len(found))
    layout = _layout(chosen, max_pixels)
    with strict_decoding():
        stored = _assembled(data, layout)
        pixels = _shown(stored, layout)
    is_alpha = layout.samples > (3 if layout.photometric in (RGB, YCBCR) else 1)
    return Decoded(pixels, stored[:, :, -1] if is_alpha else None).upright(chosen.get(Tag.ORIENTATION, 1))


def _refuse_stack(page: Page, num_pages: int) -> None:
    """Raises BlemishError where one directory describes several images, as in large stacks by ImageJ."""
    images = re.search(rb"^images=(\d{1,9})", page.bytes(Tag.DESCRIPTION), re.MULTILINE)
    is_stack = page.bytes(Tag.DESCRIPTION).startswith(b"ImageJ") and images and int(images[1]) > num_pages
    if is_stack or page.get(Tag.DEPTH, 1) > 1:
        raise several_images("several")


def _layout(page: Page, max_pixels: int) -> _Layout:
    """How the pixels of a page are stored; raises BlemishError where that is unsupported, before allocating memory."""
    width, height = page.get(Tag.WIDTH, 0), page.get(Tag.HEIGHT, 0)
    check_size(width, height, max_pixels)
    samples, photometric = page.get(Tag.SAMPLES, 1), page.get(Tag.PHOTOMETRIC, GREY)
    bits, formats = set(page.all(Tag.BITS) or (1,)), set(page.all(Tag.SAMPLE_FORMAT) or (1,))
    if len(bits) > 1 or len(formats) > 1:
        raise BlemishError("samples of several types. Save it with one depth for all bands.")
    tiled = page.get(Tag.TILE_WIDTH, 0), page.get(Tag.TILE_HEIGHT, 0)
    striped = width, min(height, page.get(Tag.ROWS_PER_STRIP, height))
    block = tiled if Tag.TILE_OFFSETS in page.tags else striped
    if min(block) < 1 or _filled(width, block[0]) * _filled(height, block[1]) > max(4 * width * height, 1 << 24):
        raise damaged(f"its blocks are {block[0]}x{block[1]}")
    compression = page.get(Tag.COMPRESSION, 1)
    predictor = page.get(Tag.PREDICTOR, 1) if compression != JPEG else 1
    is_planar = page.get(Tag.PLANAR, 1) == 2 and samples > 1
    depth, kind = bits.pop(), formats.pop()
    layout = _Layout(page, width, height, samples, depth, kind, photometric, compression, predictor, is_planar, *block)
    _refuse_bands(layout)
    _refuse_kinds(layout)
    return layout


def _filled(side: int, block: int) -> int:
    """The length of all blocks along a side."""
    return -(-side // block) * block


def _refuse_bands(layout: _Layout) -> None:
    if layout.photometric in OTHERS:
        bands = f"four bands ({OTHERS[5]})" if layout.photometric == 5 else OTHERS[layout.photometric]
        raise BlemishError(f"{bands}, where grey and RGB are read. Convert it to RGB.")
    if layout.photometric not in (WHITE_IS_ZERO, GREY, RGB, PALETTE, YCBCR):
        raise damaged(f"its photometric interpretation is {layout.photometric}")
    colours = 3 if layout.photometric in (RGB, YCBCR) else 1
    extra = layout.page.all(Tag.EXTRA_SAMPLES)
    is_alpha = layout.samples == colours + 1 and (extra[:1] in ((1,), (2,)) or (not extra and colours == 3))
    if layout.samples != colours and not is_alpha:
        number = {2: "two", 3: "three", 4: "four"}.get(layout.samples, str(layout.samples))
        raise BlemishError(
            f"{number} bands, which are neither grey nor RGB, with alpha or without. Save those that count as RGB."
        )


def _refuse_kinds(layout: _Layout) -> None:
    key = layout.bits, layout.sample_format
    is_packed = layout.bits in (1, 2, 4) and layout.sample_format == 1 and layout.samples == 1
    if key not in TYPES and not is_packed:
        name = f"{FORMATS.get(layout.sample_format, 'unknown')}{layout.bits}"
        raise BlemishError(
            f"pixels of type {name}; allowed are 8-bit, 16-bit and float in [0, 1]. "
            "Convert the file, for example to 16-bit PNG."
        )
    if layout.photometric == PALETTE and (layout.bits > 8 or layout.sample_format != 1):
        raise BlemishError(f"a palette of {layout.bits} bits; allowed are 8. Convert it to RGB.")
    is_known = layout.compression in DECODERS or layout.compression == JPEG
    if not is_known or (layout.compression == JPEG and (layout.bits != 8 or layout.samples not in (1, 3))):
        name = REFUSED.get(layout.compression, "JPEG" if layout.compression == JPEG else f"codec {layout.compression}")
        raise BlemishError(
            f"compressed by {name}, which is not read in this TIFF. Save it with LZW, deflate or no compression."
        )
    if layout.photometric == YCBCR and layout.compression != JPEG:
        raise BlemishError("YCbCr, where grey and RGB are read. Convert it to RGB.")
    horizontal = layout.predictor == 2 and layout.bits in (8, 16, 32)
    if not horizontal and layout.predictor != 1 and not (layout.predictor == 3 and layout.sample_format == 3):
        raise damaged(f"its predictor is {layout.predictor}")


def _assembled(data: bytes, layout: _Layout) -> NDArray[Any]:
    """(H, W, samples) in native byte order: the pixels of all strips or tiles."""
    blocks = _unpredicted(_decoded(data, layout), layout)
    bands, down, across = layout.grid
    shape = bands, down, across, layout.block_height, layout.block_width, layout.block_samples
    placed = blocks.reshape(shape).transpose(1, 3, 2, 4, 0, 5)
    whole = placed.reshape(down * shape[3], across * shape[4], layout.samples)
    return whole[: layout.height, : layout.width]


def _decoded(data: bytes, layout: _Layout) -> NDArray[np.uint8]:
    """The decompressed bytes (blocks, bytes per block) of all strips or tiles; a short last strip is not filled."""
    stored = list(_blocks(data, layout))
    if layout.page.get(Tag.FILL_ORDER, 1) == 2 and layout.compression != JPEG:
        stored = [bytes(imagecodecs.bitorder_decode(block)) for block in stored]
    most = layout.block_bytes(layout.block_height)
    raw = np.empty((len(stored), most), np.uint8)
    rows = np.full(len(stored), layout.block_height)
    if not layout.is_tiled:
        rows[layout.grid[1] - 1 :: layout.grid[1]] = (layout.height - 1) % layout.block_height + 1
    for number in sorted(set(rows.tolist())):
        (places,) = np.nonzero(rows == number)
        blocks, needed = [stored[place] for place in places], layout.block_bytes(number)
        if layout.compression == JPEG:
            found: Iterable[Bytes] = [_jpeg_block(block, number, layout) for block in blocks]
        else:
            found = _decompressed(blocks, needed, most, DECODERS[layout.compression])
        for place, block in zip(places, found, strict=True):
            if len(block) < needed:
                raise damaged(f"a strip or tile holds {len(block)} of {needed} bytes")
            raw[place, :needed] = np.frombuffer(block, np.uint8, needed)
    return raw


def _decompressed(blocks: Sequence[bytes], needed: int, most: int, decoder: Decoder) -> Iterable[Bytes]:
    """The decompressed bytes of blocks of `needed` bytes each; of `most` where a program padded the last strip."""
    try:
        return decoder(blocks, needed)
    except (BlemishError, RuntimeError):
        if needed == most:
            raise
        return decoder(blocks, most)


def _blocks(data: bytes, layout: _Layout) -> Iterator[bytes]:
    """The stored bytes of each strip or tile; raises BlemishError where one is missing."""
    kinds = (Tag.TILE_OFFSETS, Tag.TILE_LENGTHS) if layout.is_tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_LENGTHS)
    offsets, lengths = (layout.page.all(kind) for kind in kinds)
    number = math.prod(layout.grid)
    if not lengths and len(offsets) == number == 1 and layout.compression == 1:
        lengths = (layout.block_bytes(layout.height),)
    if len(offsets) != number or len(lengths) != number:
        raise damaged(f"{len(offsets)} of its {number} strips or tiles are there")
    for offset, length in zip(offsets, lengths, strict=True):
        if not 0 < length <= len(data) - offset:
            raise damaged("a strip or tile lies outside of the file")
        yield data[offset : offset + length]


def _unpredicted(raw: NDArray[np.uint8], layout: _Layout) -> NDArray[Any]:
    """The pixels (rows of all blocks, block width, block samples), with the differences of a predictor undone."""
    rows = len(raw) * layout.block_height
    if layout.bits < 8:
        bits = np.unpackbits(raw.reshape(rows, -1), axis=1)
        weights = 1 << np.arange(layout.bits, dtype=np.uint8)[::-1]
        wide = bits[:, : layout.block_width * layout.bits].reshape(rows, layout.block_width, 1, layout.bits)
        return np.asarray((wide * weights).sum(axis=-1), np.uint8)
    stored = np.dtype(TYPES[layout.bits, layout.sample_format]).newbyteorder(layout.page.order)  # type: ignore[arg-type]
    whole = raw.view(stored).reshape(rows, layout.block_width, layout.block_samples)
    if layout.predictor == 3:
        return np.asarray(imagecodecs.floatpred_decode(whole, axis=-2))
    native = whole.astype(stored.newbyteorder("="), copy=False)
    if layout.predictor == 2:
        unsigned = native.view(native.dtype.str.replace("f", "u"))
        return np.asarray(imagecodecs.delta_decode(unsigned, axis=1)).view(native.dtype)
    return native


def _jpeg_block(stored: bytes, rows: int, layout: _Layout) -> NDArray[np.uint8]:
    """The pixels of a JPEG-compressed block; its tables may be in the directory, and its colour space is."""
    tables = layout.page.bytes(Tag.JPEG_TABLES)[2:-2]
    transform = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([layout.photometric == YCBCR])
    whole = b"\xff\xd8" + (transform if layout.block_samples == 3 else b"") + tables + stored[2:]
    header = jpeg.read_header(whole)
    if header.channels != layout.block_samples or header.width != layout.block_width or header.height < rows:
        raise damaged("a strip or tile is of another size")
    jpeg.check(header, whole, 2 * layout.block_width * layout.block_height)
    return jpeg.pixels_of(whole, header)[:rows].reshape(-1)


def _shown(stored: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    """(H, W) grey, 0 being black, or (H, W, 3) RGB, of stored samples (H, W, samples)."""
    if layout.photometric == PALETTE:
        return _coloured(stored[:, :, 0], layout)
    if layout.photometric in (RGB, YCBCR):
        return np.ascontiguousarray(stored[:, :, :3])
    grey = np.ascontiguousarray(stored[:, :, 0])
    if layout.bits < 8:
        grey = grey * np.uint8(255 // (2**layout.bits - 1))
    if layout.photometric == WHITE_IS_ZERO:
        grey = np.subtract(1 if grey.dtype == np.float32 else np.iinfo(grey.dtype).max, grey, dtype=grey.dtype)
    return grey


def _coloured(indices: NDArray[Any], layout: _Layout) -> NDArray[np.uint8]:
    colours = np.array(layout.page.all(Tag.COLOUR_MAP), np.uint32).reshape(3, -1).T
    if len(colours) != 2**layout.bits:
        raise damaged(f"its palette has {len(colours)} colours")
    eight = colours >> 8 if colours.max() > 255 else colours  # some programs write 8 bits instead of 16
    return np.ascontiguousarray(eight.astype(np.uint8)[indices])


def _plain(stored: bytes, size: int) -> bytes:
    return stored[:size]


def _deflate(stored: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(stored, size)
        if not stream.eof:  # reads the checksum after the last byte
            stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise damaged(error) from None
    if not stream.eof:
        raise damaged("a strip or tile does not end where it should")
    return raw


def _lzma(stored: bytes, size: int) -> bytes:
    try:
        return lzma.LZMADecompressor(memlimit=1 << 30).decompress(stored, size)
    except (lzma.LZMAError, EOFError) as error:
        raise damaged(error) from None


def _packbits(stored: bytes, size: int) -> bytes:
    return bytes(imagecodecs.packbits_decode(stored, out=size))


def _zstd(stored: bytes, size: int) -> bytes:
    return bytes(imagecodecs.zstd_decode(stored, out=size))


def _each(decoder: Callable[[bytes, int], bytes]) -> Decoder:
    return lambda blocks, size: [decoder(block, size) for block in blocks]


DECODERS: Mapping[int, Decoder] = MappingProxyType(
    {
        1: _each(_plain),
        5: lzw.decode,
        8: _each(_deflate),
        32946: _each(_deflate),
        32773: _each(_packbits),
        34925: _each(_lzma),
        50000: _each(_zstd),
    }
)
"""Compression -> its decoder."""
