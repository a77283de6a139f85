"""YOLO segmentation: a text file per image, each line a class and the corners of a polygon as parts of the image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from blemish.data.annotations.documents import Drawn
from blemish.data.annotations.shapes import Labelled, Shape, box_points, points_of
from blemish.data.layouts.layout import LARGEST_TABLE
from blemish.errors import BlemishError
from blemish.files import read_bytes

NAMES = "classes.txt"
"""A file with the name of a class per line."""


def is_yolo(path: Path) -> bool:
    """Whether the path is a folder with text files of lines of numbers."""
    return path.is_dir() and any(_is_numbers(file) for file in _labels(path)[:20])


def read_yolo(path: Path) -> Iterator[Labelled]:
    """The image of every text file; an empty one stands for a good image. Raises BlemishError for what is no text."""
    names = class_names(path)
    for file in _labels(path):
        drawn = Drawn()
        for line in _text(file).splitlines():
            if line.strip():
                drawn.add("a line", lambda line=line: _shape(line.split(), names))  # type: ignore[misc]
        # Above the folder of labels lies that of the images, often called so.
        name = file.relative_to(path).with_suffix("").as_posix()
        yield Labelled(name, tuple(drawn.shapes), None, tuple(drawn.refused))


def class_names(path: Path) -> dict[int, str]:
    """Number of a class -> its name, of classes.txt or data.yaml in the folder or one of the two above."""
    for folder in (path, *list(path.absolute().parents)[:2]):
        if (folder / NAMES).is_file():
            return dict(enumerate(line.strip() for line in _text(folder / NAMES).splitlines()))
        for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
            if found := _names_in_yaml(_text(file)):
                return found
    return {}


def _names_in_yaml(text: str) -> dict[int, str]:
    """The names below `names:`: a list in brackets, one item per line, or a number and a name per line."""
    if inline := re.search(r"^names:[ \t]*\[(.*?)\]", text, re.MULTILINE | re.DOTALL):
        return dict(enumerate(name.strip(" \n\t'\"") for name in inline[1].split(",")))
    if inline := re.search(r"^names:[ \t]*\{(.*?)\}", text, re.MULTILINE | re.DOTALL):
        pairs = re.findall(r"(\d+)\s*:\s*['\"]?([^,'\"}]+)", inline[1])
        return {int(number): name.strip() for number, name in pairs}
    if block := re.search(r"^names:[ \t]*\n((?:[ \t]*(?:-|\d+[ \t]*:).*\n?)+)", text, re.MULTILINE):
        names = [re.sub(r"^\s*(-|\d+\s*:)\s*", "", line).strip(" '\"") for line in block[1].splitlines()]
        numbers = [re.match(r"\s*(\d+)\s*:", line) for line in block[1].splitlines()]
        return {int(at[1]) if at else row: name for row, (at, name) in enumerate(zip(numbers, names, strict=True))}
    return {}


def _shape(words: list[str], names: dict[int, str]) -> Shape | None:
    number, values = int(words[0]), [float(word) for word in words[1:]]
    label = names.get(number, f"class_{number}")
    if len(values) == 4:
        x, y, width, height = values
        corners = box_points(x - width / 2, y - height / 2, width, height)
        return Shape(label, (corners,), unit="image", is_box=True)
    return Shape(label, (points_of(values),), unit="image") if len(values) >= 6 else None


def _labels(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*.txt") if file.name != NAMES and not file.name.startswith("."))


def _is_numbers(file: Path) -> bool:
    words = _text(file).split()
    return len(words) >= 5 and all(re.fullmatch(r"-?\d+(\.\d+)?([eE]-?\d+)?", word) for word in words)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, LARGEST_TABLE).decode()
    except UnicodeDecodeError:
        raise BlemishError(f"{path}: not a text in UTF-8.") from None
