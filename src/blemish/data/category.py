"""Categories of a data set, each a list of samples; and how validation images are held out from training."""

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
from blemish.errors import BlemishError, check_new_name, short_repr
from blemish.files import absolute
from blemish.imaging.contents import pixel_digest
from blemish.parallel import map_ahead
from blemish.types import GOOD, Sample, Split

logger = logging.getLogger("blemish")

Reader = Callable[[Path], dict[Path, list[Sample]]]
DATASETS: dict[str, Reader] = {"mvtec": read_mvtec, "folder": read_folder}
"""Name of a layout -> function from a path to {folder of a category: samples}, tried in this order.

A function returns an empty dict where the path does not have its layout.
"""


def register_layout(name: str, read: Reader) -> None:
    """Registers a layout of folders, which is tried before those that are registered already.

    `read` takes a path and returns {category's folder: samples}, empty where the path does not have its layout. Raises
    BlemishError where the name is taken.
    """
    check_new_name("layout", name, DATASETS)
    if not callable(read):
        raise BlemishError(f"layout {name}: {short_repr(read)} is not a function of a path.")
    known = dict(DATASETS)
    DATASETS.clear()
    DATASETS.update({name: read} | known)


def _found(name: str, path: Path) -> dict[Path, list[Sample]]:
    """The result of the layout's function for the path; raises BlemishError where it is of another type."""
    found = DATASETS[name](path)
    parts = [(folder, *samples) for folder, samples in found.items()] if isinstance(found, dict) else [(None,)]
    for folder, *samples in parts:
        if not isinstance(folder, Path) or not all(isinstance(sample, Sample) for sample in samples):
            raise BlemishError(f"layout {name}: must return a dict {{category's folder: samples}}.")
    return found


@dataclass(frozen=True, slots=True)
class Category:
    """The images of one kind of part: good images for training, and images for testing."""

    name: str
    root: Path
    """The category's own folder, to which paths in results are relative."""
    layout: str
    """The name of the layout, a key of DATASETS; empty where the images were given one by one."""
    samples: tuple[Sample, ...]

    @property
    def files(self) -> list[Path]:
        """All image files and mask files."""
        return [path for sample in self.samples for path in (sample.image, sample.mask) if path]

    def of(self, split: Split) -> list[Sample]:
        """The samples of one split, in the order of their paths."""
        return [sample for sample in self.samples if sample.split == split]


def find_categories(path: Path, names: Sequence[str] = ()) -> list[Category]:
    """The categories under `path`, the root of a data set or the folder of one category, in order of their names.

    `names` chooses categories; empty: all. Raises BlemishError where the path does not exist or contains no images in
    any layout, or where a name is not that of a category.
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
    """A sentence on the other contents of the folder; empty where there are none."""
    listing = list_images(path)
    found = describe([*listing.left_out, *(LeftOut(image, OUTSIDE) for image in listing.images)])
    return f" Here is {found.removeprefix('left out: ')}." if found else ""


def find_category(path: Path, name: str) -> Category:
    """The category under `path` that is the only one or has this name; raises BlemishError where there is none."""
    found = find_categories(path)
    chosen = found if len(found) == 1 else [category for category in found if category.name == name]
    if not chosen:
        raise BlemishError(f"data_path {path}: has no category {name}. Give the folder of the category.")
    return chosen[0]


def part_name(category: Category) -> str:
    """The name of the part that a category shows, under which a detector fitted to it is saved.

    It is the category's name, but `gear` where the category is the folder gear/train/good itself. So a detector that
    was fitted to that folder alone also belongs to the category gear of the whole data set.
    """
    path = absolute(category.root)
    is_part = category.layout == "folder" and path.parts[-2:] == ("train", GOOD) and len(path.parts) > 3
    return path.parts[-3] if is_part else category.name


def only_good(category: Category) -> Category:
    """The category with its training images alone; its root is their common folder."""
    samples = tuple(category.of("train"))
    root = Path(os.path.commonpath([sample.image.parent for sample in samples] or [category.root]))
    return replace(category, root=root, samples=samples)


def examples_of(category: Category) -> tuple[list[Sample], list[Sample]]:
    """A few good training images and one of each defect type, to be shown."""
    test = category.of("test")
    types = dict.fromkeys(sample.defect for sample in test if sample.defect != GOOD)
    return category.of("train")[:4], [next(one for one in test if one.defect == defect) for defect in types]


def left_out(category: Category) -> list[LeftOut]:
    """The files and folders below the category's folder that are neither its images nor its masks."""
    if not category.layout:
        return []
    listing, files = list_images(category.root), set(category.files)
    above = {folder for file in files for folder in file.parents}
    others = [LeftOut(image, OUTSIDE) for image in listing.images if image not in files]
    return [*(left for left in listing.left_out if left.path not in above), *others]


def log_left_out(category: Category) -> Category:
    """Logs in one line what is left out of the category's folder, and returns the category."""
    if line := describe(left_out(category)):
        logger.info("%s: %s", category.root, line)
    return category


def num_held_out(number: int, fraction: float) -> int:
    """How many of `number` images are held out: the fraction, rounded, at least one, but not all; 0 for fraction 0."""
    return min(number - 1, max(1, round(fraction * number))) if fraction > 0 else 0


def hold_out(category: Category, fraction: float, seed: int, digests: Mapping[Path, str] | None = None) -> Category:
    """The category with a random `fraction` of its good training images moved to the split "val".

    Copies of an image, which have equal `digests` (None: there are no copies), count once and stay in the same split.
    At least one image is held out and at least one is left for training; a single image is not held out. The draw
    depends on `seed` alone; images that were held out before are drawn again. Raises BlemishError where there are no
    good training images.
    """
    good = [sample for sample in category.samples if sample.split != "test"]
    content_of = {sample.image: digests[sample.image] if digests else str(sample.image) for sample in good}
    if not content_of:
        raise BlemishError(f"{category.root}: category {category.name} has no good training images.")
    contents = list(dict.fromkeys(content_of.values()))
    order = np.random.default_rng(seed).permutation(len(contents))
    drawn = {contents[row] for row in order[: num_held_out(len(contents), fraction)]}
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
    """SHA-256 of a category: of its files' paths, relative to its folder, and of their contents (`digests`)."""
    named = {path.relative_to(category.root).as_posix(): digest for path, digest in digests.items()}
    lines = "".join(f"{name} {named[name]}\n" for name in sorted(named))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
