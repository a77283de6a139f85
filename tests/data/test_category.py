"""Which files are which samples, in each layout; categories; and how the validation images are drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data import Category, find_categories, hold_out
from blemish.data.category import data_hash
from blemish.data.reading import file_digests
from blemish.errors import BlemishError
from blemish.types import Sample


def touch(root: Path, *names: str) -> Path:
    """Files without content: a layout is known by its names alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(category: Category) -> list[tuple]:
    """(image, label, mask, defect, split) of each sample, with paths as they stand under the root."""

    def under(path: Path | None) -> str | None:
        return path and str(path.relative_to(category.root))

    return [(under(s.image), s.label, under(s.mask), s.defect, s.split) for s in category.samples]


def masks(category: Category) -> dict[str, str | None]:
    return {sample.image.name: sample.mask and sample.mask.name for sample in category.samples if sample.label}


def test_mvtec(tmp_path: Path):
    touch(
        tmp_path,
        "nut/train/good/1.png",
        "bolt/train/good/10.png",
        "bolt/train/good/09.JPG",
        "bolt/test/good/000.png",
        "bolt/test/scratch/000.png",
        "bolt/test/bent/000.png",
        "bolt/ground_truth/scratch/000_mask.png",
        "bolt/ground_truth/good/000_mask.png",  # some sets have them, all black
        "readme.txt",
        "extra/notes.png",
    )
    bolt, nut = find_categories(tmp_path)
    assert (bolt.name, nut.name, bolt.layout) == ("bolt", "nut", "mvtec")
    assert rows(bolt) == [
        ("train/good/09.JPG", False, None, "good", "train"),
        ("train/good/10.png", False, None, "good", "train"),
        ("test/bent/000.png", True, None, "bent", "test"),
        ("test/good/000.png", False, None, "good", "test"),
        ("test/scratch/000.png", True, "ground_truth/scratch/000_mask.png", "scratch", "test"),
    ]
    assert [len(bolt.of(split)) for split in ("train", "val", "test")] == [2, 0, 3]


def test_one_category_s_folder_and_the_root_hold_the_same_samples(tmp_path: Path, monkeypatch):
    touch(tmp_path, "bolt/train/good/1.png", "bolt/test/bad/1.png", "bolt/ground_truth/bad/1_mask.png")
    monkeypatch.chdir(tmp_path)
    from_root, from_folder = find_categories(Path()), find_categories(Path("bolt"))
    assert from_root[0].samples == from_folder[0].samples
    monkeypatch.chdir(tmp_path / "bolt")
    assert [category.name for category in (*from_root, *from_folder, *find_categories(Path()))] == ["bolt"] * 3


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["1.png"], "1.png"),
        (["1_mask.png"], "1_mask.png"),
        (["1.png", "1_mask.png"], "1_mask.png"),
        (["1_mask.PNG"], "1_mask.PNG"),
        (["1_mask.Tiff"], "1_mask.Tiff"),
        (["1_mask.jpg", "1_mask.bmp"], "1_mask.bmp"),  # a JPEG does not keep a mask as it is
        (["1_mask.jpeg"], "1_mask.jpeg"),
        (["._1_mask.png"], None),
        (["1_mask.txt"], None),
        (["01_mask.png", "1_masks.png", "11.png"], None),
    ],
)
@pytest.mark.parametrize("layout", ["mvtec", "folder"])
def test_the_mask_of_an_image(names, expected, layout, tmp_path: Path):
    good, bad, folder = {
        "mvtec": ("p/train/good/0.png", "p/test/bad/1.webp", "p/ground_truth/bad"),
        "folder": ("p/good/0.png", "p/bad/1.webp", "p/masks/bad"),
    }[layout]
    touch(tmp_path, good, bad, *(f"{folder}/{name}" for name in names))
    (category,) = find_categories(tmp_path / "p")
    assert category.layout == layout
    assert masks(category) == {"1.webp": expected}


