"""PatchCore and PaDiM: seconds and memory, beside anomalib, and how they grow.

    python benchmarks/detectors.py --anomalib ANOMALIB/bin/python [--data FOLDER] [--parts ...] [--quick]

`anomalib_side.py` says how that environment is made; without `--anomalib` its row is left out. Three parts:

- network: PatchCore on networks with random weights, levels of stride 8 and 16, at 256x256, the bank 10 % of the
  patches of 60 good images of 1024x1024, tested on 160. anomalib's test is image and pixel AUROC at 256x256, that of
  blemish all its metrics at the files' own 1024x1024.
- filters: the features that need no weights, fitted to 100 images of 1024x1024 (10 of them held out for
  choices), and where the time of one image goes.
- growth: the same with the number of training images, the files' size and the detector's.

Everything runs on two threads, each row in a process of its own. The pictures are made once; `--data` keeps them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from pictures import make_category
from processes import measure, peak_memory, print_table, processor_time

NETWORK = {"backbone": "wide_resnet50_2", "layers": (2, 3), "weights": "random"}
NETWORKS = {"wide_resnet50_2": "wide_resnet50_2", "efficientnet_lite2": "tf_efficientnet_lite2"}
"""Networks of the part `network`, and what timm, and so anomalib, calls them."""
PATCHES = 32 * 32
"""Of an image of 256x256, from the network."""
STAGES = ("decode", "resize", "features", "distances", "smooth", "to the file's size")
SCRIPT, ANOMALIB = Path(__file__), Path(__file__).with_name("anomalib_side.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib", help="the interpreter of an environment with anomalib 2.7.0")
    parser.add_argument("--data", type=Path, help="folder for the pictures, which are kept; default: a temporary one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="of the part `network`")
    parser.add_argument("--rounds", type=int, default=1, help="of the part `network`, in turn; the medians are shown")
    parser.add_argument("--quick", action="store_true", help="few images, to see that everything runs")
    parser.add_argument("--only", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(WORKERS[options.only](**options.task)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            PARTS[part](options, options.data or Path(folder))


def of_blemish(worker: str, **task: Any) -> dict[str, Any]:
    return measure(SCRIPT, "--only", worker, "--task", json.dumps(task, default=str))


def network(options: argparse.Namespace, data: Path) -> None:
    """A table beside anomalib for each network."""
    for name in options.networks:
        _beside_anomalib(name, options, data)


def _beside_anomalib(network: str, options: argparse.Namespace, data: Path) -> None:
    num_train, num_test = (6, 8) if options.quick else (60, 160)
    folder = make_category(data / f"{num_train}-{num_test}-1024" / "parts", num_train, num_test)
    patchcore = {"model": "patchcore", "num_patches": num_train * PATCHES // 10, **NETWORK, "backbone": network}
    theirs = ("fit-and-test", folder, "--backbone", NETWORKS[network])
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "blemish": lambda: of_blemish("fit_and_test", folder=folder, options=patchcore),
        "blemish, quick selection": lambda: of_blemish(
            "fit_and_test", folder=folder, options=patchcore | {"selection": "spread"}
        ),
        "blemish, float32": lambda: of_blemish(
            "fit_and_test", folder=folder, options=patchcore | {"precision": "float32"}
        ),
    }
    if options.anomalib:
        ways = {"anomalib 2.7.0": lambda: measure(ANOMALIB, *theirs, python=options.anomalib)} | ways
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, run in ways.items():
            found[name].append(run())
            print(name, found[name][-1], flush=True)
    figures = {
        name: {key: median(run[key] for run in runs) for key in runs[0] if key != "bank"}
        for name, runs in found.items()
    }
    reference = next(iter(figures.values()))
    header = ["", "fit, s", "ratio", "test, s", "ratio", "a test image, s", "peak MB", "ratio"]
    header += ["fit, processor s", "test, processor s", "image", "pixel AUROC"]
    print(
        f"\nPatchCore on {network}, {num_train} good and {num_test} test images, bank of {found['blemish'][0]['bank']}"
    )
    print_table(header, (_beside(name, row, reference, num_test) for name, row in figures.items()))


def _beside(name: str, row: dict[str, float], reference: dict[str, float], num_test: int) -> list[object]:
    fit, test, memory = (reference[key] / row[key] for key in ("fit", "test", "memory"))
    figures = [row["fit"], fit, row["test"], test, row["test"] / num_test, row["memory"], memory]
    return [name, *figures, *(row[key] for key in ("fit_processor", "test_processor", "image_auroc", "pixel_auroc"))]


def filters(options: argparse.Namespace, data: Path) -> None:
    """What the features without weights cost, and where the time of one image goes."""
    num_train, num_test = (6, 8) if options.quick else (100, 60)
    folder = make_category(data / f"{num_train}-{num_test}-1024" / "parts", num_train, num_test)
    fitted, split = [], []
    for model in ("patchcore", "padim", "ensemble"):
        found = of_blemish("stages", folder=folder, options={"model": model})
        fitted.append([model, found["read"], found["fit"], found["read"] + found["fit"], found["memory"]])
        steps = [found["stages"].get(name, "") for name in STAGES]
        split.append([model, *steps, sum(found["stages"].values()) or "", found["whole"], found["rate"]])
    print(f"\nfitting {num_train} images of 1024x1024 at 256x256, features without weights")
    print_table(["", "decoding, s", "fitting, s", "both, s", "peak MB"], fitted)
    print("\none image, ms (medians)")
    print_table(["", *STAGES, "sum", "by Inspector.predict", "images/s, many"], split)


def growth(options: argparse.Namespace, data: Path) -> None:
    """How PatchCore on those features grows."""
    counts = (3, 6) if options.quick else (30, 100, 300, 1000)
    rows = []
    for count in counts:
        folder = make_category(data / "many" / "parts", max(counts), 8)
        found = of_blemish("stages", folder=folder, options={"model": "patchcore"}, num_train=count)
        rows.append([count, found["read"], found["fit"], found["whole"], found["memory"]])
    print("\nPatchCore, 256x256, images of 1024x1024")
    print_table(["good images", "decoding, s", "fitting, s", "an image, ms", "peak MB"], rows)
    rows = []
    num_train = 6 if options.quick else 100
    for side, size in ((256, 256), (512, 256), (1024, 256), (512, 512), (1024, 512)):
        folder = make_category(data / f"{num_train}-20-{side}" / "parts", num_train, 20, side)
        found = of_blemish("stages", folder=folder, options={"model": "patchcore", "size": size})
        rows.append([f"{side}x{side}", f"{size}x{size}", *(found[key] for key in ("read", "fit", "whole", "memory"))])
    print(f"\nPatchCore, {num_train} good images")
    print_table(["files", "seen at", "decoding, s", "fitting, s", "an image, ms", "peak MB"], rows)


PARTS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "network": network,
    "filters": filters,
    "growth": growth,
}


def fit_and_test(folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the files to a saved detector, and from the files to the figures."""
    from blemish.data import find_categories
    from blemish.data.source import load
    from blemish.evaluation.evaluate import evaluate
    from blemish.files import make_folder
    from blemish.inference.inspector import Inspector
    from blemish.inference.torch_backend import TorchBackend
    from blemish.model.artifact import Artifact, save

    (category,) = find_categories(Path(folder))
    detector, preprocess = _create(options)
    with tempfile.TemporaryDirectory() as out:
        start, computed = time.perf_counter(), processor_time()
        detector.fit(load(category.of("train"), preprocess))
        make_folder(Path(out))
        save(Artifact(options["model"], detector, preprocess, {}), Path(out))
        fitted, fit_memory, fit_computed = time.perf_counter(), peak_memory(), processor_time()
        samples = category.of("test")
        predictions = Inspector(TorchBackend(detector), preprocess).predict(samples)
        figures = evaluate(predictions, samples, method="", category=category.name, root=category.root).metrics
        tested = time.perf_counter()
    return {
        "fit": fitted - start,
        "test": tested - fitted,
        "fit_processor": fit_computed - computed,
        "test_processor": processor_time() - fit_computed,
        "fit_memory": fit_memory,
        "memory": peak_memory(),
        "bank": len(detector.memory.bank),
        "image_auroc": figures["image_auroc"],
        "pixel_auroc": figures["pixel_auroc"],
    }


