"""PatchCore: its bank, the position, further images, the memory that it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blemish.detectors.patchcore import PatchCore
from blemish.export.graphs import to_onnx, write_onnx
from blemish.inference.backends import ONNX, OnnxBackend


def test_the_bank_has_the_stated_number_of_patches(part_images):
    assert len(PatchCore.create(size=64, backbone="gabor", num_patches=50).fit(part_images).memory.bank) == 50


def test_position_finds_what_is_in_the_wrong_place(part_images):
    turned = part_images.batch([0]).flip(3)
    ratios = []
    for position in (0.0, 20.0):
        detector = PatchCore.create(size=64, backbone="gabor", num_patches=400, position=position).fit(part_images)
        good, bad = (detector(batch)[1].mean() for batch in (part_images.batch([0]), turned))
        ratios.append(float(bad))
        assert bad > good
    assert ratios[1] > 1.5 * ratios[0]


def test_smoothing_lowers_the_peak(part_images):
    sharp, smooth = (
        PatchCore.create(size=64, backbone="gabor", smoothing=sigma).fit(part_images) for sigma in (0.0, 8.0)
    )
    picture = part_images.batch([0]).clone()
    picture[:, :, 20:30, 20:30] = 1
    assert smooth(picture)[0] < sharp(picture)[0]


def test_distances_equal_a_direct_reference(part_images):
    detector = PatchCore.create(size=64, backbone="gabor", num_patches=100, position=2.0).fit(part_images)
    features = detector.features(part_images.batch([3]))[0].flatten(1).T.double().numpy()
    places = np.stack(np.meshgrid(np.arange(8) / 8, np.arange(8) / 8, indexing="ij"), -1).reshape(-1, 2)
    described = np.hstack([features - detector.memory.centre.double().numpy(), float(detector.memory.weight) * places])
    distances = np.sqrt(((described[:, None] - detector.memory.bank.double().numpy()) ** 2).sum(2)).min(1)
    found = detector.distances(detector.features(part_images.batch([3])))[0].flatten()
    np.testing.assert_allclose(found.numpy(), distances, rtol=1e-4, atol=1e-6)


def test_the_weighed_score_equals_a_direct_reference(part_images):
    """Equation 7 of arXiv 2106.08265, in float64."""
    detector = PatchCore.create(size=64, backbone="gabor", num_patches=100, position=2.0, reweighting=True).fit(
        part_images
    )
    picture = part_images.batch([3]).clone()
    picture[:, :, 20:30, 20:30] = 1
    patches = detector.memory.patches(detector.features(picture))[0].double().numpy()
    bank = detector.memory.bank.double().numpy()
    distances = np.sqrt(((patches[:, None] - bank) ** 2).sum(2))
    farthest = distances.min(1).argmax()
    found = distances[farthest].argmin()
    around = ((bank[found] - bank) ** 2).sum(1).argsort(kind="stable")[:9]
    weight = 1 - np.exp(distances[farthest, found]) / np.exp(distances[farthest, around]).sum()
    np.testing.assert_allclose(float(detector(picture)[0]), weight * distances[farthest, found], rtol=1e-4)


def test_a_bank_of_one_patch_has_nothing_to_weigh_by(part_images):
    detector = PatchCore.create(size=64, backbone="gabor", num_patches=1, smoothing=0, reweighting=True).fit(
        part_images
    )
    scores, maps = detector(part_images.batch([0]))
    assert scores[0] > 0.9 * maps.max() > 0


@pytest.mark.parametrize("backbone", ["gabor", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_the_weighed_score_is_the_same_in_a_graph(part_images, tmp_path, backbone):
    detector = PatchCore.create(
        size=64,
        backbone=backbone,
        layers=(1,) if backbone != "gabor" else (),
        weights="random",
        num_patches=30,
        reweighting=True,
        precision="float32",
    )
    detector.fit(part_images)
    write_onnx(to_onnx(detector), tmp_path)
    images = part_images.batch([0, 1, 2])
    for found, expected in zip(OnnxBackend(tmp_path / ONNX, 1)(images.numpy()), detector(images), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_further_images_add_what_is_new_and_nothing_else(part_images, source_of):
    detector = PatchCore.create(size=64, backbone="gabor", num_patches=400).fit(
        part_images.where(lambda sample: sample.image.stem < "4")
    )
    before = len(detector.memory.bank)
    detector.update(part_images.where(lambda sample: sample.image.stem >= "4"))
    assert before <= len(detector.memory.bank) < before + 0.2 * 4 * 64
    marked = part_images.batch([0]).clone()
    marked[:, :, 20:30, 20:30] = 1
    anomalous = float(detector(marked)[0])
    assert anomalous > 2 * float(detector(part_images.batch([0]))[0])
    detector.update(source_of(marked[0]))
    assert float(detector(marked)[0]) < 0.5 * anomalous


@pytest.mark.parametrize(("selection", "number"), [(None, 2000), ("means", 2000), ("spread", 8000), ("greedy", 8000)])
def test_the_default_number_of_patches_suits_their_selection(selection, number):
    detector = PatchCore.create(size=64, backbone="gabor", selection=selection)
    assert detector.memory.num_patches == number
    assert PatchCore.create(size=64, backbone="gabor", selection=selection, num_patches=7).memory.num_patches == 7


def test_a_small_memory_budget_takes_fewer_candidates(part_images, caplog):
    part_images.memory_budget = 200_000
    with caplog.at_level("INFO", logger="blemish"):
        bank = PatchCore.create(size=64, backbone="gabor", num_patches=400).fit(part_images).memory.bank
    assert len(bank) < 400
    assert "more would exceed memory_budget" in caplog.text


def test_a_network_s_patches_know_their_neighbourhood(part_images):
    detector = PatchCore.create(size=64, backbone="resnet18", layers=(1, 2), weights="random", num_patches=50).fit(
        part_images
    )
    assert detector.memory.bank.shape[1] == 64 + 128 + 2
    assert float(detector.memory.weight) == 0
    features = torch.rand(1, 192, 5, 5)
    torch.testing.assert_close(
        detector.memory.neighbourhood_mean(features)[0, :, 2, 2], features[0, :, 1:4, 1:4].mean((1, 2))
    )
    torch.testing.assert_close(
        detector.memory.neighbourhood_mean(features)[0, :, 0, 0], features[0, :, :2, :2].mean((1, 2))
    )
