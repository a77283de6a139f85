"""The size of a detector's input that suits good images, and the largest that is fast enough, by measured times."""

from __future__ import annotations

import signal
from itertools import accumulate, cycle
from pathlib import Path

import pytest

import blemish.runs.steps
from blemish.data.category import find_category
from blemish.detectors import detector_class
from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess
from blemish.runs.config import RunConfig
from blemish.runs.resolution import Suited, shaped, smaller_sides, suited, within
from blemish.runs.run import learn
from blemish.runs.steps import calibrate, fit, plan, prepare
from blemish.runs.timing import WARMED, seconds_per_image

MILLISECONDS = {128: 10, 192: 20, 256: 35, 384: 80}


def seconds(size) -> float:
    return MILLISECONDS[size] / 1000


@pytest.mark.parametrize(
    ("images", "line"),
    [
        ([(200, 200)] * 3, "size: 256, since the images are 200 pixels high and 200 wide"),
        ([(447, 447)], "size: 256, since the images are 447 pixels high and 447 wide"),
        (
            [(450, 600)] * 8,
            "size: 384, since the images are 450 pixels high and 600 wide; "
            "--size 256 takes half the time, --tile 384 shows finer detail in 4 times the time",
        ),
        (
            [(128, 1024)] * 2,
            "size: 256, since the images are 128 pixels high and 1024 wide; --size 96x720 keeps their shape",
        ),
        (
            [(1600, 400)],
            "size: 384, since the images are 1600 pixels high and 400 wide; --size 256 takes half the time, "
            "--tile 384 shows finer detail in 10 times the time, --size 768x192 keeps their shape",
        ),
        ([], "size: 256"),
    ],
)
def test_the_size_suits_the_images(images, line):
    assert str(suited(images)).startswith(line)


@pytest.mark.parametrize("images", [[(100, 200)], [(100, 400), (400, 100)], [(100, 400), (100, 150), (100, 400)]])
def test_a_rectangle_is_offered_for_long_images_of_one_direction_alone(images):
    assert "keeps their shape" not in suited(images).others
    assert "keeps their shape" not in suited([(100, 800)], only_square=True).others


def test_a_shape_keeps_its_area_as_far_as_sides_allow():
    assert shaped(256, 1) == 256
    assert shaped(256, 4) == "128x512"
    assert shaped(256, 1 / 4) == "512x128"
    assert shaped(384, 100) == "32x1024"


@pytest.mark.parametrize(("side", "sides"), [(384, [128, 192, 256, 384]), (208, [128, 208]), (96, [96])])
def test_smaller_sides_are_those_that_take_clearly_less_time(side, sides):
    assert smaller_sides(side) == sides


@pytest.mark.parametrize(
    ("wished", "most", "line"),
    [
        (
            Suited(256, "as they are small"),
            0.05,
            "size: 256, as they are small: 35 ms per image, where 50 ms are allowed; 128 takes 10 ms, 192 takes 20 ms",
        ),
        (
            Suited(384, "since they are large", "--size 256 takes half the time"),
            0.05,
            "size: 256, the largest that is fast enough: 35 ms per image, where 50 ms are allowed; "
            "128 takes 10 ms, 192 takes 20 ms, 384 takes 80 ms",
        ),
        (Suited(256), 0.02, "size: 192, the largest that is fast enough: 20 ms per image, where 20 ms are allowed; "),
        (Suited(128), 0.02, "size: 128, which is fast enough: 10 ms per image, where 20 ms are allowed"),
        (
            Suited(192),
            0.001,
            "size: 128, the smallest and still too slow: 10 ms per image, where 1 ms are allowed; 192 takes 20 ms",
        ),
    ],
)
def test_the_largest_size_that_is_fast_enough(wished, most, line):
    found = within(wished, seconds, most)
    assert str(found).startswith(line)
    assert found.is_fast == (most > 0.001)


