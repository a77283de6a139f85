"""What a layout of a data set is, and what reading one takes: categories, tables, and what must be there."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.data.listing import list_folders
from blemish.errors import BlemishError, short_repr
from blemish.files import read_bytes
from blemish.types import Sample

Found = dict[Path, list[Sample]]
"""Folder of a category -> its samples."""
Reader = Callable[[Path], Found]
"""Function from a path to what is found there; empty where the path does not have the layout. Raises BlemishError where
it has the layout in part, with what is missing."""
LARGEST_TABLE = 256 << 20
"""Bytes that a table or document of a data set may have at most."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a data set lies in folders."""

    read: Reader
    expected: str = ""
    """A sentence that says what is expected where, for error messages."""
    others: frozenset[str] = frozenset()
    """Names of files and folders that belong to the data set, but are neither images of it nor masks."""
    has_split: bool = True
    """Whether the data set says which good images are for testing; where it does not, every fifth is."""


def categories_under(path: Path, is_category: Callable[[Path], bool], read: Callable[[Path], list[Sample]]) -> Found:
    """The samples of `path`, where it is a category's folder, or of each of its sub-folders that is one."""
    folders = [path] if is_category(path) else [folder for folder in list_folders(path) if is_category(folder)]
    return {folder: read(folder) for folder in folders}


def has_folders(folder: Path, *names: str) -> bool:
    """Whether the folder has all of these sub-folders; a name may be a path."""
    return all(os.path.isdir(folder / name) for name in names)  # noqa: PTH112 - never raises


def needed(place: Path, expected: str) -> Path:
    """The path itself; raises BlemishError where nothing is there, with what the layout expects."""
    if not os.path.exists(place):  # noqa: PTH110 - never raises
        raise BlemishError(f"{place}: missing. {expected}")
    return place


def inside(folder: Path, name: str, source: Path) -> Path:
    """The path of a file that a table or document names; raises BlemishError where it leaves the folder."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise BlemishError(f"{source}: {short_repr(name)} is not a path within {folder}.")
    return folder / name


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file as dicts; raises BlemishError where it cannot be read or lacks one of the columns."""
    try:
        reader = csv.DictReader(read_bytes(path, LARGEST_TABLE).decode("utf-8-sig").splitlines(), strict=True)
        rows = [{name: row[name] or "" for name in columns} for row in reader]
    except KeyError:
        found = ", ".join(reader.fieldnames or ()) or "none"
        raise BlemishError(f"{path}: has the columns {found}; {', '.join(columns)} are needed.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BlemishError(f"{path}: not a CSV file ({error}).") from None
    return rows


def read_document(path: Path) -> Any:
    """The content of a JSON file; raises BlemishError where it cannot be read."""
    try:
        return json.loads(read_bytes(path, LARGEST_TABLE))
    except (ValueError, RecursionError) as error:
        raise BlemishError(f"{path}: not JSON ({error}).") from None


def sorted_samples(found: Mapping[Path, list[Sample]]) -> Found:
    """The same, with the samples of each category in the order of their paths."""
    return {folder: sorted(samples, key=lambda sample: sample.image) for folder, samples in found.items()}
