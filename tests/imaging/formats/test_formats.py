"""PNG, JPEG, WebP and BMP: damage, lies, several images in a file, and the kinds that are not read."""

from __future__ import annotations

import io
import logging
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from blemish.errors import BlemishError
from blemish.imaging.formats import UNREAD
from blemish.imaging.read import decode_file, decode_image

NOISE = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
SOFT = cv2.GaussianBlur(NOISE, (0, 0), 2)
GREY = np.ascontiguousarray(SOFT[:, :, 0])
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def by_pillow(kind: str, image: np.ndarray | Pillow.Image, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Pillow.Image) else Pillow.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return struct.pack(">I", size) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"".join([SIGNATURE, header, *chunks, chunk(b"IEND", b"")])


def pixels(rows: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(rows))


def bmp(width: int, height: int, compression: int, body: bytes, bits: int = 8) -> bytes:
    palette = bytes(channel for level in range(256) for channel in (level, level, level, 0))[: 4 << min(bits, 8)]
    start = 54 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, 0, 0)
    return head + information + palette + body


def read(data: bytes) -> np.ndarray:
    return decode_image(data, Path("x"))


def raw_row(row: np.ndarray) -> bytes:
    return b"\0" + row.tobytes()


ROWS = b"".join(raw_row(row) for row in GREY)
JPEG = by_pillow("JPEG", SOFT, quality=95)
REFUSED = {
    "png whose chunk is longer than the file": (
        png(8, 8, chunk(b"IDAT", b"", 0xFFFFFFF0))[:69],
        r"its chunk 'IDAT' is longer than the file",
    ),
    "png of a gigapixel": (
        png(40_000, 30_000, pixels(bytes(1 << 20))),
        "40000x30000 pixels are 1,200 million; at most 200 million are read",
    ),
    "png that cannot hold its pixels": (png(14_000, 14_000, pixels(bytes(9999))), "cannot hold 14000x14000 pixels"),
    "png of no width": (png(0, 8, pixels(bytes(8))), "its header says 0x8 pixels"),
    "png of an unknown colour type": (png(4, 4, pixels(bytes(20)), colour=5), "its header says colour type 5"),
    "png without a header": (SIGNATURE + chunk(b"IEND", b""), "it has no header"),
    "png without its end": (png(120, 96, pixels(ROWS))[:-12], "it ends before its last chunk"),
    "png with too few rows": (png(120, 96, pixels(ROWS[:-300])), "truncated or damaged"),
    "png with too many rows": (png(120, 96, pixels(ROWS + ROWS)), "truncated or damaged"),
    "png with an unknown filter": (png(120, 96, pixels(b"\x09" + ROWS[1:])), "truncated or damaged"),
    "png that is no deflate": (png(120, 96, chunk(b"IDAT", bytes(range(256)))), "truncated or damaged"),
    "png without its palette": (png(120, 96, pixels(ROWS), colour=3), "truncated or damaged"),
    "png with a wrong checksum": (png(120, 96, pixels(ROWS)).replace(b"IEND", b"JEND"), "it ends before|longer than"),
    "animated png": (
        by_pillow("PNG", SOFT, save_all=True, append_images=[Pillow.fromarray(NOISE)]),
        r"holds 2 images \(it is animated\)",
    ),
    "two png": (2 * png(120, 96, pixels(ROWS)), "holds several images"),
    "two jpeg": (2 * JPEG, "holds several images"),
    "a pair of a stereo camera": (
        by_pillow("MPO", Pillow.fromarray(SOFT), save_all=True, append_images=[Pillow.fromarray(NOISE)]),
        "holds several images",
    ),
    "jpeg in CMYK": (by_pillow("JPEG", Pillow.fromarray(SOFT).convert("CMYK")), r"four bands \(CMYK\)"),
    "jpeg of a gigapixel": (
        JPEG.replace(struct.pack(">HH", 96, 120), struct.pack(">HH", 40_000, 30_000), 1),
        "1,200 million; at most",
    ),
    "jpeg that cannot hold its pixels": (
        JPEG.replace(struct.pack(">HH", 96, 120), struct.pack(">HH", 14_000, 14_000), 1),
        "cannot hold 14000x14000 pixels",
    ),
    "jpeg of 12 bits": (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c", 1), "a JPEG of 12 bits"),
    "lossless jpeg": (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc3\0\x11\x08", 1), "a lossless or arithmetic JPEG"),
    "progressive jpeg of 120 million": (
        by_pillow("JPEG", SOFT, progressive=True).replace(
            struct.pack(">HH", 96, 120), struct.pack(">HH", 10_000, 12_000), 1
        ),
        "10000 pixels are 120 million; at most 100 million are read",
    ),
    "jpeg without a frame": (b"\xff\xd8\xff\xda\0\x08" + bytes(20), "it has no frame"),
    "jpeg of many scans": (
        by_pillow("JPEG", SOFT, progressive=True) + b"\xff\xda" * 300,
        "it has more than 200 scans",
    ),
    "animated webp": (
        by_pillow("WEBP", SOFT, save_all=True, append_images=[Pillow.fromarray(NOISE)]),
        r"holds several images \(it is animated\)",
    ),
    "webp of 16383 x 16383": (
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(9),
        "16383x16383 pixels are 268 million; at most",
    ),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "no WebP"),
    "bmp of a gigapixel": (bmp(32_767, 32_767, 1, bytes(1024)), "32767x32767 pixels are 1,074 million; at most"),
    "bmp that cannot hold its pixels": (bmp(14_000, 14_000, 0, bytes(1024)), "cannot hold 14000x14000 pixels"),
    "bmp in runs that cannot": (bmp(14_000, 14_000, 1, bytes(1024)), "cannot hold 14000x14000 pixels"),
    "bmp in runs that stop": (bmp(8, 2, 1, b"\x08\x07\0\0\x08\x05"), "its run lengths do not fill the image"),
    "bmp in runs that leave out": (bmp(8, 2, 1, b"\x08\x07\0\0\x04\x05\0\0\0\1"), "leave pixels out"),
    "bmp in runs that jump": (bmp(8, 2, 1, b"\x08\x07\0\2\0\1\x08\x05\0\1"), "leave pixels out"),
    "bmp in runs that go beyond": (bmp(8, 2, 1, b"\x09\x07\0\0\x08\x05\0\1"), "its run lengths do not fill the image"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_one_whole_image_is_refused_in_a_line_and_in_little_memory(data, message, capfd, caplog):
    tracemalloc.start()
    try:
        with pytest.raises(BlemishError, match=rf"^parts/x\.png: .*({message})") as raised:
            decode_image(data, Path("parts/x.png"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_limit_of_pixels_is_the_caller_s_to_choose():
    data = by_pillow("PNG", SOFT)
    assert decode_image(data, Path("x"), 96 * 120).shape == SOFT.shape
    for image in (data, JPEG, by_pillow("WEBP", SOFT), by_pillow("BMP", SOFT), by_pillow("TIFF", SOFT)):
        with pytest.raises(BlemishError, match=r"120x96 pixels are 11,520; at most 11,519 are read.*max_pixels"):
            decode_image(image, Path("x"), 96 * 120 - 1)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"subsampling": 0}])
@pytest.mark.parametrize("length", [400, 1500])
def test_zeros_in_the_middle_of_a_jpeg_are_noticed(options, length, capfd):
    """The decoder fills what it cannot decode, and only warns: such an image looks whole and is not."""
    data = by_pillow("JPEG", NOISE, quality=95, **options)
    for start in range(900, len(data) - length - 200, 1511):
        with pytest.raises(BlemishError, match="truncated or damaged"):
            read(data[:start] + bytes(length) + data[start + length :])
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_has_the_pixels_that_opencv_reads():
    for image in (SOFT, NOISE, GREY):
        for options in ({}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}):
            data = by_pillow("JPEG", image, **options)
            by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR)
            np.testing.assert_array_equal(read(data), by_opencv[..., ::-1] if image.ndim == 3 else by_opencv)


