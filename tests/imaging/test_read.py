"""Reading real files of every kind, and the way to a detector's size and back."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.read import EXTENSIONS, decode_file, decode_image, is_image, read_image, read_mask

RGB = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
GREY = RGB[:, :, 1]
ALPHA = RGB[:, :, 2]
GREY_16, RGB_16 = (array.astype(np.uint16) * 255 + 7 for array in (GREY, RGB))
GREY_FLOAT, RGB_FLOAT = (array.astype(np.float32) / 255 for array in (GREY, RGB))
SOFT = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8), (0, 0), 2)


def by_pillow(kind: str, image: np.ndarray | Pillow.Image, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Pillow.Image) else Pillow.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def by_opencv(extension: str, image: np.ndarray, *options: int) -> bytes:
    """From RGB or RGBA: OpenCV wants blue first."""
    order = {2: [], 3: [2, 1, 0, 3][: image.shape[-1]]}[image.ndim]
    return cv2.imencode(extension, image[..., order] if order else image, options)[1].tobytes()


def with_alpha(image: np.ndarray) -> np.ndarray:
    return np.dstack([image, ALPHA.astype(image.dtype)])


def grey_with_alpha(depth: int) -> bytes:
    """PNG of colour type 4, which neither OpenCV nor Pillow writes at 16 bits."""
    pixels = np.dstack([GREY, ALPHA] if depth == 8 else [GREY_16, GREY_16[::-1]])
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    return png(struct.pack(">IIBBBBB", GREY.shape[1], GREY.shape[0], depth, 4, 0, 0, 0), rows)


def png(header: bytes, rows: bytes) -> bytes:
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    framed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def with_palette(**options) -> bytes:
    """Four colours; the picture's first row shows each of them."""
    image = Pillow.new("P", (4, 1))
    image.putdata([0, 1, 2, 3])
    image.putpalette(PALETTE.ravel().tolist())
    return by_pillow(image=image, **options)


PALETTE = np.array([[250, 10, 20], [0, 200, 30], [40, 50, 220], [255, 255, 255]], np.uint8)

# name -> content, the pixels that must be read, whether an alpha channel is dropped
FILES: dict[str, tuple[bytes, np.ndarray, bool]] = {
    "png grey": (by_pillow("PNG", GREY), GREY, False),
    "png colour": (by_pillow("PNG", RGB), RGB, False),
    "png grey 16": (by_opencv(".png", GREY_16), GREY_16, False),
    "png colour 16": (by_opencv(".png", RGB_16), RGB_16, False),
    "png alpha": (by_pillow("PNG", with_alpha(RGB)), RGB, True),
    "png alpha 16": (by_opencv(".png", with_alpha(RGB_16)), RGB_16, True),
    "png grey and alpha": (grey_with_alpha(8), GREY, True),
    "png grey and alpha 16": (grey_with_alpha(16), GREY_16, True),
    "png palette": (with_palette(kind="PNG"), PALETTE[None], False),
    "png palette with a transparent colour": (with_palette(kind="PNG", transparency=1), PALETTE[None], True),
    "png colour with a transparent colour": (by_pillow("PNG", RGB, transparency=(1, 2, 3)), RGB, True),
    "png 1 bit": (by_pillow("PNG", Pillow.fromarray(GREY > 99)), np.where(GREY > 99, 255, 0), False),
    "bmp grey": (by_pillow("BMP", GREY), GREY, False),
    "bmp colour": (by_pillow("BMP", RGB), RGB, False),
    "bmp palette": (with_palette(kind="BMP"), PALETTE[None], False),
    "webp": (by_pillow("WEBP", RGB, lossless=True), RGB, False),
    "webp alpha": (by_pillow("WEBP", with_alpha(RGB), lossless=True, exact=True), RGB, True),
    "jpeg of one colour": (by_pillow("JPEG", np.full((9, 14, 3), 90, np.uint8)), np.full((9, 14, 3), 90), False),
    "jpeg grey": (by_pillow("JPEG", np.full((9, 14), 90, np.uint8)), np.full((9, 14), 90), False),
    "tiff grey": (by_pillow("TIFF", GREY), GREY, False),
    "tiff colour": (by_pillow("TIFF", RGB, compression="tiff_lzw"), RGB, False),
    "tiff grey 16": (by_opencv(".tiff", GREY_16), GREY_16, False),
    "tiff colour 16": (by_opencv(".tiff", RGB_16), RGB_16, False),
    "tiff float": (by_pillow("TIFF", GREY_FLOAT), GREY_FLOAT, False),
    "tiff colour float": (by_opencv(".tiff", RGB_FLOAT), RGB_FLOAT, False),
    "tiff opaque alpha": (by_pillow("TIFF", np.dstack([RGB, np.full_like(ALPHA, 255)])), RGB, True),
    "tiff alpha 16": (by_opencv(".tiff", with_alpha(RGB_16)), RGB_16, True),
}


