"""Categories of a data set, each a list of samples; and how validation images are held out from training."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.layouts import LAYOUTS
from blemish.data.layouts.layout import Found, Layout, Reader
from blemish.data.listing import OUTSIDE, LeftOut, describe, list_images
from blemish.data.reading import FileReader
from blemish.data.unpack import ARCHIVES
from blemish.errors import BlemishError, check_new_name, short_repr
from blemish.files import absolute
from blemish.imaging.contents import pixel_digest
from blemish.parallel import map_ahead
from blemish.types import GOOD, Sample, Split

logger = logging.getLogger("blemish")

AUTO = "auto"
"""In place of a layout's name: the first one that the path has."""
TEST_STRIDE = 5
"""Every so many good images are for testing, where the data set does not say which."""


def register_layout(name: str, read: Reader) -> None:
    """Registers a layout of folders, which is tried before those that are registered already.

    `read` takes a path and returns {category's folder: samples}, empty where the path does not have its layout. Raises
    BlemishError where the name is taken.
    """
    check_new_name("layout", name, [*LAYOUTS, AUTO])
    if not callable(read):
        raise BlemishError(f"layout {name}: {short_repr(read)} is not a function of a path.")
    known = dict(LAYOUTS)
    LAYOUTS.clear()
    LAYOUTS.update({name: Layout(read)} | known)


def _found(name: str, path: Path) -> Found:
    """The result of the layout's function for the path; raises BlemishError where it is of another type."""
    found = LAYOUTS[name].read(path)
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
    """The name of the layout, a key of LAYOUTS; empty where the images were given one by one."""
    samples: tuple[Sample, ...]
    brings_validation: bool = False
    """Whether the data set says which images are for validation, so that none are drawn."""
    aside: tuple[Sample, ...] = ()
    """Samples that are not its own, since they are set aside for testing."""

    @property
    def files(self) -> list[Path]:
        """All image files and mask files."""
        return [path for sample in self.samples for path in sample.files]

    def of(self, split: Split) -> list[Sample]:
        """The samples of one split, in the order of their paths."""
        return [sample for sample in self.samples if sample.split == split]


def find_categories(path: Path, names: Sequence[str] = (), *, layout: str = AUTO, group: str = "") -> list[Category]:
    """The categories under `path`, the root of a data set or the folder of one category, in order of their names.

    `names` chooses categories; empty: all. `layout` is a key of LAYOUTS. `group` is a regular expression: images for
    whose paths, relative to the category's folder, its first group (or all that it matches) is the same show the same
    part; empty: as the layout says. Raises BlemishError where the path does not exist or does not have the layout, or
    where a name is not that of a category.
    """
    folders, name = _folders(path, layout)
    unknown = sorted(set(names) - set(folders))
    if unknown:
        raise BlemishError(f"category {unknown[0]}: not under {path}. It has: {', '.join(sorted(folders))}.")
    return [_category(name, *folders[chosen], LAYOUTS[name], group) for chosen in sorted(set(names or folders))]


def _folders(path: Path, layout: str) -> tuple[dict[str, tuple[Path, list[Sample]]], str]:
    """Category -> its folder and samples, and the name of the layout; raises BlemishError where there are none."""
    if layout not in (AUTO, *LAYOUTS):
        raise BlemishError(f"layout {short_repr(layout)}: there is none; there are {', '.join((AUTO, *LAYOUTS))}.")
    if not os.path.isdir(path):  # noqa: PTH112 - the method raises where a folder above cannot be entered
        raise BlemishError(f"data_path {path}: {_not_a_folder(path)}. Give a data set's root or one category's folder.")
    tried = LAYOUTS if layout == AUTO else (layout,)
    name, found = next(((name, found) for name in tried if (found := _found(name, path))), ("", {}))
    if not found:
        expected = (
            "no images found. Expected <category>/train/good/*.png as in MVTec AD, a folder with a subfolder 'good', "
            "a folder of good images, or a layout of docs/layouts.md."
            if layout == AUTO
            else f"does not have the layout {layout}. {LAYOUTS[layout].expected}".rstrip()
        )
        raise BlemishError(f"data_path {path}: {expected}{_instead(path)}")
    return {absolute(folder).name: (folder, samples) for folder, samples in found.items()}, name  # a link's own name


def _not_a_folder(path: Path) -> str:
    if path.suffix.lower() in ARCHIVES and os.path.isfile(path):  # noqa: PTH113
        return f"an archive. Unpack it: blemish data unpack {path} --out FOLDER"
    return "not a folder" if os.path.exists(path) else "no such folder"  # noqa: PTH110


def _category(layout: str, folder: Path, samples: list[Sample], about: Layout, group: str) -> Category:
    grouped = in_groups(samples, folder, group) if group else samples
    split = grouped if about.has_split else _with_test_images(grouped)
    brings_validation = any(sample.split == "val" for sample in split)
    return Category(absolute(folder).name, folder, layout, tuple(split), brings_validation)


