"""Which image files the arguments of a command mean."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data.listing import describe
from blemish.data.selection import find_images
from blemish.errors import BlemishError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_patterns_pass_by_the_folders_that_are_not_walked(tmp_path: Path, monkeypatch):
    touch(tmp_path, "a/1.png", "a/.cache/2.png", "a/@eaDir/3.png", "a/notes.txt", ".x/4.png")
    monkeypatch.chdir(tmp_path)
    assert find_images(["**/*"]).images == (Path("a/1.png"),)
    assert find_images(["a/.cache/*"]).images == (Path("a/.cache/2.png"),)
    assert find_images([f"{tmp_path}/.x/*"]).images == (tmp_path / ".x/4.png",)
    for wrong in ("a/**b", "a/*.gif", "*\0"):
        with pytest.raises(BlemishError):
            find_images([wrong])


def test_masks_in_a_folder_are_no_images_to_inspect_but_what_looks_like_no_mask_is(tmp_path: Path):
    picture = np.random.default_rng(0).integers(60, 200, (40, 50), np.uint8)
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 10:30] = 255
    for name, image in {
        "a/0.png": picture,
        "a/0_label.png": mask,
        "a/1.png": picture,
        "a/1_label.png": picture,  # another view of the part, by its content
        "ground_truth/a/0.png": mask,
        "b_mask.png": mask,  # nothing is named b: it is inspected
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), image)
    found = find_images([str(tmp_path)])
    assert [path.relative_to(tmp_path).as_posix() for path in found.images] == [
        "a/0.png",
        "a/1.png",
        "a/1_label.png",
        "b_mask.png",
    ]
    assert describe(found.left_out) == "left out: 2 masks"
    named = str(tmp_path / "a/0_label.png")
    assert find_images([named]).images == (Path(named),)
    assert find_images([str(tmp_path / "ground_truth")]).images == (tmp_path / "ground_truth/a/0.png",)
