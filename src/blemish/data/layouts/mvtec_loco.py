"""Layout of MVTec LOCO AD: logical and structural anomalies, a mask for each defect, and images for validation."""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.defects import CONFIG, read_saturations, read_several_masks
from blemish.data.layouts.groups import read_good
from blemish.data.layouts.layout import Found, Layout, categories_under, has_folders, needed
from blemish.types import GOOD, Sample

LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"
"""The two types of anomalies."""
EXPECTED = (
    "MVTec LOCO AD has <category>/train/good, validation/good, test/good, test/logical_anomalies, "
    "test/structural_anomalies, ground_truth/<type>/<stem>/000.png and defects_config.json."
)


def read_mvtec_loco(path: Path) -> Found:
    """{folder of a category: its samples} for a category's folder or the folder of several; else empty."""
    return categories_under(path, _is_category, _read_category)


def _is_category(folder: Path) -> bool:
    return any(has_folders(folder, f"test/{kind}") for kind in (LOGICAL, STRUCTURAL))


def _read_category(folder: Path) -> list[Sample]:
    saturations = read_saturations(needed(folder / CONFIG, EXPECTED))
    samples = read_good(needed(folder / "train" / GOOD, EXPECTED), "train")
    samples += read_good(needed(folder / "validation" / GOOD, EXPECTED), "val")
    samples += read_good(needed(folder / "test" / GOOD, EXPECTED), "test")
    for kind in (LOGICAL, STRUCTURAL):
        masks = needed(folder / "ground_truth" / kind, EXPECTED)
        samples += read_several_masks(needed(folder / "test" / kind, EXPECTED), masks, saturations)
    return samples


LAYOUT = Layout(read_mvtec_loco, EXPECTED, frozenset({CONFIG}))