def in_groups(samples: Sequence[Sample], folder: Path, pattern: str) -> list[Sample]:
    """The samples with the groups that a regular expression gives their paths; no group where it does not match."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise BlemishError(f"group {short_repr(pattern)}: not a regular expression ({error}).") from None
    matches = [expression.search(sample.image.relative_to(folder).as_posix()) for sample in samples]
    if samples and not any(matches):
        raise BlemishError(
            f"group {short_repr(pattern)}: matches no path such as {samples[0].image.relative_to(folder)}."
        )
    names = [(match[1] if expression.groups else match[0]) or "" if match else "" for match in matches]
    return [replace(sample, group=name) for sample, name in zip(samples, names, strict=True)]


def _with_test_images(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with good ones moved to the test, where there are anomalous ones: without, no false alarm is counted.

    These are the good images of a part that also has anomalous ones, and every fifth of the others.
    """
    parts = {sample.group for sample in samples if sample.label and sample.group}
    if not any(sample.label for sample in samples):
        return list(samples)
    free = dict.fromkeys(_part(sample) for sample in samples if not sample.label and sample.group not in parts)
    drawn = parts | set(list(free)[TEST_STRIDE - 1 :: TEST_STRIDE])
    return [replace(sample, split="test") if _part(sample) in drawn else sample for sample in samples]


def _part(sample: Sample) -> str:
    """What stays together: the group, or else the image."""
    return sample.group or str(sample.image)


def _instead(path: Path) -> str:
    """A sentence on the other contents of the folder; empty where there are none."""
    listing = list_images(path)
    found = describe([*listing.left_out, *(LeftOut(image, OUTSIDE) for image in listing.images)])
    return f" Here is {found.removeprefix('left out: ')}." if found else ""


def find_category(path: Path, name: str, *, layout: str = AUTO, group: str = "") -> Category:
    """The category under `path` that is the only one or has this name; raises BlemishError where there is none.

    `layout` and `group` are those of `find_categories`.
    """
    found = find_categories(path, layout=layout, group=group)
    chosen = found if len(found) == 1 else [category for category in found if category.name == name]
    if not chosen:
        raise BlemishError(f"data_path {path}: has no category {name}. Give the folder of the category.")
    return chosen[0]


def layout_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """The arguments `layout` and `group` of `find_categories` with which a model's data set was read."""
    config = provenance.get("config", {})
    return {name: config[name] for name in ("layout", "group") if config.get(name)}


def find_learned(path: Path, name: str, provenance: Mapping[str, Any]) -> Category:
    """`find_category` with the layout and groups of the data set that a model was fitted to."""
    return find_category(path, name, **layout_of(provenance))


def part_name(category: Category) -> str:
    """The name of the part that a category shows, under which a detector fitted to it is saved.

    It is the category's name, but `gear` where the category is the folder gear/train/good itself. So a detector that
    was fitted to that folder alone also belongs to the category gear of the whole data set.
    """
    path = absolute(category.root)
    is_part = category.layout == "folder" and path.parts[-2:] == ("train", GOOD) and len(path.parts) > 3
    return path.parts[-3] if is_part else category.name


def only_good(category: Category) -> Category:
    """The category with its test images set aside; its root is the common folder of the others."""
    samples, aside = (tuple(s for s in category.samples if (s.split == "test") == is_test) for is_test in (False, True))
    root = Path(os.path.commonpath([sample.image.parent for sample in samples] or [category.root]))
    return replace(category, root=root, samples=samples, aside=aside)


def examples_of(category: Category) -> tuple[list[Sample], list[Sample]]:
    """A few good training images and one of each defect type, to be shown."""
    test = category.of("test")
    types = dict.fromkeys(sample.defect for sample in test if sample.defect != GOOD)
    return category.of("train")[:4], [next(one for one in test if one.defect == defect) for defect in types]


def left_out(category: Category) -> list[LeftOut]:
    """The files and folders below the category's folder that are neither its images nor masks, nor set aside."""
    if not category.layout:
        return []
    listing = list_images(category.root)
    files = {path for sample in (*category.samples, *category.aside) for path in sample.files}
    known = LAYOUTS[category.layout].others if category.layout in LAYOUTS else frozenset()
    above = {folder for file in files for folder in file.parents}
    found = [left for left in listing.left_out if left.path not in above | files]
    found += [LeftOut(image, OUTSIDE) for image in listing.images if image not in files]
    return [left for left in found if known.isdisjoint(left.path.relative_to(category.root).parts)]


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

    Copies of an image, which have equal `digests` (None: there are no copies), and images of the same group count once
    and stay in the same split. At least one image is held out and at least one is left for training; a single image is
    not held out. The draw depends on `seed` alone; images that were held out before are drawn again. Where the data set
    brings validation images, it is unchanged. Raises BlemishError where there are no good training images.
    """
    good = [sample for sample in category.samples if sample.split != "test"]
    if not good:
        raise BlemishError(f"{category.root}: category {category.name} has no good training images.")
    if category.brings_validation:
        return category
    contents = [digests[sample.image] if digests else str(sample.image) for sample in good]
    unit_of = {sample.image: unit for sample, unit in zip(good, units_of(contents, good), strict=True)}
    units = list(dict.fromkeys(unit_of.values()))
    order = np.random.default_rng(seed).permutation(len(units))
    drawn = {units[row] for row in order[: num_held_out(len(units), fraction)]}
    split_of: dict[Path, Split] = {image: "val" if unit in drawn else "train" for image, unit in unit_of.items()}
    samples = (replace(sample, split=split_of.get(sample.image, sample.split)) for sample in category.samples)
    return replace(category, samples=tuple(samples))


def units_of(contents: Sequence[str], samples: Sequence[Sample]) -> list[str]:
    """Per sample a text that is the same for those that stay together: of equal content or group, or through others."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while name in above:
            name = above[name]
        return name

    for content, sample in zip(contents, samples, strict=True):
        if sample.group:
            lower, upper = top(f"content {content}"), top(f"group {sample.group}")
            above |= {lower: upper} if lower != upper else {}
    return [top(f"content {content}") for content in contents]


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
