"""The synthetic data set: the layout, the exactness of its masks, and that a seed means the same bytes for ever."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data.synthetic import CATEGORIES, synthesize
from blemish.data.synthetic.render import exact_mask, render_image
from blemish.errors import BlemishError

SIZE = 64


def files(folder: Path) -> Mapping[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every category, two training pictures, one of each other kind."""
    out = tmp_path_factory.mktemp("synthetic")
    synthesize(out, num_train=2, num_test_good=1, num_per_defect=1, size=SIZE, workers=2)
    return out


def shape_of(category: str) -> tuple[int, int]:
    return (SIZE // 2, 4 * SIZE) if CATEGORIES[category].long else (SIZE, SIZE)


def test_the_set_has_enough_textures_objects_and_defects():
    kinds = [recipe.kind for recipe in CATEGORIES.values()]
    assert kinds.count("texture") >= 3
    assert kinds.count("object") >= 4
    assert all(len(set(recipe.defects)) >= 3 for recipe in CATEGORIES.values())
    assert {recipe.grey for recipe in CATEGORIES.values()} == {True, False}
    assert {recipe.long for recipe in CATEGORIES.values()} == {True, False}


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_a_category_has_the_layout_of_mvtec_ad(whole_set: Path, category: str):
    expected = {"train/good/000.png", "train/good/001.png", "test/good/000.png"}
    for defect in CATEGORIES[category].defects:
        expected |= {f"test/{defect}/000.png", f"ground_truth/{defect}/000_mask.png"}
    assert set(files(whole_set / category)) == expected


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_pictures_and_masks_have_the_right_shape_and_values(whole_set: Path, category: str):
    channels = 1 if CATEGORIES[category].grey else 3
    for path in (whole_set / category).rglob("*.png"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image.dtype == np.uint8
        if "ground_truth" in path.parts:
            assert image.shape == shape_of(category)
            assert set(np.unique(image)) == {0, 255}
            assert 0.0009 <= (image > 0).mean() <= 0.15
        else:
            assert image.reshape(*shape_of(category), -1).shape[2] == channels
            assert image.std() > 3
            assert (image == 255).mean() < 0.1, "blown out"


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_a_mask_covers_what_the_defect_changed(category: str, monkeypatch: pytest.MonkeyPatch):
    """Against the change itself, seen from where the mask is made."""
    seen: list[np.ndarray] = []

    def spy(change: np.ndarray) -> np.ndarray:
        seen.append(change)
        return exact_mask(change)

    monkeypatch.setattr("blemish.data.synthetic.render.exact_mask", spy)
    for defect in CATEGORIES[category].defects:
        _, mask = render_image(category, "test", defect, 1, 128, 0)
        change = seen[-1]
        assert mask is not None
        # At the picture's own threshold: all that is plain is inside, all outside is faint.
        assert change[mask > 0].mean() > 4 * change[mask == 0].mean()
        lost = (change > 0.3 * change.max()) & (mask == 0)
        assert lost.sum() <= 0.0005 * mask.size


def test_exact_mask_closes_gaps_and_drops_specks():
    change = np.zeros((128, 128), np.float32)
    change[30:60, 30:60] = 0.5
    change[45, 45] = 0.0
    change[100, 100] = 0.5
    expected = np.zeros((128, 128), np.uint8)
    expected[30:60, 30:60] = 255
    np.testing.assert_array_equal(exact_mask(change), expected)


def test_the_same_seed_gives_the_same_bytes_whatever_else_is_asked_for(whole_set: Path, tmp_path: Path):
    names = ["screw", "fabric"]
    synthesize(tmp_path, categories=names, num_train=3, num_test_good=2, num_per_defect=2, size=SIZE, workers=1)
    for name in names:
        more, fewer = files(tmp_path / name), files(whole_set / name)
        assert {path: more[path] for path in fewer} == fewer


def test_no_two_pictures_are_the_same(tmp_path: Path):
    synthesize(tmp_path, categories=["gear"], num_train=3, num_test_good=3, num_per_defect=2, size=SIZE)
    pictures = [data for path, data in files(tmp_path / "gear").items() if "mask" not in path]
    assert len(set(pictures)) == len(pictures)


def test_another_seed_gives_other_pictures():
    first, _ = render_image("capsule", "train", "good", 0, SIZE, 0)
    second, _ = render_image("capsule", "train", "good", 0, SIZE, 1)
    assert np.abs(first.astype(int) - second).mean() > 2


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_a_picture_looks_alike_at_every_size(category: str):
    """The scene is laid out in fractions of the side; only the finest grain may differ."""
    small, large = (render_image(category, "train", "good", 2, size, 0)[0].mean(axis=-1) for size in (64, 192))
    assert large.shape == (3 * small.shape[0], 3 * small.shape[1])
    shrunk = cv2.resize(large, small.shape[::-1], interpolation=cv2.INTER_AREA)
    assert abs(shrunk.mean() - small.mean()) < 8


def test_the_roller_turns_in_a_dark_noisy_scene():
    """Dark corners with more noise than other sensors have, and other sides of the part in other images."""
    images = [render_image("roller", "train", "good", index, 128, 0)[0].astype(float) for index in range(4)]
    corner, usual = images[0][:24, :24], render_image("gear", "train", "good", 0, 128, 0)[0][:24, :24]
    assert corner.mean() < 25
    assert corner.std(axis=(0, 1)).mean() > 1.4 * usual.std(axis=(0, 1)).mean()
    fine, coarse = (
        np.stack([cv2.GaussianBlur(image.mean(axis=-1), (0, 0), sigma)[40:88, 44:84] for image in images])
        for sigma in (1, 6)
    )
    assert np.corrcoef((fine - coarse).reshape(4, -1)).min() < 0.4


def test_small_and_fine_defects_stay_small():
    """The roller's cover about 0.2 % of the image; a crack in concrete is at most four pixels across at 256."""
    shares = [
        (render_image("roller", "test", defect, index, 256, 0)[1] > 0).mean()
        for defect in CATEGORIES["roller"].defects
        for index in (0, 1)
    ]
    assert 0.0009 <= np.mean(shares) <= 0.003
    crack = render_image("concrete", "test", "hair_crack", 2, 256, 0)[1]
    assert cv2.distanceTransform(crack, cv2.DIST_L2, 5).max() <= 3


def test_a_complete_category_is_kept(whole_set: Path):
    before = {path: path.stat().st_mtime_ns for path in whole_set.rglob("*.png")}
    calls: list[tuple[int, int]] = []
    folders = synthesize(
        whole_set,
        num_train=2,
        num_test_good=1,
        num_per_defect=1,
        size=SIZE,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert folders == [whole_set / name for name in sorted(CATEGORIES)]
    assert {path: path.stat().st_mtime_ns for path in whole_set.rglob("*.png")} == before
    assert calls == []


def test_a_category_can_be_added_later(tmp_path: Path):
    options = {"num_train": 1, "num_test_good": 1, "num_per_defect": 1, "size": SIZE}
    synthesize(tmp_path, categories=["screw"], **options)
    synthesize(tmp_path, categories=["screw", "capsule"], **options)
    record = json.loads((tmp_path / "synthetic.json").read_text())
    assert sorted(record) == ["capsule", "screw"]
    assert record["screw"] == {"version": 1, "seed": 0, **options}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capsule", "screw", "synthetic.json"]


def test_other_arguments_are_refused_where_a_category_stands(whole_set: Path):
    with pytest.raises(BlemishError, match=r"brushed_metal exists.*choose another folder"):
        synthesize(whole_set, num_train=3, num_test_good=1, num_per_defect=1, size=SIZE)


@pytest.mark.parametrize("hurt", ["missing", "foreign", "record"])
def test_a_category_that_someone_changed_is_refused(tmp_path: Path, hurt: str):
    options = {"num_train": 1, "num_test_good": 1, "num_per_defect": 1, "size": SIZE}
    synthesize(tmp_path, categories=["screw"], **options)
    if hurt == "missing":
        (tmp_path / "screw/train/good/000.png").unlink()
    elif hurt == "foreign":
        (tmp_path / "screw/train/good/mine.png").write_bytes(b"mine")
    else:
        (tmp_path / "synthetic.json").write_text("{")
    with pytest.raises(BlemishError, match="screw exists"):
        synthesize(tmp_path, categories=["screw"], **options)


def test_nothing_is_left_of_a_category_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full_disc(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disc)
    with pytest.raises(BlemishError, match=r"cannot be written \(no space left on device"):
        synthesize(tmp_path, categories=["screw"], num_train=1, num_test_good=1, num_per_defect=1, size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_picture(tmp_path: Path):
    calls: list[tuple[int, int]] = []
    synthesize(
        tmp_path,
        categories=["screw"],
        num_train=2,
        num_test_good=1,
        num_per_defect=1,
        size=SIZE,
        progress=lambda done, total: calls.append((done, total)),
    )
    total = 3 + len(CATEGORIES["screw"].defects)
    assert calls == [(done + 1, total) for done in range(total)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": ["bottle"]}, r"unknown category 'bottle'; choose from brushed_metal, cable"),
        ({"categories": []}, r"no category; choose from"),
        ({"size": 32}, r"size is 32; it must be a whole number from 64 to 1024"),
        ({"size": 256.0}, r"size is 256\.0"),
        ({"num_train": 0}, r"num_train is 0; it must be a whole number from 1"),
        ({"num_test_good": -1}, r"num_test_good is -1"),
        ({"num_per_defect": True}, r"num_per_defect is True"),
        ({"seed": -1}, r"seed is -1"),
        ({"workers": 0}, r"workers is 0; it must be a whole number from 1 to 256"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, options: dict, message: str):
    with pytest.raises(BlemishError, match=message):
        synthesize(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
