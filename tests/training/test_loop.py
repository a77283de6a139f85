"""The training loop, and the traps that public implementations of this pair of detectors fell into."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from blemish.data import find_categories, hold_out
from blemish.data.source import ImageSource, load
from blemish.detectors.autoencoder import Autoencoder
from blemish.detectors.base import ReconstructingDetector
from blemish.detectors.vae import VariationalAutoencoder
from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess
from blemish.training import loop
from blemish.training.loop import image_seed, initialise, train
from blemish.training.settings import Training
from blemish.types import Sample

SETTINGS = Training(epochs=4, batch_size=3, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, make_category) -> tuple[ImageSource, ImageSource]:
    root = tmp_path_factory.mktemp("training")
    make_category(root, num_train=10)
    category = hold_out(find_categories(root)[0], 0.2, seed=0)
    return tuple(load(category.of(split), Preprocess((32, 32))) for split in ("train", "val"))


def small(name: str = "ae") -> ReconstructingDetector:
    return Autoencoder(32, width=4, latent_dim=8) if name == "ae" else VariationalAutoencoder(32, width=4, latent_dim=8)


def state(detector: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in detector.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_every_weight_changes_and_the_validation_loss_falls(sources, name):
    # Trap: a new model each epoch while the optimiser held the first one, so that nothing was ever trained.
    detector = small(name)
    started = []

    def note(done, total, **shown):
        if done == 1:
            started.append(state(detector))

    history = train(detector, *sources, replace(SETTINGS, epochs=30), progress=note)
    assert all(not torch.equal(value, started[0][key]) for key, value in detector.state_dict().items())
    assert min(history.validation) < history.validation[0]
    assert np.mean(history.train[-5:]) < history.train[0]


def test_the_kept_weights_are_those_of_the_lowest_validation_loss(sources):
    detector = small()
    history = train(detector, *sources, replace(SETTINGS, epochs=12, learning_rate=0.02))
    images = sources[1].batch(range(len(sources[1])))
    with torch.no_grad():
        kept = float(detector.losses(images, torch.zeros(len(images))).mean())
    assert kept == pytest.approx(min(history.validation), rel=1e-5)
    assert history.best_epoch == int(np.argmin(history.validation))


def test_without_validation_images_the_training_loss_decides(sources):
    history = train(small(), sources[0], None, SETTINGS)
    assert history.validation == history.train


def test_the_reconstruction_is_of_the_image_itself_not_of_a_normalised_one(sources):
    # Trap: the input was normalised by ImageNet's statistics, while the decoder ended in a sigmoid.
    images = torch.rand(2, 3, 32, 32)
    for detector in (small("ae"), small("vae")):
        rebuilt = detector.reconstruct(images)
        assert rebuilt.min() >= 0
        assert rebuilt.max() <= 1
        detector.is_fitted = True
        detector.reconstruct = lambda images: images
        scores, maps = detector(images)
        assert torch.equal(scores, torch.zeros(2))
        assert torch.equal(maps, torch.zeros(2, 32, 32))


def test_one_seed_gives_the_same_bits_and_another_does_not(sources):
    detectors = [small("vae") for _ in range(3)]
    for detector, seed in zip(detectors, (0, 0, 1), strict=True):
        train(detector, *sources, SETTINGS, seed=seed)
    assert same(state(detectors[0]), state(detectors[1]))
    assert not same(state(detectors[0]), state(detectors[2]))


@pytest.mark.parametrize("name", ["ae", "vae"])
@pytest.mark.parametrize("stop_at", [1, 3, 4, 8])
def test_a_stopped_training_goes_on_with_the_same_bits(sources, tmp_path: Path, name, stop_at):
    whole = small(name)
    train(whole, *sources, SETTINGS)
    stopped, checkpoint = small(name), tmp_path / "checkpoint.safetensors"

    def interrupt(done, total, **shown):
        if done == stop_at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(stopped, *sources, replace(SETTINGS, checkpoint=checkpoint), progress=interrupt)
    resumed = small(name)
    history = train(resumed, *sources, replace(SETTINGS, checkpoint=checkpoint, resume=True))
    assert same(state(whole), state(resumed))
    assert len(history.train) == SETTINGS.epochs


def test_resuming_a_finished_training_changes_nothing(sources, tmp_path: Path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    first, second = small(), small()
    train(first, *sources, replace(SETTINGS, checkpoint=checkpoint))
    steps = []
    train(
        second,
        *sources,
        replace(SETTINGS, checkpoint=checkpoint, resume=True),
        progress=lambda *args, **_: steps.append(1),
    )
    assert same(state(first), state(second))
    assert steps == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": replace(SETTINGS, learning_rate=0.5)}, "learning_rate"),
        ({"seed": 7}, "seed"),
        ({"detector": Autoencoder(32, width=8, latent_dim=8)}, "width"),
        ({"detector": VariationalAutoencoder(32, width=4, latent_dim=8)}, "model"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(sources, tmp_path: Path, change, named):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(small(), *sources, replace(SETTINGS, checkpoint=checkpoint))
    with pytest.raises(BlemishError, match=f"{named} = "):
        train(
            change.get("detector", small()),
            *sources,
            replace(change.get("settings", SETTINGS), checkpoint=checkpoint, resume=True),
            seed=change.get("seed", 0),
        )


def test_a_checkpoint_of_other_images_is_refused(sources, tmp_path: Path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(small(), *sources, replace(SETTINGS, checkpoint=checkpoint))
    fewer = sources[0].where(lambda sample: sample.image.stem != sources[0].samples[0].image.stem)
    with pytest.raises(BlemishError, match="data = "):
        train(small(), fewer, sources[1], replace(SETTINGS, checkpoint=checkpoint, resume=True))


EMPTY = save_tensors({}), save_tensors({}, {"state": "{}"}), save_tensors({}, {"state": "[1]"})


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"{}" * 40, *EMPTY])
def test_a_damaged_checkpoint_is_one_line(sources, tmp_path: Path, content):
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(content)
    with pytest.raises(BlemishError, match="not a readable checkpoint"):
        train(small(), *sources, replace(SETTINGS, checkpoint=checkpoint, resume=True))


def test_a_checkpoint_is_safetensors_and_json(sources, tmp_path: Path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(small(), *sources, replace(SETTINGS, checkpoint=checkpoint))
    names = load_file(checkpoint)
    assert {name.split(".")[0] for name in names} == {"model", "best", "optimizer"}
    header_length = int.from_bytes(checkpoint.read_bytes()[:8], "little")
    header = json.loads(checkpoint.read_bytes()[8 : 8 + header_length])
    assert json.loads(header["__metadata__"]["state"])["epoch"] == SETTINGS.epochs


def test_a_loss_that_is_not_finite_says_what_to_change(sources):
    class Broken(Autoencoder):
        def losses(self, images, seeds):
            return super().losses(images, seeds) * float("nan")

    with pytest.raises(BlemishError, match=r"epoch 1.*Lower learning_rate"):
        train(Broken(32, width=4, latent_dim=8), *sources, SETTINGS)


def test_patience_stops_when_the_validation_loss_no_longer_falls(sources):
    class Worsening(Autoencoder):
        calls = 0

        def losses(self, images, seeds):
            self.calls += not self.training
            return super().losses(images, seeds) + self.calls

    history = train(Worsening(32, width=4, latent_dim=8), *sources, replace(SETTINGS, epochs=20, patience=3))
    assert len(history.train) == 4
    assert history.best_epoch == 0


def test_the_mean_of_the_last_steps_is_kept_and_training_goes_on_from_the_last(sources):
    class Averaging(Autoencoder):
        ema_decay = 0.7

    def steps_of(detector: Autoencoder) -> tuple[list[dict[str, torch.Tensor]], int]:
        steps = []
        history = train(detector, *sources, SETTINGS, progress=lambda *_, **__: steps.append(state(detector)))
        return steps, history.best_epoch

    detector = Averaging(32, width=4, latent_dim=8)
    steps, best_epoch = steps_of(detector)
    assert all(map(same, steps, steps_of(small())[0]))
    name = next(name for name, _ in detector.named_parameters())
    mean = steps[0][name]
    for number, weights in enumerate(steps[: (best_epoch + 1) * len(steps) // SETTINGS.epochs]):
        kept = min(0.7, (1 + number) / (10 + number))
        mean = kept * mean + (1 - kept) * weights[name]
    torch.testing.assert_close(detector.state_dict()[name], mean)
    assert not any(torch.equal(weights[name], mean) for weights in steps)


def test_what_is_drawn_for_an_image_depends_on_nothing_else():
    detector = small("vae")
    images, seeds = torch.rand(4, 3, 32, 32), torch.tensor([image_seed(0, 1, row) for row in range(4)])
    together = detector.losses(images, seeds)
    alone = torch.cat([detector.losses(images[[row]], seeds[[row]]) for row in range(4)])
    torch.testing.assert_close(together, alone)
    assert len(set(seeds.tolist())) == 4
    assert image_seed(0, 1, 0) != image_seed(0, 2, 0) != image_seed(1, 2, 0)


def test_the_latent_vector_of_the_vae_carries_information(tmp_path: Path):
    # Trap: the KL term was a sum against a mean of squared errors, so the posterior collapsed to the prior.
    colours = np.random.default_rng(0).integers(40, 215, (8, 1, 1, 3), dtype=np.uint8)
    samples = [Sample(tmp_path / f"{index}.png", False) for index in range(8)]
    for sample, colour in zip(samples, colours, strict=True):
        cv2.imwrite(str(sample.image), np.broadcast_to(colour, (32, 32, 3)))
    source = load(samples, Preprocess((32, 32)))
    detector = VariationalAutoencoder(32, width=8, latent_dim=8)
    train(detector, source, None, replace(SETTINGS, epochs=400, batch_size=8))
    images = source.batch(range(8))
    with torch.no_grad():
        mean, log_variance = detector.encode(images)
        rebuilt = detector.reconstruct(images)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    assert divergence > 1  # nat
    assert (images - rebuilt).square().mean() < 0.3 * (images - rebuilt.roll(1, 0)).square().mean()


def test_scores_are_repeatable():
    # Trap: the test pass sampled the latent vector.
    detector = small("vae").eval()
    detector.is_fitted = True
    images = torch.rand(2, 3, 32, 32)
    assert all(torch.equal(first, second) for first, second in zip(detector(images), detector(images), strict=True))


def test_a_budget_of_steps_ends_the_training_within_an_epoch(sources):
    """8 images in batches of 3 are three steps an epoch."""
    steps = []
    settings = replace(SETTINGS, max_steps=5)
    history = train(small(), *sources, settings, progress=lambda done, total, **_: steps.append((done, total)))
    assert steps == [(number, 5) for number in range(1, 6)]
    assert len(history.train) == 2


def test_a_budget_of_seconds_ends_the_training_and_counts_those_before_a_stop(sources, tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
    settings = replace(SETTINGS, max_seconds=5, epochs=100, checkpoint=tmp_path / "checkpoint.safetensors")
    done = []
    train(small(), *sources, settings, progress=lambda steps, total, **_: done.append(steps))
    assert done == [1, 2, 3, 4, 5]
    train(small(), *sources, replace(settings, resume=True), progress=lambda *_, **__: pytest.fail("it is over"))


class Scheduled(Autoencoder):
    """Its learning rate falls to nothing, and it notes what part was done at each step."""

    def configure_optimizer(self, learning_rate):
        self.noted = []
        return torch.optim.SGD(self.trained.parameters(), learning_rate), self.falling

    def falling(self, done: float) -> float:
        self.noted.append(done)
        return 0.0 if done >= 0.5 else 1.0


def test_the_learning_rate_follows_the_schedule(sources):
    whole, half = Scheduled(32, width=4, latent_dim=8), Scheduled(32, width=4, latent_dim=8)
    train(whole, *sources, replace(SETTINGS, epochs=2))
    assert whole.noted == pytest.approx([step / 6 for step in range(6)])
    train(half, *sources, replace(SETTINGS, epochs=1))  # its last step and a half have no rate
    steps = [state(half)]
    train(half, *sources, replace(SETTINGS, max_steps=2))
    assert half.noted == [0, 0.5]
    assert not same(steps[0], state(half))


def test_gradients_are_clipped_to_a_norm(sources):
    start, moved = small(), small()
    initialise(start, 0)
    detector = Scheduled(32, width=4, latent_dim=8)
    settings = replace(SETTINGS, max_steps=1, clip_norm=1e-3, learning_rate=1.0)
    train(detector, *sources, settings)
    difference = [value - start.state_dict()[name] for name, value in detector.state_dict().items()]
    assert torch.linalg.vector_norm(torch.cat([one.flatten() for one in difference])) <= 1.001e-3
    train(moved, *sources, replace(settings, clip_norm=None, learning_rate=0.1))
    assert torch.linalg.vector_norm(next(moved.parameters()) - next(start.parameters())) > 1e-3


class HeadAlone(Autoencoder):
    """Only its decoder is trained."""

    @property
    def trained(self):
        return self.decoder


def test_a_checkpoint_holds_what_is_trained_alone(sources, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    detector, fresh = HeadAlone(32, width=4, latent_dim=8), small()
    train(detector, *sources, replace(SETTINGS, checkpoint=path))
    initialise(fresh, 0)
    assert same(state(fresh.encoder), state(detector.encoder))
    assert not same(state(fresh.decoder), state(detector.decoder))
    names = {name.partition(".")[2] for name in load_file(path) if name.startswith(("model.", "best."))}
    assert names == set(detector.decoder.state_dict())


class ThreeTensors(Autoencoder):
    """Its examples are three tensors."""

    def examples(self, images, rows, seeds):
        batch = images.batch(rows)
        return batch, batch.flip(3), torch.full((len(rows),), 0.5)

    def losses(self, *examples):
        images, turned, weight = examples
        first, second = ((one - self.reconstruct(one)).square().flatten(1).mean(1) for one in (images, turned))
        return weight * first + (1 - weight) * second


def test_examples_may_be_any_tuple_of_tensors(sources):
    history = train(ThreeTensors(32, width=4, latent_dim=8), *sources, replace(SETTINGS, epochs=12))
    assert history.validation[-1] < history.validation[0]
