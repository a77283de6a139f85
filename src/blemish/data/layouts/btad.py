"""Layout of BTAD: 01, 02 and 03 with train/ok, test/ok, test/ko and ground_truth/ko."""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.groups import read_defects, read_good, read_masks
from blemish.data.layouts.layout import Found, Layout, categories_under, has_folders, needed
from blemish.data.listing import list_folders
from blemish.types import Sample

ROOT = "BTech_Dataset_transformed"
"""The folder of the categories in the archive."""
EXPECTED = f"BTAD has {ROOT}/<01, 02, 03>/train/ok, test/ok, test/ko and ground_truth/ko/<stem>.png or .bmp."


def read_btad(path: Path) -> Found:
    """{folder of a category: its samples} for a category's folder, that of several, or the one above; else empty."""
    return categories_under(path / ROOT if has_folders(path, ROOT) else path, _is_category, _read_category)


def _is_category(folder: Path) -> bool:
    return has_folders(folder, "train/ok", "test/ko") and {one.name for one in list_folders(folder / "test")} <= {
        "ok",
        "ko",
    }


def _read_category(folder: Path) -> list[Sample]:
    masks = read_masks(needed(folder / "ground_truth" / "ko", EXPECTED))
    return [
        *read_good(folder / "train" / "ok", "train"),
        *read_good(needed(folder / "test" / "ok", EXPECTED), "test"),
        *read_defects(folder / "test" / "ko", masks),
    ]


LAYOUT = Layout(read_btad, EXPECTED)
