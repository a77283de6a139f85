"""Threads: memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

GAPS = """
import ctypes, os
import numpy as np
from blemish.cli.app import prepare_process
from blemish.parallel import release_memory

def resident():
    with open("/proc/self/statm") as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

prepare_process()
blocks = [np.ones(1 << 17) for _ in range(200)]  # 1 MB each
kept = blocks[::20] + blocks[-1:]
del blocks
before = resident()
release_memory()
print(before - resident())
assert all(block.all() for block in kept)
"""
IS_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


@pytest.mark.skipif(not IS_GLIBC, reason="the C library is not glibc")
def test_memory_between_what_is_kept_is_given_back():
    done = subprocess.run([sys.executable, "-c", GAPS], text=True, capture_output=True, check=True)
    assert float(done.stdout) > 100
