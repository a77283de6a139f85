"""Files of every kind, damaged at random, are read or refused in one line; benchmarks/damaged_images.py takes more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "damaged_images.py"


def test_damaged_images_are_read_or_refused_in_one_line_in_bounds_of_memory():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--count", "400", "--seeds", "11", "--seconds", "60"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 files: 0 failures" in done.stdout
    assert done.stderr == ""
