"""Masks of every making mark what was drawn; what cannot be told is refused, never guessed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from blemish.errors import BlemishError
from blemish.imaging.masks import ABOVE, ALPHA, NOT_BLACK, Mask, read_mask, understand_mask

SIZE = (84, 70)
DRAWN = np.zeros(SIZE, np.uint8)
cv2.circle(DRAWN, (30, 40), 18, 1, -1)
DRAWN[60:75, 50:65] = 1
TRUTH = DRAWN > 0


def understood(path: Path, image: np.ndarray, *options: int) -> Mask:
    assert cv2.imwrite(str(path), image, options)
    return understand_mask(path)


def overlap(marks: np.ndarray, truth: np.ndarray = TRUTH) -> float:
    return float((marks & truth).sum() / (marks | truth).sum())


def in_colour(red: int, green: int, blue: int) -> np.ndarray:
    return DRAWN[:, :, None] * np.array([blue, green, red], np.uint8)


def with_alpha(colour: np.ndarray | int, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.broadcast_to(np.uint8(colour), (*SIZE, 3)), alpha])


EXACT: dict[str, tuple[np.ndarray, str, int]] = {
    "white": (DRAWN * 255, NOT_BLACK, 2),
    "one": (DRAWN, NOT_BLACK, 2),
    "class colour": (in_colour(128, 0, 0), NOT_BLACK, 2),
    "16-bit, one": (DRAWN.astype(np.uint16), NOT_BLACK, 2),
    "16-bit, white": (DRAWN.astype(np.uint16) * 65535, NOT_BLACK, 2),
    "numbers of shapes": (DRAWN * (1 + (np.arange(70) > 48).astype(np.uint8)), NOT_BLACK, 3),
    "opaque alpha": (with_alpha(in_colour(255, 255, 255), DRAWN * 0 + 255), NOT_BLACK, 2),
    "shape in alpha, white": (with_alpha(255, DRAWN * 255), ALPHA, 2),
    "shape in alpha, black": (with_alpha(0, DRAWN * 255), ALPHA, 2),
    "shape in alpha and colour": (with_alpha(in_colour(255, 0, 0), DRAWN * 255), ALPHA, 2),
    "black and white on a transparent rest": (
        with_alpha(in_colour(255, 255, 255), np.repeat(np.uint8([0, 255]), [10, 74])[:, None].repeat(70, 1)),
        NOT_BLACK,
        2,
    ),
}


@pytest.mark.parametrize(("image", "rule", "num_values"), EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_mask_without_loss_is_what_was_drawn(image, rule, num_values, suffix, tmp_path: Path):
    found = understood(tmp_path / f"mask{suffix}", image)
    assert found.marks.dtype == bool
    np.testing.assert_array_equal(found.marks, TRUTH)
    assert (found.rule, found.num_values) == (rule, num_values)


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
@pytest.mark.parametrize("colour", [(255, 255, 255), (128, 0, 0), (0, 128, 0), (64, 0, 128), (128, 128, 128)])
def test_a_lossy_mask_in_any_colour(colour, quality, tmp_path: Path):
    jpeg = understood(tmp_path / "mask.jpg", in_colour(*colour), cv2.IMWRITE_JPEG_QUALITY, quality)
    assert overlap(jpeg.marks) > (0.975 if quality < 90 else 0.99)
    assert abs(jpeg.marks.mean() / TRUTH.mean() - 1) < 0.01
    # Saved as PNG afterwards it is the same mask: its values are judged, not its kind.
    decoded = cv2.imread(str(tmp_path / "mask.jpg"))
    saved = understood(tmp_path / "mask.png", decoded)
    np.testing.assert_array_equal(saved.marks, jpeg.marks)
    assert saved.rule == jpeg.rule


@pytest.mark.parametrize(
    ("suffix", "option"), [(".jpg", cv2.IMWRITE_JPEG_QUALITY), (".webp", cv2.IMWRITE_WEBP_QUALITY)]
)
def test_the_fainter_of_two_classes_is_not_lost(suffix, option, tmp_path: Path):
    image = in_colour(128, 0, 0)
    image[60:75, 50:65] = 255
    found = understood(tmp_path / f"mask{suffix}", image, option, 85)
    assert overlap(found.marks) > 0.98
    assert found.rule == ABOVE


def test_ringing_is_not_marked(tmp_path: Path):
    found = understood(tmp_path / "mask.jpg", DRAWN * 255, cv2.IMWRITE_JPEG_QUALITY, 80)
    assert (cv2.imread(str(tmp_path / "mask.jpg"), cv2.IMREAD_GRAYSCALE) > 0).sum() > 1.3 * TRUTH.sum()
    np.testing.assert_array_equal(found.marks, TRUTH)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_thin_lines_with_smooth_edges(suffix, tmp_path: Path):
    line = np.zeros(SIZE, np.uint8)
    cv2.polylines(line, [np.array([[3, 3], [40, 30], [60, 80]])], False, 255, 1, cv2.LINE_AA)
    assert overlap(understood(tmp_path / f"line{suffix}", line).marks, line > 127) > 0.98


def test_a_hundred_numbered_shapes_are_all_marked(tmp_path: Path):
    image = np.zeros((200, 200), np.uint8)
    for number in range(100):
        row, column = divmod(number, 10)
        image[row * 20 + 4 : row * 20 + 12, column * 20 + 5 : column * 20 + 13] = number + 1
    np.testing.assert_array_equal(understood(tmp_path / "mask.png", image).marks, image > 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize(("value", "share"), [(0, 0), (255, 1)])
def test_nothing_and_everything(value, share, suffix, tmp_path: Path):
    assert understood(tmp_path / f"mask{suffix}", np.full(SIZE, value, np.uint8)).marks.mean() == share


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_a_shape_in_alpha_is_found_in_every_kind_of_file_that_has_it(kind, options, tmp_path: Path):
    Pillow.fromarray(with_alpha(255, DRAWN * 255)).save(tmp_path / "mask", kind, **options)
    for found in understand_mask(tmp_path / "mask"), understood(tmp_path / "mask.bmp", with_alpha(255, DRAWN * 255)):
        np.testing.assert_array_equal(found.marks, TRUTH)
        assert found.rule == ALPHA


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_shape_in_what_is_transparent_of_a_png_is_found(mode, tmp_path: Path):
    image = Pillow.fromarray(DRAWN * 1).convert("P") if mode == "P" else Pillow.fromarray(DRAWN * 255).convert(mode)
    if mode == "P":
        image.putpalette([255] * 6)
    image.save(tmp_path / "mask.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), TRUTH)


def test_alpha_is_turned_as_its_image_is(tmp_path: Path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(np.rot90(with_alpha(255, DRAWN * 255))).save(tmp_path / "mask.png", exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), TRUTH)


PHOTOGRAPH = np.clip(np.random.default_rng(0).normal(np.linspace(0, 200, 70), 12, SIZE), 0, 255).astype(np.uint8)
UNCLEAR = {
    "nothing is black": (DRAWN * 100 + 100, "nothing in it is black"),
    "black on white without black": (255 - DRAWN * 100, "nothing in it is black"),
    "a photograph": (PHOTOGRAPH, "shades all over"),
    "a heat map": (cv2.GaussianBlur(DRAWN * 255, (41, 41), 0), "shades all over"),
    "the shape is cut out of alpha": (with_alpha(255, 255 - DRAWN * 255), "opaque part of its alpha channel"),
    "a photograph of a cut-out part": (
        np.dstack([PHOTOGRAPH, PHOTOGRAPH[::-1], PHOTOGRAPH, DRAWN * 255]),
        "not a mask by its values",
    ),
}


@pytest.mark.parametrize(("image", "said"), UNCLEAR.values(), ids=UNCLEAR)
def test_what_cannot_be_told_is_refused(image, said, tmp_path: Path):
    with pytest.raises(BlemishError) as raised:
        understood(tmp_path / "mask.png", image)
    assert str(raised.value).startswith(f"{tmp_path / 'mask.png'}: ")
    assert said in str(raised.value)
    assert str(raised.value).endswith("Save it in black (good) and white (defect), as PNG.")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(6, 40), st.integers(6, 40)), max_size=4
    ),
    values=st.lists(st.integers(1, 255), min_size=4, max_size=4),
)
def test_any_values_without_loss_mark_what_is_not_black(boxes, values, tmp_path_factory):
    image = np.zeros((100, 110), np.uint8)
    for (top, left, height, width), value in zip(boxes, values, strict=False):
        image[top : top + height, left : left + width] = value
    levels = np.diff(np.unique(image[image >= 48]))
    if (levels > 3).all():  # values as near to each other as those of one shape in a lossy file are
        found = understood(tmp_path_factory.mktemp("mask") / "mask.png", image)
        np.testing.assert_array_equal(found.marks, image > 0)
