"""What a data set is: categories, each a list of samples; and how the validation images are drawn."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blemish.data.layouts.folder import read_folder
from blemish.data.layouts.mvtec_ad import read_mvtec
from blemish.data.listing import OUTSIDE, LeftOut, describe, list_images
from blemish.data.reading import FileReader
from blemish.errors import BlemishError, check_new_name, shown
from blemish.files import absolute
from blemish.imaging.contents import pixel_digest
from blemish.parallel import map_ahead
from blemish.types import GOOD, Sample, Split

logger = logging.getLogger("blemish")

Reader = Callable[[Path], dict[Path, list[Sample]]]
DATASETS: dict[str, Reader] = {"mvtec": read_mvtec, "folder": read_folder}
"""Layout name -> function from a path to {category's folder: samples}, empty where the path is not of that layout.

They are tried in this order.
"""


def register_layout(name: str, read: Reader) -> None:
    """Makes a layout of folders known, which is tried before those that are known already.

    `read` takes a path and gives {category's folder: samples}, empty where the path is not of its layout. Raises
    BlemishError where the name is taken.
    """
    check_new_name("layout", name, DATASETS)
    if not callable(read):
        raise BlemishError(f"layout {name}: {shown(read)} is no function of a path.")
    known = dict(DATASETS)
    DATASETS.clear()
    DATASETS.update({name: read} | known)


def _found(name: str, path: Path) -> dict[Path, list[Sample]]:
    """What the layout of this name finds under the path; raises BlemishError where that is not what it should be."""
    found = DATASETS[name](path)
    parts = [(folder, *samples) for folder, samples in found.items()] if isinstance(found, dict) else [(None,)]
    for folder, *samples in parts:
        if not isinstance(folder, Path) or not all(isinstance(sample, Sample) for sample in samples):
            raise BlemishError(f"layout {name}: gives something else than {{a category's folder: its samples}}.")
    return found


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of part: its good images to learn from, and the images to test on."""

    name: str
    root: Path
    """The category's own folder: paths are given relative to it, whether it or the data set's root was named."""
    layout: str
    """The layout that it was found in; empty where its images were given one by one."""
    samples: tuple[Sample, ...]

    @property
    def files(self) -> list[Path]:
        """Every image, and the mask of each that has one."""
        return [path for sample in self.samples for path in (sample.image, sample.mask) if path]

    def of(self, split: Split) -> list[Sample]:
        """The samples of one split, in the order of their paths."""
        return [sample for sample in self.samples if sample.split == split]


def find_categories(path: Path, names: Sequence[str] = ()) -> list[Category]:
    """The categories under `path` (a data set's root or one category's folder), in order of their names.

    `names` chooses among them; none means all. Raises BlemishError where the path does not exist, is of no known
    layout, or has no category of a name that was asked for.
    """
    if not os.path.isdir(path):  # noqa: PTH112 - the method raises where a folder above cannot be entered
        what = "not a folder" if os.path.exists(path) else "no such folder"  # noqa: PTH110
        raise BlemishError(f"data_path {path}: {what}. Give a data set's root or one category's folder.")
    layout, found = next(((name, found) for name in DATASETS if (found := _found(name, path))), ("", {}))
    if not found:
        raise BlemishError(
            f"data_path {path}: no images found. Expected <category>/train/good/*.png as in MVTec AD, "
            f"a folder with a subfolder 'good', or a folder of good images.{_instead(path)}"
        )
    folders = {absolute(folder).name: folder for folder in found}  # a link has its own name
    unknown = sorted(set(names) - set(folders))
    if unknown:
        raise BlemishError(f"category {unknown[0]}: not under {path}. It has: {', '.join(sorted(folders))}.")
    chosen = {name: folders[name] for name in sorted(names or folders)}
    return [Category(name, folder, layout, tuple(found[folder])) for name, folder in chosen.items()]


def _instead(path: Path) -> str:
    """What the folder holds that is no image to learn from, in words."""
    listing = list_images(path)
    found = describe([*listing.left_out, *(LeftOut(image, OUTSIDE) for image in listing.images)])
    return f" Here is {found.removeprefix('left out: ')}." if found else ""


def find_category(path: Path, name: str) -> Category:
    """The category of this name under `path`, or the only one there; raises BlemishError where it is none of many."""
    found = find_categories(path)
    chosen = found if len(found) == 1 else [category for category in found if category.name == name]
    if not chosen:
        raise BlemishError(f"data_path {path}: has no category {name}. Give the folder of the category.")
    return chosen[0]


def fitted_to(category: Category) -> str:
    """The name that a detector of it goes by: that of the part, where the good images of its category alone were given.

    So what was fitted to gear/train/good is found again in a data set that has a category gear.
    """
    path = absolute(category.root)
    is_part = category.layout == "folder" and path.parts[-2:] == ("train", GOOD) and len(path.parts) > 3
    return path.parts[-3] if is_part else category.name


def good_alone(category: Category) -> Category:
    """The good training images of a category, below the folder that they have in common."""
    samples = tuple(category.of("train"))
    root = Path(os.path.commonpath([sample.image.parent for sample in samples] or [category.root]))
    return replace(category, root=root, samples=samples)


def examples_of(category: Category) -> tuple[list[Sample], list[Sample]]:
    """A few good training images and one of each defect type, to be shown."""
    test = category.of("test")
    types = dict.fromkeys(sample.defect for sample in test if sample.defect != GOOD)
    return category.of("train")[:4], [next(one for one in test if one.defect == defect) for defect in types]


def left_out(category: Category) -> list[LeftOut]:
    """What lies below the category's folder and is neither an image of it nor a mask."""
    if not category.layout:
        return []
    listing, files = list_images(category.root), set(category.files)
    above = {folder for file in files for folder in file.parents}
    others = [LeftOut(image, OUTSIDE) for image in listing.images if image not in files]
    return [*(left for left in listing.left_out if left.path not in above), *others]


def tell_left_out(category: Category) -> Category:
    """The category; what was left out of its folder is said in one line."""
    if line := describe(left_out(category)):
        logger.info("%s: %s", category.root, line)
    return category


def num_held_out(number: int, fraction: float) -> int:
    """How many of so many images are held out: at least one, and at least one is left; none where the fraction is 0."""
    return min(number - 1, max(1, round(fraction * number))) if fraction > 0 else 0


def hold_out(category: Category, fraction: float, seed: int, digests: Mapping[Path, str] | None = None) -> Category:
    """The category with `fraction` of its good training images, drawn at random by `seed`, as split "val".

    Images that are the same, as `digests` tell (none: all differ), count as one picture and stay together: a picture
    is not held out from itself. At least one is drawn and at least one is left, so a category with a single training
    picture has no validation images. What an earlier draw held out is drawn anew.
    """
    good = [sample for sample in category.samples if sample.split != "test"]
    content_of = {sample.image: digests[sample.image] if digests else str(sample.image) for sample in good}
    if not content_of:
        raise BlemishError(f"{category.root}: category {category.name} has no good training images.")
    pictures = list(dict.fromkeys(content_of.values()))
    order = np.random.default_rng(seed).permutation(len(pictures))
    drawn = {pictures[row] for row in order[: num_held_out(len(pictures), fraction)]}
    split_of: dict[Path, Split] = {
        image: "val" if content in drawn else "train" for image, content in content_of.items()
    }
    samples = (replace(sample, split=split_of.get(sample.image, sample.split)) for sample in category.samples)
    return replace(category, samples=tuple(samples))


def content_digests(samples: Sequence[Sample]) -> dict[Path, tuple[str, str]]:
    """Image -> SHA-256 of the decoded pixels, and of the file; raises BlemishError where one cannot be read."""
    return dict(zip((sample.image for sample in samples), map_ahead(_content_digests, samples), strict=True))


def _content_digests(sample: Sample) -> tuple[str, str]:
    opened = FileReader().open(sample)
    return pixel_digest(opened.pixels), opened.sha256


def data_hash(category: Category, digests: Mapping[Path, str]) -> str:
    """SHA-256 over the paths below the category's folder, which say what a file is, and the contents of its files."""
    named = {path.relative_to(category.root).as_posix(): digest for path, digest in digests.items()}
    lines = "".join(f"{name} {named[name]}\n" for name in sorted(named))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
