"""Manifests: long lists of image files, read row by row, so that memory does not grow with their number."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from blemish.data.addresses import UnreachedError, is_remote, joined, opened_address, parent_of, read_address
from blemish.errors import BlemishError
from blemish.imaging.limits import BYTES_PER_PIXEL, HEADERS, MAX_PIXELS
from blemish.types import Sample

COLUMN = "path"
"""The column of a table that holds the addresses, by default."""
CHUNK = 1 << 20
LONGEST_LINE = 1 << 16
"""The most characters of an address."""


@dataclass(frozen=True)
class Manifest:
    """A list of image files: a parquet or CSV table with a column of addresses, or a text with one per line."""

    address: str
    root: str
    """Where relative addresses begin."""
    column: str
    num_rows: int
    sha256: str
    """Of its content; of a parquet file of its footer, which describes every part of it."""

    @classmethod
    def read(cls, address: str, root: str | None = None, column: str = COLUMN) -> Manifest:
        """Counts and hashes the rows of a manifest; relative addresses begin at its own folder by default.

        Raises BlemishError where it cannot be read, has no such column or no row.
        """
        is_parquet = _kind(address) == "parquet"
        digest = _parquet_digest(address) if is_parquet else _digest(address)
        number = _parquet_rows(address, column) if is_parquet else sum(1 for _ in _names(address, column))
        if not number:
            raise BlemishError(f"{address}: has no row. Give a manifest that names images.")
        return cls(address, parent_of(address) if root is None else root, column, number, digest)

    def blocks(self, size: int, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, list[str]]]:
        """(number, addresses) of each wanted block of `size` rows, one after the other."""
        if _kind(self.address) == "parquet":
            found = _parquet_blocks(self.address, self.column, size, self.num_rows, is_wanted)
        else:
            found = _blocks(_names(self.address, self.column), size, is_wanted)
        for number, names in found:
            yield number, [joined(self.root, name) for name in names]


@dataclass
class RemoteContent:
    """The content of a remote file, which is fetched by a call."""

    address: str
    largest: int
    """The most bytes that it may have."""
    is_unreached: bool = False
    """Whether a call failed though the file may be there."""

    def __call__(self) -> bytes:
        """Fetches the content; raises BlemishError as `read_address` does."""
        try:
            return read_address(self.address, self.largest)
        except UnreachedError:
            self.is_unreached = True
            raise


def sample_of(address: str, max_pixels: int = MAX_PIXELS) -> Sample:
    """The image at an address; a remote one is fetched when it is read."""
    if not is_remote(address):
        return Sample(Path(address))
    return Sample(Path(address), content=RemoteContent(address, BYTES_PER_PIXEL * max_pixels + HEADERS))


def _kind(address: str) -> str:
    suffix = os.path.splitext(address)[1].lower()  # noqa: PTH122 - may be no path
    return {".parquet": "parquet", ".csv": "csv"}.get(suffix, "listing")


def _digest(address: str) -> str:
    digest = hashlib.sha256()
    with opened_address(address) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _names(address: str, column: str) -> Iterator[str]:
    """The names in a CSV table or a listing, which is in UTF-8 or in the bytes of the file system."""
    with opened_address(address) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        try:
            yield from _csv_names(text, address, column) if _kind(address) == "csv" else _listed(text, address)
        finally:
            text.detach()


def _listed(text: io.TextIOWrapper, address: str) -> Iterator[str]:
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise BlemishError(f"{address}: a line has more than {LONGEST_LINE:,} characters. Give one file per line.")
        if name := line.rstrip("\r\n"):
            yield _checked(name, address)


def _csv_names(text: io.TextIOWrapper, address: str, column: str) -> Iterator[str]:
    rows = csv.reader(text)
    try:
        header = next(rows, [])
        if column not in header:
            raise _no_column(address, column, header)
        place = header.index(column)
        for row in rows:
            if row:
                yield _checked(row[place] if place < len(row) else "", address)
    except csv.Error as error:
        raise BlemishError(f"{address}: line {rows.line_num} is not CSV ({error}). Write it again.") from None


def _checked(name: object, address: str) -> str:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise BlemishError(f"{address}: a row names no file. Remove it.")
    return name


def _no_column(address: str, column: str, known: list[str]) -> BlemishError:
    names = ", ".join(known[:12]) or "none"
    return BlemishError(f"{address}: has no column {column}. Its columns are {names}. Name one with --column.")


def _blocks(names: Iterator[str], size: int, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, list[str]]]:
    number = 0
    while True:
        if is_wanted(number):
            block = list(islice(names, size))
            count = len(block)
            if block:
                yield number, block
        else:
            count = sum(1 for _ in islice(names, size))
        if count < size:
            return
        number += 1


def _parquet_digest(address: str) -> str:
    """SHA-256 of the footer: its length stands before the last four bytes of the file."""
    with opened_address(address) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 8))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if len(tail) < 8 or tail[4:] != b"PAR1" or length + 8 > end:
            raise BlemishError(f"{address}: not a parquet file. Write it again, or name it .csv or .txt.")
        file.seek(end - 8 - length)
        return hashlib.sha256(file.read(length)).hexdigest()


def _parquet(file: IO[bytes], address: str) -> Any:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)
    except (ArrowException, OSError, ValueError) as error:
        raise BlemishError(f"{address}: damaged ({str(error)[:150]}). Write it again.") from None


def _parquet_rows(address: str, column: str) -> int:
    from pyarrow import types

    with opened_address(address) as file:
        table = _parquet(file, address)
        names = table.schema_arrow.names
        if column not in names:
            raise _no_column(address, column, names)
        kind = table.schema_arrow.field(column).type
        inner = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(inner) or types.is_large_string(inner)):
            raise BlemishError(f"{address}: column {column} is of {kind}, not of text. Name another with --column.")
        return int(table.metadata.num_rows)


def _parquet_blocks(
    address: str, column: str, size: int, num_rows: int, is_wanted: Callable[[int], bool]
) -> Iterator[tuple[int, list[str]]]:
    """The wanted blocks; groups of rows in which none lies are not read."""
    with opened_address(address) as file:
        table = _parquet(file, address)
        waiting: list[str] = []
        start = 0
        for group in range(table.metadata.num_row_groups):
            end = start + table.metadata.row_group(group).num_rows
            if any(map(is_wanted, range(start // size, -(-end // size)))):
                at = start
                for batch in _batches(table, group, column, address):
                    for name in batch:
                        number = at // size
                        at += 1
                        if is_wanted(number):
                            waiting.append(_checked(name, address))
                            if at % size == 0 or at == num_rows:
                                yield number, waiting
                                waiting = []
            start = end


def _batches(table: Any, group: int, column: str, address: str) -> Iterator[list[Any]]:
    from pyarrow import ArrowException

    try:
        for batch in table.iter_batches(10_000, row_groups=[group], columns=[column]):
            yield batch.column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise BlemishError(f"{address}: damaged ({str(error)[:150]}). Write it again.") from None
