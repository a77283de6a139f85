"""What must hold for every detector, on every device there is.

A test file takes all of it, for the detectors that it names, also for one of its own that it has registered:

    from detector_contract import *
    pytestmark = pytest.mark.parametrize("name", ["mine"])
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from blemish.data.source import ImageSource
from blemish.data.source import load as load_images
from blemish.detectors import detector_class
from blemish.detectors.base import Detector
from blemish.errors import BlemishError
from blemish.export.graphs import to_half, to_onnx, write_onnx, write_openvino
from blemish.imaging.input_size import takes_rectangles
from blemish.imaging.pixels import to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.roi import read_roi
from blemish.inference.backends import ONNX, OPENVINO, OnnxBackend, OpenVinoBackend
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.model.artifact import Artifact, load, load_detector, save
from blemish.model.folder import read_model
from blemish.training.settings import Training
from blemish.types import Sample

SIDE = 48
SMALL = {"width": 4, "latent_dim": 4, "head_width": 16, "num_drawn": 8}
"""Options that make a detector small, for those that have them."""
DEEP = "ensemble"
"""The detector that is tried on the default features, of which a network is a part; the others are on Gabor filters."""

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def create(name: str, **options: Any) -> Detector:
    cls = detector_class(name)
    small = {"size": SIDE} | (SMALL if name == DEEP else SMALL | {"backbone": "gabor"}) | options
    return cls.create(**{key: value for key, value in small.items() if key in cls.option_fields()})


def fit(detector: Detector, images: ImageSource, device: str = "cpu", seed: int = 0) -> Detector:
    """The detector's own `fit`, with fewer epochs where it has any."""
    training = Training(epochs=3, batch_size=4, device=device)
    return detector.to(device).fit(images, seed=seed, training=training)


