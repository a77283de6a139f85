"""Benchmarks and bulk scoring on a Ray cluster of two nodes, one of which dies meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from blemish.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own
SMALL = ["--methods", "padim", "patchcore", "--seeds", "0", "1", "--sizes", "32", "--align", "off"]


@pytest.fixture
def cluster(monkeypatch) -> Iterator[tuple[str, Any]]:
    """The address of a cluster of two nodes, and a function that kills the second one."""
    utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    made = utils.Cluster(initialize_head=True, head_node_args=node)
    second = made.add_node(num_cpus=1, object_store_memory=100 << 20)
    made.wait_for_nodes()
    yield made.address, lambda: made.remove_node(second, allow_graceful=False)
    made.shutdown()


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["--quiet", *arguments])
    return int(stopped.value.code or 0)


def kill_after(folder: Path, pattern: str, kill: Any) -> threading.Thread:
    """A thread that kills a node as soon as the folder has a first result."""

    def wait() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not any(folder.glob(pattern)):
            time.sleep(0.05)
        kill()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_node_that_dies_costs_no_cell(cluster, make_category, tmp_path: Path):
    address, kill = cluster
    for name in ("bolt", "nut"):
        make_category(tmp_path / "data", name, num_train=6, num_good=3, num_bad=3)
    command = ["benchmark", "--data-path", str(tmp_path / "data"), *SMALL]
    killer = kill_after(tmp_path / "out" / "cells", "*/*/evaluation.json", kill)
    assert run([*command, "--out", str(tmp_path / "out"), "--ray", address]) == 0
    killer.join()
    assert run([*command, "--out", str(tmp_path / "here")]) == 0
    names = sorted(
        path.relative_to(tmp_path / "here") for path in (tmp_path / "here").glob("cells/*/*/evaluation.json")
    )
    assert len(names) == 8
    for name in names:
        first, second = (json.loads((tmp_path / out / name).read_text()) for out in ("here", "out"))
        assert first | {"durations": 0} == second | {"durations": 0}


def test_a_node_that_dies_costs_no_shard(cluster, make_category, tmp_path: Path, capsys):
    address, kill = cluster
    part = make_category(tmp_path, num_train=8, num_good=4, num_bad=4)
    fit = ["--model", "padim", "--size", "32", "--align", "off"]
    assert run(["fit", str(part / "train" / "good"), "--out", str(tmp_path / "model"), *fit]) == 0
    names = [str(path) for path in sorted((part / "test").rglob("*.png"))] * 20
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    command = ["score", str(tmp_path / "list.txt"), "--model", str(tmp_path / "model"), "--shard-size", "8"]
    killer = kill_after(tmp_path / "out" / "scores", "part-*", kill)
    assert run([*command, "--out", str(tmp_path / "out"), "--ray", address]) == 0
    killer.join()
    assert run([*command, "--out", str(tmp_path / "here")]) == 0
    shards = sorted(path.name for path in (tmp_path / "here" / "scores").iterdir())
    assert sorted(path.name for path in (tmp_path / "out" / "scores").iterdir()) == shards
    for name in shards:
        here, there = (pq.read_table(tmp_path / out / "scores" / name).to_pylist() for out in ("here", "out"))
        assert here == there
    capsys.readouterr()
    assert run([*command, "--out", str(tmp_path / "wide"), "--ray", address, "--threads", "64"]) == 2
    assert "no node has 64 CPUs, only 1. Use fewer threads." in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_one_line(make_category, tmp_path: Path, capsys):
    pytest.importorskip("ray")
    data = make_category(tmp_path / "data", "bolt")
    arguments = ["benchmark", "--data-path", str(data), "--out", str(tmp_path / "out"), *SMALL]
    assert run([*arguments, "--ray", "no such address"]) == 2
    error = capsys.readouterr().err
    assert (len(error.splitlines()), error.startswith("error ray no such address: cannot be reached")) == (1, True)
