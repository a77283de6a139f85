"""Every option and argument of every command with what nobody should give: one line and exit code 2, or it works."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from blemish.cli import main
from blemish.errors import short_repr

NUMBERS = ("nan", "inf", "-1", "0", "1e400", "9" * 30, "9" * 5000, "1.5", "\u0661", "0x10", "1,5")
WORDS = ("", " ", "x" * 5000, "[bold]x[/bold]", "\udcff", "a\nb", "a\0b", "--", "-", "~", "*", "\u202ex", "%s%n", "[")
PATHS = (
    "missing/nowhere", "folder", "fifo", "text", "binary.png", "binary.toml", "binary.json", "empty.png", "nested.json",
    "unreadable.png", "locked", "socket", "dangling", "circle", "n" * 300, "n/" * 2500,
    "odd\udcff.png", "a[1].png", "zip.npz", "text/below", ".", "roi.json", "run.toml",
)  # fmt: skip
"""All in the test's own folder: whoever runs it may be root, and then an output can replace what it names."""
SECONDS = 120
"""After which a command counts as one that waits for ever: far more than any takes."""


@dataclass(frozen=True)
class Command:
    """A command with arguments that work, small enough to be run often."""

    name: str
    arguments: tuple[str, ...]
    options: tuple[str, ...] = ()


SMALL = ("--model", "padim", "--backbone", "gabor", "--size", "32")
COMMANDS = (
    Command("train", (), ("--data_path", "data", "--ckpt_path", "out", *SMALL)),
    Command("fit", ("data/part/train/good",), ("--out", "out", *SMALL)),
    Command("calibrate", ("run/part",)),
    Command("predict", ("run/part", "data/part/test/bad"), ("--out", "out")),
    Command("score", ("list.csv",), ("--model", "run/part", "--out", "out", "--shard-size", "2")),
    Command("export", ("run/part",)),
    Command("evaluate", ("run",), ("--data_path", "data", "--out", "out", "--resamples", "0")),
    Command("metrics", (), ("--maps", "maps", "--data_path", "data", "--out", "out", "--resamples", "0")),
    Command("report", ("run",), ("--out", "page.html")),
    Command("compare", ("run", "run")),
    Command("sweep", (), ("--data-path", "data", "--out", "out", "--model", "padim", "--trials", "2")),
    Command("benchmark", (), ("--data-path", "data", "--out", "out", "--methods", "padim", "--sizes", "32")),
    Command("synth", ("out",), ("--category", "gear", "--size", "64")),
    Command("demo", ("out",)),
    Command("submit", ("mvtec_ad_2", "run"), ("--out", "archive.tar.gz")),
    Command("data check", ("data",)),
    Command("data import", ("coco.json", "data/part/train/good"), ("--out", "out")),
    Command("data unpack", ("set.zip",), ("--out", "out")),
)  # fmt: skip


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Its options, as its help has them."""
    _, out, _ = said_by(capsys, *command.split(), "--help")
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", out)) - {"--help"})


@pytest.fixture
def place(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with data, a run and hostile files."""
    shutil.copytree(run_folder / "data", tmp_path / "data")
    shutil.copytree(run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("data"))
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(sorted(Path("data/part/train/good").iterdir())):
        if number >= 6:
            path.unlink()
    make_hostile_files()
    Path("coco.json").write_text('{"images": [{"file_name": "000.png"}], "annotations": []}')
    with zipfile.ZipFile("set.zip", "w") as archive:
        archive.write("data/part/train/good/000.png")
    monkeypatch.setenv("COLUMNS", "250")
    yield tmp_path
    Path("locked").chmod(0o700)


