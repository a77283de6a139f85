"""Every kind of problem in a data set: found, told where, and refused where a result would be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from blemish.data import find_categories
from blemish.data.check import Problem, find_problems, read_mask_infos, refuse
from blemish.data.overview import overview
from blemish.data.source import read_file
from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess

GOOD, TEST, BAD, MASKS = "bolt/train/good", "bolt/test/good", "bolt/test/bad", "bolt/ground_truth/bad"


@pytest.fixture
def root(tmp_path: Path, make_category) -> Path:
    make_category(tmp_path / "data", "bolt", num_train=3, num_good=2, num_bad=2)
    return tmp_path / "data"


def problems_of(path: Path) -> list[Problem]:
    return overview(path)[1]


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    write(path, change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def copy(root: Path, source: str, target: str) -> None:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / source, root / target)


def cached(root: Path) -> None:
    copy(root, f"{GOOD}/000.png", f"{GOOD}/.ipynb_checkpoints/000.png")


def opaque(image: np.ndarray) -> np.ndarray:
    return np.dstack([image, np.full(image.shape[:2], 255, image.dtype)])


# what is done to a sound category -> severity, path and words of the one problem there is then
CASES: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "truncated training image": (
        lambda r: truncate(r / GOOD / "001.png"),
        "error",
        f"{GOOD}/001.png",
        "truncated or damaged",
    ),
    "truncated test image": (
        lambda r: truncate(r / BAD / "001.png"),
        "error",
        f"{BAD}/001.png",
        "truncated or damaged",
    ),
    "empty file": (lambda r: (r / TEST / "001.png").write_bytes(b""), "error", f"{TEST}/001.png", "truncated, or"),
    "text": (lambda r: (r / GOOD / "x.jpg").write_text("no image"), "error", f"{GOOD}/x.jpg", "truncated, or"),
    "dangling link": (
        lambda r: (r / GOOD / "x.png").symlink_to(r / "gone.png"),
        "error",
        f"{GOOD}/x.png",
        "No such file or directory",
    ),
    "float out of range": (
        lambda r: write(r / GOOD / "x.tiff", np.full((48, 48), 7.5, np.float32)),
        "error",
        f"{GOOD}/x.tiff",
        "float pixels must lie in [0, 1]",
    ),
    "training image in the test": (
        lambda r: copy(r, f"{GOOD}/001.png", f"{TEST}/copy.png"),
        "error",
        f"{TEST}/copy.png",
        "bolt/train/good/001.png, which is in training. Remove one of them.",
    ),
    "good image among the anomalous": (
        lambda r: copy(r, f"{TEST}/001.png", f"{BAD}/000.png"),
        "error",
        f"{TEST}/001.png",
        "bolt/test/bad/000.png, which is labelled bad. Remove one.",
    ),
    "test image twice": (
        lambda r: copy(r, f"{TEST}/001.png", f"{TEST}/copy.png"),
        "warning",
        f"{TEST}/copy.png",
        "bolt/test/good/001.png. It counts twice.",
    ),
    "training image twice": (
        lambda r: copy(r, f"{GOOD}/001.png", f"{GOOD}/copy.png"),
        "warning",
        f"{GOOD}/copy.png",
        "bolt/train/good/001.png. It counts twice.",
    ),
    "missing mask": (
        lambda r: (r / MASKS / "001_mask.png").unlink(),
        "error",
        f"{BAD}/001.png",
        "no mask, while others have one. Add 001_mask.png.",
    ),
    "no masks at all": (
        lambda r: shutil.rmtree(r / "bolt/ground_truth"),
        "warning",
        BAD,
        "no masks: pixel metrics will not be applicable.",
    ),
    "truncated mask": (
        lambda r: truncate(r / MASKS / "001_mask.png"),
        "error",
        f"{MASKS}/001_mask.png",
        "truncated or damaged",
    ),
    "mask of another size": (
        lambda r: edit(r / MASKS / "001_mask.png", lambda mask: mask[:40, :31]),
        "error",
        f"{MASKS}/001_mask.png",
        "the mask is 40x31, its image 48x48. Save it at the image's size.",
    ),
    "mask turned on its side": (
        lambda r: [edit(r / BAD / "001.png", lambda image: image[:40]), edit(r / MASKS / "001_mask.png", side)],
        "error",
        f"{MASKS}/001_mask.png",
        "the mask is 48x40, its image 40x48.",
    ),
    "empty mask": (
        lambda r: edit(r / MASKS / "001_mask.png", np.zeros_like),
        "error",
        f"{MASKS}/001_mask.png",
        "the mask is empty, the image labelled anomalous.",
    ),
    "mask of everything": (
        lambda r: edit(r / MASKS / "001_mask.png", np.ones_like),
        "warning",
        f"{MASKS}/001_mask.png",
        "the mask covers the whole image.",
    ),
    "mask of no image": (
        lambda r: copy(r, f"{MASKS}/001_mask.png", f"{MASKS}/007_mask.png"),
        "warning",
        f"{MASKS}/007_mask.png",
        "belongs to no image: a mask is named <stem of its image>_mask.png.",
    ),
    "two masks of one image": (
        lambda r: copy(r, f"{MASKS}/001_mask.png", f"{MASKS}/001.png"),
        "warning",
        f"{MASKS}/001.png",
        "belongs to no image",
    ),
    "masks of a type that is not there": (
        lambda r: copy(r, f"{MASKS}/001_mask.png", "bolt/ground_truth/bent/001_mask.png"),
        "warning",
        "bolt/ground_truth/bent/001_mask.png",
        "belongs to no image",
    ),
    "another kind of file": (
        lambda r: (r / GOOD / "notes.txt").write_text(""),
        "warning",
        "bolt",
        "left out: 1 file not an image by name (.txt).",
    ),
    "hidden images, and a folder that a tool left": (
        lambda r: [(r / name).touch() for name in (f"{GOOD}/._000.png", f"{BAD}/._000.png")] + [cached(r)],
        "warning",
        "bolt",
        "left out: 2 hidden images, 1 hidden folder.",
    ),
    "a training image in the test, compressed otherwise": (
        lambda r: write(r / TEST / "copy.bmp", cv2.imread(str(r / GOOD / "001.png"))),
        "error",
        f"{TEST}/copy.bmp",
        "bolt/train/good/001.png, which is in training. Remove one of them.",
    ),
    "a mask in class colours, as JPEG, of nothing": (
        lambda r: [(r / MASKS / "001_mask.png").unlink(), write(r / MASKS / "001_mask.jpg", np.zeros((48, 48)))],
        "error",
        f"{MASKS}/001_mask.jpg",
        "the mask is empty, the image labelled anomalous.",
    ),
    "a mask that is a photograph": (
        lambda r: copy(r, f"{BAD}/001.png", f"{MASKS}/001_mask.png"),
        "error",
        f"{MASKS}/001_mask.png",
        "not a mask by its values",
    ),
    "an inverted mask": (
        lambda r: edit(r / MASKS / "001_mask.png", lambda mask: 255 - mask),
        "warning",
        f"{MASKS}/001_mask.png",
        "the mask marks 94% of the image: is it inverted?",
    ),
    "a mask among the images": (
        lambda r: copy(r, f"{MASKS}/001_mask.png", f"{TEST}/segmented.png"),
        "error",
        f"{TEST}/segmented.png",
        "has only 2 different values, like a mask.",
    ),
    "a mask beside a good image that marks something": (
        lambda r: copy(r, f"{MASKS}/001_mask.png", f"{GOOD}/001_GT.png"),
        "error",
        f"{GOOD}/001_GT.png",
        "the mask marks 6.25% of the image, which is among the good ones.",
    ),
    "another training folder": (
        lambda r: copy(r, f"{BAD}/001.png", "bolt/train/bad/001.png"),
        "warning",
        "bolt/train/bad",
        "left out: only train/good holds training images.",
    ),
    "alpha": (
        lambda r: edit(r / GOOD / "001.png", opaque),
        "warning",
        f"{GOOD}/001.png",
        "the alpha channel of this image is dropped.",
    ),
    "alpha of several": (
        lambda r: [edit(r / GOOD / name, opaque) for name in ("000.png", "001.png")],
        "warning",
        f"{GOOD}/000.png",
        "the alpha channel of 2 images is dropped.",
    ),
    "another depth": (
        lambda r: edit(r / TEST / "001.png", lambda image: image.astype(np.uint16) * 257),
        "warning",
        GOOD,
        "images of different depth: 1 of uint16, 6 of uint8.",
    ),
}


def test_copies_that_are_held_out_count_once(root: Path):
    copy(root, f"{GOOD}/001.png", f"{GOOD}/copy.png")
    category = find_categories(root)[0]
    samples = tuple(replace(s, split="val") if s.split == "train" else s for s in category.samples)
    files = [read_file(sample, Preprocess((32, 32)), with_contents=True)[1] for sample in samples]
    (problem,) = find_problems(replace(category, samples=samples), files, read_mask_infos(samples))
    assert problem.message.endswith("bolt/train/good/001.png. It counts once.")


def side(mask: np.ndarray) -> np.ndarray:
    mask[0, :40] = 255
    return np.ascontiguousarray(mask[:40].T)


@pytest.mark.parametrize(("spoil", "severity", "path", "words"), CASES.values(), ids=CASES.keys())
def test_a_problem_is_told_once_and_where_it_is(spoil, severity, path, words, root: Path):
    spoil(root)
    problems = problems_of(root)
    assert [(problem.severity, str(problem.path.relative_to(root))) for problem in problems] == [(severity, path)]
    assert words in problems[0].message
    assert str(problems[0]) == f"{root / path}: {problems[0].message}"
    if severity == "error":
        with pytest.raises(BlemishError) as raised:
            refuse(problems)
        assert str(raised.value) == str(problems[0])
    else:
        refuse(problems)


def link(root: Path) -> None:
    (root / "elsewhere").mkdir()
    (root / GOOD).rename(root / "elsewhere/pictures")
    (root / GOOD).symlink_to(root / "elsewhere/pictures", target_is_directory=True)


SOUND: dict[str, Callable[[Path], object]] = {
    "as made": lambda r: None,
    "hidden files": lambda r: [(r / folder / ".DS_Store").touch() for folder in (GOOD, BAD, MASKS)],
    "a folder named as an image": lambda r: (r / GOOD / "x.png").mkdir(),
    "an empty mask beside a good image": lambda r: write(r / GOOD / "001_label.png", np.zeros((48, 48), np.uint8)),
    "a linked folder": link,
    "no test images": lambda r: [shutil.rmtree(r / "bolt" / name) for name in ("test", "ground_truth")],
    "other sizes and grey": lambda r: write(r / GOOD / "x.bmp", np.arange(77 * 31, dtype=np.uint8).reshape(77, 31)),
    "the same mask twice": lambda r: copy(r, f"{MASKS}/000_mask.png", f"{MASKS}/001_mask.png"),
}


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND.keys())
@pytest.mark.parametrize("given", ["root", "category", "relative category"])
def test_what_is_sound_has_no_problem(change, given, root: Path, monkeypatch):
    change(root)
    monkeypatch.chdir(root)
    path = {"root": root, "category": root / "bolt", "relative category": Path("bolt")}[given]
    assert [str(problem) for problem in problems_of(path)] == []


def test_errors_come_first_and_the_first_one_is_raised_with_the_count_of_the_others(root: Path):
    (root / GOOD / "notes.txt").touch()
    truncate(root / GOOD / "000.png")
    truncate(root / TEST / "000.png")
    (root / MASKS / "000_mask.png").unlink()
    problems = problems_of(root)
    assert [problem.severity for problem in problems] == ["error", "error", "error", "warning"]
    with pytest.raises(BlemishError, match=r"train/good/000\.png: truncated or .* \(2 more: blemish data check\)$"):
        refuse(problems)


def test_identical_images_in_a_folder_say_where_the_other_one_is(tmp_path: Path):
    # Here the good images of the test stand among those of the training: the first of the two is in the test.
    images = np.random.default_rng(0).integers(0, 255, (11, 8, 8), np.uint8)
    for index in range(10):
        write(tmp_path / f"good/{index}.png", images[index])
    write(tmp_path / "bad/0.png", images[10])
    shutil.copy(tmp_path / "good/4.png", tmp_path / "good/8.png")
    identical = [str(problem) for problem in problems_of(tmp_path) if problem.severity == "error"]
    there, here = tmp_path / "good/8.png", tmp_path / "good/4.png"
    assert identical == [f"{there}: identical to {here}, which is in the test set. Remove one of them."]


def test_each_copy_is_told_but_files_that_are_broken_alike_are_not(root: Path):
    copy(root, f"{GOOD}/000.png", f"{GOOD}/copy.png")
    copy(root, f"{GOOD}/000.png", f"{TEST}/copy.png")
    for path in (root / GOOD / "empty.png", root / TEST / "empty.png"):
        path.touch()
    identical = [problem for problem in problems_of(root) if "identical" in problem.message]
    assert [(problem.severity, problem.path) for problem in identical] == [
        ("error", root / TEST / "copy.png"),
        ("warning", root / GOOD / "copy.png"),
    ]


def test_masks_in_a_folder(tmp_path: Path, root: Path):
    copy(root, f"{GOOD}/000.png", "parts/good/0.png")
    copy(root, f"{BAD}/000.png", "parts/dent/0.png")
    copy(root, f"{MASKS}/000_mask.png", "parts/masks/dent/0.png")
    copy(root, f"{MASKS}/000_mask.png", "parts/masks/dent/1.png")
    problems = problems_of(root / "parts")
    assert [str(problem.path.relative_to(root)) for problem in problems] == ["parts/masks/dent/1.png"]


def text(path: Path) -> list[list[str]]:
    """The cells of the overview as they are printed, without the header."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(overview(path)[0])
    lines = captured.get().splitlines()[1:]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines if line.strip()]


