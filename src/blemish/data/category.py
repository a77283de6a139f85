"""What a data set is: categories, each a list of samples; and how the validation images are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blemish.data.folder import read_folder
from blemish.data.mvtec import read_mvtec
from blemish.errors import BlemishError
from blemish.types import Sample, Split

Reader = Callable[[Path], dict[str, list[Sample]]]
DATASETS: dict[str, Reader] = {"mvtec": read_mvtec, "folder": read_folder}
"""Layout name -> function from a path to {category: samples}, empty where the path is not of that layout.

They are tried in this order.
"""


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of part: its good images to learn from, and the images to test on."""

    name: str
    root: Path
    layout: str
    samples: tuple[Sample, ...]

    def of(self, split: Split) -> list[Sample]:
        """The samples of one split, in the order of their paths."""
        return [sample for sample in self.samples if sample.split == split]


def find_categories(path: Path, names: Sequence[str] = ()) -> list[Category]:
    """The categories under `path` (a data set's root or one category's folder), in order of their names.

    `names` chooses among them; none means all. Raises BlemishError where the path does not exist, is of no known
    layout, or has no category of a name that was asked for.
    """
    if not path.is_dir():
        raise BlemishError(f"data_path {path}: no such folder. Give a data set's root or one category's folder.")
    layout, found = next(((name, found) for name, read in DATASETS.items() if (found := read(path))), ("", {}))
    if not found:
        raise BlemishError(
            f"data_path {path}: no images found. Expected <category>/train/good/*.png as in MVTec AD, "
            "a folder with a subfolder 'good', or a folder of good images."
        )
    unknown = sorted(set(names) - set(found))
    if unknown:
        raise BlemishError(f"category {unknown[0]}: not under {path}. It has: {', '.join(sorted(found))}.")
    chosen = sorted(names or found)
    return [Category(name, path, layout, tuple(found[name])) for name in dict.fromkeys(chosen)]


def find_category(path: Path, name: str) -> Category:
    """The category of this name under `path`, or the only one there; raises BlemishError where it is none of many."""
    found = find_categories(path)
    chosen = found if len(found) == 1 else [category for category in found if category.name == name]
    if not chosen:
        raise BlemishError(f"data_path {path}: has no category {name}. Give the folder of the category.")
    return chosen[0]


def num_held_out(number: int, fraction: float) -> int:
    """How many of so many images are held out: at least one, and at least one is left; none where the fraction is 0."""
    return min(number - 1, max(1, round(fraction * number))) if fraction > 0 else 0


def hold_out(category: Category, fraction: float, seed: int) -> Category:
    """The category with `fraction` of its good training images, drawn at random by `seed`, as split "val".

    At least one is drawn and at least one is left, so a category with a single training image has no validation
    images.
    """
    train = [index for index, sample in enumerate(category.samples) if sample.split == "train"]
    if not train:
        raise BlemishError(f"{category.root}: category {category.name} has no good training images.")
    drawn = set(np.random.default_rng(seed).permutation(train)[: num_held_out(len(train), fraction)].tolist())
    samples = (
        replace(sample, split="val") if index in drawn else sample for index, sample in enumerate(category.samples)
    )
    return replace(category, samples=tuple(samples))
