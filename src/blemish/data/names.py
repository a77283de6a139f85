"""Decides by the names of folders and files whether images are good, defects or masks."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from blemish.errors import BlemishError


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


GOOD_NAMES = _names(
    "good goods goodones goodimages goodparts goodsamples ok okay oks io normal normals nodefect nodefects defectfree "
    "nondefect nondefective undefective noanomaly noanomalies anomalyfree nonanomalous nofault faultless flawless "
    "intact healthy clean pass passed accept accepted gut 良品 合格 正常"
)
"""Names of folders of good images, compared without case, digits and punctuation: "OK_2" matches "ok"."""
BAD_NAMES = _names(
    "bad ng nok ko notok notgood nogood nio abnormal notnormal anomaly anomalies anomalous defect defects defective "
    "defected fault faults faulty fail failed reject rejected rejects broken damaged 不良 不良品 不合格"
)
"""Names of folders of defects of any type."""
UNCLEAR_NAMES = frozenset({"negative", "negatives", "unlabeled", "unlabelled", "unknown", "unsorted", "mixed"})
"""Names of folders that may hold good images or defects."""
GOOD_WORDS = frozenset({"good", "ok", "okay", "normal", "良品", "正常"})
"""Words that make a longer name, such as "good_light", unclear."""
MASK_NAMES = _names("mask masks groundtruth groundtruths gt gts segmentation segmentations annotation annotations")
"""Names of folders of masks."""
LABEL_NAMES = frozenset({"label", "labels"})
"""Names of folders of masks, or of a defect type (a wrong label on the part)."""
DATASET_NAMES = _names("train training test testing val valid validation")
"""Names of the splits of a data set."""
MASK_SUFFIX = re.compile(
    r"[ _.-](mask|label|labels|gt|ground[ _-]?truth|seg|segmentation|annotation|anno)$", re.IGNORECASE
)
"""Suffix of a mask's stem, after the stem of its image."""


def is_good(name: str) -> bool:
    """Whether a folder of this name holds good images."""
    return _plain(name) in GOOD_NAMES


def is_bad(name: str) -> bool:
    """Whether a folder of this name holds defects of no particular type."""
    return _plain(name) in BAD_NAMES


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks."""
    return _plain(name) in MASK_NAMES


def image_stem(stem: str) -> str:
    """The stem of the image that a mask with this stem belongs to: "000" of "000_mask", "000_GT" and "000"."""
    return MASK_SUFFIX.sub("", stem)


def masks_among(paths: Collection[Path], folder: Path) -> dict[Path, Path]:
    """Each mask among the paths in `folder` -> its root; relative to it, the mask has the path of its image.

    The root is the folder of masks that contains it, or the image's folder for a mask beside its image, which has the
    image's stem and a suffix. Masks are recognised by their names.
    """
    places = {(path.parent, path.stem) for path in paths}
    return {path: root for path in paths if (root := _mask_root(path, folder, places))}


def _mask_root(path: Path, folder: Path, places: set[tuple[Path, str]]) -> Path | None:
    for above in path.parents:
        if above != folder and above.is_relative_to(folder) and is_mask_folder(above.name):
            return above
    stem = image_stem(path.stem)
    return path.parent if stem != path.stem and (path.parent, stem) in places else None


def is_good_type(folder: Path) -> bool:
    """Whether a folder among those of defect types holds good images.

    Raises BlemishError where its name is unclear, such as "good_light" or "0".
    """
    if is_good(folder.name):
        return True
    words = {word for word in re.split(r"[\W\d_]+", folder.name.casefold()) if word}
    is_unclear = _plain(folder.name) in UNCLEAR_NAMES | DATASET_NAMES or folder.name.strip("0") == ""
    if is_unclear or (words & GOOD_WORDS and not is_bad(folder.name)):
        raise BlemishError(
            f"{folder}: the name does not say whether these images are good. Call it good, or name the type of defect."
        )
    return False


def refuse_other_kinds(folder: Path, path: Path, *, good: bool) -> None:
    """Raises BlemishError where the name of a folder between `folder` and the image `path` contradicts the label.

    All images in `folder` have the label `good`. Among good images, folders named like a split are refused too.
    """
    for name in path.relative_to(folder).parent.parts:
        plain = _plain(name)
        if good and plain in BAD_NAMES | DATASET_NAMES:
            raise BlemishError(
                f"{folder}: all images in it would be used as good, but it holds a folder {name} ({path.parent}). "
                "Give the folder of good images alone, or put them into one called good beside those of the defects."
            )
        if not good and plain in GOOD_NAMES:
            raise BlemishError(
                f"{path.parent}: good images by its name, within {folder}, which is a type of defect. "
                "Move them to a folder called good."
            )


def _plain(name: str) -> str:
    return re.sub(r"[\W\d_]+", "", name.casefold())
