"""Archives of data sets: files alone, within the folder, and with limits; nothing is left of one that is refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from blemish.data import find_categories, unpack
from blemish.data.unpack import unpack as unpacked
from blemish.errors import BlemishError

FILES = {"set/train/good/1.png": b"one", "set/a b/ü.png": b"two" * 1000, "set/empty.txt": b""}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("set")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def make(path: Path, files: dict[str, bytes] | None = None) -> Path:
    return (make_zip if path.suffix == ".zip" else make_tar)(path, FILES if files is None else files)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_every_kind_of_archive(name, tmp_path: Path):
    out = tmp_path / "new" / "out"
    assert unpacked(make(tmp_path / name), out) == 3
    assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()} == FILES
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.parametrize("inner", ["../x", "/x", "a/../../x", "a\\..\\x", "C:x"])
def test_paths_out_of_the_folder_are_refused(name, inner, tmp_path: Path):
    path = make(tmp_path / name, {"fine": b"1", inner: b"2"})
    with pytest.raises(BlemishError, match="is not a path within the archive"):
        unpacked(path, tmp_path / "out")
    assert [left.name for left in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind, tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(BlemishError, match="'link' is a link or a device"):
        unpacked(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(BlemishError, match="'link' is a link"):
        unpacked(tmp_path / "a.zip", tmp_path / "out")


def test_what_would_grow_too_much_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(unpack, "SMALLEST_LIMIT", 1000)
    for name in ("a.zip", "a.tar.gz"):
        path = make(tmp_path / name, {"zeros": bytes(10_000_000)})
        with pytest.raises(BlemishError, match="more than 100 times as large"):
            unpacked(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    monkeypatch.setattr(unpack, "MOST_FILES", 2)
    with pytest.raises(BlemishError, match="has more than 2 files"):
        unpacked(make(tmp_path / "b.zip"), tmp_path / "out")


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(unpack, "SMALLEST_LIMIT", 1000)
    path = make(tmp_path / "a.zip", {"zeros": bytes(10_000_000)})
    data = path.read_bytes().replace((10_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(BlemishError, match=r"that can be read|more than 100 times"):
        unpacked(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_files_are_refused(tmp_path: Path):
    for name in ("a.zip", "a.tar.gz", "a.tar"):
        path = make(tmp_path / name, {"noise": bytes(range(256)) * 400})
        data = bytearray(path.read_bytes())
        data[len(data) // 2 :] = b""
        path.write_bytes(data)
        with pytest.raises(BlemishError, match="not a zip or tar file that can be read"):
            unpacked(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(BlemishError, match="No such file"):
        unpacked(tmp_path / "none.zip", tmp_path / "out")


def test_a_name_twice_and_a_folder_that_is_there(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("x"))
    with pytest.raises(BlemishError, match="has x twice"):
        unpacked(tmp_path / "a.tar", tmp_path / "out")
    (tmp_path / "full").mkdir()
    unpacked(make(tmp_path / "b.tar"), tmp_path / "full")  # an empty folder is as good as none
    with pytest.raises(BlemishError, match="full: there is something already"):
        unpacked(tmp_path / "b.tar", tmp_path / "full")


def test_an_archive_in_place_of_a_data_set_says_what_to_do(tmp_path: Path):
    path = make(tmp_path / "a.tar.gz")
    with pytest.raises(BlemishError, match=r"an archive\. Unpack it: blemish data unpack .*a\.tar\.gz --out FOLDER"):
        find_categories(path)