def stages(folder: str, options: dict[str, Any], num_train: int | None = None) -> dict[str, Any]:
    """Seconds of decoding and fitting, and where the milliseconds of one image go."""
    import torch

    from blemish.data.category import find_categories, hold_out
    from blemish.data.source import load
    from blemish.detectors.base import FeatureDetector
    from blemish.inference.inspector import Inspector
    from blemish.inference.torch_backend import TorchBackend

    (category,) = find_categories(Path(folder))
    train = replace(category, samples=tuple(category.of("train")[:num_train]))
    detector, preprocess = _create(options)
    start = time.perf_counter()
    source = load(hold_out(train, 0.1, 0).samples, preprocess)
    read = time.perf_counter()
    images, held_out = (source.where(lambda sample, split=split: sample.split == split) for split in ("train", "val"))
    detector.fit(images, validation=held_out)
    fitted, memory = time.perf_counter(), peak_memory()
    files = [sample.image for sample in category.of("test")]
    inspector = Inspector(TorchBackend(detector), preprocess)
    with torch.inference_mode():
        timed = files if isinstance(detector, FeatureDetector) else []
        found = [_in_stages(file, detector, preprocess) for file in [*timed[:3], *timed]][3:]
    whole = list(_seconds([*files[:3], *files], lambda file: next(inspector.predict([file]))))[3:]
    before = time.perf_counter()
    count = sum(1 for _ in inspector.predict(files))
    rate = count / (time.perf_counter() - before)
    return {
        "read": read - start,
        "fit": fitted - read,
        "memory": memory,
        "stages": {name: 1e3 * median(times[name] for times in found) for name in STAGES if found},
        "whole": 1e3 * median(whole),
        "rate": rate,
    }


