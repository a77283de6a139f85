"""`blemish sweep`: what is chosen never depends on the test images that it is reported on; a killed one continues."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_help import run

from blemish.data.category import find_categories
from blemish.runs.sweep.config import SweepConfig
from blemish.runs.sweep.study import Tried
from blemish.runs.sweep.sweep import _choose

SMALL = ["--model", "padim", "--trials", "4", "--align", "off", "--validation", "0.3"]
SPACE = "[settings]\nsize = 32\n[space]\ndimensions = {low = 5, high = 120}\nsmoothing = [1.0, 2.0, 4.0]\n"


@pytest.fixture(scope="module")
def data(make_category, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    for name in ("bolt", "nut"):
        make_category(root / "data", name, num_train=8, num_good=3, num_bad=3)
    (root / "s.toml").write_text(SPACE)
    return root / "data"


def command(data: Path, out: Path, *more: str) -> list[str]:
    config = ["--config", str(data.parent / "s.toml"), "--data-path", str(data), "--out", str(out)]
    return ["sweep", *config, *SMALL, *more]


@pytest.mark.slow
def test_drawn_defects_choose_and_no_test_image_has_a_say(data, make_category, tmp_path, capsys):
    code, text, _ = run(command(data, tmp_path / "s"), capsys)
    assert code == 0
    assert re.search(r"tuned for all categories: dimensions \d+, smoothing \d", text)
    assert "4 trials; the page is" in text
    document = json.loads((tmp_path / "s" / "sweep.json").read_text())
    first, *_ = document["trials"]
    assert (first["number"], first["values"]) == (0, {"dimensions": 100, "smoothing": 4.0})  # the defaults
    best = max((t for t in document["trials"] if t["value"] is not None), key=lambda t: t["value"])
    assert {row["trial"] for row in document["chosen"].values()} == {best["number"]}
    files = {path.name for path in (tmp_path / "s" / "figures").iterdir()}
    assert {"sweep-history.svg", "sweep-trials.png", "average-pixel_auroc.svg"} <= files
    other = tmp_path / "other"
    (tmp_path / "s.toml").write_text(SPACE)
    for name in ("bolt", "nut"):  # the same good images, other test images
        make_category(other, name, num_train=8, num_good=2, num_bad=1)
    for category in find_categories(other):
        for sample in category.of("train"):
            sample.image.write_bytes((data / sample.image.relative_to(other)).read_bytes())
    assert run(command(other, tmp_path / "o", "--jobs", "2"), capsys)[0] == 0
    again = json.loads((tmp_path / "o" / "sweep.json").read_text())
    values = [[t["values"], t["metrics"]] for t in document["trials"] if t["state"] == "complete"]
    assert values == [[t["values"], t["metrics"]] for t in again["trials"]][: len(values)]


def test_a_finished_sweep_tries_nothing_and_a_longer_one_goes_on(data, tmp_path, capsys):
    assert run(command(data, tmp_path / "s", "--objective", "leave-one-out", "--trials", "2"), capsys)[0] == 0
    first = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert first["defaults"] == {"dimensions": 100, "smoothing": 4.0}
    page = (tmp_path / "s" / "benchmark.html").read_text()
    assert "<title>blemish sweep: padim</title>" in page
    assert "chosen by pixel AUROC on the test images of the other categories" in page
    assert page.count("<img ") >= 3  # the trials, and the averages
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "s" / "cells").rglob("evaluation.json")}
    assert len(cells) == 4
    assert run(command(data, tmp_path / "s", "--objective", "leave-one-out", "--trials", "3"), capsys)[0] == 0
    second = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert second["trials"][:2] == first["trials"]
    assert len(second["trials"]) == 3
    assert all(path.stat().st_mtime_ns == known for path, known in cells.items())
    code, _, err = run(command(data, tmp_path / "s", "--seed", "1"), capsys)
    assert (code, "holds a sweep with other settings or data. Choose another --out." in err) == (2, True)


def test_each_category_is_chosen_for_by_the_others():
    config = SweepConfig.create(data_path=".", out=".", model="padim", objective="leave-one-out")

    def tried(number: int, **metrics: float) -> Tried:
        return Tried(number, {}, 0.5, "complete", "", metrics)

    trials = [tried(0, a=0.5, b=0.5, c=0.5), tried(1, a=1.0, b=0.4, c=0.4), tried(2, a=0.4, b=0.6, c=0.6)]
    chosen = _choose(config, trials)
    assert {name: trial.number for name, trial in chosen.items()} == {"a": 2, "b": 1, "c": 1}
    for value in (0.0, 0.3, 1.0):  # its own figures change nothing
        changed = [trials[0], tried(1, a=value, b=0.4, c=0.4), trials[2]]
        assert _choose(config, changed)["a"].number == 2
    same = [tried(0, a=0.5, b=0.5), tried(1, a=0.5, b=0.5)]
    assert {trial.number for trial in _choose(config, same).values()} == {0}
    lower = config.model_copy(update={"metric": "image_fpr_at_full_recall"})
    assert _choose(lower, trials)["a"].number == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--metric", "speed"), "metric: not a metric; choose from image_auroc"),
        (("--trials", "1"), "trials: input should be greater than or equal to 2"),
        (("--objective", "test"), "Invalid value for '--objective'"),
        (("--storage", "nothing://x"), "storage nothing://x: cannot be used"),
        (
            ("--category", "bolt", "--objective", "leave-one-out"),
            "objective: leave-one-out needs at least two categories",
        ),
        (("--validation", "0"), "no trial is complete: bolt: "),
    ],
)
def test_what_is_wrong_is_one_line(more, said, data, tmp_path, capsys):
    code, out, err = run(command(data, tmp_path / "s", *more), capsys)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"error {said}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it kills by a signal")
def test_a_sweep_that_is_killed_goes_on(data, tmp_path):
    words = [sys.executable, "-m", "blemish", "--quiet", *command(data, tmp_path / "s")]
    for number in (1, 3):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((tmp_path / "s").glob("cells/*/*/validation.json"))) >= number:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert len(document["trials"]) == 4
    assert document["trials"][0]["metrics"].keys() == {"bolt", "nut"}