def test_the_overview_counts_images_masks_sizes_and_depths(root: Path, make_category):
    make_category(root, "nut", num_train=1, num_good=0, num_bad=1, size=(40, 64), with_masks=False)
    write(root / GOOD / "wide.png", np.zeros((20, 90), np.uint16))
    write(root / GOOD / "float.tiff", np.zeros((50, 50, 3), np.float32))
    (root / TEST / "broken.png").write_bytes(b"")
    (root / "nut/test/dust").mkdir()
    (root / "nut/test/dust/broken.png").write_bytes(b"")
    assert [str(column.header) for column in overview(root).table.columns][4:6] == ["masks", "height x width"]
    assert text(root) == [
        ["bolt", "train", "good", "5", "20-50 x 48-90", "float colour, 16-bit grey, 8-bit colour"],
        ["bolt", "test", "bad", "2", "2", "48 x 48", "8-bit colour"],
        ["bolt", "test", "good", "3", "48 x 48", "8-bit colour"],
        ["nut", "train", "good", "1", "40 x 64", "8-bit colour"],
        ["nut", "test", "bad", "1", "40 x 64", "8-bit colour"],
        ["nut", "test", "dust", "1", "? x ?"],
    ]


def test_the_overview_says_how_masks_were_understood(root: Path, make_category):
    make_category(root, "nut", num_train=1, num_good=0, num_bad=1, with_masks=False)
    alpha = np.zeros((48, 48, 4), np.uint8)
    alpha[4:10, 4:16, 3] = 255
    write(root / MASKS / "001_mask.png", alpha)
    copy(root, f"{TEST}/000.png", f"{BAD}/002.png")
    edit(root / BAD / "002.png", lambda image: image[::-1])
    edit(root / MASKS / "000_mask.png", lambda mask: mask)
    mask = cv2.imread(str(root / MASKS / "000_mask.png"), cv2.IMREAD_GRAYSCALE)
    mask[:12, :24] = 128
    write(root / MASKS / "002_mask.png", mask)
    assert overview(root).masks == [
        "bolt: 2 masks of 2-3 values, where what is not black is marked: 6.25% to 18.75% of the image",
        "bolt: 1 mask of 2 values, where what is opaque is marked: 3.12% of the image",
    ]


def test_the_overview_tells_its_progress_over_all_categories(root: Path, make_category):
    make_category(root, "nut", num_train=2, num_good=1, num_bad=1)
    told: list[tuple[int, int]] = []
    overview(root, lambda done, total: told.append((done, total)))
    assert told == [(done, 11) for done in range(1, 12)]
    assert sum(len(category.samples) for category in find_categories(root)) == 11
