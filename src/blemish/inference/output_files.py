"""Writing the maps, overlays and previews of predictions, under names that are valid on all file systems."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blemish.calibration.thresholds import Calibration
from blemish.errors import BlemishError
from blemish.files import absolute, write_file
from blemish.inference.maps import encode_map
from blemish.inference.overlay import overlay, to_jpeg
from blemish.inference.previews import encode_preview
from blemish.inference.rows import FOLDERS, Row, row_file
from blemish.types import Decision, MapFormat, Prediction

SUFFIXES = {"map": ".tiff", "overlay": ".jpg", "preview": ".preview"}
"""Field of a row -> the suffix of its files."""
LONGEST = 200
"""The most bytes of a name; file systems allow 255, and suffixes need some."""


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The folder, names and formats of the files of one `predict` call."""

    out: Path
    names: Mapping[Path, str]
    """Image -> the path of its files relative to their folder, without suffix."""
    calibration: Calibration | None
    map_format: MapFormat | None
    """The format of the maps; None: the format of the image's earlier map."""

    def write(self, prediction: Prediction, decision: Decision | None, fields: Collection[str], before: Row) -> Row:
        """Writes the files of these fields of FOLDERS, and gives the fields for the image's row.

        `before` is the image's earlier row. If a file cannot be written, the field "error" says why.
        """
        former: MapFormat = "float32" if before.get("map_format") == "float32" else "uint16"
        map_format, row = self.map_format or former, Row()
        level = self.calibration.pixel_threshold if self.calibration else None
        encode: dict[str, Callable[[], bytes]] = {
            "map": lambda: encode_map(prediction.map, map_format, prediction.sha256),
            "overlay": lambda: to_jpeg(overlay(prediction, decision, self.calibration)),
            "preview": lambda: encode_preview(prediction, level),
        }
        for field in sorted(fields):
            path = self.out / FOLDERS[field] / f"{self.names[prediction.sample.image]}{SUFFIXES[field]}"
            try:
                write_file(path, encode[field]())
                row[field] = path.relative_to(self.out).as_posix()
                if field == "map":
                    row["map_format"] = map_format
            except BlemishError as error:
                row["error"] = str(error)
        return row


def file_names(images: Sequence[Path], known: Mapping[str, Row]) -> dict[Path, str]:
    """Image -> the name of its output files, unique even if case is ignored.

    It is the name in the image's known row, or else its path relative to the common parent folder. The extension is
    dropped unless another image has the same stem.
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
    """The names of the output files of a row."""
    for field, folder in FOLDERS.items():
        if row_file(Path(), row, field):
            yield str(PurePosixPath(row[field]).relative_to(folder).with_suffix(""))


def _safe(inner: Path) -> PurePosixPath:
    """The path with all parts shortened; a folder whose name ends like an output file gets another name."""
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
