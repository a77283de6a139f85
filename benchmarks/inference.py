"""Milliseconds from an image file to the decision, for each runtime, beside anomalib's inferencers.

    python benchmarks/inference.py FOLDER [--anomalib ANOMALIB/bin/python] [--quick]

PatchCore and PaDiM, on the features that need no weights and on a Wide ResNet-50 with random weights (layers 2 and 3),
at 256x256; files of 1024x1024. PatchCore's bank has 6144 patches, PaDiM keeps 100 features. FOLDER keeps the pictures
and the fitted and exported detectors: `--prepare` makes them and measures nothing, later runs find them there.

Latency is that of one file at a time; throughput is that of many files: batches for blemish, one after the other for
anomalib, which takes one. "first" is from the start of the process to the first decision. "off" is the largest
difference of a score from torch's in float32, relative to it. Everything runs on two threads, each row in a process of
its own. `anomalib_side.py` says how anomalib's environment is made.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402 - the start of the process counts
import json  # noqa: E402
import shutil  # noqa: E402
from collections.abc import Callable  # noqa: E402
from itertools import product  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import quantiles  # noqa: E402
from typing import Any  # noqa: E402

from processes import measure, peak_memory, print_table  # noqa: E402

BANK = 6144
NETWORK = {"backbone": "wide_resnet50_2", "layers": (2, 3), "weights": "random"}
FEATURES: dict[str, dict[str, Any]] = {"filters": {}, "wide_resnet50_2": NETWORK}
METHODS: dict[str, dict[str, Any]] = {"patchcore": {"num_patches": BANK}, "padim": {"dimensions": 100}}
RUNTIMES = {
    "torch": ("float32", "torch"),
    "torch float32": ("float32", "torch"),
    "ONNX Runtime": ("float32", "onnx"),
    "OpenVINO": ("float32", "openvino"),
    "ONNX Runtime int8": ("int8", "onnx"),
    "OpenVINO int8": ("int8", "openvino"),
}
"""Row -> folder of the model, and backend."""
INFERENCERS = {
    "torch": "anomalib TorchInferencer",
    "openvino": "anomalib OpenVINOInferencer",
    "openvino-float32": "anomalib OpenVINOInferencer, float32",
    "openvino-int8": "anomalib OpenVINOInferencer, int8",
}
WARM_UP, BATCH = 5, 8
SCRIPT, ANOMALIB = Path(__file__), Path(__file__).with_name("anomalib_side.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for pictures and detectors, which are kept")
    parser.add_argument("--anomalib", help="the interpreter of an environment with anomalib 2.7.0")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=list(FEATURES))
    parser.add_argument("--prepare", action="store_true", help="fit and export what is missing, and stop")
    parser.add_argument("--quick", action="store_true", help="few images, to see that everything runs")
    parser.add_argument("--only", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(WORKERS[options.only](**options.task)))
        return
    folder = (options.folder / ("quick" if options.quick else "full")).resolve()
    data = make_data(folder, quick=options.quick)
    chosen = list(product(options.methods, options.features))
    for method, features in chosen:
        prepare(folder, data, method, features, options.anomalib)
    if not options.prepare:
        for method, features in chosen:
            show(folder, data, method, features, options.anomalib)


def make_data(folder: Path, *, quick: bool) -> Path:
    """The pictures to fit and measure on; beside them fewer, to compare exports on."""
    from pictures import make_category

    train, test = (8, 8) if quick else (60, 60)
    make_category(folder / "compared" / "parts", 20, 8)
    return make_category(folder / "data" / "parts", train, test)


def of_blemish(worker: str, **task: Any) -> dict[str, Any]:
    return measure(SCRIPT, ".", "--only", worker, "--task", json.dumps(task, default=str))


def prepare(folder: Path, data: Path, method: str, features: str, anomalib: str | None) -> None:
    """Fits and exports what is not there yet."""
    model = folder / method / features
    if not (model / "float32").exists():
        options = METHODS[method] | FEATURES[features]
        done = of_blemish("fit", method=method, options=options, data=data, out=model / "fitted")
        print(method, features, done, flush=True)
        for precision, runtime in product(("float32", "int8"), ("onnx", "openvino")):
            target = model / f"{precision}.new"
            if not target.exists():
                shutil.copytree(model / "fitted" / "parts", target / "parts")
            task = {"model": target / "parts", "runtime": runtime, "precision": precision, "data": folder / "compared"}
            try:
                said: object = of_blemish("export_one", **task)
            except RuntimeError as error:  # the row is then missing, and the table says why
                said = str(error)
            print(method, features, precision, runtime, said, flush=True)
        for precision in ("int8", "float32"):
            (model / f"{precision}.new").rename(model / precision)
    if anomalib and features != "filters" and not (model / "anomalib").exists():
        out = model / "anomalib.new"
        measure(ANOMALIB, "export", data, "--model", method, "--bank", BANK, "--out", out, python=anomalib)
        out.rename(model / "anomalib")
        print(method, features, "anomalib exported", flush=True)


def show(folder: Path, data: Path, method: str, features: str, anomalib: str | None) -> None:
    """Measures one detector with every runtime, and prints its table."""
    model, found, failed = folder / method / features, {}, {}
    if anomalib and features != "filters":
        for inferencer, name in INFERENCERS.items():
            task = ("infer", data, "--inferencer", inferencer, "--out", model / "anomalib")
            _try(name, found, failed, lambda task=task: measure(ANOMALIB, *task, python=anomalib))
    for name, (kept, backend) in RUNTIMES.items():
        if not (model / kept).exists():
            continue  # filters are in float32 alone
        task = {"model": model / kept / "parts", "backend": backend, "in_float32": name == "torch float32"}
        _try(name, found, failed, lambda task=task: of_blemish("infer", **task, data=data))
    theirs = [row["p50"] for name, row in found.items() if name.startswith("anomalib")]
    exact = found.get("torch float32", {}).get("scores")
    print(f"\n{method} on {features}")
    header = ["", "p50, ms", "p95, ms", "images/s", "first, s", "peak MB", "anomalib's best p50 / this", "off"]
    print_table(header, (_row(name, row, theirs, exact) for name, row in found.items()))
    for name, reason in failed.items():
        print(f"{name}: {reason}")


def _try(
    name: str, found: dict[str, dict[str, Any]], failed: dict[str, str], run: Callable[[], dict[str, Any]]
) -> None:
    try:
        found[name] = run()
    except RuntimeError as error:
        failed[name] = str(error).strip().splitlines()[-1].removeprefix("blemish.errors.BlemishError: ")


def _row(name: str, row: dict[str, Any], theirs: list[float], exact: list[float] | None) -> list[object]:
    figures = [row[key] for key in ("p50", "p95", "throughput", "first", "memory")]
    off: object = ""
    if exact and "scores" in row:
        off = f"{max(abs(a - b) / abs(b) for a, b in zip(row['scores'], exact, strict=True)):.1e}"
    return [name, *figures, min(theirs) / row["p50"] if theirs else "", off]


def fit(method: str, options: dict[str, Any], data: str, out: str, precision: str = "auto") -> dict[str, Any]:
    """A run as a user makes one, so that the detector is calibrated."""
    from blemish.runs.config import RunConfig
    from blemish.runs.run import run

    given = {"model": method, "data_path": data, "ckpt_path": out, "precision": precision, "options": options}
    return {"metrics": run(RunConfig.create(**given, figures=0)).metrics}


def export_one(model: str, runtime: str, precision: str, data: str) -> dict[str, Any]:
    """The export, compared by itself with torch; or why it was refused."""
    from blemish import errors
    from blemish.runs import export

    try:
        return {"off": export.describe(export.export(Path(model), runtime, precision, Path(data)).parity)}
    except errors.BlemishError as error:
        return {"refused": str(error)}


def infer(model: str, backend: str, in_float32: bool, data: str) -> dict[str, Any]:
    """Milliseconds of each picture from its file to the decision, and how many a second in batches."""
    from blemish.inference.inspector import Inspector
    from blemish.inference.torch_backend import TorchBackend

    inspector = Inspector.load(Path(model), backend, batch_size=BATCH)
    if in_float32:
        from blemish.model.artifact import load_detector
        from blemish.model.folder import read_model

        inspector.backend = TorchBackend(load_detector(read_model(Path(model)), in_float32=True))
    files = sorted(Path(data).glob("test/*/*.png"))

    def predict(file: Path) -> float:
        prediction = next(inspector.predict([file]))
        inspector.decide(prediction)
        return float(prediction.score)

    predict(files[0])
    first = time.perf_counter() - STARTED
    for file in files[:WARM_UP]:
        predict(file)
    seconds, scores = [], []
    for file in files:
        before = time.perf_counter()
        scores.append(predict(file))
        seconds.append(time.perf_counter() - before)
    for _ in inspector.predict(files):  # what is arranged and tried with the first batch of many
        pass
    before = time.perf_counter()
    count = sum(inspector.decide(prediction) is not None for prediction in inspector.predict(files))
    rate = len(files) / (time.perf_counter() - before)
    cuts = quantiles(seconds, n=20, method="inclusive")
    return {
        "p50": 1e3 * cuts[9],
        "p95": 1e3 * cuts[18],
        "throughput": rate,
        "first": first,
        "memory": peak_memory(),
        "scores": scores,
        "decided": count,
    }


WORKERS: dict[str, Callable[..., dict[str, Any]]] = {"fit": fit, "export_one": export_one, "infer": infer}


if __name__ == "__main__":
    main()
