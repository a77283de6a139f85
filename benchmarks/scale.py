"""usage: scale.py [--costs FILE.json] [--measure] [--write-docs]: ten million images on 1 to 1,000 workers, simulated.

Every worker reads the manifest, lists the finished shards, and then takes its shards one after the other: it fetches,
decodes and computes images, and writes a file. A shard takes longer by a random factor (lognormal: stragglers); a
worker fails at random times (exponential), loses its shard, and starts again. With `--shard I/N` a worker has its own
shards; with `--ray` one driver hands out the next to whoever is free. The costs are in COSTS; `--costs` replaces some
of them, `--measure` measures those of this machine, with `--model` and `--images` also decoding and computing. The
table says how long it takes, and what binds.
"""

from __future__ import annotations

import argparse
import heapq
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from processes import print_table

WORKERS = 1, 10, 100, 300, 1000
DOCUMENT = Path(__file__).parents[1] / "docs" / "log" / "scale.md"
BEGIN, END = "<!-- scale: begin -->\n", "<!-- scale: end -->"


@dataclass(frozen=True)
class Costs:
    """Seconds, bytes and rates. A worker has two cores of an AMD EPYC, as in docs/benchmarks.md."""

    images: int = 10_000_000
    shard: int = 1000
    decode: float = 0.010
    """s per image; measured (docs/benchmarks.md, `ensemble`, 1024x1024)."""
    compute: float = 0.0152
    """s per image; measured there: 39.7 images/s together with decoding."""
    write: float = 0.008
    """s per shard file; measured by --measure on a local disk."""
    manifest_row: float = 1.8e-6
    """s per row of a parquet manifest that a worker reads, or passes over; measured by --measure."""
    listed_name: float = 9e-7
    """s per name of a finished shard, listed at the start; measured by --measure on a local disk."""
    start: float = 19.4
    """s until a worker has imported what it needs; measured by --measure."""
    task: float = 0.0223
    """s of the driver per shard that it hands out; measured by --measure on a local Ray."""
    image_bytes: float = 1e6
    store_bytes: float = 12.5e9
    """Bytes per s of the object store or its network, all workers together (100 Gbit/s); assumed."""
    store_requests: float = 5500.0
    """GET requests per s for one prefix, as S3 states it."""
    spread: float = 0.3
    """Sigma of the logarithm of a shard's time; assumed."""
    failures: float = 0.05
    """Failures of a worker per hour; assumed."""
    seed: int = 0

    @property
    def image(self) -> float:
        """s of a worker per image."""
        return self.decode + self.compute

    @property
    def handing_out(self) -> float:
        """s of the driver per shard, whose rows of the manifest it reads."""
        return self.task + self.shard * self.manifest_row


COSTS = Costs()


@dataclass(frozen=True)
class Outcome:
    hours: float
    efficiency: float
    """Time of one worker without failures and stragglers / (time of all workers)."""
    failed: int
    binds: str
    """What limits the rate."""


