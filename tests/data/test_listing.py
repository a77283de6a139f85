"""Which files a folder holds: what is walked, what is left out and why, and that nothing is walked twice."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data import listing
from blemish.data.category import find_categories
from blemish.data.listing import (
    LOCKED_FOLDER,
    OTHER_FILE,
    SEEN_FOLDER,
    SPECIAL_FILE,
    describe,
    list_folders,
    list_images,
)
from blemish.data.selection import find_images
from blemish.errors import BlemishError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def images(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder).images]


def left_out(folder: Path) -> list[tuple[str, str]]:
    return [(left.path.relative_to(folder).as_posix(), left.reason) for left in list_images(folder).left_out]


@pytest.fixture
def locked(monkeypatch) -> set[str]:
    """Names of folders that cannot be read, for root neither."""
    names: set[str] = set()
    scandir = os.scandir

    def refusing(path):
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(listing, "os", SimpleNamespace(**{**vars(os), "scandir": refusing}))
    return names


def test_sub_folders_are_walked_and_images_come_in_the_order_of_their_paths(tmp_path: Path):
    touch(tmp_path, "b/2.png", "b/a/1.JPG", "a.tif", "c.png", "b.png")
    assert images(tmp_path) == ["a.tif", "b/2.png", "b/a/1.JPG", "b.png", "c.png"]
    assert left_out(tmp_path) == []


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path):
    touch(
        tmp_path,
        "1.png",
        ".ipynb_checkpoints/1-checkpoint.png",
        ".thumbnails/1.png",
        "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "deep/__MACOSX/._1.png",
        "deep/Thumbnails/1.png",
        "deep/._1.png",
        ".DS_Store",
        "notes.txt",
        "scan.HEIC",
        "README",
    )
    os.mkfifo(tmp_path / "pipe.png")
    assert images(tmp_path) == ["1.png"]
    found = list_images(tmp_path).left_out
    assert sorted(describe(found).removeprefix("left out: ").split(", ", 4)) == [
        "1 hidden image",
        "1 pipe or device",
        "2 hidden folders",
        "3 files not an image by name (.HEIC, .txt, no extension)",
        "3 folders of a tool",
    ]
    assert {left.path.name: left.reason for left in found}["pipe.png"] == SPECIAL_FILE
    assert describe(()) == ""


def test_a_link_that_leads_nowhere_is_listed_so_that_it_is_refused_by_name(tmp_path: Path):
    touch(tmp_path, "1.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    assert images(tmp_path) == ["1.png", "gone.png", "itself.png"]


def test_links_to_folders_are_followed_once(tmp_path: Path):
    touch(tmp_path, "store/deep/2.png", "store/1.png", "parts/own/3.png")
    parts = tmp_path / "parts"
    for name, target in {"a": "store", "b": "store", "c": "store/deep", "own2": "parts/own"}.items():
        (parts / name).symlink_to(tmp_path / target, target_is_directory=True)
    assert images(parts) == ["a/1.png", "a/deep/2.png", "own/3.png"]
    assert left_out(parts) == [(name, SEEN_FOLDER) for name in ("b", "c", "own2")]


def test_circles_end(tmp_path: Path):
    touch(tmp_path, "parts/good/1.png", "parts/bad/2.png", "other/3.png")
    good = tmp_path / "parts/good"
    (good / "itself").symlink_to(good, target_is_directory=True)
    (good / "above").symlink_to(tmp_path / "parts", target_is_directory=True)
    (good / "other").symlink_to(tmp_path / "other", target_is_directory=True)
    (tmp_path / "other/back").symlink_to(good, target_is_directory=True)
    assert images(good) == ["1.png", "other/3.png"]
    assert left_out(good) == [(name, SEEN_FOLDER) for name in ("above", "itself", "other/back")]


def test_a_folder_that_cannot_be_read_is_counted(tmp_path: Path, locked: set[str]):
    touch(tmp_path, "1.png", "locked/2.png")
    locked.add("locked")
    assert images(tmp_path) == ["1.png"]
    assert left_out(tmp_path) == [("locked", LOCKED_FOLDER)]
    with pytest.raises(BlemishError, match=r"locked: no images found \(left out: 1 folder that cannot be read\)"):
        find_images([str(tmp_path / "locked")])
    with pytest.raises(BlemishError, match=r"locked: Permission denied\. Check the folder and its permissions\."):
        find_categories(tmp_path / "locked")


def test_a_named_folder_is_walked_whatever_its_name(tmp_path: Path):
    touch(tmp_path, ".cache/thumbs/1.png", ".cache/thumbs/.x/2.png")
    assert images(tmp_path / ".cache/thumbs") == ["1.png"]
    assert list_images(tmp_path / "none") == listing.Listing()
    assert list_folders(tmp_path) == []
    assert list_folders(tmp_path / "none") == []


def test_own_folders_are_left_out(tmp_path: Path):
    touch(tmp_path, "1.png", "out/maps/1.tiff", "maps/2.png")
    found = list_images(tmp_path, [tmp_path / "out/maps"])
    assert [path.name for path in found.images] == ["1.png", "2.png"]
    assert describe(found.left_out) == "left out: 1 folder that predict wrote"


NAMES = st.sampled_from(["a", "b.png", "c.JPG", "d.txt", ".e.png", ".f", "@eaDir", "g"])
PATHS = st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(paths=PATHS, links=st.sets(st.sampled_from(["a", "g", ""]), max_size=3))
def test_links_within_a_folder_bring_nothing_twice(paths, links, tmp_path_factory):
    root = tmp_path_factory.mktemp("walk")
    for path in sorted(paths):
        if not (root / path).exists() and not any(above.is_file() for above in (root / path).parents):
            touch(root, path)
    without_links = list_images(root)
    read = [path for path in root.rglob("*") if path.is_file() and not _is_passed_by(path.relative_to(root))]
    assert set(without_links.images) == {path for path in read if path.suffix in (".png", ".JPG")}
    assert len(without_links.images) == len(set(without_links.images))
    assert {left.path for left in without_links.left_out if left.reason == OTHER_FILE} == {
        path for path in read if path not in without_links.images
    }
    for number, name in enumerate(links):
        if (root / name).is_dir():
            (root / f"link {number}").symlink_to(root / name, target_is_directory=True)
    assert list_images(root).images == without_links.images


def _is_passed_by(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts) or "@eaDir" in path.parent.parts