def test_previews_within_and_behind_a_jpeg_are_not_the_image():
    preview = by_pillow("JPEG", NOISE[::4, ::4])
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + preview
    within = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    for data in (within, JPEG + preview, JPEG + bytes(16) + preview, JPEG + b"what a camera adds"):
        np.testing.assert_array_equal(read(data), read(JPEG))


PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_an_interlaced_png_is_read(colour):
    mode = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}[colour]
    drawn = Pillow.fromarray(SOFT).convert(mode)
    expected = np.asarray(drawn.convert("RGB" if colour in (2, 3, 6) else "L"))
    np.testing.assert_array_equal(read(by_pillow("PNG", drawn)), expected)
    plain = np.asarray(drawn).reshape(*SOFT.shape[:2], -1)
    rows = b""
    for top, left, down, right in PASSES:
        rows += b"".join(raw_row(row) for row in plain[top::down, left::right])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 120, 96, 8, colour, 0, 0, 1))
    palette = [chunk(b"PLTE", bytes(drawn.getpalette()))] if colour == 3 else []
    data = b"".join([SIGNATURE, header, *palette, pixels(rows), chunk(b"IEND", b"")])
    np.testing.assert_array_equal(read(data), expected)


def test_what_a_png_says_beside_its_pixels_is_neither_told_nor_changes_them(capfd, caplog):
    beside = (
        chunk(b"iCCP", b"no profile"),
        chunk(b"iCCP", b"x\0\0" + zlib.compress(b"rubbish")),
        chunk(b"gAMA", struct.pack(">I", 1)),
        chunk(b"sRGB", b"\x09"),
        chunk(b"tEXt", b"\0\0\0"),
        chunk(b"pHYs", b"short"),
        chunk(b"zZZz", bytes(99)),
        b"\0\0\0\x04tIMEabcdwrong"[:16],
    )
    for one in beside:
        np.testing.assert_array_equal(read(png(120, 96, one, pixels(ROWS))), GREY)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_damage_is_noticed_however_logging_is_configured(monkeypatch):
    """Other libraries disable all loggers that exist, as `logging.config.fileConfig` does by default."""
    damaged = png(120, 96, pixels(ROWS + ROWS))
    for name, value in (("disabled", True), ("level", logging.CRITICAL + 1)):
        with monkeypatch.context() as patch:
            patch.setattr(logging.getLogger("imagecodecs"), name, value)
            with pytest.raises(BlemishError, match="truncated or damaged"):
                read(damaged)
    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(BlemishError, match="truncated or damaged"):
            read(damaged)
    finally:
        logging.disable(logging.NOTSET)