def simulate(costs: Costs, workers: int, *, has_driver: bool) -> Outcome:
    """The time until the last worker has finished; the next shard goes to its own worker, or to the next free one."""
    generator = np.random.default_rng((costs.seed, workers))
    shards = -(-costs.images // costs.shard)
    times, limit = _shard_times(costs, workers, shards, generator)
    manifest = costs.images * costs.manifest_row
    ready = costs.start + shards * costs.listed_name + manifest
    free = [(ready if not has_driver else costs.start, worker) for worker in range(workers)]
    heapq.heapify(free)
    driver, failed, last = costs.start, 0, 0.0
    own = [0.0 if has_driver else ready] * workers
    for number, seconds in enumerate(times):
        if has_driver:
            at, worker = heapq.heappop(free)
            driver = max(driver, at) + costs.handing_out
            start = driver
        else:
            worker = number % workers
            start = own[worker]
        done, lost = _with_failures(start, seconds, costs, generator)
        failed += lost
        last = max(last, done)
        if has_driver:
            heapq.heappush(free, (done, worker))
        else:
            own[worker] = done
    alone = costs.images * costs.image + shards * costs.write
    binds = _binding(costs, workers, shards, last, limit, ready, has_driver)
    return Outcome(last / 3600, alone / (last * workers), failed, binds)


def _shard_times(costs: Costs, workers: int, shards: int, generator: np.random.Generator) -> tuple[np.ndarray, str]:
    """Seconds of each shard, and what they are limited by: the workers, or the store that they share."""
    per_image = {
        "computing": costs.image,
        "bytes of the store": workers * costs.image_bytes / costs.store_bytes,
        "requests of the store": workers / costs.store_requests,
    }
    limit = max(per_image, key=lambda name: per_image[name])
    noise = generator.lognormal(-(costs.spread**2) / 2, costs.spread, shards)
    return costs.shard * per_image[limit] * noise + costs.write, limit


def _with_failures(start: float, seconds: float, costs: Costs, generator: np.random.Generator) -> tuple[float, int]:
    """When a shard is finished, and how often its worker failed before."""
    rate, lost = costs.failures / 3600, 0
    while rate and (until := generator.exponential(1 / rate)) < seconds:
        start, lost = start + until + costs.start, lost + 1
    return start + seconds, lost


def _binding(costs: Costs, workers: int, shards: int, last: float, limit: str, ready: float, has_driver: bool) -> str:
    """What takes the largest share of the time, in words."""
    mine = -(-shards // workers)
    work = mine * costs.shard * costs.image
    if limit != "computing":
        return limit
    if has_driver and shards * costs.handing_out > 0.5 * last:
        return "driver"
    if ready > 0.3 * last:
        return "manifest and start" if costs.images * costs.manifest_row > costs.start else "start"
    return "last shards" if last > 1.25 * work + ready else "computing"


def next_limits(costs: Costs) -> list[str]:
    """Where each limit is, in words with figures."""
    return [
        f"requests of one prefix ({costs.store_requests:,.0f}/s): {costs.store_requests * costs.image:,.0f} workers",
        f"bytes of the store ({costs.store_bytes / 1e9:g} GB/s, {costs.image_bytes / 1e6:g} MB an image): "
        f"{costs.store_bytes / costs.image_bytes * costs.image:,.0f} workers",
        f"one driver ({costs.handing_out * 1e3:.3g} ms a shard): "
        f"{costs.shard * costs.image / costs.handing_out:,.0f} workers",
        f"a manifest that each worker reads: {costs.images * costs.manifest_row:.1f} s at the start of each, "
        f"and for {costs.images * 100:,} images {costs.images * costs.manifest_row * 100:,.0f} s",
    ]


def measured(folder: Path, model: Path | None, images: Path | None) -> Costs:
    """The costs of this machine: a manifest, a listing, a shard's file, a start, a task; of images, if given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from blemish.data.addresses import Store
    from blemish.data.manifest import Manifest

    rows = 1_000_000
    names = pa.array([f"s3://bucket/images/{index:08}.png" for index in range(rows)])
    pq.write_table(pa.table({"path": names}), folder / "list.parquet", row_group_size=100_000)
    store, content = Store(str(folder / "out")), b"x" * 100_000
    manifest = Manifest.read(str(folder / "list.parquet"))
    started = "import blemish.runs.score, blemish.inference.torch_backend, pyarrow.parquet"
    costs = replace(
        COSTS,
        manifest_row=seconds(lambda: sum(1 for _ in manifest.blocks(1000, lambda number: number % 100 == 0))) / rows,
        write=seconds(lambda: [store.write(f"scores/{index}", content) for index in range(1000)]) / 1000,
        listed_name=seconds(lambda: store.names("scores")) / 1000,
        start=seconds(lambda: subprocess.run([sys.executable, "-c", started], check=True)),
        task=seconds_per_task(500),
    )
    return replace(costs, **image_costs(model, images)) if model and images else costs


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def seconds_per_task(number: int) -> float:
    """s of this process per task that does nothing, on a local Ray with one CPU."""
    import ray

    from blemish.runs.cluster import Task, computed_on

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tasks = [Task(len, ("",)) for _ in range(number)]
    list(computed_on("auto", tasks[:20]))  # its processes have started
    found = seconds(lambda: list(computed_on("auto", tasks)))
    ray.shutdown()
    return found / number


def image_costs(model: Path, images: Path) -> dict[str, float]:
    """s of decoding an image of the folder, and of all else that is done with it."""
    from blemish.data.source import read_frames
    from blemish.inference.inspector import Inspector
    from blemish.types import Sample

    inspector = Inspector.load(model)
    samples = [Sample(path) for path in sorted(images.rglob("*.*"))]
    list(inspector.inspect(samples[:16]))
    decode = seconds(lambda: sum(1 for _ in read_frames(samples, inspector.preprocess))) / len(samples)
    whole = seconds(lambda: sum(1 for _ in inspector.inspect(samples))) / len(samples)
    return {"decode": decode, "compute": max(0.0, whole - decode)}


def table(costs: Costs, counts: tuple[int, ...] = WORKERS) -> tuple[list[str], list[list[object]]]:
    """The head and the rows: for each number of workers, with own shards and with a driver."""
    rows: list[list[object]] = []
    for workers in counts:
        for has_driver in (False, True):
            found = simulate(costs, workers, has_driver=has_driver)
            how = "--ray" if has_driver else "--shard"
            rows.append([workers, how, round(found.hours, 2), round(found.efficiency, 2), found.failed, found.binds])
    return ["workers", "by", "hours", "efficiency", "failures", "binds"], rows


def write_document(costs: Costs, head: list[str], rows: list[list[object]]) -> None:
    """Puts table, limits and costs between the marks of the document."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    lines += ["", "Where each limit begins:", "", *(f"- {line}" for line in next_limits(costs)), ""]
    lines += ["Costs:", "", "| cost | value |", "|---|---:|"]
    lines += [*(f"| `{name}` | {value:g} |" for name, value in asdict(costs).items()), ""]
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", type=Path, help="JSON with some of the costs")
    parser.add_argument("--measure", action="store_true", help="measure those of this machine first")
    parser.add_argument("--model", type=Path, help="fitted detector to measure")
    parser.add_argument("--images", type=Path, help="folder of images to measure it on")
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    costs = COSTS
    if given.measure:
        with tempfile.TemporaryDirectory() as folder:
            costs = measured(Path(folder), given.model, given.images)
        print(json.dumps(asdict(costs), indent=2))
    if given.costs:
        costs = replace(costs, **json.loads(given.costs.read_text()))
    head, rows = table(costs)
    print_table(head, rows)
    print("\nwhere each limit begins:", *next_limits(costs), sep="\n  ")
    if given.write_docs:
        write_document(costs, head, rows)


if __name__ == "__main__":
    main()
