"""Completion in a shell: typer's, for the commands that learn with the options of the model that the line names."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("blemish ca", "calibrate", "compare"),
        ("blemish predict --over", "--overlays", "--out"),
        pytest.param("blemish fit --num-", "--num-patches", "--out", marks=pytest.mark.slow),
        pytest.param("blemish fit --model vae --be", "--beta", "--out", marks=pytest.mark.slow),
        ("blemish data ch", "check", "train"),
    ],
)
def test_bash_gets_what_fits(line, offered, not_offered):
    words = line.split()
    asked = {"_BLEMISH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "from blemish.cli import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert offered in done.stdout.split()
    assert not_offered not in done.stdout.split()
    assert done.stderr == ""
