"""The lock of a folder: one holder, who is named; nothing of a dead one holds."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.model.locking import LOCK, locked

HOLDER = """
import sys, pathlib
from blemish.model.locking import locked
with locked(pathlib.Path(sys.argv[1]), "fit --update"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of `tmp_path` until it is killed or gets a line."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def take(folder: Path, timeout: float = 0) -> bool:
    with locked(folder, "test", timeout) as is_new:
        return is_new


def test_the_second_is_told_who_is_at_it(holder, tmp_path: Path):
    with pytest.raises(BlemishError) as raised:
        take(tmp_path)
    pattern = rf"{tmp_path}: is being changed by fit --update \(process {holder.pid} on \S+, since \d\d:\d\d:\d\d\)"
    assert re.match(pattern, str(raised.value))
    assert "\n" not in str(raised.value)


def test_a_short_change_waits(holder, tmp_path: Path):
    timer = threading.Timer(0.2, os.write, [holder.stdin.fileno(), b"\n"])
    timer.start()
    assert take(tmp_path, 60)
    timer.join()
    assert not list(tmp_path.iterdir())


def test_a_killed_holder_holds_nothing_and_what_it_left_goes(holder, tmp_path: Path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    assert take(tmp_path)
    assert not list(tmp_path.iterdir())


def test_who_holds_it_goes_on_and_a_link_is_the_same_folder(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "m")
    with locked(tmp_path / "m", "test") as first, locked(tmp_path / "link", "test") as second:
        assert (first, second) == (True, False)
        assert (tmp_path / "m" / LOCK).exists()
    assert take(tmp_path / "link")


def test_another_thread_is_another_holder(tmp_path: Path):
    found: list[str] = []

    def other() -> None:
        try:
            take(tmp_path)
        except BlemishError as error:
            found.append(str(error))

    with locked(tmp_path, "export"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"is being changed by export (process {os.getpid()} on" in found[0]


def test_a_body_that_fails_frees_it(tmp_path: Path):
    with pytest.raises(KeyError), locked(tmp_path, "test"):
        raise KeyError
    assert take(tmp_path)


def test_one_at_a_time(tmp_path: Path):
    """Trap: who waits for a file that its holder removes holds a lock that nobody else can see."""
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(25):
            with locked(tmp_path, "test", 60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOLCK])
@pytest.mark.parametrize("function", ["os.open", "fcntl.flock"])
def test_where_there_is_no_lock_to_be_had_it_is_one_line(number, function, tmp_path: Path, monkeypatch):
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(function, refused)
    with pytest.raises(BlemishError, match=rf"{tmp_path}: cannot be changed \({os.strerror(number)}\)\. Copy it to"):
        take(tmp_path)


def test_a_link_in_a_folder_of_somebody_else_leads_nowhere(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "m" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(BlemishError, match="m: cannot be changed"):
        take(tmp_path / "m")
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize("content", [b"", b"\xff\x00\n", b"x" * 5000 + b"\nmore\n"])
def test_whatever_is_in_the_file_is_one_line(content, tmp_path: Path):
    import fcntl

    with (tmp_path / LOCK).open("w+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(content)
        file.flush()
        with pytest.raises(BlemishError) as raised:
            take(tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 500 + len(str(tmp_path))