@pytest.mark.parametrize(("data", "pixels", "alpha"), FILES.values(), ids=FILES.keys())
def test_pixels_are_read_as_they_are(data, pixels, alpha, tmp_path: Path):
    # The name says nothing of the content: files are often given a wrong extension.
    (tmp_path / "x.png").write_bytes(data)
    image = read_image(tmp_path / "x.png")
    assert image.dtype == (pixels.dtype if pixels.dtype != int else np.uint8)
    np.testing.assert_array_equal(image, pixels)
    assert image.flags.c_contiguous
    assert decode_file(data, Path("x")).has_alpha is alpha


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(kind, orientation):
    # A red corner at the top left, blue at the top right, green at the bottom left; what each orientation makes of it.
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8], stored[:8, 24:], stored[8:, :8] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    shown = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = decode_image(by_pillow(kind, stored, exif=exif, **options), Path("x"))
    assert image.shape == shown.shape
    np.testing.assert_allclose(image.astype(int), shown, atol=3)


WHOLE = {
    "png": by_pillow("PNG", SOFT),
    "png 16": by_opencv(".png", SOFT[:, :, 0].astype(np.uint16) * 257),
    "jpeg": by_pillow("JPEG", SOFT),
    "jpeg progressive": by_pillow("JPEG", SOFT, progressive=True),
    "webp": by_pillow("WEBP", SOFT),
    "webp lossless": by_pillow("WEBP", SOFT, lossless=True),
    "tiff": by_pillow("TIFF", SOFT),
    "tiff lzw": by_opencv(".tiff", SOFT),
    "bmp": by_pillow("BMP", SOFT),
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE.keys())
def test_a_truncated_file_is_never_read_in_part(data):
    assert decode_image(data, Path("whole")).shape[:2] == (40, 50)
    cuts = {1, 2, 8, 20, 40, len(data) // 4, len(data) // 2, *(len(data) - rest for rest in (200, 40, 12, 4, 2, 1))}
    for length in sorted(cuts):
        with pytest.raises(BlemishError, match=r"^parts/cut\.xyz: "):
            decode_image(data[:length], Path("parts/cut.xyz"))


@pytest.mark.parametrize("position", [0.3, 0.6, 0.9])
def test_a_damaged_png_is_refused(position):
    data = bytearray(WHOLE["png"])
    data[int(position * len(data))] ^= 0x55
    with pytest.raises(BlemishError, match="truncated or damaged"):
        decode_image(bytes(data), Path("x"))


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated, or not an image in one of .bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp"),
    "text": (b"no image at all\n" * 9, "truncated, or not an image"),
    "float above 1": (by_pillow("TIFF", GREY_FLOAT * 255), r"float pixels must lie in \[0, 1\]"),
    "float below 0": (by_pillow("TIFF", GREY_FLOAT - 0.5), r"float pixels must lie in \[0, 1\]"),
    "not a number": (by_opencv(".tiff", np.full((4, 4), np.nan, np.float32)), r"float pixels must lie in \[0, 1\]"),
    "infinite": (by_opencv(".tiff", np.full((4, 4), np.inf, np.float32)), r"float pixels must lie in \[0, 1\]"),
    "double": (by_opencv(".tiff", np.zeros((4, 4))), "pixels of type float64; allowed are 8-bit, 16-bit and float"),
    "signed": (by_opencv(".tiff", np.zeros((4, 4), np.int16)), "pixels of type int16; allowed are"),
    "enormous": (png(struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0), b"\0"), "at most 200 million are read"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_used_is_refused_with_its_path(data, message, tmp_path: Path):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(BlemishError, match=message) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path):
    (tmp_path / "x.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone")
    with pytest.raises(BlemishError, match=r"x\.png: Is a directory, where a file is expected"):
        read_image(tmp_path / "x.png")
    with pytest.raises(BlemishError, match=r"dangling\.png: No such file"):
        read_image(tmp_path / "dangling.png")


