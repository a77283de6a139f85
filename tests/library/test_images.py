"""What the library takes for an image, and what it refuses."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.data.source import read_file
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.read import read_image
from blemish.library.images import to_category, to_sample, to_samples

SMALL = {"backbone": "gabor", "size": 32, "align": "off"}


@pytest.fixture(scope="module")
def good(tmp_path_factory, make_category) -> Path:
    return make_category(tmp_path_factory.mktemp("data"), num_train=9, num_bad=1) / "train/good"


@pytest.fixture(scope="module")
def model(good) -> blemish.Model:
    return blemish.fit(good, method="padim", **SMALL)


def variants(path: Path) -> dict[str, object]:
    """One image as everything that is taken for it."""
    pixels = read_image(path)
    return {
        "string": str(path),
        "path": path,
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "array": pixels,
        "not contiguous": np.ascontiguousarray(pixels[:, ::-1])[:, ::-1],
        "PIL": Image.open(BytesIO(path.read_bytes())),
        "PIL with alpha": Image.open(path).convert("RGBA"),
    }


def test_one_image_has_one_score_whatever_it_is_given_as(model, good):
    path = good.parents[1] / "test/bad/000.png"
    expected = model.predict(path)
    for kind, image in variants(path).items():
        found = model.predict(image)
        assert found.score == expected.score, kind
        assert np.array_equal(found.map, expected.map), kind
    deep = read_image(path).astype(np.uint16) * 257  # of which sizes are changed without rounding to 8 bits
    for image in (deep, deep.astype(">u2"), deep / 65535, (deep / 65535).astype(np.float16)):
        assert model.predict(image).score == pytest.approx(expected.score, rel=1e-2)


def test_a_pil_image_stands_upright_as_its_file_does(tmp_path):
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        found = to_sample(image).content
    assert np.array_equal(found, np.rot90(pixels, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_of_pil_is_an_image(mode):
    image = Image.new("RGB", (5, 4), (200, 200, 200)).convert(mode if mode != "I;16" else "L")
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 5), 200 * 257, np.uint16))
    sample = to_sample(image)
    (piece,), info = read_file(sample, Preprocess((4, 5)))
    assert info.size == (4, 5)
    assert piece.shape[:2] == (4, 5)


def test_fitting_to_the_same_images_gives_the_same_model_whatever_they_are_given_as(good, model):
    paths = sorted(good.glob("*.png"))
    by_paths = blemish.fit([str(path) for path in paths], method="padim", **SMALL)
    in_memory = blemish.fit([read_image(path) for path in paths], method="padim", **SMALL)
    stacked = blemish.fit(np.stack([read_image(path) for path in paths]), method="padim", **SMALL)
    mixed = blemish.fit([paths[0].read_bytes(), *map(read_image, paths[1:3]), *paths[3:]], method="padim", **SMALL)
    learned = set(model.provenance["learned_from"]) | set(model.provenance["held_out"])
    for other in (by_paths, in_memory, stacked, mixed):
        assert set(other.provenance["learned_from"]) | set(other.provenance["held_out"]) == learned
        assert other.predict(paths[0]).score == model.predict(paths[0]).score
        assert other.threshold == model.threshold
    assert model.provenance["data_path"] == str(good)
    assert in_memory.provenance["data_path"] is None
    assert by_paths.category == "good"
    assert in_memory.calibration.images == (in_memory.calibration.images[0],)
    assert in_memory.calibration.images[0].startswith("memory/images[")


def test_images_of_a_generator_are_taken_a_few_at_a_time(model, good):
    path, made = next(good.glob("*.png")), []

    def camera():
        while True:
            made.append(len(made))
            yield read_image(path)

    results = model.predict_many(camera(), batch_size=2)
    assert [next(results).score for _ in range(5)] == [model.predict(path).score] * 5
    results.close()
    assert len(made) < 200


def test_a_folder_is_all_images_in_it_and_below(model, good):
    assert len(list(model.predict_many(good.parents[1]))) == 9 + 2 + 1 + 1 - 1  # without the mask


PIXELS = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"image: an array of the shape \(4, 4, 4\) is not an image"),
        (np.zeros((3, 4, 4), np.uint8), r"image: an array of the shape \(3, 4, 4\)"),
        (np.zeros(4, np.uint8), r"image: an array of the shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"image: an array of the shape \(0, 4\)"),
        (np.zeros((4, 4), np.int64), "image: its dtype is int64; allowed are uint8, uint16"),
        (np.zeros((4, 4), bool), "image: its dtype is bool"),
        (np.zeros((4, 4), complex), "image: its dtype is complex128"),
        (np.full((4, 4), 1.5), r"image: float pixels must lie in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"image: float pixels must lie in \[0, 1\]"),
        (np.array([["a"]]), "image: its dtype is <U1"),
        (None, "image: None was given. Give a path, bytes"),
        (3, "image: 3 was given"),
        ([1, 2], r"image: \[1, 2\] was given"),
        (b"", "memory/image: truncated, or not an image"),
        (b"not an image", "memory/image: truncated, or not an image"),
        ("nowhere.png", "nowhere.png: No such file"),
        ("", "Is a directory, where a file is expected"),
        ("a\0b.png", "null"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(model, image, message):
    with pytest.raises(blemish.BlemishError, match=message) as raised:
        model.predict(image)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS, r"images: an array of the shape \(4, 4, 3\) is one image. Give a list"),
        (b"\x89PNG", "images: b'.x89PNG' was given. Give a folder or a list"),
        (5, "images: 5 was given"),
        (Image.new("L", (3, 3)), "images: <PIL.* was given"),
        ([], "images: empty"),
        ("nowhere", "images nowhere: no such folder"),
        ([PIXELS, 3], r"images\[1\]: 3 was given"),
        ([PIXELS, np.zeros(3)], r"images\[1\]: an array of the shape"),
        ([PIXELS, "nowhere.png"], "nowhere.png: No such file"),
        ([PIXELS, b"damaged"], r"images\[1\]: truncated, or not an image"),
    ],
)
def test_what_are_no_images_to_learn_from_is_refused_in_one_line(images, message):
    with pytest.raises(blemish.BlemishError, match=message):
        blemish.fit(images, method="padim", **SMALL)


def test_a_file_or_several_categories_are_no_folder_of_good_images(good, tmp_path, make_category):
    file = next(good.glob("*.png"))
    with pytest.raises(blemish.BlemishError, match=r"images .*png: a file\. Give a folder"):
        blemish.fit(file)
    make_category(tmp_path, "bolt")
    make_category(tmp_path, "nut")
    with pytest.raises(blemish.BlemishError, match=r"holds several categories \(bolt, nut\)"):
        blemish.fit(tmp_path)


def test_a_list_is_taken_as_it_is(good, tmp_path):
    """Nothing is said of what lies beside the files, and a file that is named twice counts once."""
    paths = sorted(good.glob("*.png"))
    category = to_category([paths[0], paths[0], str(paths[1])], "images")
    assert [sample.image for sample in category.samples] == paths[:2]
    assert category.root == good
    assert [sample.split for sample in category.samples] == ["train"] * 2
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    assert [sample.image for sample in to_samples([tmp_path / "a.png"], "images")] == [tmp_path / "a.png"]


def test_an_array_that_is_changed_afterwards_changes_nothing(model, good):
    image = read_image(next(good.glob("*.png"))).copy()
    result = model.predict(image)
    before = result.overlay()
    image[:] = 0
    assert np.array_equal(result.overlay(), before)
