"""Progress: a line for each phase where there is no terminal, bars where there is one, nothing where none is wanted."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from blemish import progress
from blemish.progress import duration, shown_progress, with_progress


@pytest.fixture(autouse=True)
def _log_at_info():
    logger = logging.getLogger("blemish")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


def work(console: Console, title: str = "") -> str:
    with shown_progress(title, console) as phases:
        assert list(with_progress(iter("abc"), 3, phases("reading"))) == ["a", "b", "c"]
        fitting = phases("fitting")
        fitting(1, 2)
        fitting(2, 2)
        fitting(1, 1, unit="patches", loss=0.25)
        phases("nothing to do")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_for_each_phase_without_control_characters():
    said = work(Console(file=io.StringIO(), width=40))
    assert re.fullmatch(
        r"reading: 3 images in 0\.\d s\nfitting: 1 patch in 0\.\d s\n", said.replace("patche ", "patch ")
    )
    assert said.isprintable() == ("\n" not in said)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", said)


def test_the_title_stands_before_each_phase():
    assert work(Console(file=io.StringIO()), "bolt").startswith("bolt reading: 3 images in ")


def test_a_dumb_terminal_gets_lines():
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}, color_system=None)
    assert work(console).startswith("reading: 3 images in ")


def test_a_terminal_gets_bars_that_vanish():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})
    said = work(console)
    assert "starting" in said
    assert "3/3" in said
    assert "reading: 3 images" not in said
    assert said.rstrip().endswith("\x1b[2K")  # the last line was wiped


def test_nothing_is_shown_to_who_wants_none_or_by_helping_processes(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert work(Console(file=io.StringIO())) == ""
    monkeypatch.delenv("RANK")
    logging.getLogger("blemish").setLevel(logging.WARNING)
    assert work(Console(file=io.StringIO())) == ""


def test_a_long_phase_says_how_far_it_is(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO())
    with shown_progress("", console) as phases:
        report = phases("training")
        for done in range(1, 101):
            now[0] += 1
            report(done, 100, unit="steps", loss=0.5)
    assert console.file.getvalue().splitlines() == [
        "training: 31 of 100 steps, 1.0 steps/s, 69 s left (loss 0.5)",
        "training: 62 of 100 steps, 1.0 steps/s, 38 s left (loss 0.5)",
        "training: 93 of 100 steps, 1.0 steps/s, 7.0 s left (loss 0.5)",
        "training: 100 steps in 2 min, 1.0 steps/s",
    ]


def test_a_phase_that_fails_says_nothing_of_its_end():
    console = Console(file=io.StringIO())

    def fail() -> None:
        with shown_progress("", console) as phases:
            phases("reading")(1, 2)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (89.4, "89 s"),
        (150, "2 min"),
        (5340, "89 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_time_spans_in_words(seconds, words):
    assert duration(seconds) == words
