"""Where the time of one image goes with the default of `blemish fit`: from a file of 1024x1024 to its map.

    python benchmarks/latency.py FOLDER [--quick]

The default is fitted at 256 and at 384 to 320 images, as `blemish fit` does. A fresh process then predicts on each test
image, one at a time, as PNG and as JPEG, with the settings of the command line; the medians are shown. "first" is from
the start of the process to the first decision. `rest` is what the parts leave: the map, its size, and the calls. The
last table has the exports, and in brackets the processor time on one thread, which other programs hardly change.
FOLDER keeps images and models.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402 - the start of the process counts
import json  # noqa: E402
import shutil  # noqa: E402
from collections import defaultdict  # noqa: E402
from collections.abc import Callable  # noqa: E402
from contextlib import suppress  # noqa: E402
from functools import wraps  # noqa: E402
from itertools import product  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

from processes import measure, peak_memory, print_table  # noqa: E402

SIZES, FORMATS, RUNTIMES = (256, 384), ("png", "jpg"), ("onnx", "openvino")
PARTS = ("read", "network", "filters", "banks", "Gaussians")
WARM_UP, QUALITY = 3, 95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for images and models, which are kept")
    parser.add_argument("--quick", action="store_true", help="few images, to see that everything runs")
    parser.add_argument("--only", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(WORKERS[given.only](**given.task)))
        return
    folder = (given.folder / ("quick" if given.quick else "full")).resolve()
    make_images(folder, *((8, 4) if given.quick else (320, 40)))
    fits = [[size, *_of_own("fit", folder=str(folder), size=size).values()] for size in SIZES]
    print_table(["size", "fit, s", "peak MB"], fits)
    rows = []
    for size, kind in product(SIZES, FORMATS):
        found = _of_own("infer", folder=str(folder), size=size, kind=kind)
        rows.append([f"{size}, {kind}", *(found[name] for name in ("total", *PARTS, "rest", "first"))])
    print_table(["", "an image, ms", *(f"{part}, ms" for part in (*PARTS, "rest")), "first, s"], rows)
    for size in SIZES:
        _of_own("export", folder=str(folder), size=size)
    rows = []
    for size, kind in product(SIZES, FORMATS):
        cells = [_of_own("infer_exported", folder=str(folder), size=size, kind=kind, runtime=name) for name in RUNTIMES]
        rows.append([f"{size}, {kind}", *(f"{cell['total']:.1f} ({cell['processor']:.1f})" for cell in cells)])
    print_table(["", *(f"{name}, ms" for name in RUNTIMES)], rows)


def make_images(folder: Path, num_train: int, num_test: int) -> None:
    """The images, and the test images once more as JPEG."""
    import cv2

    from pictures import make_category

    part = make_category(folder / "part", num_train, num_test)
    for image in part.glob("test/*/*.png"):
        copy = (folder / "jpg" / image.parent.name / image.name).with_suffix(".jpg")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(copy), cv2.imread(str(image)), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def _of_own(worker: str, **task: Any) -> dict[str, Any]:
    return measure(Path(__file__), ".", "--only", worker, "--task", json.dumps(task))


def fit(folder: str, size: int) -> dict[str, Any]:
    """Seconds of the command, from its arguments to the kept model, and what memory it held at most."""
    from blemish.cli import main as blemish

    out = Path(folder) / f"model-{size}"
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    with suppress(SystemExit):
        blemish(["fit", f"{folder}/part/train/good", "--out", str(out), "--size", str(size)])
    return {"seconds": time.perf_counter() - started, "memory": peak_memory()}


def infer(folder: str, size: int, kind: str) -> dict[str, Any]:
    """Milliseconds of an image from its file to its map, in all and of each part."""
    from blemish.cli.app import prepare_process

    prepare_process()
    from blemish.inference.inspector import Inspector

    root = Path(folder) / ("jpg" if kind == "jpg" else "part/test")
    files = sorted(root.glob(f"*/*.{kind}"))
    inspector = Inspector.load(Path(folder) / f"model-{size}")
    inspector.decide(next(inspector.predict(files[:1])))
    first, spent = time.perf_counter() - STARTED, _watched(inspector)
    for file in files[:WARM_UP] + files:
        started = time.perf_counter()
        next(inspector.predict([file]))
        spent["total"].append(time.perf_counter() - started)
    number = len(spent["total"])
    found = {name: 1e3 * median(values[WARM_UP:]) for name, values in _per_image(spent, number).items()}
    found["read"] = found["total"] - found.pop("computing")
    found["rest"] = found["total"] - sum(found[part] for part in PARTS)
    return found | {"first": first}


def export(folder: str, size: int) -> dict[str, Any]:
    """Exports the model of this size for each runtime."""
    from blemish.cli import main as blemish

    for name in RUNTIMES:
        with suppress(SystemExit):
            data = ["--data-path", f"{folder}/part"]
            blemish(["export", f"{folder}/model-{size}", "--format", name, *data])
    return {}


def infer_exported(folder: str, size: int, kind: str, runtime: str) -> dict[str, Any]:
    """Milliseconds of an image from its file to its map by an export, and those of the processor on one thread."""
    from blemish.inference.inspector import Inspector

    root = Path(folder) / ("jpg" if kind == "jpg" else "part/test")
    files = sorted(root.glob(f"*/*.{kind}"))
    found = {}
    for name, clock, threads in (("total", time.perf_counter, 0), ("processor", time.process_time, 1)):
        inspector = Inspector.load(Path(folder) / f"model-{size}", runtime, threads=threads)
        spent = []
        for file in files[:WARM_UP] + files:
            started = clock()
            next(inspector.predict([file]))
            spent.append(clock() - started)
        found[name] = 1e3 * median(spent[WARM_UP:])
    return found


def _per_image(spent: dict[str, list[float]], number: int) -> dict[str, list[float]]:
    """The seconds of each part by image, where a part is called as often for each."""
    calls = {name: len(values) // number for name, values in spent.items()}
    return {
        name: [sum(values[image * calls[name] : (image + 1) * calls[name]]) for image in range(number)]
        for name, values in spent.items()
    }


def _watched(inspector: Any) -> dict[str, list[float]]:
    """The seconds of every later call of the detector's parts, by name."""
    spent: dict[str, list[float]] = defaultdict(list)
    detector = inspector.backend.detector
    network, filters = detector.features.kinds
    watched = [(type(network), "levels", "network"), (type(filters), "levels", "filters")]
    watched += [(type(detector.banks[0]), "distances", "banks"), (type(detector.gaussians), "distances", "Gaussians")]
    for owner, name, part in [*watched, (type(inspector.backend), "__call__", "computing")]:
        setattr(owner, name, _timed(getattr(owner, name), spent[part]))
    return spent


def _timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    @wraps(call)
    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            spent.append(time.perf_counter() - started)

    return timed


WORKERS: dict[str, Callable[..., dict[str, Any]]] = {
    "fit": fit,
    "infer": infer,
    "export": export,
    "infer_exported": infer_exported,
}

if __name__ == "__main__":
    main()
