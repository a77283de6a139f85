"""The command by which a report says that a run is to be done again."""

from __future__ import annotations

import json
import shlex

import pytest

from blemish.cli import main
from blemish.detectors import detector_class
from blemish.reporting.command import command
from blemish.runs.command import words_of
from blemish.runs.config import RunConfig


def test_the_command_that_reproduces_a_run_names_what_differs_from_the_defaults():
    config = RunConfig.create(
        model="patchcore", data_path="my data", ckpt_path="out", size=64, options={"num_patches": 50}, seed=3
    )
    words = shlex.split(command({"command": words_of(config)}, ["bolt", "nut"]))
    assert words[:2] == ["blemish", "train"]
    assert dict(zip(words[2:-4:2], words[3:-4:2], strict=True)) == {
        "--model": "patchcore", "--data_path": "my data", "--ckpt_path": "out", "--size": "64", "--seed": "3",
        "--num_patches": "50",
    }  # fmt: skip
    assert words[-4:] == ["--category", "bolt", "--category", "nut"]


@pytest.mark.parametrize(
    "options",
    [
        {"model": "padim", "options": {"shared": True, "scales": (0.0, 3.0)}, "align": "off"},
        {"model": "padim", "options": {"shared": False}, "tile": 64, "overlap": 8, "memory_budget": "2GB"},
        {"model": "patchcore", "options": {"backbone": "resnet18", "layers": ("1", "2")}, "validation": 0.25},
    ],
)
@pytest.mark.parametrize("is_old", [False, True])
def test_the_command_that_reproduces_a_run_is_read_as_its_configuration(options, is_old, monkeypatch):
    """By the words in its record, or by the configuration alone where the record is older than they are."""
    config = RunConfig.create(data_path="my data", ckpt_path="out", seed=1, **options)
    facts = {"config": json.loads(config.model_dump_json())} if is_old else {"command": words_of(config)}
    words = shlex.split(command(facts, ["bolt"]))
    read: list[RunConfig] = []
    monkeypatch.setattr("blemish.cli.learning.train", read.append)
    with pytest.raises(SystemExit) as stopped:
        main(words[1:])
    assert not stopped.value.code
    assert read == [config.for_category("bolt").model_copy(update={"options": read[0].options})]
    assert detector_class(config.model).create(**read[0].options).options == (
        detector_class(config.model).create(**config.options).options
    )
