"""Runs `blemish predict`, and reads what it wrote."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from blemish.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", *map(str, arguments)])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out + said.err


def listing(content: bytes) -> io.TextIOWrapper:
    """What standard input is to a command."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))
