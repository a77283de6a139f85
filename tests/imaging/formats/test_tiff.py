"""TIFF: every way of storing pixels that is read gives the same pixels, and every other is refused by name."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from blemish.errors import BlemishError
from blemish.imaging.formats import num_pages
from blemish.imaging.read import decode_file, decode_image, page_paths, read_image

RGB = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8), (0, 0), 1.5)
GREY = np.ascontiguousarray(RGB[:, :, 1])
RGB_16, GREY_16 = (image.astype(np.uint16) * 257 for image in (RGB, GREY))
CODECS = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32946: zlib.compress,
    32773: imagecodecs.packbits_encode,
    34925: lzma.compress,
    50000: imagecodecs.zstd_encode,
}
KINDS = {1: "B", 2: "s", 3: "H", 4: "I", 7: "s", 16: "Q"}


def directory(tags: dict[int, tuple[int, object]], start: int, order: str, following: int = 0) -> bytes:
    """A directory at `start`, what does not fit in it behind it. Tag -> (type, value or values)."""
    entries, beyond = b"", b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        values = (value,) if isinstance(value, int | bytes) else tuple(value)
        count = len(value) if isinstance(value, bytes) else len(values)
        content = struct.pack(f"{order}{count}{KINDS[kind]}", *values)
        if len(content) > 4:
            place, beyond = struct.pack(order + "I", behind + len(beyond)), beyond + content
        else:
            place = content.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, count) + place
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following) + beyond


def tiff(image: np.ndarray, *, order="<", codec=1, predictor=1, rows=7, tile=None, planar=False, tags=None) -> bytes:
    """A TIFF of (H, W) or (H, W, C), stored in the given way; `tags` are put over those of the image."""
    height, width, samples = (*image.shape, 1)[:3]
    stored = image.reshape(height, width, samples)
    blocks, body = [], b""
    for band in np.split(stored, samples, axis=2) if planar else [stored]:
        tops = range(0, height, tile or rows)
        for block in [cut(band, top, left, tile, rows) for top in tops for left in range(0, width, tile or width)]:
            if predictor == 2:
                block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
            elif predictor == 3:
                block = imagecodecs.floatpred_encode(np.ascontiguousarray(block), axis=-2)
            raw = block.astype(block.dtype.newbyteorder(order)).tobytes() if predictor < 3 else block.tobytes()
            content = CODECS[codec](raw)
            blocks.append((8 + len(body), len(content)))
            body += content + b"\0" * (len(content) % 2)
    offsets, lengths = zip(*blocks, strict=True)
    kind = {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    known = {
        256: (4, width),
        257: (4, height),
        258: (3, (8 * image.itemsize,) * samples),
        259: (3, codec),
        262: (3, 2 if samples >= 3 else 1),
        277: (3, samples),
        284: (3, 2 if planar else 1),
        317: (3, predictor),
        339: (3, (kind,) * samples),
    }
    if tile:
        known |= {322: (4, tile), 323: (4, tile), 324: (4, offsets), 325: (4, lengths)}
    else:
        known |= {273: (4, offsets), 278: (4, rows), 279: (4, lengths)}
    known |= tags or {}
    known = {tag: value for tag, value in known.items() if value is not None}
    start = 8 + len(body)
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    return head + body + directory(known, start, order)


def cut(band: np.ndarray, top: int, left: int, tile: int | None, rows: int) -> np.ndarray:
    if tile is None:
        return band[top : top + rows]
    block = band[top : top + tile, left : left + tile]
    missing = [(0, tile - side) for side in block.shape[:2]]
    return np.pad(block, [*missing, (0, 0)])


def read(data: bytes) -> np.ndarray:
    return decode_image(data, Path("x.tiff"))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("way", ["strips", "one strip", "tiles", "planes", "planes of tiles", "differences"])
def test_pixels_are_the_same_in_whatever_way_they_are_stored(codec, order, way):
    options = {
        "strips": {},
        "one strip": {"rows": 21},
        "tiles": {"tile": 16},
        "planes": {"planar": True},
        "planes of tiles": {"planar": True, "tile": 16},
        "differences": {"predictor": 2},
    }[way]
    for image in (RGB, GREY, RGB_16, GREY_16):
        found = read(tiff(image, order=order, codec=codec, **options))
        assert found.dtype == image.dtype
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("predictor", [1, 3])
@pytest.mark.parametrize("codec", [1, 5, 8])
def test_float_pixels_are_read_as_they_are(predictor, codec):
    for image in (GREY.astype(np.float32) / 255, RGB.astype(np.float32) / 255):
        np.testing.assert_array_equal(read(tiff(image, codec=codec, predictor=predictor)), image)


def test_what_opencv_and_pillow_write_is_read_as_they_read_it():
    for image in (RGB, GREY, RGB_16, GREY_16, RGB.astype(np.float32) / 255):
        data = cv2.imencode(".tiff", image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()
        np.testing.assert_array_equal(read(data), image)
    for codec in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"):
        for image in (RGB, GREY):
            data = by_pillow(image, compression=codec)
            np.testing.assert_array_equal(read(data), np.asarray(Pillow.open(io.BytesIO(data))))


def by_pillow(image: np.ndarray | Pillow.Image, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Pillow.Image) else Pillow.fromarray(image)).save(file, "TIFF", **options)
    return file.getvalue()


def test_grey_from_light_to_dark_is_turned_at_every_depth():
    for image, white in ((GREY, 255), (GREY_16, 65535), (GREY.astype(np.float32) / 255, 1)):
        np.testing.assert_array_equal(read(tiff(image, tags={262: (3, 0)})), (white - image).astype(image.dtype))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_spread_from_black_to_white(bits):
    levels = np.arange(2**bits, dtype=np.uint8)
    image = np.resize(levels, (5, 11))
    rows = b"".join(np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes() for row in image)
    tags = {256: (4, 11), 257: (4, 5), 258: (3, bits), 262: (3, 1), 273: (4, 8), 279: (4, len(rows))}
    data = struct.pack("<2sHI", b"II", 42, 8 + len(rows)) + rows + directory(tags, 8 + len(rows), "<")
    np.testing.assert_array_equal(read(data), image * (255 // (2**bits - 1)))


@pytest.mark.parametrize("factor", [257, 1])
def test_a_palette_is_expanded_though_some_write_it_in_8_bits(factor):
    colours = np.random.default_rng(1).integers(0, 256, (256, 3))
    colours[0] = 255
    tags = {262: (3, 3), 320: (3, (colours.T.ravel() * factor).tolist())}
    np.testing.assert_array_equal(read(tiff(GREY, tags=tags)), colours[GREY])


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_alpha_is_dropped_and_colours_stay_at_every_depth(kind, depth):
    """Neither is multiplied by it, and grey stays grey of its depth."""
    wide = RGB.astype(depth) * (1 if depth == np.uint8 else 257)
    alpha = wide[::-1, :, :1]
    for image in (wide, wide[:, :, :1]):
        found = decode_file(tiff(np.dstack([image, alpha]), tags={338: (3, kind)}), Path("x"))
        assert found.has_alpha
        assert found.pixels.dtype == depth
        np.testing.assert_array_equal(found.pixels, image.squeeze())


FOUR = np.dstack([RGB, GREY])
REFUSED = {
    "four bands": (tiff(FOUR, tags={262: (3, 1)}), "four bands"),
    "infrared beside RGB": (tiff(FOUR, tags={338: (3, 0)}), "four bands"),
    "CMYK": (tiff(FOUR, tags={262: (3, 5)}), r"four bands \(CMYK\)"),
    "two bands": (tiff(RGB_16[:, :, :2]), "two bands"),
    "two bands and no name": (tiff(RGB_16[:, :, :2], tags={338: (3, 0)}), "two bands"),
    "six bands": (tiff(np.dstack([RGB, RGB])), "6 bands"),
    "L*a*b*": (tiff(RGB, tags={262: (3, 8)}), r"CIE L\*a\*b\*, where grey and RGB are read"),
    "YCbCr": (tiff(RGB, tags={262: (3, 6)}), "YCbCr, where grey"),
    "a sensor": (tiff(GREY_16, tags={262: (3, 32803)}), "RAW of a camera, which is not read"),
    "DNG": (tiff(RGB_16, tags={50706: (1, (1, 4, 0, 0))}), "RAW of a camera, which is not read"),
    "JPEG 2000": (tiff(RGB, tags={259: (3, 34712)}), r"compressed by JPEG 2000 \(34712\), which is not read"),
    "fax": (tiff(GREY, tags={259: (3, 4)}), "compressed by CCITT fax 4, which is not read"),
    "an unknown codec": (tiff(RGB, tags={259: (3, 7777)}), "compressed by codec 7777, which is not read"),
    "signed": (tiff(GREY_16.astype(np.int16)), "pixels of type int16; allowed are"),
    "32 bits": (tiff(GREY.astype(np.uint32)), "pixels of type uint32; allowed are"),
    "double": (tiff(GREY.astype(np.float64)), "pixels of type float64; allowed are"),
    "half": (tiff(GREY.astype(np.float16)), "pixels of type float16; allowed are"),
    "12 bits": (tiff(GREY_16, tags={258: (3, 12)}), "pixels of type uint12; allowed are"),
    "several depths": (tiff(RGB, tags={258: (3, (8, 8, 16))}), "samples of several types"),
    "a stack in depth": (tiff(GREY, tags={32997: (4, 5)}), "holds several images"),
    "a stack of ImageJ": (
        tiff(GREY, tags={270: (2, b"ImageJ=1.53\nimages=12\n\0")}),
        "holds several images",
    ),
    "too many pixels": (tiff(GREY, tags={256: (4, 20_000), 257: (4, 10_001)}), "at most 200 million are read"),
    "no pixels": (tiff(GREY, tags={256: (4, 0)}), "its header says 0x21 pixels"),
    "enormous tiles": (tiff(GREY, tile=16, tags={322: (4, 1 << 20), 323: (4, 1 << 20)}), "its blocks are"),
    "a strip too few": (tiff(GREY, tags={273: (4, (8, 300)), 279: (4, (100, 100))}), "2 of its 3 strips or tiles"),
    "a short strip": (tiff(GREY, tags={279: (4, (238, 237, 238))}), "a strip or tile holds 237 of 238 bytes"),
    "a strip outside": (tiff(GREY, tags={273: (4, (8, 246, 1 << 30))}), "lies outside of the file"),
    "an empty strip": (tiff(GREY, tags={279: (4, (238, 0, 238))}), "lies outside of the file"),
    "no strips": (tiff(GREY, tags={273: None}), "0 of its 3 strips or tiles"),
    "no directory": (struct.pack("<2sHI", b"II", 42, 0), "it has no directory"),
    "a directory outside": (struct.pack("<2sHI", b"II", 42, 1 << 30), "a directory lies outside of the file"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_read_is_refused_by_name(data, message):
    with pytest.raises(BlemishError, match=rf"^parts/x\.tiff: .*{message}") as raised:
        decode_image(data, Path("parts/x.tiff"))
    assert len(str(raised.value)) < 300


def test_a_directory_that_follows_itself_is_refused():
    data = tiff(GREY)
    start = struct.unpack_from("<I", data, 4)[0]
    number = struct.unpack_from("<H", data, start)[0]
    following = start + 2 + 12 * number
    with pytest.raises(BlemishError, match="its directories have no end"):
        read(data[:following] + struct.pack("<I", start) + data[following + 4 :])


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("codec", [8, 34925, 50000])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(place=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_damage_inside_a_strip_is_noticed_by_its_checksum(depth, codec, place, flip):
    image = RGB if depth == 8 else RGB_16
    whole = tiff(image, codec=codec, rows=21)
    start = struct.unpack_from("<I", whole, 4)[0]
    data = bytearray(whole)
    data[8 + int(place * (start - 9))] ^= flip
    try:
        found = read(bytes(data))
    except BlemishError as error:
        assert "truncated or damaged" in str(error)  # noqa: PT017 - either of the two is right
    else:  # a bit that says nothing: of zstd's frame, which has no checksum here, or of padding
        assert codec != 8 or np.array_equal(found, image)


@pytest.mark.parametrize("depth", [8, 16])
def test_zeros_inside_an_lzw_strip_are_noticed(depth):
    whole = tiff(RGB if depth == 8 else RGB_16, codec=5, rows=21)
    for start in range(60, len(whole) // 2, 97):
        with pytest.raises(BlemishError, match="truncated or damaged"):
            read(whole[:start] + bytes(80) + whole[start + 80 :])


def codes(*values: int) -> bytes:
    """An LZW stream of so few codes that each has nine bits."""
    bits = "".join(f"{value:09b}" for value in values)
    return int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def one_strip(stored: bytes, width: int, height: int = 1, rows: int = 1) -> bytes:
    """A grey LZW TIFF of strips that are all stored as the same bytes."""
    number = -(-height // rows)
    tags = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 5), 262: (3, 1), 278: (4, rows)}
    tags |= {273: (4, (8,) * number), 279: (4, (len(stored),) * number)}
    return struct.pack("<2sHI", b"II", 42, 8 + len(stored)) + stored + directory(tags, 8 + len(stored), "<")


CLEAR, END = 256, 257


@pytest.mark.parametrize(
    "stream",
    [
        (CLEAR, 400, 300, 300, END),
        (CLEAR, 258, 258, 259, END),
        (CLEAR, 7, 258, 511, END),
        (CLEAR, 7, 8, CLEAR, 259, 258, 258, END),
        (CLEAR, CLEAR, CLEAR, 300, 300),
        (CLEAR, END),
        (CLEAR, 7, END, 8, 9, 10, 11, END),
        (400, 400, 400, 400),
    ],
)
def test_an_lzw_code_that_stands_for_nothing_yet_is_damage_and_no_crash(stream):
    for _ in range(200):  # what is read out of bounds crashes now and then
        with pytest.raises(BlemishError, match="truncated or damaged"):
            read(one_strip(codes(*stream), 9))


@pytest.mark.parametrize("size", [8, 10])
def test_an_lzw_strip_that_holds_more_or_fewer_bytes_than_its_pixels_is_damaged(size):
    stored = imagecodecs.lzw_encode(bytes(range(size)))
    with pytest.raises(BlemishError, match="truncated or damaged"):
        read(one_strip(stored, 9))
    np.testing.assert_array_equal(read(one_strip(stored, size)), [range(size)])


@pytest.mark.parametrize("stream", [(CLEAR, 7, 8, 9), (CLEAR, 7, 8, 9, END), (CLEAR, 7, CLEAR, 8, 9)])
@pytest.mark.parametrize("behind", [b"", b"\0", b"\0\xff"])
def test_lzw_that_ends_or_begins_otherwise_is_read(stream, behind):
    np.testing.assert_array_equal(read(one_strip(codes(*stream) + behind, 3)), [[7, 8, 9]])


def test_lzw_of_before_1993_whose_codes_begin_with_their_lowest_bit_is_read():
    bits = sum(value << 9 * place for place, value in enumerate((CLEAR, 7, 8, 9, END)))
    np.testing.assert_array_equal(read(one_strip(bits.to_bytes(6, "little"), 3)), [[7, 8, 9]])


@pytest.mark.parametrize("codec", [5, 8, 32773, 50000])
def test_a_last_strip_that_is_filled_up_is_read(codec):
    content = CODECS[codec](bytes(range(12)))
    data = bytearray(one_strip(content, 4, height=5, rows=3))
    entry = data.index(struct.pack("<HHI", 259, 3, 1))
    data[entry + 8 : entry + 10] = struct.pack("<H", codec)
    expected = np.vstack([np.arange(12).reshape(3, 4), np.arange(8).reshape(2, 4)])
    np.testing.assert_array_equal(read(bytes(data)), expected)


def test_tiles_of_many_times_the_image_are_refused():
    data = tiff(np.zeros((4096, 1), np.uint8), tile=16, tags={322: (4, 1 << 14), 323: (4, 1 << 10)})
    with pytest.raises(BlemishError, match="its blocks are 16384x1024"):
        read(data)


def pages(*images: np.ndarray, reduced: tuple[int, ...] = ()) -> bytes:
    """One page after another, of which some say that they are reduced."""
    file = io.BytesIO()
    drawn = [Pillow.fromarray(image) for image in images]
    drawn[0].save(file, "TIFF", save_all=True, append_images=drawn[1:])
    data = bytearray(file.getvalue())
    place, page = struct.unpack_from("<I", data, 4)[0], 0
    while place:
        number = struct.unpack_from("<H", data, place)[0]
        if page in reduced:  # what comes first says nothing of the pixels that is needed: it is given another sense
            entries = [place + 2 + 12 * entry for entry in range(number)]
            unneeded = next(e for e in entries if struct.unpack_from("<H", data, e)[0] == 284)
            data[unneeded : unneeded + 12] = struct.pack("<HHII", 254, 4, 1, 1)
        place, page = struct.unpack_from("<I", data, place + 2 + 12 * number)[0], page + 1
    return bytes(data)


def test_several_pages_are_never_silently_the_first():
    with pytest.raises(BlemishError, match=r"^x\.tiff: holds 2 images \(pages\)\. .* run 'blemish predict --pages'\.$"):
        read(pages(RGB, RGB[::-1]))


@pytest.mark.parametrize("reduced", [0, 1])
def test_a_thumbnail_is_not_the_image(reduced):
    images = [RGB, RGB[::2, ::2]][:: 1 if reduced else -1]
    np.testing.assert_array_equal(read(pages(*images, reduced=(reduced,))), RGB)


def test_each_page_has_a_path_that_is_read(tmp_path: Path):
    path = tmp_path / "stack.tiff"
    path.write_bytes(pages(RGB, RGB[::2, ::2], GREY, reduced=(1,)))
    found = page_paths(path)
    assert [page.name for page in found] == ["stack.tiff#page=1", "stack.tiff#page=2"]
    for page, expected in zip(found, (RGB, GREY), strict=True):
        np.testing.assert_array_equal(read_image(page), expected)
    with pytest.raises(BlemishError, match="has no page 3: it holds 2"):
        read_image(tmp_path / "stack.tiff#page=3")


def test_a_file_of_one_image_stands_for_itself(tmp_path: Path):
    for name, data in (
        ("x.tiff", tiff(RGB)),
        ("x.png", cv2.imencode(".png", RGB)[1].tobytes()),
        ("x.jpg", b"no image"),
    ):
        (tmp_path / name).write_bytes(data)
        assert page_paths(tmp_path / name) == [tmp_path / name]
    assert page_paths(tmp_path / "gone.tiff") == [tmp_path / "gone.tiff"]
    assert num_pages(tiff(RGB)) == 1


def test_a_big_tiff_is_read():
    data = tiff(RGB, rows=21)
    entries = {256: (4, 34), 257: (4, 21), 258: (3, 8), 262: (3, 2), 273: (16, 16), 277: (3, 3), 279: (16, RGB.nbytes)}
    start = 16 + RGB.nbytes
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start)
    body = struct.pack("<Q", len(entries)) + b"".join(
        struct.pack("<HHQ", tag, kind, 1) + struct.pack("<" + KINDS[kind], value).ljust(8, b"\0")
        for tag, (kind, value) in entries.items()
    )
    np.testing.assert_array_equal(read(head + RGB.tobytes() + body + bytes(8)), read(data))
