"""PaDiM and its Gaussians against scipy and numpy in float64."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis

from blemish.data.source import ImageSource, load
from blemish.detectors.padim import PaDiM
from blemish.detectors.parts.moments import Moments, leave_one_out, whitened, whitening_factors
from blemish.detectors.parts.score_normalisation import normalised, offset_and_scale
from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess
from blemish.types import Sample


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_moments_in_batches_are_those_of_all():
    values = draw(3, 50, 4) * 2 + 1e4
    moments = Moments.empty(3, 4)
    for part in values.split([1, 9, 40], dim=1):
        moments.add(part)
    assert moments.count == 50
    for place in range(3):
        expected = np.cov(values[place].numpy().T, bias=True)
        np.testing.assert_allclose(moments.covariance[place].numpy(), expected, rtol=1e-9)
        np.testing.assert_allclose(moments.mean[place].numpy(), values[place].numpy().mean(0), rtol=1e-14)


def test_distances_equal_scipy_s():
    values, mean = draw(2, 6, 5, seed=1), draw(2, 5, seed=2)
    mixed = draw(2, 40, 5, seed=3)
    covariance = mixed.mT @ mixed / 40
    factor = whitening_factors(covariance, 1e-12)
    found = whitened(values, mean, factor).norm(dim=2)
    for place in range(2):
        inverse = np.linalg.inv(covariance[place].numpy())
        for row in range(6):
            expected = scipy_mahalanobis(values[place, row].numpy(), mean[place].numpy(), inverse)
            assert float(found[place, row]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"reduction": "project", "dimensions": 7}])
def test_the_map_is_scipy_s_distance_of_each_place(part_images, options):
    detector = PaDiM.create(size=64, backbone="gabor", smoothing=0, shrinkage=0.05, **options).fit(part_images)
    features = torch.cat([detector.features(part_images.batch([row])) for row in range(len(part_images))])
    values = (features.permute(2, 3, 0, 1) @ detector.gaussians.projection).flatten(0, 1).double().numpy()
    every = [values.reshape(-1, values.shape[2])] if detector.gaussian_options.shared else list(values)
    covariances = [np.cov(cell.T, bias=True) for cell in every]
    ridge = 0.05 * np.mean([np.diag(covariance).mean() for covariance in covariances])
    found = detector.distances(features)[5].flatten()
    for place in (0, 13, 63):
        which = 0 if detector.gaussian_options.shared else place
        inverse = np.linalg.inv(covariances[which] + ridge * np.eye(values.shape[2]))
        expected = scipy_mahalanobis(values[place, 5], every[which].mean(0), inverse)
        assert float(found[place]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("reduction", ["select", "project", "pca"])
def test_reductions_keep_lengths(part_images, reduction):
    projection = (
        PaDiM.create(size=64, backbone="gabor", dimensions=9, reduction=reduction).fit(part_images).gaussians.projection
    )
    assert projection.shape == (48, 9)
    torch.testing.assert_close(projection.T @ projection, torch.eye(9), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_further_images_count_as_if_they_had_been_there(part_images, shared):
    """Of a network, whose features do not depend on the images that it is fitted to."""
    options = {"size": 64, "shared": shared, "backbone": "resnet10t", "layers": (1,), "weights": "random"}
    whole = PaDiM.create(**options, precision="float32").fit(part_images)
    some = PaDiM.create(**options, precision="float32")
    some.fit(part_images.where(lambda sample: sample.image.stem < "5"))
    some.update(part_images.where(lambda sample: sample.image.stem >= "5"))
    assert int(some.gaussians.count) == int(whole.gaussians.count)
    torch.testing.assert_close(some.gaussians.mean, whole.gaussians.mean, rtol=1e-4, atol=1e-5)
    batch = part_images.batch([0, 1])
    torch.testing.assert_close(some(batch)[1], whole(batch)[1], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("number", "channels"), [(30, 4), (12, 6), (200, 48)])
def test_a_sample_is_left_out_as_if_it_had_not_been_there(number, channels):
    generator = torch.Generator().manual_seed(number)
    values = torch.randn(3, number, channels, generator=generator, dtype=torch.float64).cumsum(2)
    seen = torch.randn(3, 5, channels, generator=generator, dtype=torch.float64)
    every, others = (Moments.empty(3, channels) for _ in range(2))
    every.add(values)
    others.add(values[:, 1:])
    learned = every.mean, whitening_factors(every.covariance, 1e-12)
    own = whitened(values[:, :1], *learned)
    for deviations in (whitened(seen, *learned), own):
        of_these = seen if deviations.shape[1] == 5 else values[:, :1]
        expected = whitened(of_these, others.mean, whitening_factors(others.covariance, 1e-12))
        torch.testing.assert_close(leave_one_out(deviations, own, every.count), expected, rtol=1e-6, atol=1e-9)


def test_what_does_not_fit_into_memory_is_refused_before_it_starts(part_images: ImageSource):
    part_images.memory_budget = 1_000_000
    with pytest.raises(BlemishError, match=r"at 64 positions of 48 features take .*_budget allows .*Lower dimensions"):
        PaDiM.create(size=64, backbone="gabor", shared=False).fit(part_images)
    PaDiM.create(size=64, backbone="gabor", shared=True).fit(part_images)


def drawn(folder: Path, number: int, *, part: bool) -> ImageSource:
    """Pictures of a part that lies still, or of a texture."""
    generator = np.random.default_rng(0)
    for index in range(number):
        expected = np.where(np.arange(64) < 32, 60, 180) if part else 120
        picture = (expected + generator.normal(0, 4 if part else 20, (64, 64))).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index:02}.png"), picture)
    samples = [Sample(path, False, split="train") for path in sorted(folder.glob("*.png"))]
    return load(samples, Preprocess((64, 64)))


@pytest.mark.parametrize("shared", [True, False])
def test_options_that_are_given_leave_nothing_to_choose(part_images, shared):
    detector = PaDiM.create(size=64, backbone="gabor", shared=shared).fit(part_images, validation=part_images)
    assert (detector.choices, detector.reasons) == ({}, [])
    assert detector.chosen("shared") is shared


@pytest.mark.parametrize(
    ("number", "part", "budget", "shared", "reason"),
    [
        (12, True, 1 << 30, False, None),
        (12, False, 1 << 30, False, None),
        (12, True, 1_000_000, True, "one for each would take 3.5 MB"),
        (1, True, 1 << 30, True, "there is one image"),
    ],
    ids=["a part", "a texture", "little memory", "one image"],
)
def test_each_position_has_a_gaussian_where_that_is_possible(tmp_path, number, part, budget, shared, reason):
    """It depends neither on what the images show nor on held-out ones."""
    images = drawn(tmp_path, number, part=part)
    images.memory_budget = budget
    for validation in (images, None):
        detector = PaDiM.create(size=64, backbone="gabor").fit(images, validation=validation)
        assert detector.choices == {"shared": shared}
        assert len(detector.gaussians.mean) == (1 if shared else 64)
        assert [found for found in detector.reasons if reason is None or reason not in found] == []
        assert len(detector.reasons) == (reason is not None)
        twin = PaDiM.create(**detector.options | detector.choices)
        assert twin.options["shared"] is shared


def test_what_is_not_given_is_one_scale_and_a_large_shrinkage(part_images):
    detector = PaDiM.create(size=64, backbone="gabor", shared=True).fit(part_images, validation=part_images)
    assert (detector.chosen("scales"), detector.chosen("shrinkage")) == ((0.0,), 0.4)
    values = detector.gaussians.reduced(detector.features(part_images.batch(range(8)))).flatten(0, 2).double()
    covariance = torch.cov(values.T, correction=0)
    ridge = 0.4 * covariance.diagonal().mean() * torch.eye(len(covariance))
    factor = detector.gaussians.factor[0].double()
    torch.testing.assert_close(torch.linalg.inv(factor @ factor.T), covariance + ridge, rtol=1e-3, atol=1e-6)
    with pytest.raises(BlemishError, match="scales"):
        PaDiM.create(scales=())


def test_several_scales_are_added_equally_loud(tmp_path):
    images = drawn(tmp_path, 12, part=True)
    held_out = images.where(lambda sample: sample.image.stem >= "08")
    options = {"dimensions": 4, "shared": False, "shrinkage": 0.1}
    both = PaDiM.create(size=64, backbone="gabor", **options, scales=(0, 1.5)).fit(images, validation=held_out)
    expected, features = 0, both.features(held_out.batch([0, 1, 2, 3]))
    for width in (0, 1.5):
        one = PaDiM.create(size=64, backbone="gabor", **options, scales=(width,)).fit(images)
        offset, scale = offset_and_scale(one.distances(features)[None])
        expected += (one.distances(features) - offset) / scale / 2
    torch.testing.assert_close(both.distances(features), expected, rtol=1e-4, atol=1e-4)


def test_normalised_maps_do_not_depend_on_units():
    maps = draw(2, 5, 8, 8, seed=4)
    offset, scale = offset_and_scale(maps)
    found = normalised(maps, offset, scale)
    torch.testing.assert_close(found.flatten(2).amax(2).mean(1), torch.ones(2, dtype=maps.dtype))
    torch.testing.assert_close(found, normalised(3 * maps + 7, *offset_and_scale(3 * maps + 7)))
