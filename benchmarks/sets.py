"""What the measurements over several sets share: their arguments, the sets, and figures that are measured once."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.synthetic import synthesize
from blemish.files import make_folder, write_json
from blemish.types import Sample


def parser_of(text: str | None, built_in: Sequence[str]) -> argparse.ArgumentParser:
    """The arguments OUT, --data, --sets, --built-in (by default these), --options and --figure; `text` is the help."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="folder with categories in the layout of MVTec AD")
    parser.add_argument("--sets", nargs="*", default=[], help="categories of it")
    parser.add_argument("--built-in", nargs="*", default=list(built_in), help="categories of the built-in data")
    parser.add_argument("--options", type=json.loads, default={}, help="of the detector, such as '{\"size\": 128}'")
    parser.add_argument("--figure", type=Path)
    return parser


def folders_of(given: argparse.Namespace, **numbers: int) -> list[Path]:
    """The folders of the sets that are asked for; built-in ones are made in OUT, of so many images."""
    make_folder(given.out)
    folders = [given.data / name for name in given.sets]
    if given.built_in:
        folders += synthesize(given.out / "built-in", categories=given.built_in, **numbers)
    return folders


def measured_once(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures in a file; where it is missing they are measured and written first."""
    if not path.exists():
        write_json(path, measure())
    figures: dict[str, Any] = json.loads(path.read_text())
    return figures


def evenly(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Up to `most` good and `most` anomalous images, evenly chosen."""
    found = []
    for label in (False, True):
        own = [sample for sample in samples if bool(sample.label) is label]
        rows = np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int))
        found += [own[row] for row in rows]
    return found
