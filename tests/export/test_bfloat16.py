"""An export computes in float32; a model whose network computes in bfloat16 is compared with it as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import blemish
from blemish.cli import main
from blemish.features.devices import uses_bfloat16

SUPPORTED = uses_bfloat16("auto", torch.device("cpu"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_export_is_compared_with_the_network_as_it_was_fitted(precision, make_category, tmp_path: Path, capsys):
    good = make_category(tmp_path / "data") / "train" / "good"
    options = {"backbone": "resnet18", "weights": "random", "size": 32, "precision": precision}
    blemish.fit(good, method="padim", **options).save(tmp_path / "model")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "model"), "--data-path", str(tmp_path / "data")])
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("float32 against torch on 4 images: scores differ by ") for line in lines) == 1
    beside = [
        line for line in lines if line.startswith("beside torch in bfloat16, as it was fitted: scores differ by ")
    ]
    assert len(beside) == (precision == "bfloat16" and SUPPORTED)
    assert all(line.endswith(" of 4 decisions changed; --precision float32 of fit makes both agree") for line in beside)
