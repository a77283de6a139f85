"""A model in memory: deciding, learning further images, saving; and that nothing is lost where something is refused."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.model.folder import DOCUMENT, read_model
from blemish.runs.config import RunConfig
from blemish.runs.fit import fit as fit_command

SMALL = {"size": 32, "align": "off", "validation": 0.5}
GABOR = {"backbone": "gabor"}


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_category) -> Path:
    return make_category(tmp_path_factory.mktemp("data"), num_train=20, num_good=4)


@pytest.fixture
def model(data) -> blemish.Model:
    return blemish.fit(data / "train/good", method="padim", **GABOR, **SMALL)


@pytest.fixture
def bad(data) -> Path:
    return data / "test/bad/000.png"


def test_it_is_what_the_command_fits(model, data, bad, tmp_path):
    given = {"model": "padim", "data_path": data / "train/good", "ckpt_path": tmp_path / "model", "options": GABOR}
    config = RunConfig.create(**given, **SMALL)
    fit_command(config)
    loaded = blemish.load(tmp_path / "model")
    assert loaded.predict(bad).score == model.predict(bad).score
    assert loaded.calibration == model.calibration
    assert loaded.options == json.loads(json.dumps(model.options))
    assert loaded.category == model.category == "part"
    assert dict(loaded.provenance) == json.loads(json.dumps(model.provenance))


def test_a_result_shows_itself(model, bad):
    result = model.predict(bad)
    assert re.fullmatch(r"Result\('000.png', 48x48, score=[\d.]+, is_defect=True, regions=\d+\)", repr(result))
    assert result._repr_html_().startswith('<img alt="Result(&#x27;000.png')
    assert result.overlay().dtype == np.uint8
    assert result.path == bad
    assert repr(model).startswith("Model('padim', size=32x32, learned_from=10 images, threshold=")
    assert "<tr><th>calibrated_by</th><td>10 good images</td></tr>" in model._repr_html_()


def test_without_images_held_out_there_is_a_score_and_no_decision(data, bad):
    model = blemish.fit(data / "train/good", method="padim", backbone="gabor", size=32, align="off", validation=0)
    result = model.predict(bad)
    assert (model.threshold, result.is_defect, result.p_value, result.regions) == (None, None, None, ())
    assert "threshold=none" in repr(model)
    assert result.overlay().ndim == 3
    assert "is_defect" not in repr(result)
    with pytest.raises(blemish.BlemishError, match=r"calibrate: no good images were held out. Give images, or a thr"):
        model.calibrate(false_alarm_rate=0.1)
    assert model.calibrate(threshold=result.score / 2).predict(bad).is_defect


def test_a_threshold_is_chosen_by_a_rate_by_images_or_by_hand(model, data):
    by_default, scores = model.threshold, model.calibration.good_scores
    assert model.calibrate(false_alarm_rate=0.5) is model
    assert scores[5] < model.threshold < by_default
    assert model.calibration.previous[0].threshold == by_default
    model.calibrate(images=data / "test/good")
    assert model.calibration.num_images == 4
    model.calibrate(images=[data / "test/good/000.png"], threshold=3)
    assert (model.threshold, model.calibration.num_images) == (3.0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "calibrate: nothing was given"),
        ({"threshold": "3"}, "threshold: '3' was given; a number is needed"),
        ({"threshold": True}, "threshold: True was given"),
        ({"threshold": float("nan")}, "threshold: nan was given"),
        ({"false_alarm_rate": 2}, "false-alarm-rate: 2 was given"),
        ({"false_alarm_rate": 0.001}, "10 held-out good images support"),
        ({"false_alarm_rate": 0.5, "threshold": 1}, "false_alarm_rate, threshold: both set the same thing"),
        ({"images": "nowhere"}, "images nowhere: no such folder"),
        ({"images": []}, "images: empty"),
        ({"images": [3]}, r"images\[0\]: 3 was given"),
    ],
)
def test_what_cannot_calibrate_is_refused_and_changes_nothing(model, given, message):
    before = model.calibration
    with pytest.raises(blemish.BlemishError, match=message):
        model.calibrate(**given)
    assert model.calibration is before


def test_images_that_the_threshold_was_chosen_by_are_not_learned(model, data):
    model.calibrate(images=data / "test/good")
    with pytest.raises(blemish.BlemishError, match="no good image is new to the model"):
        model.update(data / "test/good")


def test_images_that_were_learned_from_calibrate_nothing(model, data):
    with pytest.raises(blemish.BlemishError, match=r"\.png: is a training image"):
        model.calibrate(images=data / "train/good")


def test_a_model_learns_further_images(model, data, bad):
    before, generator = model.predict(bad).score, np.random.default_rng(1)
    new = [generator.integers(60, 160, (48, 48, 3), np.uint8) for _ in range(3)]
    assert model.update([*new, data / "train/good/000.png"]) is model
    assert model.provenance["updates"] == [{"num_images": 3}]
    assert model.predict(bad).score != before
    with pytest.raises(blemish.BlemishError, match="no good image is new to the model"):
        model.update(new)


def test_a_method_that_cannot_learn_further_images_says_so(data, bad):
    model = blemish.fit(data / "train/good", method="ae", size=32, width=4, latent_dim=4, epochs=1, align="off")
    before = model.predict(bad).score
    with pytest.raises(blemish.BlemishError, match="Autoencoder cannot learn from additional images"):
        model.update(data / "test/good")
    assert model.predict(bad).score == before


def test_saving_replaces_no_other_model_unless_it_is_told_to(model, data, tmp_path):
    other = blemish.fit(data / "test/good", method="padim", **GABOR, **SMALL)
    model.save(tmp_path / "model")
    with pytest.raises(blemish.BlemishError, match=r"holds a model already. Give another path, or force=True"):
        other.save(tmp_path / "model")
    assert read_model(tmp_path / "model").provenance["learned_from"] == model.provenance["learned_from"]
    model.update(data / "test/good")
    model.save(tmp_path / "model")  # its own
    other.save(str(tmp_path / "model"), force=True)
    assert read_model(tmp_path / "model").provenance["learned_from"] == other.provenance["learned_from"]


def test_a_changed_threshold_is_saved_and_the_exports_stay(model, bad, tmp_path):
    model.save(tmp_path / "model")
    model.export("onnx")
    loaded = blemish.load(tmp_path / "model", backend="onnx")
    loaded.calibrate(threshold=1).save(tmp_path / "model")
    again = blemish.load(tmp_path / "model", backend="onnx")
    assert again.threshold == 1
    assert again.predict(bad).score == pytest.approx(model.predict(bad).score, rel=1e-3)
    for doing in (lambda: again.save(tmp_path / "else"), lambda: again.update([bad])):
        with pytest.raises(blemish.BlemishError, match=r"was loaded for prediction only. Load it with backend='torch'"):
            doing()
    assert not (tmp_path / "else").exists()


def test_a_model_that_another_process_has_replaced_is_not_written_over(model, data, tmp_path):
    model.save(tmp_path / "model")
    blemish.fit(data / "test/good", method="padim", **GABOR, **SMALL).save(tmp_path / "model", force=True)
    with pytest.raises(blemish.BlemishError, match="holds another model now"):
        model.calibrate(threshold=1).save(tmp_path / "model")
    assert read_model(tmp_path / "model").calibration.threshold != 1


def test_only_what_is_saved_is_exported(model, data, tmp_path):
    with pytest.raises(blemish.BlemishError, match=r"export: the model has unsaved changes. Call model.save"):
        model.export()
    model.save(tmp_path / "model")
    for arguments, message in ((["tflite"], "format tflite"), (["onnx"], "precision: 'bad'")):
        with pytest.raises(blemish.BlemishError, match=message):
            model.export(*arguments, **({"precision": "bad"} if "precision" in message else {}))
    model.update(data / "test/good")
    with pytest.raises(blemish.BlemishError, match="has unsaved changes"):
        model.export()


def test_a_model_of_arrays_is_exported_by_images_that_are_given(data, tmp_path):
    generator = np.random.default_rng(0)
    model = blemish.fit(
        [generator.integers(0, 255, (48, 48, 3), np.uint8) for _ in range(5)], method="padim", **GABOR, **SMALL
    )
    model.save(tmp_path / "model")
    with pytest.raises(blemish.BlemishError, match="data_path"):
        model.export()
    assert model.export(data_path=data).parity.num_images == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "none"}, "model: not a detector; choose from"),
        ({"seed": -1}, "seed: "),
        ({"size": 33}, "size: "),
        ({"colour": 1}, "colour: not an option of PaDiM"),
        ({"figures": 1}, "figures: not an option of fit"),
        ({"data_path": "x"}, "data_path: not an option of fit"),
    ],
)
def test_a_wrong_option_of_fit_is_named(data, options, message):
    with pytest.raises(blemish.BlemishError, match=message):
        blemish.fit(data / "train/good", **{"method": "padim", **options})


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "8"])
def test_a_wrong_batch_size_is_named(model, bad, batch_size):
    with pytest.raises(blemish.BlemishError, match="batch_size: "):
        model.predict_many([bad], batch_size=batch_size)


def test_loading_what_is_no_model_or_by_no_backend_is_refused(model, tmp_path):
    with pytest.raises(blemish.BlemishError, match=r"no such file. Give the folder of a fitted detector"):
        blemish.load(tmp_path)
    model.save(tmp_path / "model")
    assert blemish.load(str(tmp_path)).threshold == model.threshold  # the only model in the folder
    with pytest.raises(blemish.BlemishError, match="backend fast: unknown"):
        blemish.load(tmp_path, backend="fast")
    (tmp_path / "model" / DOCUMENT).write_text("{")
    with pytest.raises(blemish.BlemishError, match="not JSON"):
        blemish.load(tmp_path)


def test_measuring_names_what_is_wrong(model, data, tmp_path):
    for call, message in (
        (lambda: blemish.evaluate(model, data / "train/good"), "category good has no test images"),
        (lambda: blemish.evaluate(model, tmp_path / "nowhere"), "nowhere: no such folder"),
        (lambda: blemish.evaluate(tmp_path, data), "no such file"),
        (lambda: blemish.benchmark("padim", data), "methods: 'padim' was given; a list of names"),
        (lambda: blemish.benchmark(["padim", "none"], data, tmp_path / "runs"), "methods.1: not a detector"),
        (lambda: blemish.report([], tmp_path / "a.html"), "runs: empty"),
        (lambda: blemish.report(tmp_path, tmp_path / "a.html"), "holds no run"),
    ):
        with pytest.raises(blemish.BlemishError, match=message):
            call()
    assert list(tmp_path.iterdir()) == []


def test_two_threads_do_not_disturb_each_other(model, data, bad):
    other = blemish.fit(data / "train/good", method="patchcore", num_patches=20, **GABOR, **SMALL)
    images = [bad, *sorted((data / "test/good").glob("*.png"))] * 3
    expected = {one: [one.predict(image).score for image in images] for one in (model, other)}
    found: dict[blemish.Model, list[float]] = {}

    def work(one: blemish.Model) -> None:
        found[one] = [result.score for result in one.predict_many(images, batch_size=2)]

    threads = [threading.Thread(target=work, args=(one,)) for one in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
