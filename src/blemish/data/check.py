"""Checks a data set before training: finds problems and says how to fix them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from blemish.data.category import Category, left_out
from blemish.data.layouts.groups import mask_folders
from blemish.data.listing import OTHER_FILE, OUTSIDE, LeftOut, describe, list_folders
from blemish.data.names import LABEL_NAMES, is_good
from blemish.data.reading import FileReader
from blemish.data.source import FileInfo
from blemish.errors import BlemishError
from blemish.imaging.formats import UNREAD
from blemish.imaging.formats.unread import unread_name
from blemish.imaging.mask_sources import understand_source
from blemish.imaging.masks import PackedMarks
from blemish.parallel import map_ahead
from blemish.types import MaskRuns, MaskSource, Sample, Size, mask_files

FEW_VALUES, MANY_VALUES = 8, 64
"""An image with 2 to FEW_VALUES different values may be a mask, where another image has at least MANY_VALUES."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a data set. An error would make results wrong; a warning would not."""

    severity: Literal["error", "warning"]
    path: Path
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class MaskInfo:
    """Properties of a mask."""

    size: Size = (0, 0)
    area: float = 0.0
    """The share of anomalous pixels, from 0 to 1."""
    rule: str = ""
    """The rule of `imaging.mask_sources` that decided which pixels are marked."""
    num_values: int = 0
    """The number of different values."""
    marks: PackedMarks | None = None
    """The marked pixels; None where the mask cannot be used, and for runs, which are quickly read again."""
    error: str | None = None
    """Why the mask cannot be used."""


def read_mask_infos(samples: Iterable[Sample], reader: FileReader | None = None) -> dict[MaskSource, MaskInfo]:
    """Mask -> its properties, for every sample that has one."""
    reader, masks = reader or FileReader(), [sample.mask for sample in samples if sample.mask]
    return dict(zip(masks, map_ahead(lambda mask: _read_mask_info(mask, reader), masks), strict=True))


def _read_mask_info(source: MaskSource, reader: FileReader) -> MaskInfo:
    try:
        mask = understand_source(source, reader.max_pixels, reader.content)
    except BlemishError as error:
        return MaskInfo(error=str(error))
    marks = PackedMarks.pack(mask.marks)
    kept = None if isinstance(source, MaskRuns) else marks
    return MaskInfo(marks.shape, float(np.mean(mask.marks)), mask.rule, mask.num_values, kept)


def find_problems(category: Category, files: Sequence[FileInfo], masks: Mapping[MaskSource, MaskInfo]) -> list[Problem]:
    """All problems of a category, errors first. `files[i]` belongs to `category.samples[i]`."""
    found = chain(
        _undecodable(category.samples, files),
        _identical(category.samples, files),
        _masks(category.samples, files, masks),
        _masks_among_images(category.samples, files),
        _left_out(category),
        _unusual_pixels(category.samples, files),
    )
    return sorted(found, key=lambda problem: problem.severity)


def refuse(problems: Iterable[Problem]) -> None:
    """Raises BlemishError with the first error among the problems; does nothing where there are only warnings."""
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
        if not info.error and info.pixel_sha256:
            same[info.pixel_sha256].append(sample)
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
    counts = "once" if copy.split == "val" else "twice"  # copies are held out together, and calibration uses one
    return Problem("warning", copy.image, f"identical to {first.image}. It counts {counts}.")


def _masks(
    samples: Sequence[Sample], files: Sequence[FileInfo], masks: Mapping[MaskSource, MaskInfo]
) -> Iterable[Problem]:
    anomalous = [sample for sample in samples if sample.label]
    if anomalous and not masks:
        yield Problem("warning", anomalous[0].image.parent, "no masks: pixel metrics will not be applicable.")
        return
    for sample in anomalous:
        if sample.mask is None:
            yield Problem("error", sample.image, f"no mask, while others have one. Add {sample.image.stem}_mask.png.")
    for sample, info in zip(samples, files, strict=True):
        if sample.mask:
            yield from _mask(sample, masks[sample.mask], info)


