"""Commands that are killed, and pairs of them at once: kills.py with a small count.

By hand, with its own: `python tests/e2e/kills.py` kills two hundred times and runs a hundred pairs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kills.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_no_model_is_lost_or_corrupt_and_nothing_is_left():
    command = [sys.executable, str(SCRIPT), "--kills", "10", "--pairs", "5", "--only", "fit", "update", "calibrate"]
    done = subprocess.run([*command, "export"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"kills hit a running command: no model lost, none corrupt, nothing left", done.stdout)
    assert "5 pairs of writers: " in done.stdout