def test_a_folder_named_like_a_mask_is_none(tmp_path: Path):
    touch(tmp_path, "p/train/good/0.png", "p/test/bad/1.png", "p/ground_truth/bad/1_mask.png/x.txt")
    assert masks(find_categories(tmp_path)[0]) == {"1.png": None}


def test_a_folder_of_good_images_alone(tmp_path: Path):
    touch(tmp_path, "parts/b.png", "parts/a.TIF", "parts/notes.txt", "parts/old/c.png", "parts/.hidden.png")
    (category,) = find_categories(tmp_path / "parts")
    assert (category.name, category.layout) == ("parts", "folder")
    assert [row[0] for row in rows(category)] == ["a.TIF", "b.png", "old/c.png"]
    assert {row[1:] for row in rows(category)} == {(False, None, "good", "train")}


def test_a_folder_with_good_and_anomalous_images(tmp_path: Path):
    touch(
        tmp_path,
        *(f"good/{index:02}.png" for index in range(12)),
        "hole/1.png",
        "dent/1.png",
        "dent/2.png",
        "masks/hole/1.png",
        "ground_truth/dent/2_mask.png",
        "ground_truth/1_mask.png",
        "masks/1.png",
        "empty/notes.txt",
    )
    (category,) = find_categories(tmp_path)
    # Every fifth good image is kept for the test: without one no false alarm can be counted.
    assert [sample.image.stem for sample in category.of("test") if not sample.label] == ["04", "09"]
    assert len(category.of("train")) == 10
    assert [row for row in rows(category) if row[1]] == [
        ("dent/1.png", True, None, "dent", "test"),
        ("dent/2.png", True, "ground_truth/dent/2_mask.png", "dent", "test"),
        ("hole/1.png", True, "masks/hole/1.png", "hole", "test"),
    ]


def test_no_good_image_is_kept_for_a_test_of_nothing(tmp_path: Path):
    touch(tmp_path, *(f"good/{index}.png" for index in range(7)))
    assert {row[4] for row in rows(find_categories(tmp_path)[0])} == {"train"}


def test_links_spaces_and_other_scripts(tmp_path: Path):
    touch(
        tmp_path,
        "store/x 1/train/good/Größe 1.png",
        "store/x 1/test/伤 痕/ü.v2.png",
        "store/x 1/ground_truth/伤 痕/ü.v2_mask.png",
    )
    (tmp_path / "Müller & Söhne").mkdir()
    (tmp_path / "Müller & Söhne/bolt").symlink_to(tmp_path / "store/x 1", target_is_directory=True)
    (category,) = find_categories(tmp_path / "Müller & Söhne")
    assert category.name == "bolt"
    assert rows(category) == [
        ("train/good/Größe 1.png", False, None, "good", "train"),
        ("test/伤 痕/ü.v2.png", True, "ground_truth/伤 痕/ü.v2_mask.png", "伤 痕", "test"),
    ]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path):
    touch(
        tmp_path,
        "bolt/train/good/1.png",
        "bolt/train/good/._1.png",
        "bolt/train/good/.DS_Store",
        "bolt/test/.cache/1.png",
        ".trash/train/good/1.png",
    )
    categories = find_categories(tmp_path)
    assert [category.name for category in categories] == ["bolt"]
    assert [sample.image.name for sample in categories[0].samples] == ["1.png"]


def test_categories_are_chosen_by_name(tmp_path: Path):
    touch(tmp_path, *(f"{name}/train/good/1.png" for name in ("c", "a", "b")))
    assert [category.name for category in find_categories(tmp_path)] == ["a", "b", "c"]
    assert [category.name for category in find_categories(tmp_path, ["c", "a", "c"])] == ["a", "c"]
    with pytest.raises(BlemishError, match=r"category d: not under .*\. It has: a, b, c\."):
        find_categories(tmp_path, ["a", "d"])