def predict(detector: Detector, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and maps of images, and of what is inside of them; computed where the detector is."""
    scores, maps = detector(*(tensor.to(detector.device) for tensor in given))
    return scores.cpu(), maps.cpu()


def given(pixels: np.ndarray, inside: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """A piece of an image as a detector takes it."""
    return torch.from_numpy(to_batch([pixels])), torch.from_numpy(inside[None])


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return make_images(tmp_path_factory.mktemp("images"), 6)


def make_images(folder: Path, count: int, shape: tuple[int, ...] = (50, 40, 3), seed: int = 0) -> ImageSource:
    generator = np.random.default_rng(seed)
    for index in range(count):
        ramp = np.linspace(60, 180, shape[1])[None, :, None][..., : shape[2] if len(shape) == 3 else 1]
        picture = np.clip(generator.normal(ramp, 12, (shape[0], shape[1], 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), picture if len(shape) == 3 else picture[:, :, 0])
    samples = [Sample(path, False, split="train") for path in sorted(folder.glob("*.png"))]
    return load_images(samples, Preprocess((SIDE, SIDE)))


@pytest.fixture(scope="module")
def fitted(images: ImageSource, device: str):
    return functools.cache(lambda name: fit(create(name), images, device))


def test_options_are_what_the_constructor_was_given(name):
    detector = create(name)
    assert detector.options.keys() == detector.option_fields().keys()
    assert detector_class(name).create(**detector.options).options == detector.options


def test_an_unknown_or_wrong_option_is_named(name):
    with pytest.raises(BlemishError, match="colour: not an option"):
        detector_class(name).create(colour="red")
    with pytest.raises(BlemishError, match=r"size: .*33 was given"):
        detector_class(name).create(size=33)


def test_unfitted_raises(name):
    with pytest.raises(BlemishError, match="is not fitted yet"):
        create(name)(torch.zeros(1, 3, SIDE, SIDE))


def test_scores_and_maps_are_finite_and_of_the_stated_shape(name, fitted, images):
    scores, maps = predict(fitted(name), images.batch(range(5)))
    assert scores.shape == (5,)
    assert maps.ndim == 3
    assert maps.shape[0] == 5
    assert scores.isfinite().all()
    assert maps.isfinite().all()
    assert scores.dtype == maps.dtype == torch.float32


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def threads(request: pytest.FixtureRequest, name: str, fitted) -> Iterator[int]:
    """The number that torch computes with; what is fitted once for all tests is fitted with the usual number."""
    fitted(name)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_a_score_does_not_depend_on_its_batch_mates(name, fitted, images, threads):
    together = predict(fitted(name), images.batch(range(6)))
    for row in range(6):
        alone = predict(fitted(name), images.batch([row]))
        for expected, found in zip(together, alone, strict=True):
            torch.testing.assert_close(found[0], expected[row], rtol=1e-4, atol=1e-6)
            assert torch.equal(found[0], expected[row]) or fitted(name).device.type != "cpu"
    assert torch.get_num_threads() == threads


def test_fit_twice_with_one_seed_gives_the_same_bits(name, fitted, images, device):
    again = fit(create(name), images, device)
    refitted = fit(fit(create(name), images, device, seed=3), images, device)
    expected = fitted(name).state_dict()
    for detector in (again, refitted):
        assert all(torch.equal(value, expected[key]) for key, value in detector.state_dict().items())


def test_save_and_load_give_the_same_bits(name, fitted, images, tmp_path: Path):
    save(Artifact(name, fitted(name), images.preprocess, {"seed": 0}), tmp_path)
    loaded = load(tmp_path)
    assert loaded.preprocess == images.preprocess
    assert loaded.provenance == {"seed": 0}
    original, elsewhere = (predict(each, images.batch([0])) for each in (fitted(name), loaded.detector))
    again = predict(load_detector(read_model(tmp_path), fitted(name).device.type), images.batch([0]))
    for expected, found, on_cpu in zip(original, again, elsewhere, strict=True):
        assert torch.equal(expected, found)
        torch.testing.assert_close(on_cpu, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(31, 77, 3), (64, 64), (7, 5, 3), (300, 20)])
def test_odd_sizes_and_grey_images_give_maps_of_the_file_s_size(name, fitted, tmp_path: Path, shape):
    source = make_images(tmp_path, 2, shape)
    predictions = list(Inspector(TorchBackend(fitted(name)), source.preprocess).predict(source))
    assert [prediction.map.shape for prediction in predictions] == [shape[:2], shape[:2]]
    assert all(np.isfinite(prediction.map).all() for prediction in predictions)


def test_an_input_is_as_high_and_wide_as_the_detector_says(name, tmp_path: Path):
    """A rectangle, for a detector that takes one: fitted, saved, loaded, exported, and run on images of other sizes."""
    if not takes_rectangles(detector_class(name).option_fields()["size"][0]):
        with pytest.raises(BlemishError, match=r"^size: .*the input is square; '32x96' was given"):
            create(name, size="32x96")
        return
    make_images(tmp_path, 4, (20, 90, 3))
    samples = [Sample(path, False, split="train") for path in sorted(tmp_path.glob("*.png"))]
    detector = create(name, size="32x96", precision="float32")
    source = load_images(samples, Preprocess(detector.input_size))
    assert source.batch([0]).shape == (1, 3, 32, 96)
    save(Artifact(name, fit(detector, source), source.preprocess, {}), tmp_path / "model")
    inspector = Inspector.load(tmp_path / "model")
    assert inspector.preprocess.size == (32, 96)
    write_onnx(to_onnx(detector), tmp_path)
    scores, maps = OnnxBackend(tmp_path / ONNX, 1)(source.batch(range(4)).numpy())
    for found, score, seen in zip(inspector.predict(source), scores, maps, strict=True):
        assert found.map.shape == (20, 90)
        np.testing.assert_allclose([found.score], [score], rtol=1e-3)
        np.testing.assert_allclose(found.map, source.preprocess.restore(seen, (20, 90)), rtol=1e-3, atol=1e-3)


def test_one_training_image(name, images, device):
    one = images.where(lambda sample: sample.image.stem == "0")
    scores, _ = predict(fit(create(name), one, device), images.batch(range(6)))
    assert scores.isfinite().all()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_images(name, tmp_path: Path, value):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((20, 20, 3), value, np.uint8))
    samples = [Sample(path, False, split="train") for path in sorted(tmp_path.glob("*.png"))]
    source = load_images(samples, Preprocess((SIDE, SIDE)))
    scores, maps = fit(create(name), source)(source.batch(range(3)))
    assert scores.isfinite().all()
    assert maps.isfinite().all()


def test_a_defect_scores_higher_than_a_good_image(name, images, device):
    detector = create(name)
    detector.to(device).fit(images, training=Training(epochs=60, batch_size=6, device=device))
    good = images.batch([0])
    bad = good.clone()
    bad[:, :, 10:20, 10:20] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    (good_score, bad_score), maps = predict(detector, torch.cat([good, bad]))
    assert bad_score > good_score
    scale = maps.shape[1] / SIDE
    inside = maps[1, round(12 * scale) : round(18 * scale), round(12 * scale) : round(18 * scale)].mean()
    assert inside > 2 * maps[1].median()


def test_a_score_is_of_what_is_inside_alone(name, fitted, images):
    """To the bit that of the whole where all is inside; it neither depends on batch mates nor on what is outside."""
    detector, batch = fitted(name), images.batch(range(4)).clone()
    batch[:, :, 4:12, 34:46] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    inside = torch.ones(4, SIDE, SIDE, dtype=torch.bool)
    for found, expected in zip(predict(detector, batch, inside), predict(detector, batch), strict=True):
        assert torch.equal(found, expected)
    inside[:, :, 24:] = False
    left, maps = predict(detector, batch, inside)
    whole, expected_maps = predict(detector, batch)
    assert torch.equal(maps, expected_maps)
    assert (left < whole).all()
    assert torch.equal(predict(detector, batch[2:3], inside[2:3])[0], left[2:3]) or detector.device.type != "cpu"
    assert predict(detector, batch, torch.zeros_like(inside))[0].eq(-torch.inf).all()


def test_tiles_and_a_region_of_interest_ask_nothing_of_the_detector(name, tmp_path: Path):
    mask = np.zeros((70, 90), np.uint8)
    mask[5:60, 10:80] = 255
    cv2.imwrite(str(tmp_path / "roi.png"), mask)
    make_images(tmp_path, 3, (70, 90, 3))
    samples = [Sample(path, False, split="train") for path in sorted(tmp_path.glob("[0-9].png"))]
    preprocess = Preprocess((SIDE, SIDE), tile=SIDE, overlap=8, roi=read_roi(tmp_path / "roi.png"))
    source = load_images(samples, preprocess)
    assert len(source) == 3 * 2 * 3
    detector = fit(create(name), source)
    save(Artifact(name, detector, preprocess, {}), tmp_path / "model")
    inspector = Inspector.load(tmp_path / "model", batch_size=4)
    for found in inspector.predict(samples):
        assert found.map.shape == (70, 90)
        one = source.where(lambda sample, own=found.sample: sample == own)
        pieces = zip(one, preprocess.inside((70, 90)), strict=True)
        scores = [float(detector(*given(frame.pixels, inside))[0].detach()) for frame, inside in pieces]
        assert found.score == max(scores)
        assert found.map[mask > 0].max() == found.map.max()


@pytest.mark.slow
def test_other_runtimes_give_what_torch_gives(name, images, tmp_path: Path):
    """Exported from a batch of two, run on others; on pictures that it has not seen."""
    batch = make_images(tmp_path, 5, (64, 64), seed=1).batch(range(5))
    detector = fit(create(name, precision="float32"), images)  # as a model is loaded to be exported
    graph = to_onnx(detector, takes_inside=True)
    inside = np.ones((5, SIDE, SIDE), bool)
    inside[:, :, 20:] = False
    for folder, write, content, tolerance in [
        (tmp_path / "onnx", write_onnx, graph, 1e-3),
        (tmp_path / "openvino", write_openvino, graph, 1e-3),
        (tmp_path / "half", write_onnx, to_half(graph), 2e-2),
    ]:
        folder.mkdir()
        write(content, folder)
        made = OpenVinoBackend(folder / OPENVINO[0], 1) if write is write_openvino else OnnxBackend(folder / ONNX, 1)
        for seen in ([batch.numpy()], [batch[3:4].numpy()], [batch.numpy(), inside]):
            with torch.inference_mode():
                expected = detector(*map(torch.from_numpy, seen))
            for found, wanted in zip(made(*seen), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * float(wanted.max()))
