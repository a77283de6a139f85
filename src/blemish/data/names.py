"""What the names of folders and files say: good, a defect, a mask; or that it cannot be told."""

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
"""What a folder of good images is called: compared without case, digits and signs, so that "OK_2" is one of them."""
BAD_NAMES = _names(
    "bad ng nok ko notok notgood nogood nio abnormal notnormal anomaly anomalies anomalous defect defects defective "
    "defected fault faults faulty fail failed reject rejected rejects broken damaged 不良 不良品 不合格"
)
"""What a folder of defects of any kind is called."""
UNCLEAR_NAMES = frozenset({"negative", "negatives", "unlabeled", "unlabelled", "unknown", "unsorted", "mixed"})
"""What a folder is called that may hold either."""
GOOD_WORDS = frozenset({"good", "ok", "okay", "normal", "良品", "正常"})
MASK_NAMES = _names("mask masks groundtruth groundtruths gt gts segmentation segmentations annotation annotations")
"""What a folder of masks is called."""
LABEL_NAMES = frozenset({"label", "labels"})
"""What a folder of masks may be called, or one of parts whose label is wrong."""
DATASET_NAMES = _names("train training test testing val valid validation")
"""What a part of a data set is called."""
MASK_SUFFIX = re.compile(
    r"[ _.-](mask|label|labels|gt|ground[ _-]?truth|seg|segmentation|annotation|anno)$", re.IGNORECASE
)
"""What follows the stem of an image in the stem of its mask."""


def is_good(name: str) -> bool:
    """Whether a folder of this name holds good images."""
    return _plain(name) in GOOD_NAMES


def is_bad(name: str) -> bool:
    """Whether a folder of this name holds defects, without saying of which type."""
    return _plain(name) in BAD_NAMES


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks."""
    return _plain(name) in MASK_NAMES


def image_stem(stem: str) -> str:
    """The stem of the image that a mask with this stem belongs to: "000" of "000_mask", "000_GT" and "000"."""
    return MASK_SUFFIX.sub("", stem)


def masks_among(paths: Collection[Path], folder: Path) -> dict[Path, Path]:
    """Those of the paths in `folder` that are masks by their names -> the folder that each lies in for its image.

    They are named as an image beside them, with a suffix for masks; or they lie in a folder for masks.
    """
    places = {(path.parent, path.stem) for path in paths}
    return {path: home for path in paths if (home := _mask_home(path, folder, places))}


def _mask_home(path: Path, folder: Path, places: set[tuple[Path, str]]) -> Path | None:
    for above in path.parents:
        if above != folder and above.is_relative_to(folder) and is_mask_folder(above.name):
            return above
    stem = image_stem(path.stem)
    return path.parent if stem != path.stem and (path.parent, stem) in places else None


def is_good_type(folder: Path) -> bool:
    """Whether the images in a folder that stands among others of defect types are good.

    Raises BlemishError where its name does not tell, such as "good_light" or "0".
    """
    if is_good(folder.name):
        return True
    words = {word for word in re.split(r"[\W\d_]+", folder.name.casefold()) if word}
    is_unclear = _plain(folder.name) in UNCLEAR_NAMES | DATASET_NAMES or folder.name.strip("0") == ""
    if is_unclear or (words & GOOD_WORDS and not is_bad(folder.name)):
        raise BlemishError(
            f"{folder}: cannot be told by its name whether these images are good. "
            "Call it good, or name the type of defect."
        )
    return False


def refuse_other_kinds(folder: Path, path: Path, *, good: bool) -> None:
    """Raises BlemishError where a folder between `folder`, whose images are all good or all not, and `path` says else.

    The parts of a data set have no place among good images either.
    """
    for name in path.relative_to(folder).parent.parts:
        plain = _plain(name)
        if good and plain in BAD_NAMES | DATASET_NAMES:
            raise BlemishError(
                f"{folder}: all images in it would be taken for good, but it holds a folder {name} ({path.parent}). "
                "Name the folder of good images alone, or put them into one called good beside those of the defects."
            )
        if not good and plain in GOOD_NAMES:
            raise BlemishError(
                f"{path.parent}: good images by its name, within {folder}, which is a type of defect. Move them apart."
            )


def _plain(name: str) -> str:
    return re.sub(r"[\W\d_]+", "", name.casefold())
