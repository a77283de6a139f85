"""A damaged zip archive is refused in one line, wherever its damage lies."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.station.packages import unpack
from blemish.station.uploads import Limits, in_archive


def archive(name: str, *, is_damaged: bool = True) -> io.BytesIO:
    """A zip archive of one file, with or without damage to its compressed content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, bytes(range(256)) * 400)
    content = bytearray(file.getvalue())
    if is_damaged:
        content[30 + len(name) : 50 + len(name)] = b"\xff" * 20
    return io.BytesIO(bytes(content))


def test_images_whose_compressed_content_is_damaged_are_one_line():
    assert [arrived.name for arrived in in_archive(archive("a.png", is_damaged=False), Limits())] == ["a.png"]
    with pytest.raises(BlemishError, match=r"^the archive cannot be read \(.*Give a zip file\.$"):
        list(in_archive(archive("a.png"), Limits()))


def test_a_model_whose_compressed_content_is_damaged_leaves_nothing(tmp_path: Path):
    with pytest.raises(BlemishError, match=r"^the file is no model \("):
        unpack(archive("model.json"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