def _mask(sample: Sample, mask: MaskInfo, image: FileInfo) -> Iterable[Problem]:
    severity, message = _judgement(sample, mask, image)
    if severity:
        yield Problem(severity, _place(sample), message)


def _judgement(sample: Sample, mask: MaskInfo, image: FileInfo) -> tuple[Literal["error", "warning", ""], str]:
    if mask.error:
        return "error", mask.error.removeprefix(f"{_place(sample)}: ")
    if not image.error and mask.size != image.size:
        sizes = f"the mask is {mask.size[0]}x{mask.size[1]}, its image {image.size[0]}x{image.size[1]}"
        return "error", f"{sizes}. Save it at the image's size."
    if not sample.label and mask.area:
        share = f"the mask marks {mask.area:.2%} of the image, which is among the good ones"
        return "error", f"{share}. Move both to a folder of defects, or remove the mask."
    if sample.label and mask.area == 0:
        return "error", "the mask is empty, the image labelled anomalous. Draw the defect or remove both."
    if mask.area == 1:
        return "warning", "the mask covers the whole image."
    if mask.area > 0.5:
        return (
            "warning",
            f"the mask marks {mask.area:.0%} of the image: is it inverted? What is not black is the defect.",
        )
    return "", ""


def _place(sample: Sample) -> Path:
    """The file that a problem of the sample's mask is about."""
    return sample.image if isinstance(sample.mask, MaskRuns) else mask_files(sample.mask)[0]


def _masks_among_images(samples: Sequence[Sample], files: Sequence[FileInfo]) -> Iterable[Problem]:
    """Images that look like masks: only a few different values, and the size of an image with many values."""
    images = {(sample.image.parent, info.size) for sample, info in _usable(samples, files, MANY_VALUES)}
    sizes = {size for _, size in images}
    for sample, info in _usable(samples, files, 2):
        if info.num_values > FEW_VALUES or info.size not in sizes:
            continue
        is_sure = (sample.image.parent, info.size) in images or sample.image.parent.name.casefold() in LABEL_NAMES
        found = f"has only {info.num_values} different values, like a mask"
        advice = "Name it <stem of its image>_mask.png, or move it to a folder called masks"
        yield Problem("error" if is_sure else "warning", sample.image, f"{found}. {advice}.")


def _usable(samples: Sequence[Sample], files: Sequence[FileInfo], num_values: int) -> Iterable[tuple[Sample, FileInfo]]:
    """The readable samples and files with at least `num_values` different values."""
    pairs = zip(samples, files, strict=True)
    return ((sample, info) for sample, info in pairs if not info.error and info.num_values >= num_values)


def _left_out(category: Category) -> Iterable[Problem]:
    """A problem for each mask without an image and each unused training folder, and one for all other files."""
    if not category.layout:
        return
    found = left_out(category)
    unread = [folder for folder in list_folders(category.root / "train") if not is_good(folder.name)]
    masks = mask_folders(category.root)
    for folder in unread:
        yield Problem("warning", folder, "left out: only train/good holds training images.")
    for left in found:
        if _is_in(left, masks):
            yield Problem("warning", left.path, "belongs to no image: a mask is named <stem of its image>_mask.png.")
    yield from _unread(found)
    known = [*unread, *masks]
    others = [left for left in found if not _is_in(left, known) and not unread_name(left.path.suffix)]
    if line := describe(others):
        yield Problem("warning", category.root, f"{line}.")


def _unread(found: Sequence[LeftOut]) -> Iterable[Problem]:
    """One problem for each unsupported image format, with advice."""
    of_kind: dict[str, list[Path]] = defaultdict(list)
    for left in found:
        if left.reason == OTHER_FILE and (kind := unread_name(left.path.suffix)):
            of_kind[kind].append(left.path)
    for kind, paths in of_kind.items():
        more = f" ({len(paths) - 1} more)" if len(paths) > 1 else ""
        yield Problem("warning", paths[0], f"{kind}, which is not read: left out{more}. {UNREAD[kind]}")


def _is_in(left: LeftOut, folders: Sequence[Path]) -> bool:
    """Whether it is an image inside one of the folders."""
    return left.reason == OUTSIDE and any(left.path.is_relative_to(folder) for folder in folders)


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
