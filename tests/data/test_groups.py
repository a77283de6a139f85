"""Masks beside their images, in folders among them and in folders of their own; sub-folders in every layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.data import find_categories


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def masks(path: Path) -> dict[str, str | None]:
    """Image -> its mask, under the category's folder."""
    (category,) = find_categories(path)
    return {
        sample.image.relative_to(path).as_posix(): sample.mask and sample.mask.relative_to(path).as_posix()
        for sample in category.samples
    }


@pytest.mark.parametrize("suffix", ["_label.png", "_mask.bmp", "_GT.png", "-mask.jpg", ".gt.tif", "_ground_truth.PNG"])
@pytest.mark.parametrize("folder", ["train/good", "test/good", "test/cut"])
def test_a_mask_beside_its_image_is_no_second_image(suffix, folder, tmp_path: Path):
    touch(tmp_path, "train/good/9.png", f"{folder}/000.jpg", f"{folder}/000{suffix}")
    assert masks(tmp_path) == {"train/good/9.png": None, f"{folder}/000.jpg": f"{folder}/000{suffix}"}


def test_masks_beside_images_in_any_folder(tmp_path: Path):
    touch(
        tmp_path, "Part0.jpg", "Part0_label.bmp", "a/Part0.jpg", "a/Part0_label.bmp", "a/Part1.jpg", "bottle_label.png"
    )
    assert masks(tmp_path) == {
        "Part0.jpg": "Part0_label.bmp",
        "a/Part0.jpg": "a/Part0_label.bmp",
        "a/Part1.jpg": None,
        "bottle_label.png": None,  # there is no image named bottle: a picture of a label
    }


@pytest.mark.parametrize("folder", ["masks", "Ground_Truth", "gt", "annotations"])
def test_a_folder_of_masks_among_the_images(folder, tmp_path: Path):
    touch(tmp_path, "train/good/9.png", "test/cut/0.png", "test/cut/a/1.v2.png")
    touch(tmp_path / "test/cut" / folder, "0.png", "a/1.v2_mask.png", "7.png")
    assert masks(tmp_path) == {
        "train/good/9.png": None,
        "test/cut/0.png": f"test/cut/{folder}/0.png",
        "test/cut/a/1.v2.png": f"test/cut/{folder}/a/1.v2_mask.png",
    }


def test_sub_folders_keep_their_masks_apart(tmp_path: Path):
    touch(
        tmp_path,
        "train/good/a/0.png",
        "train/good/b/0.png",
        "test/cut/a/0.png",
        "test/cut/b/0.png",
        "ground_truth/cut/a/0_mask.png",
        "ground_truth/cut/b/0.png",
    )
    assert masks(tmp_path) == {
        "train/good/a/0.png": None,
        "train/good/b/0.png": None,
        "test/cut/a/0.png": "ground_truth/cut/a/0_mask.png",
        "test/cut/b/0.png": "ground_truth/cut/b/0.png",
    }


def test_the_folder_for_masks_has_the_word_over_a_mask_beside(tmp_path: Path):
    touch(tmp_path, "good/1.png", "cut/0.png", "cut/0_label.png", "masks/cut/0.png")
    assert masks(tmp_path) == {"good/1.png": None, "cut/0.png": "masks/cut/0.png"}
