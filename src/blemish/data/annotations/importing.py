"""Imports annotated images as a folder of good images and one for each type of defect, with masks."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import imagecodecs
import numpy as np

from blemish.data.annotations.coco import is_coco, read_coco
from blemish.data.annotations.cvat import is_cvat, read_cvat
from blemish.data.annotations.images import ImageIndex, Names
from blemish.data.annotations.label_studio import is_label_studio, read_label_studio
from blemish.data.annotations.labelme import is_labelme, read_labelme
from blemish.data.annotations.shapes import Labelled, Shape, marks_of_shapes
from blemish.data.annotations.supervisely import is_supervisely, read_supervisely
from blemish.data.annotations.yolo import is_yolo, read_yolo
from blemish.data.names import is_good, is_good_type, is_mask_folder
from blemish.errors import BlemishError, number_of, short_repr
from blemish.files import new_folder
from blemish.imaging.masks import Marks
from blemish.imaging.read import read_image
from blemish.progress import Progress, no_progress
from blemish.types import GOOD

BOX = "a box, not a shape (--boxes takes boxes as masks)"


@dataclass(frozen=True, slots=True)
class Format:
    """A format of annotations."""

    matches: Callable[[Path], bool]
    read: Callable[[Path], Iterator[Labelled]]


FORMATS: dict[str, Format] = {
    "coco": Format(is_coco, read_coco),
    "label_studio": Format(is_label_studio, read_label_studio),
    "cvat": Format(is_cvat, read_cvat),
    "labelme": Format(is_labelme, read_labelme),
    "supervisely": Format(is_supervisely, read_supervisely),
    "yolo": Format(is_yolo, read_yolo),
}
"""Name -> format, tried in this order."""


@dataclass(slots=True)
class Imported:
    """What was written, and what was not taken."""

    format: str
    counts: Counter[str] = field(default_factory=Counter)
    """Type of the images -> their number."""
    not_taken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Reason -> the images that were not taken."""

    @property
    def lines(self) -> list[str]:
        """What was not taken, a line for each reason."""
        return [
            f"not taken: {number_of(len(names), 'image')}, such as {names[0]}: {reason}"
            for reason, names in self.not_taken.items()
        ]


def import_annotations(
    annotations: Path,
    images: Path,
    out: Path,
    *,
    format_name: str = "",
    boxes: bool = False,
    unannotated_good: bool = False,
    progress: Progress = no_progress,
) -> Imported:
    """Writes the new folder `out`: good/, a folder for each type of defect, masks/<type>/; copies of the images.

    Images on which nothing is drawn are good. One that has something that cannot be taken is left out as a whole, since
    its mask would be incomplete. `boxes` takes boxes as masks; `unannotated_good` takes images without annotations as
    good. Raises BlemishError where the annotations are of no known format, or nothing can be taken.
    """
    name = _checked(format_name) or _recognised(annotations)
    index, done = ImageIndex(images), Imported(name)
    with new_folder(out) as folder:
        writer = _Writer(folder, index, done, boxes)
        for labelled in FORMATS[name].read(annotations):
            writer.add(labelled)
            progress(len(writer.seen), len(index.images))
        writer.add_rest(unannotated_good)
        if not done.counts:
            why = f" {done.lines[0]}." if done.not_taken else ""
            raise BlemishError(f"{annotations}: nothing could be taken.{why}")
    return done


class _Writer:
    """Writes images and masks into a folder, and notes what was not taken."""

    def __init__(self, folder: Path, index: ImageIndex, done: Imported, boxes: bool):
        self.folder, self.index, self.done, self.boxes = folder, index, done, boxes
        self.names = Names()
        self.seen: set[Path] = set()

    def add(self, labelled: Labelled) -> None:
        """Writes the image of this name, unless there is none, or it was annotated before."""
        image = self.index.find(labelled.name)
        if image is None or image in self.seen:
            reason = "no such image, or several of this name" if image is None else "annotated twice"
            self.done.not_taken[reason].append(labelled.name)
            return
        self.seen.add(image)
        self._write(labelled, image)

    def add_rest(self, are_good: bool) -> None:
        """Writes the images that were not annotated as good ones, or notes them."""
        for image in self.index.images:
            if image not in self.seen and are_good:
                self._write(Labelled(image.name), image)
            elif image not in self.seen:
                self.done.not_taken["no annotations (--unannotated-good takes them as good)"].append(image.name)

    def _write(self, labelled: Labelled, image: Path) -> None:
        shapes = [shape for shape in labelled.shapes if not is_good(shape.label)]
        try:
            marks = _marks(labelled, shapes, image, self.boxes)
        except BlemishError as error:
            self.done.not_taken[str(error).removeprefix(f"{image}: ")].append(labelled.name)
            return
        kind = type_name(sorted({shape.label for shape in shapes})) if shapes else GOOD
        name = self.names.new(PurePosixPath(image.relative_to(self.index.folder).as_posix()))
        (self.folder / kind).mkdir(exist_ok=True)
        shutil.copyfile(image, self.folder / kind / name)
        if marks is not None:
            place = self.folder / "masks" / kind / Path(name).with_suffix(".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(imagecodecs.png_encode(marks.astype(np.uint8) * 255))
        self.done.counts[kind] += 1


def _checked(name: str) -> str:
    if name and name not in FORMATS:
        raise BlemishError(f"format {short_repr(name)}: there is none; there are {', '.join(FORMATS)}.")
    return name


def _recognised(path: Path) -> str:
    if not os.path.exists(path):  # noqa: PTH110 - never raises
        raise BlemishError(f"{path}: no such file or folder. Give the annotations.")
    found = next((name for name, one in FORMATS.items() if one.matches(path)), "")
    if not found:
        raise BlemishError(
            f"{path}: annotations of no known format. Give a JSON file of COCO or Label Studio, an XML file of CVAT "
            "for images, or the folder of LabelMe, Supervisely or YOLO segmentation; --format NAME says which it is."
        )
    return found


def _marks(labelled: Labelled, shapes: list[Shape], image: Path, boxes: bool) -> Marks | None:
    """The mask of the shapes; None without any. Raises BlemishError with the reason for which it cannot be taken."""
    pixels = read_image(image)
    size = pixels.shape[0], pixels.shape[1]
    if labelled.refused:
        raise BlemishError(labelled.refused[0])
    if labelled.size not in (None, size):
        raise BlemishError("annotations for another size than the image's")
    if any(shape.is_box for shape in shapes) and not boxes:
        raise BlemishError(BOX)
    if not shapes:
        return None
    marks = marks_of_shapes(shapes, size)
    if not marks.any():
        raise BlemishError("a shape outside of the image")
    return marks


def type_name(labels: list[str]) -> str:
    """The name of the folder for images with these labels: the labels, joined; letters that no name has become _."""
    name = "+".join(re.sub(r"[^\w.-]+", "_", label).strip("_.") or "defect" for label in labels)[:100]
    try:
        is_clear = not is_good_type(Path(name)) and not is_mask_folder(name)
    except BlemishError:
        is_clear = False
    return name if is_clear else f"type_{name}"
