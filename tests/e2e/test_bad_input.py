"""Each kind of bad input gives one clear line on standard error, exit code 2, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.cli import main

Spoil = Callable[[Path], None]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def first(root: Path, folder: str) -> Path:
    return sorted((root / "bolt" / folder).iterdir())[0]


def spoil_nothing(root: Path) -> None:
    pass


def remove_good_images(root: Path) -> None:
    for path in (root / "bolt" / "train" / "good").iterdir():
        path.unlink()


def remove_everything(root: Path) -> None:
    (root / "bolt").rename(root.parent / "elsewhere")


def copy_train_to_test(root: Path) -> None:
    (root / "bolt/test/good/copy.png").write_bytes(first(root, "train/good").read_bytes())


def mask_of_another_size(root: Path) -> None:
    cv2.imwrite(str(first(root, "ground_truth/bad")), np.full((9, 9), 255, np.uint8))


def empty_mask(root: Path) -> None:
    path = first(root, "ground_truth/bad")
    cv2.imwrite(str(path), cv2.imread(str(path), 0) * 0)


def float_image_out_of_range(root: Path) -> None:
    cv2.imwrite(str(root / "bolt/train/good/float.tiff"), np.full((48, 48), 7.5, np.float32))


CASES: dict[str, tuple[list[str], Spoil, str]] = {
    "no such folder": (["--data_path", "nowhere"], spoil_nothing, "data_path nowhere: no such folder"),
    "no images": ([], remove_everything, "no images found"),
    "no good training images": ([], remove_good_images, "no good training images"),
    "unknown category": (["--category", "screw"], spoil_nothing, "category screw: not under"),
    "unknown model": (["--model", "gan"], spoil_nothing, "model: not a detector; choose from"),
    "size": (
        ["--size", "50"],
        spoil_nothing,
        "size: sides should be multiples of 16 from 32 to 1024, such as 256, or 128x704",
    ),
    "epochs": (["--epochs", "0"], spoil_nothing, "epochs: input should be greater than or equal to 1"),
    "not a number": (["--epochs", "many"], spoil_nothing, "Invalid value for '--epochs'"),
    "learning rate": (["--learning_rate", "-1"], spoil_nothing, "learning_rate: input should be greater than 0"),
    "unknown flag": (["--colour", "red"], spoil_nothing, "No such option: --colour"),
    "an option of another model": (["--model", "ae", "--beta", "2"], spoil_nothing, "beta: not an option of Autoe"),
    "an option out of range": (["--width", "2"], spoil_nothing, "width: input should be greater than or equal to 4"),
    "device": (
        ["--device", "tpu"],
        spoil_nothing,
        "device: allowed are auto, cpu, cuda, cuda:1 or mps; 'tpu' was given",
    ),
    "no such device": (["--device", "cuda:99"], spoil_nothing, "device: cuda:99 was given, but torch "),
    "memory budget": (["--memory_budget", "lots"], spoil_nothing, "memory_budget: a number of bytes, such as 2GB"),
    "truncated training image": ([], lambda root: truncate(first(root, "train/good")), "truncated or damaged"),
    "truncated test image": ([], lambda root: truncate(first(root, "test/bad")), "truncated or damaged"),
    "missing mask": ([], lambda root: first(root, "ground_truth/bad").unlink(), "no mask, while others have one"),
    "mask of another size": ([], mask_of_another_size, "the mask is 9x9, its image 48x48"),
    "empty mask": ([], empty_mask, "the mask is empty"),
    "the same image in train and test": ([], copy_train_to_test, "identical to"),
    "float image out of range": ([], float_image_out_of_range, "float pixels must lie in [0, 1]"),
    "tile": (["--tile", "20"], spoil_nothing, "tile: input should be greater than or equal to 32; 20 was given"),
    "overlap without tiles": (
        ["--overlap", "40"],
        spoil_nothing,
        "overlap: only tiles overlap, and none are set",
    ),
    "overlap": (
        ["--tile", "64", "--overlap", "40"],
        spoil_nothing,
        "overlap: half a tile is allowed at most, which is 32",
    ),
    "no region of interest": (["--roi", "none.png"], spoil_nothing, "none.png: No such file"),
    "no TOML": (["--config", "nothing.toml"], spoil_nothing, "config nothing.toml: No such file"),
    "a file where a folder should be": (["--ckpt_path", "/dev/null/out"], spoil_nothing, "/dev/null/out"),
}


@pytest.mark.parametrize(("arguments", "spoil", "expected"), CASES.values(), ids=CASES.keys())
def test_one_line_and_exit_code_2(arguments, spoil, expected, make_category, tmp_path: Path, capsys):
    make_category(tmp_path / "data", "bolt", num_bad=2)
    spoil(tmp_path / "data")
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    flags = {"--data_path": str(tmp_path / "data"), "--ckpt_path": str(tmp_path / "out"), "--epochs": "1"}
    flags |= {"--size": "32"} | given
    with pytest.raises(SystemExit) as stopped:
        main(["train", *(part for pair in flags.items() for part in pair)])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert expected in said
    assert len([line for line in said.splitlines() if line.strip()]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["data_path", "ckpt_path"])
def test_a_required_argument(missing, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *(part for name in {"data_path", "ckpt_path"} - {missing} for part in (f"--{name}", "x"))])
    assert stopped.value.code == 2
    assert f"--{missing} is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs = ", "run.toml: Invalid value"),
        ('colour = "red"', "run.toml: colour is not a setting. Settings are model, epochs"),
        ("options = 3", "run.toml: options is 3. Write [options]"),
        ("[options]\ncolour = 1", "colour: not an option of VariationalAutoencoder"),
    ],
)
def test_a_toml_file_that_is_wrong(content, said, make_category, tmp_path: Path, capsys):
    make_category(tmp_path / "data", "bolt")
    (tmp_path / "run.toml").write_text(content)
    flags = ["--data_path", str(tmp_path / "data"), "--ckpt_path", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", str(tmp_path / "run.toml"), *flags])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_region_of_interest_of_another_view(make_category, tmp_path: Path, capsys):
    make_category(tmp_path / "data", "bolt")
    (tmp_path / "roi.json").write_text('{"size": [48, 96], "polygons": [[[0, 0], [40, 0], [40, 40]]]}')
    flags = ["--data_path", str(tmp_path / "data"), "--ckpt_path", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--model", "patchcore", "--roi", str(tmp_path / "roi.json"), *flags])
    assert stopped.value.code == 2
    assert "000.png: the image is 48x48, its region of interest was drawn for 48x96" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.*"))