@pytest.mark.parametrize("names", [[], ["notes.txt"], [".hidden.png"], [".deep/er/1.png"], ["good/notes.txt"]])
def test_a_folder_without_images_is_refused(names, tmp_path: Path):
    touch(tmp_path, *names)
    with pytest.raises(BlemishError, match=r"no images found\. Expected <category>/train/good"):
        find_categories(tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path):
    touch(tmp_path, "x.png")
    for path in (tmp_path / "gone", tmp_path / "x.png"):
        with pytest.raises(
            BlemishError, match=re.escape(f"data_path {path}: {'not a' if path.exists() else 'no such'} folder")
        ):
            find_categories(path)


def category_of(num_train: int, num_test: int = 3) -> Category:
    train = [Sample(Path(f"train/{index}.png"), False, split="train") for index in range(num_train)]
    test = [Sample(Path(f"test/{index}.png"), True, defect="bad") for index in range(num_test)]
    return Category("part", Path(), "mvtec", tuple(train + test))


@pytest.mark.parametrize(
    ("num_train", "fraction", "expected"),
    [(1, 0.1, 0), (2, 0.1, 1), (2, 0.5, 1), (4, 0.1, 1), (14, 0.1, 1), (16, 0.1, 2), (100, 0.1, 10), (100, 0.0, 0)],
)
def test_how_many_images_are_held_out(num_train, fraction, expected):
    category = hold_out(category_of(num_train), fraction, seed=0)
    assert (len(category.of("val")), len(category.of("train"))) == (expected, num_train - expected)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(num_train=st.integers(1, 60), fraction=st.floats(0, 0.5), seed=st.integers(0, 2**32 - 1))
def test_holding_out_changes_nothing_but_the_split_of_good_training_images(num_train, fraction, seed):
    before = category_of(num_train)
    after = hold_out(before, fraction, seed)
    assert [sample.image for sample in after.samples] == [sample.image for sample in before.samples]
    assert after.of("test") == before.of("test")
    assert 1 <= len(after.of("train")) == num_train - len(after.of("val"))
    assert after == hold_out(before, fraction, seed)


def test_the_draw_depends_on_the_seed_and_is_not_the_first_images():
    drawn = {tuple(s.image.name for s in hold_out(category_of(50), 0.1, seed).of("val")) for seed in range(10)}
    assert len(drawn) == 10
    assert len({name for names in drawn for name in names}) > 20


def test_copies_of_a_picture_are_held_out_together():
    category = category_of(20)
    digests = {sample.image: str(int(sample.image.stem) // 2) for sample in category.samples}
    for seed in range(5):
        after = hold_out(category, 0.2, seed, digests)
        held_out = sorted(int(sample.image.stem) for sample in after.of("val"))
        assert len(held_out) == 4  # two of ten pictures
        assert held_out[::2] == [number - 1 for number in held_out[1::2]]
    assert hold_out(category, 0.2, 0, dict.fromkeys(digests, "same")) == category
    assert hold_out(category, 0.2, 0, {path: str(path) for path in digests}) == hold_out(category, 0.2, 0)


def test_the_hash_of_the_data_is_that_of_contents_and_labels_wherever_they_lie(make_category, tmp_path: Path):
    def found(root: Path) -> str:
        (category,) = find_categories(root)
        return data_hash(category, file_digests(category.samples))

    folder = make_category(tmp_path / "data", "bolt", num_train=3)
    first = found(tmp_path / "data")
    assert found(folder) == first
    folder = folder.rename(tmp_path / "elsewhere")
    assert found(folder) == first
    (folder / "test/bad").rename(folder / "test/worse")
    (folder / "ground_truth/bad").rename(folder / "ground_truth/worse")
    second = found(folder)
    next((folder / "ground_truth/worse").iterdir()).unlink()
    assert len({first, second, found(folder)}) == 3


def test_without_a_good_training_image_nothing_can_be_learned(tmp_path: Path):
    touch(tmp_path, "bolt/train/bad/1.png", "bolt/test/bad/1.png")
    with pytest.raises(BlemishError, match="category bolt has no good training images"):
        hold_out(find_categories(tmp_path)[0], 0.1, seed=0)
