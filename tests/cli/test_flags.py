"""Flags are those of one model: what another has under the same name is not taken for it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Annotated, Any

import pytest
from pydantic import Field

from blemish.cli import flags
from blemish.detectors import DETECTORS
from blemish.detectors.base import Detector
from blemish.errors import BlemishError


class Shallow(Detector):
    def __init__(self, size: int = 64, depth: Annotated[int, Field(ge=1, le=4, description="levels")] = 2) -> None:
        super().__init__(size)
        self.depth = depth


class Deep(Detector):
    def __init__(
        self, size: int = 96, depth: Annotated[float | None, Field(gt=0, description="metres; default: chosen")] = None
    ) -> None:
        super().__init__(size)
        self.depth = depth


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("outside")
    module.Shallow, module.Deep = Shallow, Deep
    monkeypatch.setitem(sys.modules, "outside", module)
    for name in ("Shallow", "Deep"):
        monkeypatch.setitem(DETECTORS, name.lower(), f"outside:{name}")


def text(parameter: Any) -> str:
    return str(parameter.annotation.__metadata__[0].help)


def test_a_range_and_a_default_are_the_model_s_own():
    shallow, deep = (flags.detector_flags(name)["depth"] for name in ("shallow", "deep"))
    assert text(shallow) == "levels [1 to 4; default: 2]"
    assert text(deep) == "metres; default: chosen [more than 0]"
    assert shallow.annotation.__origin__ == int | None
    assert deep.annotation.__origin__ == float | None
    for name, side in (("shallow", 64), ("deep", 96)):
        assert text(flags.fit_flags(name)["size"]).endswith(f"[32 to 1024, multiples of 16; default: {side}]")


def test_an_option_of_another_model_is_refused_by_the_model_s_own_words():
    known = flags.run_flags("vae") | flags.detector_flags("vae")
    flags.refuse_other_models("vae", ["--latent-dim=3", "--epochs", "2", "--unheard-of"], known)
    for spelling in ("--num-patches", "--num_patches", "--num_patches=3"):
        with pytest.raises(
            BlemishError, match=r"^num_patches: not an option of VariationalAutoencoder\. It has: beta, "
        ):
            flags.refuse_other_models("vae", [spelling], known)


@pytest.mark.parametrize(
    ("arguments", "model"),
    [
        ([], "ensemble"),
        (["--model", "vae"], "vae"),
        (["--model=padim", "--out", "m"], "padim"),
    ],
)
def test_the_model_is_found_among_the_arguments(arguments, model):
    assert flags.model_of(arguments, "ensemble") == model


def test_a_toml_file_that_there_is_not_is_named():
    with pytest.raises(BlemishError, match=r"^config nowhere\.toml: "):
        flags.model_of(["--out", "m", "--config", "nowhere.toml"], "ensemble")


@pytest.mark.parametrize("name", ["gan", ""])
def test_a_model_that_there_is_not_is_refused(name):
    with pytest.raises(BlemishError, match=rf"^model: not a detector; choose from ae, .*; '{name}' was given\.$"):
        flags.model_of(["--model", name], "ensemble")


def test_several_values_after_one_flag():
    known = flags.detector_flags("patchcore")
    given = ["fit", "d", "--layers", "1", "2", "--num_patches", "3", "--layers=4"]
    assert flags.one_value_each(given, known) == [
        *("fit", "d", "--layers", "1", "--layers", "2", "--num_patches", "3", "--layers=4"),
    ]