def test_opencv_says_nothing_of_a_broken_file(capfd):
    for data in (WHOLE["jpeg"][:-9], WHOLE["tiff"][:-9], WHOLE["png"][:-9], b"text"):
        with pytest.raises(BlemishError):
            decode_image(data, Path("x"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_extensions_count_in_any_case(extension):
    assert all(is_image(Path("a b" + name)) for name in (extension, extension.upper(), extension.title()))
    assert not is_image(Path("._x" + extension))
    assert not is_image(Path(extension))


@pytest.mark.parametrize("name", ["x.txt", "x", "x.png.bak", "Thumbs.db", ".DS_Store", "x.gif", "png"])
def test_other_names_are_no_images(name):
    assert not is_image(Path(name))


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_is_whatever_is_not_black(value, tmp_path: Path):
    expected = GREY > 128
    colour = np.zeros((*GREY.shape, 3), np.uint8)
    colour[expected, 2] = value  # one channel is enough
    variants = (expected * np.uint8(value), colour, expected * np.uint16(value), np.dstack([colour, GREY * 0 + 255]))
    for image in variants:
        (tmp_path / "mask.png").write_bytes(by_opencv(".png", image))
        mask = read_mask(tmp_path / "mask.png")
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected)


SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300)) | st.sampled_from([(1, 5000), (5000, 1), (7, 3000)])
INPUTS = st.sampled_from([(32, 32), (64, 48), (33, 71), (128, 128)])
ASPECTS = st.sampled_from(["squash", "pad"])
FAST = settings(max_examples=60, deadline=None, derandomize=True)