def test_warnings_of_the_decoder_of_others_are_left_to_them(caplog, monkeypatch):
    usual = {"disabled": False, "propagate": True, "level": logging.NOTSET}  # other libraries change them
    for name, value in usual.items():
        monkeypatch.setattr(logging.getLogger("imagecodecs"), name, value)
    with caplog.at_level("WARNING"):
        logging.getLogger("imagecodecs").warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_a_bmp_in_runs_is_read():
    rows = [[7] * 8, [1, 2, 3, 4, 5, 6, 6, 6]]
    body = b"\0\x05\1\2\3\4\5\0\x03\x06\0\0" + b"\x08\x07\0\0" + b"\0\1"  # the lowest row first
    np.testing.assert_array_equal(read(bmp(8, 2, 1, body)), rows)
    np.testing.assert_array_equal(read(bmp(8, 2, 2, b"\x08\x11\0\0\x08\x22\0\1", bits=4)), [[2] * 8, [1] * 8])


def test_the_fourth_channel_of_a_bmp_is_alpha_where_it_says_so():
    with_alpha = decode_file(by_pillow("BMP", Pillow.fromarray(SOFT).convert("RGBA")), Path("x"))
    np.testing.assert_array_equal(with_alpha.pixels, SOFT)
    body = np.dstack([SOFT[::-1, :, ::-1], GREY]).tobytes()
    without = decode_file(bmp(120, 96, 0, body, bits=32), Path("x"))
    assert not without.has_alpha
    np.testing.assert_array_equal(without.pixels, SOFT)


KINDS = {
    "GIF": by_pillow("GIF", GREY),
    "AVIF": b"\0\0\0\x1cftypavif" + bytes(40),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(40),
    "RAW of a camera": b"\0\0\0\x18ftypcrx " + bytes(40),
    "JPEG 2000": by_pillow("JPEG2000", SOFT),
    "JPEG XL": b"\xff\x0a" + bytes(40),
    "Netpbm": by_pillow("PPM", SOFT),
    "PDF": b"%PDF-1.4\n",
    "OpenEXR": b"v/1\x01" + bytes(40),
    "DICOM": bytes(128) + b"DICM" + bytes(40),
    "a numpy array": b"\x93NUMPY\x01\0" + bytes(100),
}


@pytest.mark.parametrize(("kind", "data"), KINDS.items(), ids=KINDS.keys())
def test_a_kind_that_is_not_read_is_named_with_what_to_convert_to(kind, data):
    with pytest.raises(BlemishError) as raised:
        read(data)
    assert str(raised.value) == f"x: {kind}, which is not read. {UNREAD[kind]}"
