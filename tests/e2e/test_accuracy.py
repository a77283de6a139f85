"""benchmarks/accuracy.py: its tables, the choice with one set left out, and that it goes on after it was killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

import pytest

from blemish.data.synthetic import synthesize
from blemish.errors import BlemishError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = 'tiny={"method": "padim", "backbone": "gabor", "size": 64, "align": "off"}'
MARKED = "before\n<!-- accuracy: begin -->\nold\n<!-- accuracy: end -->\nafter\n"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import accuracy_table

    return accuracy_table


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """The command in this process: called with its arguments, it returns its exit code."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import accuracy

    def call(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["accuracy.py", *map(str, arguments)])
        try:
            return accuracy.main()
        except SystemExit as stop:
            return int(stop.code or 0)

    return call


def record(options: dict | None = None, **figures: float | None) -> dict:
    about = {
        "machine": "a machine",
        "versions": {"torch": "2"},
        "date": "2026-01-02",
        "threads": 2,
        "load": 2.1,
        "code": "c",
    }
    return about | {"options": options or {}, "figures": figures}


def cells_of(table, values: dict[tuple[str, str], float | list[float]], figures: tuple[str, ...] = ()) -> list:
    """Cells with the same value in every figure, one seed for each value of a list."""
    names = figures or tuple(table.FIGURES)
    return [
        table.Cell(name, variant, seed, record=record(**dict.fromkeys(names, value)))
        for (name, variant), several in values.items()
        for seed, value in enumerate(several if isinstance(several, list) else [several])
    ]