@FAST
@given(size=SIZES, target=INPUTS, aspect=ASPECTS, dtype=st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_apply_gives_the_size_the_type_and_the_level_of_the_image(size, target, aspect, dtype):
    level = {np.uint8: 201, np.uint16: 51_234, np.float32: 0.7}[dtype]
    for shape, channels in ((size, 1), ((*size, 3), 3)):
        pixels = Preprocess(target, aspect).apply(np.full(shape, level, dtype))
        assert pixels.shape == (*target, channels)
        assert pixels.dtype == dtype
        np.testing.assert_allclose(pixels, level, rtol=1e-6)


@FAST
@given(size=SIZES, target=INPUTS, aspect=ASPECTS, shrunk=st.sampled_from([1, 2, 4, 16]))
def test_restore_gives_the_size_of_the_file_and_keeps_a_constant(size, target, aspect, shrunk):
    # Many detectors give a map smaller than what they see.
    raw = np.full((max(1, target[0] // shrunk), max(1, target[1] // shrunk)), -37.25, np.float32)
    restored = Preprocess(target, aspect).restore(raw, size)
    assert restored.shape == size
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, -37.25, rtol=1e-6)


def test_a_map_of_the_file_s_own_size_is_not_changed():
    raw = np.random.default_rng(2).normal(scale=1e4, size=(48, 48)).astype(np.float32)
    for aspect in ("squash", "pad"):
        np.testing.assert_array_equal(Preprocess((48, 48), aspect).restore(raw, (48, 48)), raw)


@FAST
@given(
    height=st.integers(40, 400),
    width=st.integers(40, 400),
    row=st.floats(0.2, 0.8),
    column=st.floats(0.2, 0.8),
    aspect=ASPECTS,
)
def test_a_blob_comes_back_to_its_place(height, width, row, column, aspect):
    rows, columns = np.mgrid[:height, :width]
    sigma = max(height, width) / 12
    centre = row * height, column * width
    blob = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * sigma**2)).astype(np.float32)
    preprocess = Preprocess((64, 64), aspect)
    restored = preprocess.restore(preprocess.apply(blob)[:, :, 0], (height, width))
    for axis in (rows, columns):
        place, expected = ((axis * image).sum() / image.sum() for image in (restored, blob))
        assert abs(place - expected) < 0.01 * max(height, width) + 0.5


@pytest.mark.parametrize(("size", "side"), [((60, 210), 1), ((210, 60), 0)])
@pytest.mark.parametrize("shrunk", [1, 4, 8])
def test_a_small_map_of_a_padded_image_lies_where_it_belongs(size, side, shrunk):
    # A map that rises along the short side of the image: its middle belongs to the middle of the file.
    preprocess, cells = Preprocess((64, 64), "pad"), 64 // shrunk
    ramp = (np.arange(cells, dtype=np.float32) + 0.5) * shrunk - 32
    raw = np.tile(ramp[:, None] if side else ramp[None], (1, cells) if side else (cells, 1))
    profile = preprocess.restore(raw, size).mean(axis=side)
    np.testing.assert_allclose(profile, -profile[::-1], atol=1e-4)
    np.testing.assert_allclose(profile[20:40], (np.arange(60) - 29.5)[20:40] * 18 / 60, atol=0.01)


def test_padding_keeps_the_aspect_ratio_and_repeats_the_border():
    image = np.zeros((20, 80), np.uint8)
    image[0], image[-1] = 50, 250
    pixels = Preprocess((80, 80), "pad").apply(image)[:, :, 0]
    np.testing.assert_array_equal(pixels[30:50], image)
    assert (pixels[:30] == 50).all()
    assert (pixels[50:] == 250).all()


@pytest.mark.parametrize("size", [(32, 4096), (4096, 32), (1, 5000), (4096, 4096)])
def test_shrinking_averages_even_where_the_other_side_grows(size):
    # Pixels that alternate between 0 and 200 along the long side: anything but about 100 is aliasing.
    image = np.zeros(size, np.uint8)
    image[(slice(None), slice(None, None, 2)) if size[1] > size[0] else slice(None, None, 2)] = 200
    pixels = Preprocess((128, 128)).apply(image).astype(int)
    assert abs(pixels - 100).max() <= 4


def test_one_pixel_is_an_image(tmp_path: Path):
    assert cv2.imwrite(str(tmp_path / "x.png"), np.full((1, 1), 77, np.uint8))
    image = read_image(tmp_path / "x.png")
    assert image.tolist() == [[77]]
    for aspect in ("squash", "pad"):
        assert (Preprocess((32, 48), aspect).apply(image) == 77).all()
        assert Preprocess((32, 48), aspect).restore(np.eye(32, 48, dtype=np.float32), (1, 1)).shape == (1, 1)


def test_the_ringing_around_a_shape_in_a_jpeg_is_not_part_of_the_mask(tmp_path: Path):
    mask = np.zeros((64, 64), np.uint8)
    cv2.circle(mask, (30, 33), 11, 255, -1)
    cv2.imwrite(str(tmp_path / "mask.jpg"), mask, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert (cv2.imread(str(tmp_path / "mask.jpg"), cv2.IMREAD_GRAYSCALE) > 0).sum() > 1.5 * (mask > 0).sum()
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.jpg"), mask > 0)
