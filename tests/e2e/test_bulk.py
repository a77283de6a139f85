"""benchmarks/bulk.py, briefly: killed at random, each file is scored once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bulk.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it kills by a signal")
def test_each_file_has_one_row_however_often_it_was_killed(tmp_path: Path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--files", "1000", "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "each file has one row, in the manifest's order" in done.stdout
