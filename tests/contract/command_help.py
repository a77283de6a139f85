"""Runs the command line in the tests' own process."""

from __future__ import annotations

import pytest

from blemish.cli import main


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code of `blemish ARGUMENTS`, and what it wrote to standard output and standard error."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err