def _in_stages(file: Path, detector: Any, preprocess: Any) -> dict[str, float]:
    """Seconds of each step from a file to its map, as `Inspector` and `FeatureDetector` take them."""
    import torch

    from blemish.detectors.base import scores_and_maps
    from blemish.imaging.pixels import to_batch
    from blemish.imaging.read import read_image

    marks = [time.perf_counter()]
    image = read_image(file)
    marks.append(time.perf_counter())
    pixels = preprocess.apply(image)
    marks.append(time.perf_counter())
    images = torch.from_numpy(to_batch([pixels]))
    features = detector.features(images)
    marks.append(time.perf_counter())
    distances = detector.distances(features)
    marks.append(time.perf_counter())
    _, maps = scores_and_maps(distances, images, detector.smoothing)
    marks.append(time.perf_counter())
    preprocess.restore(maps[0].numpy(), image.shape[:2])
    marks.append(time.perf_counter())
    return {name: after - before for name, before, after in zip(STAGES, marks, marks[1:], strict=False)}


def _seconds(files: list[Path], task: Callable[[Path], object]) -> Iterator[float]:
    for file in files:
        before = time.perf_counter()
        task(file)
        yield time.perf_counter() - before


def _create(options: dict[str, Any]) -> tuple[Any, Any]:
    """The detector, not fitted yet, and what brings images to it."""
    from blemish.detectors import detector_class
    from blemish.imaging.preprocess import Preprocess

    arguments = {name: value for name, value in options.items() if name != "model"}
    detector = detector_class(options["model"]).create(**arguments)
    return detector, Preprocess(detector.input_size)


WORKERS: dict[str, Callable[..., dict[str, Any]]] = {"fit_and_test": fit_and_test, "stages": stages}


if __name__ == "__main__":
    main()
