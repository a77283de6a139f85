"""How accurate variants of the methods are on every set: figures by set, variant and seed, as one table.

    python benchmarks/accuracy.py DATA OUT [--sets cookie built-in] [--variants default deep] [--seeds 0 1 2]
        [--choose default size-384] [--write-docs]

The sets are the categories under DATA, in the layout of MVTec AD, and those of the built-in data, made in
OUT/built-in-images. A variant is a name in `VARIANTS` below, or one's own: NAME='{"size": 320, "position": 2}', options
of `blemish.fit`. Each cell (a set, a variant, a seed) is fitted and evaluated in a process of its own; its figures are
OUT/<set>/<variant>/<seed>.json, written whole or not at all. A cell whose file is there is not measured again, so the
same command goes on after an interruption, and more sets, variants or seeds can be added.

`--choose` prints for each set which of these variants the other sets choose, and what it is worth on the set that was
left out. `--write-docs` puts the tables into docs/benchmarks.md, between their markers.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import blemish
from accuracy_table import BUILT_IN, FIGURES, Cell, choices, read_cell, tables, write_between_markers
from blemish.data.category import find_categories
from blemish.data.synthetic import synthesize
from blemish.errors import BlemishError
from blemish.files import make_folder, write_json
from blemish.runs.provenance import versions
from metrics import machine
from processes import THREADS, measure

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "weight-free": {"backbone": "gabor"},
    "deep": {"backbone": "efficientnet_lite2"},
    "size-384": {"size": 384},
    "size-512": {"size": 512},
    "weight-free-384": {"backbone": "gabor", "size": 384},
    "deep-384": {"backbone": "efficientnet_lite2", "size": 384},
    "patchcore": {"method": "patchcore"},
    "padim": {"method": "padim"},
    "selfsup": {"method": "selfsup"},
}
"""Name -> options of `blemish.fit`."""
IMAGES = "built-in-images"
QUICK = {"num_train": 8, "num_test_good": 3, "num_per_defect": 1, "size": 64}
NUM_TIMED = 20
"""Test images whose time is taken, one at a time; the median is reported."""
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> int:
    given = _arguments()
    if given.cell:
        print(json.dumps(measure_cell(**given.cell)))
        return 0
    try:
        wanted = _wanted(given)
        failed = _measure_all(wanted, given)
        cells = [found for cell in wanted if (found := read_cell(given.out, cell)) is not None]
        text = tables(cells)
        print(text)
        if given.choose:
            print("\n" + choices(cells, given.choose, given.by))
        if given.write_docs:
            write_between_markers(given.write_docs, text)
    except BlemishError as error:
        print(f"accuracy.py: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with categories in the layout of MVTec AD")
    parser.add_argument("out", type=Path, nargs="?", help="folder for the figures, a file per cell")
    parser.add_argument("--sets", nargs="+", help=f"categories of DATA, {BUILT_IN}, {BUILT_IN}/gear ...; default: all")
    parser.add_argument("--variants", nargs="+", type=_variant, default=[("default", {})], metavar="NAME[=JSON]")
    parser.add_argument("--seeds", nargs="+", type=_at_least(0), default=[0])
    parser.add_argument(
        "--jobs", type=_at_least(1), default=1, help="cells at once; their times then disturb each other"
    )
    parser.add_argument("--threads", type=_at_least(1), default=THREADS, help="of each cell")
    parser.add_argument("--fresh", action="store_true", help="measure cells again that other code has measured")
    parser.add_argument("--quick", action="store_true", help="a built-in set of few small images")
    parser.add_argument("--choose", nargs="+", metavar="NAME", help="variants to choose from, one set left out")
    parser.add_argument("--by", choices=("rank", "normalised"), default="rank", help="how the other sets choose")
    parser.add_argument("--write-docs", type=Path, nargs="?", const=DOCS, metavar="FILE")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell is None and given.out is None:
        parser.error("DATA and OUT are needed")
    known = {name for name, _ in given.variants}
    if given.choose and (len(set(given.choose)) < 2 or set(given.choose) - known):
        parser.error(f"--choose: two or more of the variants that are measured, {', '.join(sorted(known))}")
    return given


def _at_least(lowest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r}: a whole number from {lowest} is needed")
        return int(text)

    return number


def _variant(text: str) -> tuple[str, dict[str, Any]]:
    name, is_own, options = text.partition("=")
    if not is_own and name in VARIANTS:
        return name, VARIANTS[name]
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or not is_own:
        raise argparse.ArgumentTypeError(f"{text!r}: one of {', '.join(VARIANTS)}, or NAME={{...}} with options")
    try:
        found = json.loads(options)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: no JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r}: options are needed, such as {{"size": 320}}')
    return name, found


def _wanted(given: argparse.Namespace) -> list[Cell]:
    """Every cell to be measured, a seed after the other, so that each set has a figure early."""
    folders = _sets(given)
    rows = product(dict.fromkeys(given.seeds), folders.items(), dict(given.variants).items())
    return [Cell(name, variant, seed, folder, options) for seed, (name, folder), (variant, options) in rows]


def _sets(given: argparse.Namespace) -> dict[str, Path]:
    """Name -> folder of the sets that are asked for."""
    asked = given.sets
    own = [name for name in asked or [] if name.split("/")[0] != BUILT_IN]
    found = {one.name: one.root for one in find_categories(given.data, own)} if own or not asked else {}
    if not asked or len(own) < len(asked):
        parts = [name.partition("/")[2] for name in asked or [BUILT_IN] if name not in own]
        chosen = None if "" in parts else parts
        made = synthesize(given.out / IMAGES, categories=chosen, **(QUICK if given.quick else {}))
        found |= {f"{BUILT_IN}/{folder.name}": folder for folder in made}
    return found


def _measure_all(wanted: Sequence[Cell], given: argparse.Namespace) -> int:
    """Measures the cells whose files are missing; returns the number of those that failed."""
    code = code_digest()
    earlier = [found for cell in wanted if (found := read_cell(given.out, cell)) is not None]
    other = [cell for cell in earlier if cell.record["code"] != code]
    if other and not given.fresh:
        print(f"{len(other)} of {len(earlier)} cells were measured by other code; --fresh measures them again")
    kept = {cell.key for cell in earlier} - ({cell.key for cell in other} if given.fresh else set())
    missing = [cell for cell in wanted if cell.key not in kept]
    failed = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        tasks = {pool.submit(_measure, cell, given, code): cell for cell in missing}
        try:
            for count, task in enumerate(as_completed(tasks), 1):
                failed += not _told(task, f"[{count}/{len(missing)}] {tasks[task].label}")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return failed


def _told(task: Future[dict[str, Any]], label: str) -> bool:
    """Prints the figures of a cell, or why it failed; whether it has some."""
    try:
        record = task.result()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        print(f"{label}: failed: {reason}", flush=True)
        return False
    shown = (f"{FIGURES[name]} {value:.3f}" for name, value in record["figures"].items() if value is not None)
    print(f"{label}: {', '.join(shown)}", flush=True)
    return True


def _measure(cell: Cell, given: argparse.Namespace, code: str) -> dict[str, Any]:
    """Measures a cell in a process of its own, and writes its file."""
    task = {"folder": str(cell.folder.absolute()), "options": cell.options, "seed": cell.seed}
    load = os.getloadavg()[0]
    found = measure(Path(__file__), "--cell", json.dumps(task), threads=given.threads)
    about = {"set": cell.set, "variant": cell.variant, "seed": cell.seed, "options": cell.options, "code": code}
    record = about | {"date": datetime.date.today().isoformat(), "threads": given.threads, "load": load} | found
    path = cell.path(given.out)
    make_folder(path.parent)
    write_json(path, record)
    return record


def measure_cell(folder: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """The figures of one fit: it learns from a category's good images, and is evaluated on its test images."""
    started = time.perf_counter()
    model = blemish.fit(folder, seed=seed, **options)
    seconds = time.perf_counter() - started
    evaluation = blemish.evaluate(model, folder)
    figures = {name: evaluation.metrics.get(name) for name in FIGURES if name not in ("fit_s", "image_ms")}
    return {
        "figures": figures | {"fit_s": seconds, "image_ms": 1e3 * _seconds_of_an_image(model, Path(folder))},
        "machine": machine(),
        "versions": versions(),
    }


def _seconds_of_an_image(model: blemish.Model, folder: Path) -> float:
    """The median from a test image's file to its map, one at a time; the first two are not counted."""
    files = [sample.image for sample in find_categories(folder)[0].of("test")]
    step = max(1, len(files) // NUM_TIMED)
    inspector, spent = model.inspector(batch_size=1), []
    for file in [*files[:2], *files[::step][:NUM_TIMED]]:
        before = time.perf_counter()
        next(inspector.predict([file]))
        spent.append(time.perf_counter() - before)
    return median(spent[2:])


def code_digest() -> str:
    """A hash of the package's source, by which cells of earlier code are known."""
    folder = Path(blemish.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
