"""Exports take pictures of any size where the detector looks alike at every place, and say so where it does not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from blemish.data.source import load as load_images
from blemish.detectors import detector_class
from blemish.errors import BlemishError
from blemish.export.graphs import size_of, to_onnx, write_onnx, write_openvino
from blemish.imaging.preprocess import Preprocess
from blemish.inference.backends import ONNX, OPENVINO, OnnxBackend, OpenVinoBackend
from blemish.types import Sample

SIDE = 96


def fitted(folder: Path, name: str, **options):
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), cv2.GaussianBlur(noise, (5, 5), 0))
    samples = [Sample(path, False, split="train") for path in sorted(folder.glob("*.png"))]
    detector = detector_class(name).create(size=SIDE, **options)
    return detector.fit(load_images(samples, Preprocess((SIDE, SIDE)))).eval()


def backends(detector, folder: Path):
    graph = to_onnx(detector)
    write_onnx(graph, folder)
    write_openvino(graph, folder)
    return graph, (OnnxBackend(folder / ONNX, 1), OpenVinoBackend(folder / OPENVINO[0], 1))


@pytest.mark.slow
def test_a_detector_that_looks_alike_everywhere_takes_any_size(tmp_path: Path):
    """All of the ensemble's and a network; the places, which the first expert knows, are shares of the sides."""
    detector = fitted(
        tmp_path, "selfsup", backbone="gabor", num_patches=100, shared=True, position=4.0, num_drawn=2, head_width=8
    )
    graph, made = backends(detector, tmp_path)
    assert size_of(graph) is None
    names = [dimension.dim_param for dimension in graph.graph.output[1].type.tensor_type.shape.dim]
    assert names == ["batch", "height", "width"]
    for shape in ((1, 3, SIDE, SIDE), (2, 3, SIDE + 64, SIDE + 16), (3, 3, SIDE, 2 * SIDE)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = [values.numpy() for values in detector(images)]
        for backend in made:
            for found, wanted in zip(backend(images.numpy()), expected, strict=True):
                assert found.shape == wanted.shape
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * wanted.max())
    for backend in made:
        for height, width in ((SIDE - 16, SIDE), (SIDE, SIDE + 8)):
            message = rf"images of {height} x {width} were given; this export takes multiples of 16, at least 96"
            with pytest.raises(BlemishError, match=message):
                backend(np.zeros((1, 3, height, width), np.float32))


def test_what_was_learned_of_places_fixes_the_size(tmp_path: Path):
    graph, made = backends(fitted(tmp_path, "padim", backbone="gabor", shared=False), tmp_path)
    assert size_of(graph) == (SIDE, SIDE)
    for backend in made:
        with pytest.raises(BlemishError, match="images of 112 x 96 were given; this export takes 96 x 96"):
            backend(np.zeros((1, 3, 112, 96), np.float32))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("patchcore", {"num_patches": 300, "reweighting": True}),
        ("padim", {"dimensions": 1}),
        ("padim", {"dimensions": 7, "scales": (0.0, 1.0)}),
    ],
)
def test_banks_of_several_blocks_and_gaussians_of_any_width_are_exported(tmp_path: Path, name, options):
    detector = fitted(tmp_path, name, backbone="gabor", **options)
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = [values.numpy() for values in detector(images)]
    for backend in backends(detector, tmp_path)[1]:
        for found, wanted in zip(backend(images.numpy()), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * wanted.max())
