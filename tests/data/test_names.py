"""What the names of folders say of what is in them, in any case and with the signs that people put into names."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.data import find_categories
from blemish.data.names import image_stem, is_bad, is_good, is_good_type
from blemish.errors import BlemishError

GOOD = [
    "good",
    "Good",
    "GOOD",
    "ok",
    "OK",
    "Ok",
    "OK_2",
    "normal",
    "Normal",
    "i.O.",
    "defect-free",
    "no_defects",
    "良品",
]
BAD = ["NG", "bad", "NOK", "not ok", "not_good", "abnormal", "Defective", "n.i.O.", "不良"]
TYPES = ["scratch", "broken_large", "1", "2024-05-01", "cut_outer_rim", "abnormality", "goodyear", "token"]
UNCLEAR = ["good_light", "ok?scratch", "0", "00", "normal-map", "negative", "Unlabelled", "test", "really good"]


@pytest.mark.parametrize("name", GOOD)
def test_names_of_good(name):
    assert is_good(name)
    assert is_good_type(Path("test") / name)
    assert not is_bad(name)


@pytest.mark.parametrize("name", BAD)
def test_names_of_defects(name):
    assert is_bad(name)
    assert not is_good_type(Path("test") / name)


@pytest.mark.parametrize("name", TYPES)
def test_types_of_defects(name):
    assert not is_good_type(Path("test") / name)


@pytest.mark.parametrize("name", UNCLEAR)
def test_names_that_do_not_tell_are_refused(name):
    with pytest.raises(BlemishError, match="the name does not say whether these images are good"):
        is_good_type(Path("test") / name)


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        *((f"000{suffix}", "000") for suffix in ("_mask", "_label", "_GT", "-gt", ".mask", "_ground_truth", " Seg")),
        ("000", "000"),
        ("mask", "mask"),
        ("000_masks", "000_masks"),
        ("unmask", "unmask"),
        ("label_000", "label_000"),
    ],
)
def test_the_image_that_a_mask_is_of(stem, expected):
    assert image_stem(stem) == expected


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def labels(path: Path) -> dict[str, tuple[bool | None, str, str]]:
    (category,) = find_categories(path)
    return {
        sample.image.relative_to(category.root).as_posix(): (sample.label, sample.defect, sample.split)
        for sample in category.samples
    }


@pytest.mark.parametrize("name", GOOD)
def test_good_is_never_labelled_anomalous(name, tmp_path: Path):
    touch(
        tmp_path, f"m/train/{name}/1.png", f"m/test/{name}/2.png", "m/test/cut/3.png", f"f/{name}/1.png", "f/NG/2.png"
    )
    assert labels(tmp_path / "m") == {
        f"train/{name}/1.png": (False, "good", "train"),
        f"test/{name}/2.png": (False, "good", "test"),
        "test/cut/3.png": (True, "cut", "test"),
    }
    assert labels(tmp_path / "f") == {f"{name}/1.png": (False, "good", "train"), "NG/2.png": (True, "NG", "test")}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/good/1.png", "test/good_light/1.png"], "good_light: the name does not say"),
        (["good/1.png", "0/1.png"], "0: the name does not say"),
        (["1.png", "NG/2.png"], "all images in it would be used as good, but it holds a folder NG"),
        (["1.png", "day 1/Defective/2.png"], "it holds a folder Defective"),
        (["a/bolt/train/good/1.png", "a/bolt/test/cut/1.png"], "it holds a folder test"),
        (["train/good/NG/1.png"], "it holds a folder NG"),
        (["train/good/1.png", "test/cut/OK/1.png"], "good images by its name, within "),
        (["good/1.png", "cut/day 1/good/1.png"], "good images by its name, within "),
    ],
)
def test_what_cannot_be_told_is_refused(names, said, tmp_path: Path):
    touch(tmp_path, *names)
    with pytest.raises(BlemishError) as raised:
        find_categories(tmp_path)
    assert said in str(raised.value)