def make_hostile_files() -> None:
    noise = np.random.default_rng(0).bytes(2000)
    for name in ("binary.png", "binary.toml", "binary.json", "zip.npz", "a[1].png", "odd\udcff.png"):
        Path(name).write_bytes(noise)
    Path("zip.npz").write_bytes(b"PK\x03\x04" + noise)
    Path("nested.json").write_text("[" * 100_000)
    Path("roi.json").write_text('{"size": [1e400, -1], "polygons": [[[0, 0]]]}')
    Path("run.toml").write_text('epochs = "\\u0000"\ndata_path = "a\\u0000b"')
    Path("text").write_text("words")
    Path("list.csv").write_text("path\ndata/part/test/bad/000.png\ntext\n")
    Path("empty.png").touch()
    for name, mode in (("unreadable.png", 0), ("locked", 0)):
        Path(name).mkdir() if name == "locked" else Path(name).write_bytes(noise)
        Path(name).chmod(mode)
    Path("folder").mkdir()
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    Path("dangling").symlink_to("nowhere")
    Path("circle").symlink_to("circle")


def cases(command: Command, options: list[str]) -> Iterator[list[str]]:
    """Each argument and option with each hostile value, the others as they work."""
    values = (*NUMBERS, *WORDS, *PATHS)
    for index in range(len(command.arguments)):
        for value in values:
            given = [*command.arguments[:index], value, *command.arguments[index + 1 :]]
            yield [*command.name.split(), *given, *command.options]
    for option in options:
        others = dict(zip(command.options[::2], command.options[1::2], strict=True))
        others.pop(option, None)
        for value in values:
            given = [part for pair in others.items() for part in pair]
            yield [*command.name.split(), *command.arguments, *given, option, value]


def check(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What is wrong with what a command made of the arguments; None where nothing is."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # one that hangs is interrupted: exit code 130
    signal.alarm(SECONDS)
    try:
        code, _, err = said_by(capsys, *arguments)
    finally:
        signal.alarm(0)
    lines = [line for line in err.splitlines() if line.strip()]
    is_error = any(line.startswith("error ") for line in lines)
    if code not in (0, 2, 3) or "Traceback" in err:
        return f"exit code {code}: {err[:400]}"
    if is_error and (len(lines) != 1 or len(err) > 500):
        return f"{len(lines)} lines: {err[:1000]}"
    if code == 2 and not is_error and arguments[0] not in ("predict", "data"):
        return f"nothing is said: {err[:400]}"
    return None


def stand_in(*_: object, **__: object) -> None:
    """For what takes minutes where its arguments are right."""


def walk(command: Command, count: int, place: Path, capsys, monkeypatch) -> None:
    """Runs so many of the command's cases, evenly among them."""
    monkeypatch.setattr("blemish.runs.demo.demo", stand_in)
    monkeypatch.setattr("blemish.cli.commands.sweep.show_sweep", stand_in)
    wrong = []
    found = list(cases(command, options_of(command.name, capsys)))
    step = max(1, len(found) // count) | 1  # odd: it meets all values, whose number is even, in turn
    for arguments in found[step // 2 :: step]:
        if problem := check(arguments, capsys):
            wrong.append(f"{short_repr(arguments)}: {problem}")
        for name in ("out", "page.html", "archive.tar.gz"):
            shutil.rmtree(name, ignore_errors=True) if Path(name).is_dir() else Path(name).unlink(missing_ok=True)
    assert not wrong, "\n".join(wrong)


def test_every_command_is_walked(capsys, monkeypatch: pytest.MonkeyPatch):
    """But for `serve`, which would go on serving: tests/station gives it wrong arguments."""
    monkeypatch.setenv("COLUMNS", "250")
    _, out, _ = said_by(capsys, "--help")
    found = set(re.findall(r"(?m)^ ([a-z][a-z-]*)  +[A-Z]", out))
    assert found - {"data", "serve"} == {command.name for command in COMMANDS if not command.name.startswith("data ")}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_hostile_arguments_are_one_line(command, place, capsys, monkeypatch):
    walk(command, 3, place, capsys, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_more_hostile_arguments_are_one_line(command, place, capsys, monkeypatch):
    """By default some dozens; BLEMISH_WALK=100000 takes all."""
    walk(command, int(os.environ.get("BLEMISH_WALK", "40")), place, capsys, monkeypatch)
