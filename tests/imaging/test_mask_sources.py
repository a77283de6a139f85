"""Masks that are several files or runs of pixels, and how they are kept."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.data.check import read_mask_infos
from blemish.data.kept import KeptImages
from blemish.errors import BlemishError
from blemish.imaging.mask_sources import (
    NOT_ZERO,
    RUNS,
    marks_of,
    marks_of_pairs,
    read_defects,
    understand_source,
)
from blemish.types import MaskFiles, MaskRuns, Sample, Saturation, mask_files

LEFT, RIGHT = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
LEFT[1:3, 1:4], RIGHT[2:5, 3:7] = 1, 200


def write(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def test_files_are_united_whatever_their_values(tmp_path: Path):
    colour = np.zeros((6, 8, 3), np.uint8)
    colour[0, 0] = 0, 0, 7
    files = write(tmp_path / "a.png", LEFT), write(tmp_path / "b.png", RIGHT.astype(np.uint16) * 9)
    mask = MaskFiles((*files, write(tmp_path / "c.png", colour)))
    expected = (LEFT > 0) | (RIGHT > 0) | colour.any(axis=2)
    found = understand_source(mask)
    assert np.array_equal(found.marks, expected)
    assert (found.rule, found.num_values) == (NOT_ZERO, 2)
    assert mask_files(mask) == mask.files
    assert Sample(tmp_path / "x.png", True, mask).files == (tmp_path / "x.png", *mask.files)


def test_files_of_different_sizes_are_refused(tmp_path: Path):
    mask = MaskFiles((write(tmp_path / "a.png", LEFT), write(tmp_path / "b.png", RIGHT[:5])))
    with pytest.raises(BlemishError, match=r"b\.png: the mask is 5x8, that of a\.png 6x8"):
        marks_of(mask)


def test_each_file_is_a_defect_with_its_saturation(tmp_path: Path):
    files = write(tmp_path / "a.png", LEFT), write(tmp_path / "b.png", RIGHT)
    marks, areas = read_defects(MaskFiles(files, (Saturation(1, 0.5, relative=True), Saturation(200, 99))))
    assert [np.array_equal(one, of > 0) for one, of in zip(marks, (LEFT, RIGHT), strict=True)] == [True, True]
    assert areas == [3.0, 12.0]
    for saturations in ((Saturation(1, 9),), (Saturation(2, 9),)):
        with pytest.raises(BlemishError, match=r"has the values (1|200); one of those in defects_config\.json"):
            understand_source(MaskFiles(files, saturations))
    both = write(tmp_path / "both.png", LEFT + RIGHT)
    with pytest.raises(BlemishError, match="has the values 1, 200"):
        read_defects(MaskFiles((both,), (Saturation(1, 9), Saturation(200, 9))))
    with pytest.raises(BlemishError, match="has the values 0 alone"):
        read_defects(MaskFiles((write(tmp_path / "none.png", LEFT * 0),), (Saturation(1, 9),)))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_runs_and_what_they_mark(pixels):
    edges = np.flatnonzero(np.diff([0, *map(int, pixels), 0]))
    pairs = [number for start, end in edges.reshape(-1, 2) for number in (start + 1, end - start)]
    assert marks_of_pairs(pairs, len(pixels)).tolist() == pixels


def test_runs_are_read_again_and_files_are_kept(tmp_path: Path):
    runs = MaskRuns(tmp_path / "train.csv", (6, 8), ("1 2 8 1", "48 1"))
    files = MaskFiles((write(tmp_path / "a.png", LEFT),))
    samples = [Sample(tmp_path / name, True, mask) for name, mask in (("1.png", runs), ("2.png", files))]
    infos = read_mask_infos(samples)
    assert (infos[runs].rule, infos[runs].area, infos[runs].marks) == (RUNS, 4 / 48, None)
    kept = KeptImages.of((), (), infos)
    (tmp_path / "a.png").unlink()
    assert np.array_equal(kept.mask(files), LEFT > 0)
    assert np.argwhere(kept.mask(runs)).tolist() == [[0, 0], [1, 0], [1, 1], [5, 7]]
