"""Manifests give every name once, in order, in the blocks that are asked for, whatever their kind."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.addresses import Store, joined, parent_of, read_address
from blemish.data.manifest import Manifest, sample_of
from blemish.data.reading import FileReader
from blemish.errors import BlemishError

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=9), max_size=40
)


def write(folder: Path, kind: str, names: list[str], group: int = 7) -> str:
    path = folder / f"list.{kind}"
    if kind == "parquet":
        table = pa.table({"number": pa.array(range(len(names))), "path": pa.array(names, pa.string())})
        pq.write_table(table, path, row_group_size=group)
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["number", "path"], *([index, name] for index, name in enumerate(names))])
    else:
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", ["parquet", "csv", "txt"])
@settings(max_examples=25, deadline=None)
@given(names=NAMES, size=st.integers(1, 9), count=st.integers(1, 4), group=st.integers(1, 12))
def test_the_shares_have_every_name_once_and_in_order(tmp_path_factory, kind, names, size, count, group):
    names = [name for name in names if name.strip()]
    address = write(tmp_path_factory.mktemp("m"), kind, names, group)
    if not names:
        with pytest.raises(BlemishError, match="has no row"):
            Manifest.read(address)
        return
    manifest = Manifest.read(address, root="")
    assert manifest.num_rows == len(names)
    found = {}
    for index in range(count):
        for number, block in manifest.blocks(size, lambda number, index=index: number % count == index):
            assert number not in found
            found[number] = block
    whole = [name for number in sorted(found) for name in found[number]]
    assert whole == [joined("", name) for name in names]
    assert all(len(found[number]) == size for number in sorted(found)[:-1])


def test_the_hash_is_that_of_the_content(tmp_path):
    for kind in ("parquet", "csv", "txt"):
        first = Manifest.read(write(tmp_path, kind, ["a.png", "b.png"]))
        again = Manifest.read(write(tmp_path, kind, ["a.png", "b.png"]))
        other = Manifest.read(write(tmp_path, kind, ["a.png", "c.png"]))
        assert first == again
        assert first.sha256 != other.sha256


def test_relative_names_begin_at_the_manifest_or_at_the_root(tmp_path):
    address = write(tmp_path, "txt", ["a.png", "/abs/b.png", "s3://bucket/c.png"])
    ((_, names),) = Manifest.read(address).blocks(9, lambda _: True)
    assert names == [str(tmp_path / "a.png"), "/abs/b.png", "s3://bucket/c.png"]
    ((_, names),) = Manifest.read(address, root="s3://bucket/x").blocks(9, lambda _: True)
    assert names[0] == "s3://bucket/x/a.png"
    assert parent_of("s3://bucket/x/list.csv") == "s3://bucket/x"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"file\nx.png\n", "has no column path. Its columns are file. Name one with --column."),
        ("a.csv", b"path,b\nx.png,1\n,2\n", "a row names no file"),
        ("a.csv", b'path\n"' + b"x" * 200_000 + b'"\n', "is not CSV"),
        ("a.csv", b"", "has no column path"),
        ("a.csv", b"path\n", "has no row"),
        ("a.txt", b"a\0b\n", "a row names no file"),
        ("a.txt", b"x" * 70_000, "a line has more than 65,536 characters"),
        ("a.parquet", b"x" * 70, "not a parquet file"),
        ("a.parquet", b"", "not a parquet file"),
        ("a.parquet", b"PAR1xxxxxxxx\x04\x00\x00\x00PAR1", "damaged"),
        ("none.parquet", None, "No such file"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_line(name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BlemishError, match=f"{name}: ") as caught:
        Manifest.read(str(tmp_path / name))
    assert said in str(caught.value)


def test_a_column_of_numbers_names_no_files(tmp_path):
    with pytest.raises(BlemishError, match="column number is of int64, not of text"):
        Manifest.read(write(tmp_path, "parquet", ["a"]), column="number")


def test_a_remote_folder_is_a_store_like_a_local_one(tmp_path):
    for address in (str(tmp_path / "out"), "memory://blemish-test/out"):
        store = Store(address)
        assert (store.names("scores"), store.read("x.json")) == (set(), None)
        store.write("scores/part-1", b"1")
        store.write("x.json", b"{}")
        assert (store.names("scores"), store.read("x.json")) == ({"part-1"}, b"{}")
    assert read_address("memory://blemish-test/out/x.json", 2) == b"{}"
    with pytest.raises(BlemishError, match="0 MB, where at most 0 MB are read"):
        read_address("memory://blemish-test/out/x.json", 1)
    with pytest.raises(BlemishError, match="memory://blemish-test/none: no such file"):
        read_address("memory://blemish-test/none", 1)
    with pytest.raises(BlemishError, match="nothing://x: cannot be used"):
        read_address("nothing://x", 1)


def test_a_remote_image_is_fetched_when_it_is_read(make_category, tmp_path):
    local = make_category(tmp_path) / "train/good/000.png"
    Store("memory://blemish-test").write("a.png", local.read_bytes())
    remote = FileReader().open(sample_of("memory://blemish-test/a.png"))
    assert remote.sha256 == FileReader().open(sample_of(str(local))).sha256
    assert FileReader().open(sample_of("memory://blemish-test/none.png")).error