def row(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_a_row_has_mean_and_deviation_over_the_seeds(table):
    text = table.tables(cells_of(table, {("cookie", "default"): [0.5, 0.7, 0.9]}))
    assert row(text, "cookie")[0] == "0.700 ± 0.200"
    assert row(text, "cookie")[-1] == "0.7 ± 0.2"
    assert row(text, "default")[0] == "0.700"
    assert "2026-01-02; a machine; threads: 2; torch 2; seeds: 0, 1, 2" in text
    assert "Other programs" not in text


def test_times_beside_other_programs_are_told_apart(table):
    cells = cells_of(table, {("cookie", "default"): [0.5, 0.7, 0.9]})
    busy = dataclasses.replace(cells[0], record=cells[0].record | {"load": 7.0})
    text = table.tables([busy, *cells[1:]]).replace("\n", " ")
    assert "Other programs ran beside 1 of the 3 cells, whose times are too long." in text


def test_the_built_in_parts_count_as_one_set(table):
    values = {("cookie", "a"): 0.9, ("built-in/gear", "a"): 0.2, ("built-in/rail", "a"): 0.4}
    text = table.tables(cells_of(table, values))
    assert row(text, "built-in")[0] == "0.300"
    assert row(text, "a")[0] == "0.600"
    assert row(text, "gear") == ["0.200 / 0.200 / 0.200"]
    # Only where every part was measured.
    more = cells_of(table, values | {("cookie", "b"): 0.5, ("built-in/gear", "b"): 0.5})
    figures = table.Figures(more)
    assert figures.value("built-in", "b", "aupro") is None
    assert figures.average("a", "aupro") == (pytest.approx(0.9), None)


def test_variants_are_averaged_over_the_sets_that_all_of_them_have(table):
    values = {("cookie", "a"): 0.9, ("tire", "a"): 0.1, ("cookie", "b"): 0.8}
    figures = table.Figures(cells_of(table, values))
    assert figures.average("a", "pixel_ap") == (pytest.approx(0.9), None)
    assert figures.average("b", "pixel_ap") == (pytest.approx(0.8), None)


def test_a_figure_that_is_not_defined_is_a_dash(table):
    cell = table.Cell("cookie", "a", 0, record=record(image_auroc=0.5, aupimo=None))
    assert row(table.tables([cell]), "cookie") == ["0.500", *["-"] * 7]


def test_the_other_sets_choose(table):
    """`b` is the best on c1 and c2, and the worst on odd: with odd left out, b is taken there, too."""
    values = {
        ("c1", "a"): 0.7,
        ("c1", "b"): 0.8,
        ("c2", "a"): 0.7,
        ("c2", "b"): 0.9,
        ("odd", "a"): 0.9,
        ("odd", "b"): 0.1,
    }
    cells = cells_of(table, values)
    text = table.choices(cells, ["a", "b"])
    assert row(text, "odd")[:4] == ["b", "0.100 / 0.100 / 0.100 / 0.100", "a", "0.900 / 0.900 / 0.900 / 0.900"]
    assert "All 3 sets together choose b." in text
    # By size of the differences, odd outweighs the others.
    text = table.choices(cells, ["a", "b"], "normalised")
    assert row(text, "odd")[0] == "b"
    assert row(text, "c1")[0] == "a"
    assert "All 3 sets together choose a." in text


def test_sets_that_lack_a_figure_do_not_choose(table):
    cells = cells_of(table, {("c1", "a"): 0.7, ("c1", "b"): 0.8, ("c2", "a"): 0.7, ("c2", "b"): 0.9, ("odd", "a"): 0.9})
    assert "; without odd, where figures are missing." in table.choices(cells, ["a", "b"])
    assert "two sets are needed" in table.choices(cells[:2], ["a", "b"])


def test_of_equal_variants_the_first_is_chosen(table):
    values = {(name, variant): 0.5 for name in ("c1", "c2") for variant in ("a", "b")}
    for by in ("rank", "normalised"):
        text = table.choices(cells_of(table, values), ["b", "a"], by)
        assert [row(text, name)[0] for name in ("c1", "c2")] == ["b", "b"]


def test_text_between_markers_is_replaced(table, tmp_path: Path):
    path = tmp_path / "docs.md"
    path.write_text(MARKED)
    for text in ("first", "second"):
        table.write_between_markers(path, text)
    assert path.read_text() == MARKED.replace("old", "\nsecond\n")
    path.write_text("no markers\n")
    with pytest.raises(BlemishError, match="needs the line"):
        table.write_between_markers(path, "text")
    assert path.read_text() == "no markers\n"


def test_a_cell_of_other_options_and_a_foreign_file_are_refused(table, tmp_path: Path):
    cell = table.Cell("built-in/gear", "mine", 3, options={"size": 64})
    assert table.read_cell(tmp_path, cell) is None
    path = tmp_path / "built-in/gear/mine/3.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record({"size": 64}, aupro=0.5)))
    assert table.read_cell(tmp_path, cell).record["figures"] == {"aupro": 0.5}
    path.write_text(json.dumps(record({"size": 128}, aupro=0.5)))
    with pytest.raises(BlemishError, match=r'measured with \{"size": 128\}, not \{"size": 64\}'):
        table.read_cell(tmp_path, cell)
    for content in ("{", "[]", "{}", '{"options": {"size": 64}}'):
        path.write_text(content)
        with pytest.raises(BlemishError, match="not the figures of a cell"):
            table.read_cell(tmp_path, cell)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "unknown"], "'unknown': one of default, weight-free"),
        (["--variants", "mine={"], "no JSON"),
        (["--variants", "mine=3"], "options are needed"),
        (["--variants", '../mine={"size": 64}'], "or NAME="),
        (["--seeds", "-1"], "'-1': a whole number from 0"),
        (["--seeds", "x"], "'x': a whole number from 0"),
        (["--jobs", "0"], "'0': a whole number from 1"),
        (["--choose", "default"], "--choose: two or more of the variants that are measured, default"),
        (["--choose", "default", "deep"], "--choose: two or more"),
        ([], "no such folder"),
        (["--sets", "built-in/bottle"], "unknown category 'bottle'"),
    ],
)
def test_wrong_arguments_are_refused(script, tmp_path: Path, capsys, arguments: list[str], message: str):
    assert script(tmp_path / "missing", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_writes_the_tables(tmp_path: Path):
    synthesize(tmp_path / "data", categories=["gear"], num_train=6, num_test_good=3, num_per_defect=1, size=64)
    docs = tmp_path / "docs.md"
    docs.write_text(MARKED)
    out = tmp_path / "out"
    command = [sys.executable, str(BENCHMARKS / "accuracy.py"), str(tmp_path / "data"), str(out), "--quick"]
    command += ["--sets", "gear", "built-in/rail", "--variants", TINY, "--seeds", "0", "1", "--threads", "1"]
    command += ["--write-docs", str(docs)]
    first = out / "gear" / "tiny" / "0.json"
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while not first.exists():
        assert killed.poll() is None
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    known = {path: path.read_bytes() for path in out.rglob("tiny/*.json")}
    assert first in known
    assert len(known) < 4
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"[1/{4 - len(known)}]" in done.stdout
    assert {path: path.read_bytes() for path in known} == known
    cells = sorted(path.relative_to(out).as_posix() for path in out.rglob("tiny/*.json"))
    assert cells == [f"{name}/tiny/{seed}.json" for name in ("built-in/rail", "gear") for seed in (0, 1)]
    figures = json.loads(first.read_text())["figures"]
    assert 0.5 < figures["pixel_auroc"] <= 1
    assert figures["fit_s"] > 0
    two = [json.loads((out / "gear" / "tiny" / f"{seed}.json").read_text())["figures"]["aupro"] for seed in (0, 1)]
    assert row(docs.read_text(), "gear")[2] == f"{fmean(two):.3f} ± {stdev(two):.3f}"
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "[1/" not in again.stdout
