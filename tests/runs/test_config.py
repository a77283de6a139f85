"""What a run is: every field that is wrong is named, with what was given and what is allowed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blemish.detectors import detector_class
from blemish.errors import BlemishError
from blemish.runs.config import RunConfig, read_toml

REQUIRED: dict[str, Any] = {"data_path": "data", "ckpt_path": "out"}


def test_the_defaults_are_those_of_the_documented_command():
    config = RunConfig.create(**REQUIRED)
    assert (config.model, config.batch_size) == ("vae", 32)
    assert (config.epochs, config.learning_rate, config.patience) == (None, None, None)  # as the detector has them
    assert (config.size, config.data_path, config.ckpt_path) == (None, Path("data"), Path("out"))
    assert [detector_class(name).option_fields()["size"][1] for name in ("ae", "vae")] == [128, 128]
    assert (config.category, config.seed, config.device, config.resume) == ((), 0, "auto", False)
    assert (config.validation, config.aspect, config.memory_budget) == (0.1, "squash", 4 << 30)


WRONG: dict[str, tuple[str, Any, str]] = {
    "model": ("model", "gan", "not a detector; choose from ae, "),
    "no model": ("model", "", "not a detector; choose from"),
    "epochs": ("epochs", 0, "input should be greater than or equal to 1"),
    "broken epochs": ("epochs", 1.5, "input should be a valid integer"),
    "batch size": ("batch_size", -1, "input should be greater than or equal to 1"),
    "learning rate": ("learning_rate", 0, "input should be greater than 0"),
    "endless learning rate": ("learning_rate", float("inf"), "input should be a finite number"),
    "no learning rate": ("learning_rate", float("nan"), "input should be a finite number"),
    "small size": ("size", 16, "sides should be multiples of 16 from 32 to 1024"),
    "large size": ("size", 1040, "sides should be multiples of 16 from 32 to 1024"),
    "odd size": ("size", 100, "sides should be multiples of 16 from 32 to 1024"),
    "a word as size": ("size", "big", "sides should be multiples of 16 from 32 to 1024, such as 256, or 128x704"),
    "one odd side": ("size", "128x100", "sides should be multiples of 16 from 32 to 1024"),
    "three sides": ("size", "64x64x64", "sides should be multiples of 16 from 32 to 1024"),
    "no time": ("time_per_image", "0ms", "should be a time of up to an hour, such as 50ms or 0.2s"),
    "a weight as time": ("time_per_image", "5kg", "should be a time of up to an hour, such as 50ms or 0.2s"),
    "a long time": ("time_per_image", 3601, "should be a time of up to an hour, such as 50ms or 0.2s"),
    "category": ("category", "bolt", "input should be a valid tuple"),
    "align": ("align", "maybe", "input should be 'auto', 'on' or 'off'"),
    "aspect": ("aspect", "crop", "input should be 'squash' or 'pad'"),
    "validation": ("validation", 0.6, "input should be less than or equal to 0.5"),
    "negative validation": ("validation", -0.1, "input should be greater than or equal to 0"),
    "undefined validation": ("validation", float("nan"), "input should be "),
    "patience": ("patience", -1, "input should be greater than or equal to 0"),
    "seed": ("seed", -1, "input should be greater than or equal to 0"),
    "large seed": ("seed", 2**32, "input should be less than 4294967296"),
    "device": ("device", "gpu", "allowed are auto, cpu, cuda, cuda:1 or mps"),
    "device number": ("device", "cuda:", "allowed are auto, cpu"),
    "device line": ("device", "cpu\n", "allowed are auto, cpu"),
    "precision": ("precision", "float16", "input should be 'auto', 'float32' or 'bfloat16'"),
    "figures": ("figures", 65, "input should be less than or equal to 64"),
    "workers": ("workers", 257, "input should be less than or equal to 256"),
    "memory": ("memory_budget", "lots", "a number of bytes, such as 2GB"),
    "small tile": ("tile", 16, "input should be greater than or equal to 32"),
    "negative overlap": ("overlap", -1, "input should be greater than or equal to 0"),
    "options": ("options", [1], "input should be a valid dictionary"),
    "a setting among the options": ("options", {"precision": "float32"}, "precision is a setting of the run"),
    "unknown": ("colour", "red", "extra inputs are not permitted"),
}


@pytest.mark.parametrize(("field", "value", "allowed"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_named_in_one_line(field, value, allowed):
    with pytest.raises(BlemishError) as raised:
        RunConfig.create(**REQUIRED | {field: value})
    message = str(raised.value)
    assert message.startswith(f"{field}: {allowed}")
    assert message.endswith(f"; {value!r} was given.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("size", 32, 32),
        ("size", 1024, 1024),
        ("size", "auto", None),
        ("size", "64", 64),
        ("size", "64x64", 64),
        ("size", "128x704", "128x704"),
        ("size", (32, 64), "32x64"),
        ("time_per_image", "50ms", 0.05),
        ("time_per_image", "0.2 s", 0.2),
        ("time_per_image", 2, 2.0),
        ("validation", 0, 0.0),
        ("seed", 2**32 - 1, 2**32 - 1),
        ("device", "cuda:1", "cuda:1"),
        ("device", "mps", "mps"),
        ("memory_budget", "512MiB", 512 << 20),
        ("memory_budget", "2 GB", 2_000_000_000),
        ("memory_budget", 0, 0),
        ("category", ["b", "a"], ("b", "a")),
        ("learning_rate", "1e-4", 1e-4),
        ("model", "ae", "ae"),
    ],
)
def test_a_right_field_is_taken(field, value, expected):
    assert getattr(RunConfig.create(**REQUIRED | {field: value}), field) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 256, "time_per_image": "50ms"}, "time_per_image: chooses the size, which is given as 256"),
        ({"size": "64x128", "tile": 64}, "tile: tiles are square, but their size 64x128 is not"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(BlemishError, match=f"^{message}"):
        RunConfig.create(**REQUIRED, **fields)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_field_that_is_missing_is_named(field):
    with pytest.raises(BlemishError, match=f"^{field}: field required"):
        RunConfig.create(**{name: value for name, value in REQUIRED.items() if name != field})


def test_a_configuration_cannot_be_changed_and_travels_to_other_processes():
    config = RunConfig.create(**REQUIRED, options={"width": 8}, category=["bolt"], memory_budget="1GiB")
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - what was pickled a moment ago


def test_one_category_of_a_run_is_the_same_run():
    config = RunConfig.create(**REQUIRED, category=["a", "b"], epochs=3)
    assert config.for_category("b").category == ("b",)
    assert config.for_category("b").identity == config.identity
    assert config.category == ("a", "b")


OTHER_VALUES: dict[str, Any] = {
    "augment": "light",
    "outliers": "show",
    "model": "ae",
    "epochs": 7,
    "batch_size": 7,
    "learning_rate": 0.5,
    "size": 64,
    "time_per_image": "50ms",
    "data_path": "elsewhere",
    "ckpt_path": "elsewhere",
    "category": ["bolt"],
    "layout": "folder",
    "group": "(.)",
    "aspect": "pad",
    "validation": 0.2,
    "patience": 3,
    "seed": 1,
    "device": "cpu",
    "precision": "float32",
    "resume": True,
    "figures": 1,
    "workers": 1,
    "max_pixels": 1000,
    "memory_budget": "1MiB",
    "options": {"width": 8},
    "tile": 256,
    "align": "off",
    "overlap": 32,
    "roi": "roi.png",
}


@pytest.mark.parametrize("field", RunConfig.model_fields)
def test_what_a_result_depends_on_is_part_of_its_identity(field):
    needed = REQUIRED | ({"tile": 128} if field == "overlap" else {})
    first, second = RunConfig.create(**needed), RunConfig.create(**needed | {field: OTHER_VALUES[field]})
    assert getattr(first, field) != getattr(second, field)
    where_and_how_fast = {
        "data_path",
        "ckpt_path",
        "category",
        "resume",
        "device",
        "workers",
        "memory_budget",
        "max_pixels",
        "figures",
        "roi",  # its content counts, which `run` adds
    }
    assert (first.identity == second.identity) == (field in where_and_how_fast)


def test_a_toml_file_holds_the_fields(tmp_path: Path):
    path = tmp_path / "Größe 1.toml"
    path.write_text(
        'model = "ae"\nepochs = 3\nlearning_rate = 1e-4\ncategory = ["bolt"]\nmemory_budget = "1GiB"\n'
        'data_path = "Prüfling 1"\nckpt_path = "out"\n[options]\nwidth = 16\n',
        encoding="utf-8",
    )
    config = RunConfig.create(**read_toml(path))
    assert (config.model, config.epochs, config.learning_rate, config.category) == ("ae", 3, 1e-4, ("bolt",))
    assert (config.data_path, config.memory_budget, config.options) == (Path("Prüfling 1"), 1 << 30, {"width": 16})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs = ", "Invalid value"),
        (b"epochs = 3\nepochs = 4", "Cannot overwrite a value"),
        (b"{}", r"Invalid statement \(at line 1, column 1\)"),
        (b'model = "\xff"', "can't decode byte 0xff"),
    ],
)
def test_a_toml_file_that_cannot_be_read_is_named(content, message, tmp_path: Path):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(BlemishError, match=rf"^config .*run\.toml: .*{message}.*\.$"):
        read_toml(tmp_path / "run.toml")


def test_a_toml_path_that_is_no_file_is_named(tmp_path: Path):
    for path, reason in ((tmp_path / "gone.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(BlemishError) as raised:
            read_toml(path)
        assert str(raised.value).startswith(f"config {path}: {reason}")
