"""benchmarks/scale.py, the simulation of many workers: what it must give where the answer is known."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def scale(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import scale

    yield scale
    for name in ("scale", "processes"):
        sys.modules.pop(name, None)


def test_without_noise_and_failures_the_time_is_the_work_divided(scale):
    costs = replace(scale.COSTS, images=100_000, spread=0, failures=0, start=0, manifest_row=0, listed_name=0, task=0)
    for workers in (1, 10, 100):
        for has_driver in (False, True):
            found = scale.simulate(costs, workers, has_driver=has_driver)
            assert found.hours * 3600 * workers == pytest.approx(100_000 * costs.image + 100 * costs.write)
            assert (found.efficiency, found.failed, found.binds) == (pytest.approx(1), 0, "computing")


@pytest.mark.parametrize(
    ("change", "has_driver", "binds"),
    [
        ({"store_requests": 100.0}, False, "requests of the store"),
        ({"store_bytes": 1e8}, False, "bytes of the store"),
        ({"task": 10.0}, True, "driver"),
        ({"manifest_row": 1e-3}, False, "manifest and start"),
    ],
)
def test_what_is_made_slow_binds(scale, change, has_driver, binds):
    costs = replace(scale.COSTS, images=1_000_000, **change)
    assert scale.simulate(costs, 100, has_driver=has_driver).binds == binds
    assert scale.simulate(costs, 100, has_driver=has_driver) == scale.simulate(costs, 100, has_driver=has_driver)


def test_failures_cost_time_and_are_counted(scale):
    costs = replace(scale.COSTS, images=1_000_000)
    calm, rough = (scale.simulate(replace(costs, failures=rate), 10, has_driver=True) for rate in (0.0, 20.0))
    assert calm.failed == 0 < rough.failed
    assert calm.hours < rough.hours
