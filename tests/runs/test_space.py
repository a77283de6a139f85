"""The space of a search: every value that is drawn is one that the method takes, and the defaults lie in it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.detectors import DETECTORS, detector_class
from blemish.errors import BlemishError
from blemish.runs.sweep.config import SweepConfig
from blemish.runs.sweep.space import Dimension, draw, space_of, split


class Drawn:
    """Draws as optuna does, at random."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.rng.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        assert not log or (low > 0 and step == 1)
        return low + step * self.rng.randint(0, (high - low) // step)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert not log or low > 0
        return self.rng.uniform(low, high)


@pytest.mark.parametrize("model", sorted(DETECTORS))
def test_every_draw_is_a_configuration_of_the_method(model, tmp_path):
    space = space_of(model, {})
    assert {"smoothing"} <= set(space)
    assert not {"size", "backbone", "weights", "precision"} & set(space)
    assert ("learning_rate" in space) == (model in ("ae", "vae", "selfsup"))
    config = SweepConfig.create(data_path=tmp_path, out=tmp_path, model=model)
    for seed in range(60):
        values = draw(space, Drawn(seed))
        own, options = split(values)
        assert set(own) <= {"learning_rate"}
        assert config.run(values).options == options
        fields = detector_class(model).option_fields()
        assert set(options) <= set(fields)
    for name, dimension in space.items():
        default = dimension.default
        assert default in dimension.choices or dimension.low <= default <= dimension.high, name


def test_ranges_come_from_the_annotations():
    space = space_of("ae", {})
    assert space["width"] == Dimension(16, (), 4, 64, 1, is_log=True)
    assert space["loss"] == Dimension("mse", ("mse", "l1", "ssim"))
    assert space["depth"] == Dimension(1, (), 1, 4, 1, is_log=True)
    assert (space["learning_rate"].low, space["learning_rate"].high) == (0.00025, 0.004)
    assert space_of("patchcore", {})["reweighting"] == Dimension(None, (None, False, True))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_option_is_searched_only_under_its_condition(seed):
    given = {
        "loss": ["mse", "ssim"],
        "smoothing": {"low": 1, "high": 8, "log": True, "when": {"loss": "ssim"}},
        "size": {"low": 64, "high": 128},
        "epochs": {"low": 5, "high": 50, "step": 5},
        "width": True,
    }
    values = draw(space_of("ae", given), Drawn(seed))
    assert ("smoothing" in values) == (values["loss"] == "ssim")
    assert values["size"] % 16 == 0
    assert values["epochs"] % 5 == 0
    assert set(split(values)[0]) == {"size", "epochs"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beta": True}, "space: beta is not an option of ae. It has align, aspect, batch_size"),
        ({"width": 3}, "space.width: 3 was given. Give a list of choices, a table with low and high"),
        ({"width": {"low": 8}}, "space.width: low and high must be numbers"),
        ({"width": {"low": 8, "high": 4}}, "space.width: low and high must be numbers, low below high"),
        ({"smoothing": {"low": 0, "high": 4, "log": True}}, "above 0 with log"),
        ({"width": {"low": 8, "high": 16, "grid": 3}}, "space.width: "),
        ({"width": {"choices": [[3]]}}, "space.width: choices must be a list of numbers or words."),
        ({"width": {"low": 8, "high": 16, "when": 3}}, "space.width: when is 3."),
        ({"width": {"low": 8, "high": 16, "when": {"loss": "mse"}}}, "its condition names an option outside"),
        ({"width": {"low": 8, "high": 16, "when": {"width": 9}}}, "its condition names an option outside"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_line(given, said):
    with pytest.raises(BlemishError) as caught:
        space_of("ae", given)
    assert said in str(caught.value)
