"""The archive for the server of MVTec AD 2: what is written, and everything that the checker refuses."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from trees import ad2

from blemish.errors import BlemishError
from blemish.evaluation.submission import COUNTS, check_archive, encode, expected_files, files_of
from blemish.runs.config import RunConfig
from blemish.runs.run import run
from blemish.runs.submit import submit

TWO = {"can": 2, "vial": 1}
GOOD_MAP, GOOD_MARKS = encode(np.linspace(-1, 5, 20, dtype=np.float32).reshape(4, 5), 2.5)


def tiff(pixels: np.ndarray) -> bytes:
    return imagecodecs.tiff_encode(pixels)


def png(pixels: np.ndarray) -> bytes:
    return imagecodecs.png_encode(pixels)


def pixels(path: Path) -> dict[str, np.ndarray]:
    """The decoded files of an archive."""
    with tarfile.open(path) as packed:
        files = {member.name: packed.extractfile(member).read() for member in packed}
    decode = {"tiff": imagecodecs.tiff_decode, "png": imagecodecs.png_decode}
    return {name: decode[name.rpartition(".")[2]](content) for name, content in files.items()}


def archive(path: Path, changes: dict[str, bytes | None] | None = None, counts: dict[str, int] = TWO) -> Path:
    files = {name: GOOD_MAP if name.endswith("tiff") else GOOD_MARKS for name in sorted(expected_files(counts))}
    with tarfile.open(path, "w:gz", compresslevel=1) as packed:
        for name, content in (files | (changes or {})).items():
            if content is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                packed.addfile(entry, io.BytesIO(content))
    return path


def test_the_counts_are_those_of_the_data_set():
    assert sum(COUNTS.values()) == 2045
    assert len(expected_files()) == 4 * 2045
    assert "anomaly_images/can/test_private/320_regular.tiff" in expected_files()
    assert "anomaly_images_thresholded/walnuts/test_private_mixed/227_mixed.png" in expected_files()


def test_both_files_of_an_image():
    levels = np.linspace(-1, 5, 20, dtype=np.float32).reshape(4, 5)
    found, marks = imagecodecs.tiff_decode(GOOD_MAP), imagecodecs.png_decode(GOOD_MARKS)
    assert (found.dtype, found.shape) == (np.float16, (4, 5))
    assert np.allclose(found.astype(np.float32), levels / 2.5, rtol=1e-3)
    assert np.array_equal(marks, np.where(levels > 2.5, 255, 0))
    huge = imagecodecs.tiff_decode(encode(np.float32([[1e30, -1e30]]), 1e-3)[0])
    assert np.isfinite(huge).all()
    assert np.isfinite(imagecodecs.tiff_decode(encode(levels, 0.0)[0])).all()


def test_a_whole_archive_passes(tmp_path: Path):
    assert check_archive(archive(tmp_path / "a.tar.gz"), TWO) == 12


MAP, MARKS = files_of("can", "test_private_mixed", "001_mixed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({MAP: None}, f"{MAP} is missing, and 0 more of 12 files"),
        ({"readme.txt": b"x"}, "readme.txt does not belong there"),
        ({"anomaly_images/can/test_private/002_regular.tiff": GOOD_MAP}, "002_regular.tiff does not belong there"),
        ({f"./{MAP}": GOOD_MAP}, f"{MAP} is there twice"),
        ({MAP: tiff(np.zeros((4, 5), np.float32))}, "is of float32 and (4, 5); float16 and (H, W) are needed"),
        ({MAP: tiff(np.full((4, 5), np.nan, np.float16))}, "has values that are not finite"),
        ({MAP: tiff(np.zeros((4, 6), np.float16))}, "is 4x5, its other file 4x6"),
        ({MAP: b"no image"}, "cannot be decoded"),
        ({MARKS: png(np.full((4, 5), 1, np.uint8))}, "has values beside 0 and 255"),
        ({MARKS: png(np.zeros((4, 5, 3), np.uint8))}, "is of uint8 and (4, 5, 3)"),
        ({MARKS: GOOD_MAP}, "cannot be decoded"),
    ],
)
def test_what_the_server_would_refuse(changes, message, tmp_path: Path):
    path = archive(tmp_path / "a.tar.gz", changes)
    with pytest.raises(BlemishError) as error:
        check_archive(path, TWO)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))


def test_links_and_damage_are_refused(tmp_path: Path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        entry = tarfile.TarInfo(MAP)
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(entry)
    with pytest.raises(BlemishError, match="is a link"):
        check_archive(path, TWO)
    path.write_bytes(archive(tmp_path / "b.tar.gz").read_bytes()[:-200])
    with pytest.raises(BlemishError, match=r"not a \.tar\.gz file that can be read"):
        check_archive(path, TWO)
    path.write_bytes(b"PK")
    with pytest.raises(BlemishError, match="that can be read"):
        check_archive(path, TWO)


@pytest.mark.slow
def test_the_server_s_own_counts(tmp_path: Path):
    assert check_archive(archive(tmp_path / "a.tar.gz", counts=COUNTS)) == 8180
    changed = archive(tmp_path / "b.tar.gz", counts=COUNTS | {"rice": 276})
    with pytest.raises(BlemishError, match=r"rice/test_private/276_regular\.tiff is missing, and 3 more of 8180 files"):
        check_archive(changed)


def test_a_run_is_submitted(tmp_path: Path):
    root = ad2(tmp_path / "data", num_private=2)
    for name in TWO:
        options = {"num_patches": 50}
        fields = {"model": "patchcore", "size": 32, "data_path": root, "ckpt_path": tmp_path / "run", "figures": 0}
        evaluation = run(RunConfig.create(**fields, category=(name,), options=options))
        assert set(evaluation.official) == {"AU-PRO 5 %", "SegF1"}
        assert evaluation.official["SegF1"] is not None
        assert [row["path"].split("/")[0] for row in evaluation.validation] == ["validation"] * 3
    counts = dict.fromkeys(TWO, 2)
    out = tmp_path / "archive.tar.gz"
    assert submit(tmp_path / "run", out, counts=counts) == 16
    first = pixels(out)
    submit(tmp_path / "run", out, root, counts=counts)
    assert pixels(out).keys() == first.keys() == expected_files(counts)
    assert all(np.array_equal(values, first[name]) for name, values in pixels(out).items())
    with pytest.raises(BlemishError, match=r"fabric: no detector\. Train one for each of can, fabric"):
        submit(tmp_path / "run", out, counts=counts | {"fabric": 2})
    (root / "vial/test_private/001_regular.png").unlink()
    with pytest.raises(BlemishError, match=r"vial/test_private: has 1 images; 2 are needed, 000_regular\.png to 001_"):
        submit(tmp_path / "run", tmp_path / "other.tar.gz", counts=counts)
    assert not (tmp_path / "other.tar.gz").exists()
