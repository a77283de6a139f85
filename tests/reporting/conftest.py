"""Fixtures of the tests of reports: a data set, two runs on it, and their summary."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_runs import NAMES, NOISE, write_run

from blemish.reporting.page_images import make_page_images
from blemish.reporting.read_runs import Run, read_runs
from blemish.reporting.summarize import summarize


@pytest.fixture(scope="module")
def data(make_category, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("report") / "data"
    for name in NAMES:
        make_category(root, name.replace("/", "_"), num_train=10, num_good=8, num_bad=8)
    return root


@pytest.fixture(scope="module")
def folders(data: Path, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    for method in NOISE:
        write_run(root / method, data, method)
    return [root / method for method in NOISE]


@pytest.fixture(scope="module")
def runs(folders) -> list[Run]:
    return read_runs(folders)


@pytest.fixture(scope="module")
def summary(runs):
    return summarize(runs, make_page_images(runs))
