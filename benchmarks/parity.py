"""Scores and decisions of every runtime beside torch, over every category of the built-in test set.

    python benchmarks/parity.py FOLDER [--model padim --model ae ...] [--category gear ...] [--size 256]

Makes the built-in set in FOLDER, fits each detector to each category (those that learn by gradient for a few epochs,
which is enough to compare runtimes), and prints for each runtime the largest difference of a score, relative to the
score, and of a map, relative to its largest value, and the decisions that changed.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from pathlib import Path

from blemish.calibration.thresholds import changed, smallest_rate
from blemish.data import find_categories
from blemish.data.source import load
from blemish.data.synthetic import CATEGORIES, synthesize
from blemish.detectors import DETECTORS
from blemish.export.graphs import to_onnx
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.model.folder import read_model
from blemish.model.tensors import load_detector
from blemish.runs.config import RunConfig
from blemish.runs.export import FORMATS, Parity, compare
from blemish.runs.fit import fit

EPOCHS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", choices=sorted(DETECTORS))
    parser.add_argument("--category", action="append", choices=sorted(CATEGORIES))
    parser.add_argument("--size", type=int, help="side of what the detectors see; default: their own")
    given = parser.parse_args()
    logging.getLogger("blemish").setLevel(logging.ERROR)
    categories = given.category or sorted(CATEGORIES)
    synthesize(given.folder / "data", categories=categories)
    found: dict[tuple[str, str], list[Parity]] = defaultdict(list)
    for model in given.model or sorted(DETECTORS):
        for category in categories:
            for runtime, parity in parities(given.folder, model, category, given.size).items():
                found[model, runtime].append(parity)
                print_row(model, category, runtime, [parity])
    print("\n| detector | runtime | images | score differs by | map differs by | decisions changed |")
    print("|---|---|---:|---:|---:|---:|")
    for (model, runtime), every in found.items():
        print_row(model, None, runtime, every)


def parities(folder: Path, model: str, category: str, size: int | None) -> dict[str, Parity]:
    """Runtime -> how far it is from torch on the test images of a category."""
    out = folder / model / category
    data = folder / "data"
    fit(RunConfig.create(model=model, data_path=data, ckpt_path=out, category=(category,), epochs=EPOCHS, size=size))
    known = read_model(out)
    assert known.calibration is not None
    # Where the threshold lies among the scores, decisions are the likelier to change.
    calibration = changed(known.calibration, false_alarm_rate=max(0.2, smallest_rate(known.calibration.num_images)))
    detector = load_detector(known, in_float32=True)
    source = load(find_categories(data, [category])[0].of("test"), known.preprocess)
    reference = Inspector(TorchBackend(detector), known.preprocess, calibration)
    graph, found = to_onnx(detector), {}
    for runtime, written in FORMATS.items():
        place = out / runtime
        place.mkdir(exist_ok=True)
        written.write(graph, place)
        candidate = Inspector(written.backend(place / written.files[0]), known.preprocess, calibration)
        found[runtime] = compare(reference, candidate, source)
    return found


def print_row(model: str, category: str | None, runtime: str, every: list[Parity]) -> None:
    """A row of the table; of one category where it is named."""
    images, moved = sum(p.num_images for p in every), sum(p.num_changed or 0 for p in every)
    score, place = max(p.score_error for p in every), max(p.map_error for p in every)
    name = f"{model}, {category}" if category else model
    print(f"| {name} | {runtime} | {images} | {score:.1e} | {place:.1e} | {moved} |", flush=True)


if __name__ == "__main__":
    main()
