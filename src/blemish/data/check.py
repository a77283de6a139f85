"""What is wrong with a data set, in words that say what to do; found before anything is learned from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from blemish.data.category import Category
from blemish.data.layouts.folder import MASK_FOLDERS
from blemish.data.layouts.mvtec_ad import list_folders
from blemish.data.source import FileInfo
from blemish.errors import BlemishError
from blemish.imaging.formats import UNREAD
from blemish.imaging.formats.unread import unread_name
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.read import is_image, read_mask
from blemish.parallel import map_ahead
from blemish.types import GOOD, Sample, Size


@dataclass(frozen=True, slots=True)
class Problem:
    """Something found in a data set. An error would make a result wrong, a warning would not."""

    severity: Literal["error", "warning"]
    path: Path
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class MaskInfo:
    """What is known of a mask file once it has been read."""

    size: Size = (0, 0)
    area: float = 0.0
    """The anomalous part of its pixels, from 0 to 1."""
    error: str | None = None


def read_mask_infos(samples: Iterable[Sample], max_pixels: int = MAX_PIXELS) -> dict[Path, MaskInfo]:
    """Mask file -> what is known of it, for every sample that has one."""
    paths = [sample.mask for sample in samples if sample.mask]
    return dict(zip(paths, map_ahead(lambda path: _read_mask_info(path, max_pixels), paths), strict=True))


def _read_mask_info(path: Path, max_pixels: int) -> MaskInfo:
    try:
        mask = read_mask(path, max_pixels)
    except BlemishError as error:
        return MaskInfo(error=str(error))
    height, width = mask.shape
    return MaskInfo((height, width), float(np.mean(mask)))


def find_problems(category: Category, files: Sequence[FileInfo], masks: Mapping[Path, MaskInfo]) -> list[Problem]:
    """Every problem of a category, errors first; `files` belong to `category.samples`, in the same order."""
    found = chain(
        _undecodable(category.samples, files),
        _identical(category.samples, files),
        _masks(category.samples, files, masks),
        _stray_files(category, masks),
        _unusual_pixels(category.samples, files),
    )
    return sorted(found, key=lambda problem: problem.severity)


def refuse(problems: Iterable[Problem]) -> None:
    """Raises BlemishError with the first error among the problems, if there is one."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more: blemish data check)" if len(errors) > 1 else ""
        raise BlemishError(f"{errors[0]}{more}")


def _undecodable(samples: Sequence[Sample], files: Sequence[FileInfo]) -> Iterable[Problem]:
    for sample, info in zip(samples, files, strict=True):
        if info.error:
            yield Problem("error", sample.image, info.error.removeprefix(f"{sample.image}: "))


def _identical(samples: Sequence[Sample], files: Sequence[FileInfo]) -> Iterable[Problem]:
    same: dict[str, list[Sample]] = defaultdict(list)
    for sample, info in zip(samples, files, strict=True):
        if not info.error:
            same[info.sha256].append(sample)
    for copies in same.values():
        for copy in copies[1:]:
            yield _identical_pair(copies[0], copy)


def _identical_pair(first: Sample, copy: Sample) -> Problem:
    if (first.split == "test") != (copy.split == "test"):
        where = "the test set" if first.split == "test" else "training"
        return Problem("error", copy.image, f"identical to {first.image}, which is in {where}. Remove one of them.")
    if first.label != copy.label:
        return Problem(
            "error", copy.image, f"identical to {first.image}, which is labelled {first.defect}. Remove one."
        )
    counts = "once" if copy.split == "val" else "twice"  # copies are held out together, and calibrate as one
    return Problem("warning", copy.image, f"identical to {first.image}. It counts {counts}.")


def _masks(samples: Sequence[Sample], files: Sequence[FileInfo], masks: Mapping[Path, MaskInfo]) -> Iterable[Problem]:
    anomalous = [(sample, info) for sample, info in zip(samples, files, strict=True) if sample.label]
    if anomalous and not masks:
        yield Problem("warning", anomalous[0][0].image.parent, "no masks: pixel metrics will not be applicable.")
        return
    for sample, info in anomalous:
        if sample.mask is None:
            yield Problem("error", sample.image, f"no mask, while others have one. Add {sample.image.stem}_mask.png.")
        else:
            yield from _mask(sample.mask, masks[sample.mask], info)


def _mask(path: Path, mask: MaskInfo, image: FileInfo) -> Iterable[Problem]:
    if mask.error:
        yield Problem("error", path, mask.error.removeprefix(f"{path}: "))
    elif not image.error and mask.size != image.size:
        yield Problem(
            "error",
            path,
            f"the mask is {mask.size[0]}x{mask.size[1]}, its image {image.size[0]}x{image.size[1]}. "
            "Save it at the image's size.",
        )
    elif mask.area == 0:
        yield Problem("error", path, "the mask is empty, the image labelled anomalous. Draw the defect or remove both.")
    elif mask.area == 1:
        yield Problem("warning", path, "the mask covers the whole image.")


def _stray_files(category: Category, masks: Mapping[Path, MaskInfo]) -> Iterable[Problem]:
    """Masks that belong to no image, and files of a kind that is not read, in the folders that are."""
    for folder in chain.from_iterable(list_folders(category.root / name) for name in MASK_FOLDERS):
        for path in _files(folder):
            if path not in masks:
                yield Problem("warning", path, "belongs to no image: a mask is named <stem of its image>_mask.png.")
    for folder in sorted({sample.image.parent for sample in category.samples}):
        for path in _files(folder):
            if not is_image(path):
                kind = unread_name(path.suffix)
                what = f"{kind}, which is not read: left out. {UNREAD[kind]}" if kind else _NO_IMAGE
                yield Problem("warning", path, what)
    for folder in list_folders(category.root / "train"):
        if folder.name != GOOD:
            yield Problem("warning", folder, "left out: only train/good is learned from.")


_NO_IMAGE = "not an image by its name: left out."


def _files(folder: Path) -> list[Path]:
    """The files directly in a folder, in the order of their names; hidden ones are the system's, not the user's."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _unusual_pixels(samples: Sequence[Sample], files: Sequence[FileInfo]) -> Iterable[Problem]:
    usable = [(sample, info) for sample, info in zip(samples, files, strict=True) if not info.error]
    with_alpha = [sample for sample, info in usable if info.alpha]
    if with_alpha:
        images = f"{len(with_alpha)} images" if len(with_alpha) > 1 else "this image"
        yield Problem("warning", with_alpha[0].image, f"the alpha channel of {images} is dropped.")
    depths = Counter(info.depth for _, info in usable)
    if len(depths) > 1:
        counts = ", ".join(f"{count} of {depth}" for depth, count in sorted(depths.items()))
        yield Problem("warning", samples[0].image.parent, f"images of different depth: {counts}.")
