"""Synthetic trees of public data sets, to the letter of their layouts, with tiny images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

SIDE = 24
BOX = (slice(4, 12), slice(6, 16))
"""Where a defect is, unless said otherwise."""


def image(path: Path, *, bad: bool = False, size: tuple[int, int] = (SIDE, SIDE), box: tuple = BOX) -> Path:
    """Writes a noisy picture, another one for each path, with a bright box where it is bad."""
    generator = np.random.default_rng(list(path.as_posix().encode()))
    pixels = generator.normal(100, 6, (*size, 3))
    if bad:
        pixels[box] += 90
    return write(path, np.clip(pixels, 0, 255).astype(np.uint8))


def mask(path: Path, value: int = 255, *, size: tuple[int, int] = (SIDE, SIDE), box: tuple | None = BOX) -> Path:
    """Writes a mask with one value in a box; black without a box."""
    pixels = np.zeros(size, np.uint8)
    if box is not None:
        pixels[box] = value
    return write(path, pixels)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    done, data = cv2.imencode(kind, pixels)
    assert done
    path.write_bytes(data.tobytes())
    return path


def table(path: Path, *rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def document(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def visa(root: Path) -> Path:
    rows = []
    for name in ("candle", "pcb1"):
        for index in range(10):
            path = f"{name}/Data/Images/Normal/{index:04}.JPG"
            image(root / path)
            rows.append([name, "train" if index < 8 else "test", "normal", path, ""])
        for index in range(2):
            path, of = f"{name}/Data/Images/Anomaly/{index:03}.JPG", f"{name}/Data/Masks/Anomaly/{index:03}.png"
            image(root / path, bad=True)
            mask(root / of, value=1 + index)  # class ids
            rows.append([name, "test", "anomaly", path, of])
    table(root / "split_csv/1cls.csv", ["object", "split", "label", "image", "mask"], *rows)
    shots = [
        [row[0], "train" if row[3].endswith("0000.JPG") or row[3].endswith("/000.JPG") else "test", *row[2:]]
        for row in rows
    ]
    for split in ("2cls_fewshot", "2cls_highshot"):
        table(root / f"split_csv/{split}.csv", ["object", "split", "label", "image", "mask"], *shots)
    return root


def btad(root: Path) -> Path:
    folder = root / "BTech_Dataset_transformed"
    for name, kind, of in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for index in range(8):
            image(folder / f"{name}/train/ok/{index:04}.{kind}")
        for index in range(2):
            image(folder / f"{name}/test/ok/{index:04}.{kind}")
            image(folder / f"{name}/test/ko/{index:04}.{kind}", bad=True)
            mask(folder / f"{name}/ground_truth/ko/{index:04}.{of}")
    return root


def mvtec_like(folder: Path, kinds: tuple[str, ...], *, num_train: int = 8) -> Path:
    """train/good and test of a category; the masks are left to the caller."""
    for index in range(num_train):
        image(folder / f"train/good/{index:03}.png")
    for index in range(2):
        image(folder / f"test/good/{index:03}.png")
        for kind in kinds:
            image(folder / f"test/{kind}/{index:03}.png", bad=True)
    return folder


def mpdd(root: Path) -> Path:
    for name in ("bracket_black", "tubes"):
        folder = mvtec_like(root / name, ("hole",))
        for index in range(2):
            mask(folder / f"ground_truth/hole/{index:03}_mask.png")
    return root


SATURATIONS = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 20, "relative_saturation": False},
    {"defect_name": "scratch", "pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True},
]
OTHER_BOX = (slice(16, 20), slice(2, 6))


def loco(root: Path) -> Path:
    for name in ("breakfast_box", "pushpins"):
        folder = mvtec_like(root / name, ("logical_anomalies", "structural_anomalies"))
        for index in range(3):
            image(folder / f"validation/good/{index:03}.png")
        for index in range(2):
            mask(folder / f"ground_truth/logical_anomalies/{index:03}/000.png", 255)
            mask(folder / f"ground_truth/structural_anomalies/{index:03}/000.png", 254)
            mask(folder / f"ground_truth/structural_anomalies/{index:03}/001.png", 255, box=OTHER_BOX)
        document(folder / "defects_config.json", SATURATIONS)
    return root


def autovi(root: Path) -> Path:
    folder = mvtec_like(root / "engine_wiring", ("unclipped", "blue_hoop"))
    for kind, value in (("unclipped", 255), ("blue_hoop", 254)):
        for index in range(2):
            mask(folder / f"ground_truth/{kind}/{index:03}/0000.png", value)
    document(folder / "defects_config.json", SATURATIONS)
    return root


def ad2(root: Path, names: tuple[str, ...] = ("can", "vial"), num_private: int = 2) -> Path:
    for name in names:
        folder = root / name
        for index in range(8):
            image(folder / f"train/good/{index:03}_regular.png")
        for index in range(3):
            image(folder / f"validation/good/{index:03}_regular.png")
        for index in range(2):
            image(folder / f"test_public/good/{index:03}_regular.png")
            image(folder / f"test_public/bad/{index:03}_overexposed.png", bad=True)
            mask(folder / f"test_public/ground_truth/bad/{index:03}_overexposed_mask.png")
        for index in range(num_private):
            image(folder / f"test_private/{index:03}_regular.png", bad=index % 2 == 1)
            image(folder / f"test_private_mixed/{index:03}_mixed.png", bad=index % 2 == 1)
    return root


def real_iad(root: Path, resolutions: tuple[str, ...] = ("realiad_256", "realiad_1024")) -> Path:
    """Parts S0001 to S0010 are good, S0011 and S0012 have a defect, which the first of two views shows."""
    lists: dict[str, list] = {"train": [], "test": []}
    for part in range(1, 13):
        bad = part > 10
        for view in ("C1", "C2"):
            shows = bad and view == "C1"
            place = f"NG/AK/S{part:04}" if bad else f"OK/S{part:04}"
            stem = f"{place}/toy_{part:04}_{'NG_AK' if bad else 'OK'}_{view}_2023"
            for index, resolution in enumerate(resolutions):
                folder, side = root / resolution / "toy", SIDE * (index + 1)
                image(folder / f"{stem}.jpg", bad=shows, size=(side, side))
                if shows:
                    mask(folder / f"{stem}_mask.png", size=(side, side))
            lists["train" if part <= 8 else "test"].append(
                {
                    "category": "toy",
                    "anomaly_class": "AK" if shows else "OK",
                    "image_path": f"{stem}.jpg",
                    "mask_path": f"{stem}_mask.png" if shows else None,
                }
            )
    single = {name: [row for row in rows if "_C1_" in row["image_path"]] for name, rows in lists.items()}
    noisy = {"train": [*lists["train"], *lists["test"][-2:]], "test": lists["test"][:-2]}
    meta = {"meta": {"filename": "toy.json", "normal_class": "OK", "prefix": "toy/"}}
    for name, content in (("", lists), ("_sv", single), ("_fuiad", noisy)):
        document(root / f"realiad_jsons{name}/toy.json", meta | content)
    return root


def kolektor_sdd(root: Path) -> Path:
    for item in range(1, 10):
        for part in range(3):
            bad = part == 0 and item in (1, 2, 7)
            image(root / f"kos{item:02}/Part{part}.jpg", bad=bad)
            mask(root / f"kos{item:02}/Part{part}_label.bmp", box=BOX if bad else None)
    return root


def kolektor_sdd2(root: Path) -> Path:
    for split, count in (("train", 9), ("test", 4)):
        for index in range(count):
            image(root / split / f"{10000 + index}.png", bad=index < 2)
            mask(root / split / f"{10000 + index}_GT.png", box=BOX if index < 2 else None)
    return root


def dagm(root: Path) -> Path:
    for name in ("Class1", "Class10"):
        for split, count in (("Train", 9), ("Test", 4)):
            for index in range(count):
                image(root / f"{name}/{split}/{index:04}.PNG", bad=index < 2)
                if index < 2:
                    mask(root / f"{name}/{split}/Label/{index:04}_label.PNG")
            (root / f"{name}/{split}/Label/Labels.txt").write_text("1\n")
    return root


def severstal(root: Path) -> Path:
    """Images 8 and 9 have defects: the upper 10 pixels of the first two columns, and the last pixel in 9."""
    for index in range(10):
        box = (slice(0, 10), slice(0, 2))
        image(root / f"train_images/{index:09x}.jpg", bad=index > 7, size=(256, 1600), box=box)
    image(root / "test_images/f.jpg")
    table(
        root / "train.csv",
        ["ImageId", "ClassId", "EncodedPixels"],
        ["000000008.jpg", "3", "1 10 257 10"],
        ["000000009.jpg", "1", "1 10"],
        ["000000009.jpg", "4", "257 10 409600 1"],
    )
    return root


def magnetic_tile(root: Path) -> Path:
    """Seven good tiles of two exposures each; the first one also has an exposure with a blowhole.

    The last two tiles were shot one right after the other.
    """
    for tile in range(7):
        for exposure in (1, 2):
            number = 1000 * min(tile, 5) + 20 * exposure + 50 * (tile == 6)
            image(root / f"MT_Free/Imgs/exp{exposure}_num_{number}.jpg")
            mask(root / f"MT_Free/Imgs/exp{exposure}_num_{number}.png", box=None)
    for kind, number in (("Blowhole", 55), ("Break", 7000), ("Crack", 8000), ("Fray", 9000), ("Uneven", 10000)):
        image(root / f"MT_{kind}/Imgs/exp3_num_{number}.jpg", bad=True)
        mask(root / f"MT_{kind}/Imgs/exp3_num_{number}.png")
    return root


TREES: dict[str, Callable[[Path], Path]] = {
    "visa": visa,
    "btad": btad,
    "mpdd": mpdd,
    "mvtec_loco": loco,
    "mvtec_ad_2": ad2,
    "real_iad": real_iad,
    "kolektor_sdd": kolektor_sdd,
    "kolektor_sdd2": kolektor_sdd2,
    "dagm": dagm,
    "severstal": severstal,
    "magnetic_tile": magnetic_tile,
    "autovi": autovi,
}
"""Layout -> function that writes its tree into a folder and returns the data set's root."""
