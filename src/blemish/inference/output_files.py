"""The maps, overlays and previews of predictions as files, each under a name that file systems take."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blemish.calibration.thresholds import Calibration
from blemish.errors import BlemishError
from blemish.files import absolute, make_folder, writing
from blemish.inference.maps import encode_map
from blemish.inference.overlay import overlay, to_jpeg
from blemish.inference.previews import encode_preview
from blemish.inference.rows import FOLDERS, Row, row_file
from blemish.types import Decision, MapFormat, Prediction

SUFFIXES = {"map": ".tiff", "overlay": ".jpg", "preview": ".preview"}
"""Field of a row -> the kind of its files."""
LONGEST = 200
"""Bytes of a name; file systems take 255, of which some are for suffixes."""


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Where these files of a run are written, and how."""

    out: Path
    names: Mapping[Path, str]
    """Image -> the name of its files below their folders, without suffix."""
    calibration: Calibration | None
    form: MapFormat | None
    """Of the maps; None: that of the map which an image had."""

    def write(self, found: Prediction, decision: Decision | None, fields: Collection[str], before: Row) -> Row:
        """The fields of FOLDERS whose files are written now, for a row; "error" tells why one cannot be.

        `before` is the row that the image had.
        """
        kept: MapFormat = "float32" if before.get("map_format") == "float32" else "uint16"
        form, row = self.form or kept, Row()
        level = self.calibration.pixel_threshold if self.calibration else None
        encode: dict[str, Callable[[], bytes]] = {
            "map": lambda: encode_map(found.map, form, found.sha256),
            "overlay": lambda: to_jpeg(overlay(found, decision, self.calibration)),
            "preview": lambda: encode_preview(found, level),
        }
        for field in sorted(fields):
            path = self.out / FOLDERS[field] / f"{self.names[found.sample.image]}{SUFFIXES[field]}"
            try:
                write_file(path, encode[field]())
                row |= {field: path.relative_to(self.out).as_posix()} | ({"map_format": form} if field == "map" else {})
            except BlemishError as error:
                row["error"] = str(error)
        return row


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all; raises BlemishError where it cannot be written."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.part")  # what a killed run leaves is overwritten by the next
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def file_names(images: Sequence[Path], known: Mapping[str, Row]) -> dict[Path, str]:
    """Image -> the name of its files: that in its row, or else its path below the folder that all have in common.

    Its own extension stays where another image has the same stem. No two names differ in case alone, and none is that
    of a folder.
    """
    root = Path(os.path.commonpath([absolute(path).parent for path in images]))
    inner = {path: _safe(absolute(path).relative_to(root)) for path in images}
    stems = Counter(str(own.with_suffix("")).casefold() for own in inner.values())
    taken = {name.casefold() for row in known.values() for name in _named(row)}
    others = {str(own).casefold() for own in inner.values()}
    names: dict[Path, str] = {}
    for path, own in inner.items():
        if kept := next(_named(known.get(str(path), {})), None):
            names[path] = kept
            continue
        stem = str(own.with_suffix(""))
        is_alone = stems[stem.casefold()] == 1 and stem.casefold() not in others
        choices = [*([stem] if is_alone else []), str(own), f"{own}~{_digest(os.fsencode(path))}"]
        name = next(choice for choice in choices if choice.casefold() not in taken)
        taken.add(name.casefold())
        names[path] = name
    return names


def _named(row: Row) -> Iterator[str]:
    """The names of the map and the overlay of a row."""
    for field, folder in FOLDERS.items():
        if row_file(Path(), row, field):
            yield str(PurePosixPath(row[field]).relative_to(folder).with_suffix(""))


def _safe(inner: Path) -> PurePosixPath:
    """The path, no part too long; a folder that is named like one of our files has another name."""
    *folders, name = map(_shortened, inner.parts)
    suffixes = tuple(SUFFIXES.values())
    return PurePosixPath(*(f"{folder}_" if folder.endswith(suffixes) else folder for folder in folders), name)


def _shortened(name: str) -> str:
    content = os.fsencode(name)
    if len(content) <= LONGEST:
        return name
    return f"{content[: LONGEST - 40].decode(errors='ignore')}~{_digest(content)}{Path(name).suffix[:20]}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
