"""Layout of VisA: images of each object, masks of class ids, and the splits in tables of their own."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path

from blemish.data.layouts.layout import Found, Layout, has_folders, inside, needed, read_table, sorted_samples
from blemish.data.listing import list_folders
from blemish.errors import BlemishError
from blemish.types import GOOD, MaskFiles, Sample, Split

IMAGES = "Data/Images"
COLUMNS = ("object", "split", "label", "image", "mask")
LABELS = {"normal": False, "anomaly": True}
SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
EXPECTED = (
    "VisA has <object>/Data/Images/Normal, <object>/Data/Images/Anomaly, <object>/Data/Masks/Anomaly, and beside the "
    "objects split_csv/{}.csv with the columns object, split, label, image, mask."
)


def read_visa(path: Path, split: str = "1cls") -> Found:
    """{folder of an object: its samples} for an object's folder or that of all; else empty. `split` names the table.

    Anomalous images that a split gives for training are left out, since a detector learns from good images alone.
    """
    is_object = has_folders(path, IMAGES)
    if not is_object and not any(has_folders(folder, IMAGES) for folder in list_folders(path)):
        return {}
    root, expected = path.absolute().parent if is_object else path, EXPECTED.format(split)
    table = needed(root / "split_csv" / f"{split}.csv", expected)
    found: dict[Path, list[Sample]] = defaultdict(list)
    for row in read_table(table, COLUMNS):
        folder = inside(root, row["object"], table)
        if not is_object or folder == path.absolute():
            found[needed(folder, expected)] += _samples(row, root, table)
    return sorted_samples(found)


def _samples(row: dict[str, str], root: Path, table: Path) -> list[Sample]:
    """The sample of a row; empty for an anomalous image to learn from."""
    if row["label"] not in LABELS or row["split"] not in SPLITS:
        raise BlemishError(
            f"{table}: {row['image']} is labelled {row['label']} for {row['split']}; "
            "allowed are normal and anomaly, for train and test."
        )
    label, split = LABELS[row["label"]], SPLITS[row["split"]]
    if label and split == "train":
        return []
    mask = MaskFiles((inside(root, row["mask"], table),)) if row["mask"] else None
    return [Sample(inside(root, row["image"], table), label, mask, row["label"] if label else GOOD, split)]


def _split(name: str) -> Layout:
    return Layout(partial(read_visa, split=name), EXPECTED.format(name), frozenset({"image_anno.csv"}))


LAYOUT, FEWSHOT, HIGHSHOT = _split("1cls"), _split("2cls_fewshot"), _split("2cls_highshot")
