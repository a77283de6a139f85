"""What kind of images was learned from, and which others are unlike it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data.learned import differences, learned_images
from blemish.data.source import FileInfo, read_file
from blemish.imaging.preprocess import Preprocess
from blemish.inference.inspector import Inspector
from blemish.types import Sample

COLOUR = FileInfo("a", (100, 200), 3, "uint8", is_colour=True)
GREY = FileInfo("b", (110, 180), 1, "uint8")
GREY_16 = FileInfo("c", (100, 200), 1, "uint16")
BAD = FileInfo("d", error="cannot be read")


def test_what_was_learned_is_plain_and_grows_with_an_update():
    found = learned_images([COLOUR, GREY, BAD])
    assert found == {"colours": ["colour", "grey"], "depths": ["uint8"], "sizes": [[100, 180], [110, 200]]}
    assert json.loads(json.dumps(found)) == found
    assert learned_images([GREY_16], learned_images([COLOUR])) == {
        "colours": ["colour", "grey"],
        "depths": ["uint16", "uint8"],
        "sizes": [[100, 200], [100, 200]],
    }
    assert learned_images([]) == {"colours": [], "depths": [], "sizes": []}


@pytest.mark.parametrize(
    ("learned", "given", "expected"),
    [
        ([COLOUR], COLOUR, {}),
        ([COLOUR], GREY, {"colour": "grey, but the training images are colour"}),
        ([GREY], COLOUR, {"colour": "colour, but the training images are grey"}),
        ([COLOUR, GREY], GREY, {}),
        ([GREY], GREY_16, {"depth": "16-bit, but the training images are 8-bit"}),
        ([GREY_16], GREY, {"depth": "8-bit, but the training images are 16-bit"}),
        ([GREY, GREY_16], GREY_16, {}),
        (
            [GREY],
            FileInfo("x", (138, 180), 1, "uint8"),
            {"size": "138x180 (height x width), but the training images are 110x180"},
        ),
        ([GREY], FileInfo("x", (137, 144), 1, "uint8"), {}),
        (
            [GREY, GREY_16],
            FileInfo("x", (79, 180), 1, "uint8"),
            {"size": "79x180 (height x width), but the training images are 100x180 to 110x200"},
        ),
        ([], GREY, {}),
    ],
)
def test_an_image_is_unlike_where_all_that_were_learned_differ_from_it(learned, given, expected):
    assert differences(given, learned_images(learned)) == expected


def test_nothing_is_known_of_an_earlier_model():
    assert differences(COLOUR, {}) == {}


def test_grey_in_three_equal_channels_is_grey(tmp_path: Path):
    grey = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    equal = np.dstack([grey, grey, grey])
    one_pixel = equal.copy()
    one_pixel[3, 4] = 1, 2, 3
    for image, channels, is_colour in ((grey, 1, False), (equal, 3, False), (one_pixel, 3, True)):
        cv2.imwrite(str(tmp_path / "x.png"), image)
        info = read_file(Sample(tmp_path / "x.png"), Preprocess((40, 40)))[1]
        assert (info.channels, info.is_colour) == (channels, is_colour)


def test_the_inspector_says_once_in_what_images_are_unlike(tmp_path: Path, caplog):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for name, given in (("a", image), ("b", image[:, :, 0]), ("c", image[:, :, 1]), ("d", image.astype(np.uint16))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), given)

    def backend(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return images.max(axis=(1, 2, 3)), images.mean(axis=1)

    paths = sorted(tmp_path.iterdir())
    inspector = Inspector(backend, Preprocess((32, 32)), batch_size=2, learned=learned_images([COLOUR]) | {"sizes": []})
    list(inspector.inspect(paths))
    assert [record.getMessage() for record in caplog.records] == [
        f"{paths[1]}: grey, but the training images are colour. Scores of such images mean little.",
        f"{paths[3]}: 16-bit, but the training images are 8-bit. Scores of such images mean little.",
    ]
