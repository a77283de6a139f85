"""What a score means: it is the detector's own, however the image is brought to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from blemish.data.source import ImageSource, load
from blemish.detectors.patchcore import PatchCore
from blemish.errors import BlemishError
from blemish.imaging.alignment import choose_alignment
from blemish.imaging.pixels import to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.types import Sample, Unreadable

PLAIN = Preprocess((64, 64))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for index in range(7):
        picture = np.where(np.arange(64) < 32, 60, 180) + generator.normal(0, 4, (64, 64))
        if index == 6:
            picture[8:16, 44:52] = 0
            picture[40:46, 10:16] = 255
        cv2.imwrite(str(folder / f"{index}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    return load([Sample(path, False, split="train") for path in sorted(folder.glob("*.png"))], PLAIN)


@pytest.fixture(scope="module")
def detector(images: ImageSource) -> PatchCore:
    """One whose score is not the maximum of its map."""
    good = images.where(lambda sample: sample.image.stem != "6")
    return PatchCore.create(size=64, backbone="gabor", num_patches=100, reweighting=True).fit(good)


@pytest.fixture
def bad(images: ImageSource) -> Path:
    return images.samples[6].image


def score(detector: PatchCore, preprocess: Preprocess, path: Path) -> float:
    (found,) = Inspector(TorchBackend(detector), preprocess).predict([path])
    return found.score


def own_score(detector: PatchCore, pixels: np.ndarray, inside: np.ndarray | None = None) -> float:
    given = [torch.from_numpy(to_batch([pixels]))] + ([] if inside is None else [torch.from_numpy(inside[None])])
    return float(detector(*given)[0])


def region(rows: slice, columns: slice, size: tuple[int, int] = (64, 64)) -> Roi:
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = 255
    return Roi(cv2.imencode(".png", mask)[1].tobytes())


def test_a_single_piece_has_the_detector_s_own_score(detector, images, bad):
    expected = own_score(detector, images[6].pixels)
    assert expected != float(detector(images.batch([6]))[1].max())
    everything = region(slice(None), slice(None))
    for other in ({}, {"tile": 64}, {"tile": 64, "overlap": 16}, {"roi": everything}, {"tile": 64, "roi": everything}):
        assert score(detector, replace(PLAIN, **other), bad) == expected
    assert score(detector, Preprocess((64, 64), "pad"), bad) == expected


def test_a_registered_piece_has_the_score_of_the_registered_image(detector, images, bad):
    alignment, _ = choose_alignment(images.samples, [], "on")
    preprocess = replace(PLAIN, alignment=alignment)
    image = read_image(bad)
    (piece,) = preprocess.pieces(image, preprocess.placement(image))
    assert score(detector, preprocess, bad) == own_score(detector, piece)


@pytest.mark.parametrize(("combination", "combine"), [("maximum", max), ("mean", lambda both: sum(both) / 2)])
def test_tiles_make_one_score_as_the_detector_declares(detector, tmp_path: Path, bad, images, combination, combine):
    left, right = images[0].pixels, images[6].pixels
    cv2.imwrite(str(tmp_path / "wide.png"), np.concatenate([left, right], axis=1))
    preprocess = replace(PLAIN, tile=64, combination=combination)
    expected = combine([own_score(detector, pixels) for pixels in (left, right)])
    assert score(detector, preprocess, tmp_path / "wide.png") == expected


def test_what_a_tile_sees_at_its_own_edge_counts_where_no_other_tile_sees_it_better(images):
    preprocess = replace(PLAIN, tile=64, overlap=16)
    first, second = preprocess.inside((64, 112))
    assert first[:, :60].all()
    assert not first[:, 60:].any()  # the outer quarter of what both see
    assert second[:, 4:].all()
    assert not second[:, :4].any()
    (whole,) = preprocess.inside((50, 64))
    assert whole.all()


def test_what_lies_outside_of_the_region_sets_no_score(detector, images, bad):
    """Of both defects, the one inside counts, at the patch that is farthest from the bank there, weighed as ever."""
    roi = region(slice(32, 64), slice(0, 64))
    preprocess = replace(PLAIN, roi=roi)
    (piece,), (inside,) = preprocess.pieces(read_image(bad)), preprocess.inside((64, 64))
    assert np.array_equal(inside, roi.inside((64, 64)))
    batch = torch.from_numpy(to_batch([piece]))
    features = detector.features(batch)
    described, distances, rows = detector.memory.nearest_patches(features)
    height, width = features.shape[2:]
    outside = ~torch.from_numpy(inside).view(height, 64 // height, width, 64 // width).amax((1, 3)).flatten()
    distances[:, outside] = 0
    assert score(detector, preprocess, bad) == float(detector.memory.reweighted_scores(described, distances, rows))
    clean = replace(PLAIN, roi=region(slice(48, 64), slice(20, 40)))
    assert score(detector, clean, bad) < score(detector, preprocess, bad)


def test_a_tile_without_any_of_the_region_counts_nothing(detector, tmp_path: Path, images):
    cv2.imwrite(str(tmp_path / "wide.png"), np.concatenate([images[0].pixels, images[6].pixels], axis=1))
    roi = region(slice(0, 64), slice(0, 64), (64, 128))
    preprocess = replace(PLAIN, tile=64, roi=roi, combination="mean")
    first, second = preprocess.inside((64, 128))
    assert (first.all(), second.any()) == (True, False)
    assert score(detector, preprocess, tmp_path / "wide.png") == own_score(detector, images[0].pixels)


def test_regions_and_unreadable_files_come_in_their_places_whatever_the_batch_size(detector, tmp_path: Path, images):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "wide.png"), np.concatenate([images[0].pixels, images[6].pixels], axis=1))
    paths = [images.samples[6].image, broken, tmp_path / "wide.png", images.samples[0].image]
    found = {}
    for batch_size in (1, 2, 3, 8):
        inspector = Inspector(TorchBackend(detector), replace(PLAIN, tile=64), batch_size=batch_size)
        seen = list(inspector.inspect(paths))
        assert isinstance(seen[1], Unreadable)
        found[batch_size] = [one.score for one in seen if not isinstance(one, Unreadable)]
    assert found[1] == found[2] == found[3] == found[8]
    assert found[1][0] == found[1][1] > found[1][2]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"size": (32, 32)}, "size"),
        ({"aspect": "pad"}, "aspect"),
        ({"tile": 32, "overlap": 4}, "tile, overlap"),
        ({"roi": region(slice(0, 32), slice(0, 64))}, "roi"),
    ],
)
def test_images_that_were_loaded_otherwise_are_refused(detector, images, other, named):
    source = load(images.samples[:2], replace(PLAIN, **other))
    with pytest.raises(BlemishError, match=rf"another preprocessing than the detector's \({named} differ\)"):
        list(Inspector(TorchBackend(detector), PLAIN).inspect(source))
    assert len(list(Inspector(TorchBackend(detector), replace(PLAIN, **other)).inspect(source))) == 2


def test_a_detector_that_gives_no_number_is_refused(images):
    def broken(pixels: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(pixels), -np.inf), pixels[:, 0]

    for preprocess in (PLAIN, replace(PLAIN, roi=region(slice(0, 32), slice(0, 64)))):
        with pytest.raises(BlemishError, match="its score is not a finite number"):
            list(Inspector(broken, preprocess).predict([images.samples[0].image]))
