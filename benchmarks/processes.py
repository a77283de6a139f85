"""Measurements in processes of their own, so that no two things measured share memory, caches or threads."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

THREADS = 2
LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")


def measure(
    script: Path, *arguments: str | float | Path, python: str = sys.executable, threads: int = THREADS
) -> dict[str, Any]:
    """What the script prints as its last line, a JSON object, run with so many threads.

    Raises RuntimeError with the end of what it wrote where it fails.
    """
    limits = {f"{library}_NUM_THREADS": str(threads) for library in LIBRARIES}
    command = [python, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | limits, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_memory() -> float:
    """MB that this process has held at most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def processor_time() -> float:
    """Seconds that all threads of this process, and the processes it waited for, have computed until now.

    Unlike the clock's, they can be compared where other processes run beside, if OMP_WAIT_POLICY=passive.
    """
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table, numbers to the right."""
    print(f"\n| {' | '.join(header)} |\n|---|{'---:|' * (len(header) - 1)}")
    for row in rows:
        print(f"| {' | '.join(map(_shown, row))} |")
    sys.stdout.flush()


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