def test_the_time_is_the_median_of_single_images_after_the_first(make_category, tmp_path: Path):
    """A clock that ticks 1 s, then 3 s, then 100 s: of the images that count, most take 3 s."""
    config = RunConfig.create(data_path=tmp_path, ckpt_path=tmp_path, model="padim", size=32)
    samples = find_category(make_category(tmp_path / "data", num_train=3), "part").of("train")
    detector = detector_class("padim").create(size="32x64", backbone="gabor")
    spans = [50.0] * WARMED + [1.0, 1.0, 3.0, 3.0, 3.0, 100.0, 100.0]
    ticks = accumulate(span for pair in zip(cycle([7.0]), spans) for span in pair)
    assert seconds_per_image(detector, Preprocess((32, 64)), samples, config, lambda: next(ticks)) == 3.0


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes that were measured; each takes a millisecond per 1000 pixels."""
    found: list[tuple[int, int]] = []

    def fake(detector, preprocess, samples, config) -> float:
        assert detector.input_size == preprocess.size
        assert {sample.split for sample in samples} == {"train"}
        found.append(preprocess.size)
        return preprocess.size[0] * preprocess.size[1] / 1e6

    monkeypatch.setattr(blemish.runs.steps, "seconds_per_image", fake)
    return found


@pytest.mark.parametrize(
    ("model", "most", "tried", "size"),
    [
        ("padim", "50ms", [128, 192, 256], 192),
        ("padim", 0.07, [128, 192, 256], 256),
        ("ae", "5ms", [128], 128),
    ],
)
def test_a_run_takes_the_size_that_is_fast_enough_and_its_model_keeps_it(
    make_category, tmp_path, caplog, measured, model, most, tried, size
):
    folder = make_category(tmp_path / "data", num_train=6)
    options = {"backbone": "gabor"} if model == "padim" else {"width": 4, "latent_dim": 4}
    config = RunConfig.create(
        model=model, options=options, data_path=folder, ckpt_path=tmp_path / "out", time_per_image=most, epochs=1
    )
    with caplog.at_level("INFO", "blemish"):
        artifact = calibrate(fit(prepare(plan(config, find_category(folder, "part"))))).artifact
    assert measured == [(side, side) for side in tried]
    assert artifact.preprocess.size == (size, size)
    assert artifact.detector.options["size"] == size
    (line,) = [one for one in artifact.provenance["choices"] if one.startswith("size: ")]
    (record,) = [record for record in caplog.records if record.message == line]
    assert record.levelname == ("WARNING" if model == "ae" else "INFO")


@pytest.mark.parametrize("model", ["padim", "selfsup", "vae"])
def test_a_size_may_be_a_rectangle_where_the_detector_takes_one(make_category, tmp_path, model):
    folder = make_category(tmp_path / "data", num_train=4, size=(16, 128))
    fields = {"model": model, "data_path": folder, "ckpt_path": tmp_path / "out"}
    if model == "vae":
        with pytest.raises(BlemishError, match="the input is square"):
            prepare(plan(RunConfig.create(**fields, size="96x720"), find_category(folder, "part")))
        return
    prepared = prepare(plan(RunConfig.create(**fields, size="96x720"), find_category(folder, "part")))
    assert prepared.source.preprocess.size == prepared.detector.input_size == (96, 720)


@pytest.mark.parametrize(("tile", "tried"), [(128, [128]), (208, [128, 208])])
def test_with_tiles_the_size_is_at_most_that_of_a_tile(make_category, tmp_path, measured, tile, tried):
    folder = make_category(tmp_path / "data", num_train=4, size=(16, 128))
    fields = {"model": "padim", "tile": tile, "time_per_image": "1s", "align": "off"}
    config = RunConfig.create(data_path=folder, ckpt_path=tmp_path / "out", **fields)
    assert prepare(plan(config, find_category(folder, "part"))).source.preprocess.size == (tried[-1], tried[-1])
    assert measured == [(side, side) for side in tried]


def test_a_resumed_run_keeps_the_size_that_was_measured_before_it_was_stopped(make_category, tmp_path, monkeypatch):
    """Of two measurements one may be faster; the training goes on at its size."""
    folder = make_category(tmp_path / "data", num_train=6)
    fields = {"model": "ae", "options": {"width": 4, "latent_dim": 4}, "tile": 208, "time_per_image": "50ms"}
    config = RunConfig.create(data_path=folder, ckpt_path=tmp_path / "out", epochs=2, align="off", **fields)
    category, out = find_category(folder, "part"), tmp_path / "out" / "part"
    monkeypatch.setattr(blemish.runs.steps, "seconds_per_image", lambda *_: 0.01)
    with pytest.raises(KeyboardInterrupt):
        learn(plan(config, category), out, stopped_while_fitting)
    monkeypatch.setattr(blemish.runs.steps, "seconds_per_image", lambda *_: 0.1)
    resumed = learn(plan(config.model_copy(update={"resume": True}), category), out)
    assert resumed[1].preprocess.size == (208, 208)


def stopped_while_fitting(phase: str):
    """The progress of a phase; Ctrl-C is pressed when fitting begins."""

    def progress(*_, **__) -> None:
        if phase == "fitting":
            signal.raise_signal(signal.SIGINT)

    return progress


def test_what_a_detector_chooses_is_logged_once_however_many_sizes_are_measured(make_category, tmp_path, caplog):
    folder = make_category(tmp_path / "data", num_train=6)
    fields = {"model": "padim", "tile": 144, "time_per_image": "10s", "memory_budget": 10_000_000, "align": "off"}
    fields["options"] = {"backbone": "gabor"}
    config = RunConfig.create(data_path=folder, ckpt_path=tmp_path / "out", **fields)
    with caplog.at_level("INFO", "blemish"):
        fit(prepare(plan(config, find_category(folder, "part"))))
    lines = [record.message for record in caplog.records if record.message.startswith("padim: one Gaussian")]
    assert len(lines) == 1
