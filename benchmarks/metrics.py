"""Time and peak memory of the pixel metrics, beside three other ways to compute them.

    python benchmarks/metrics.py [--images 160] [--size 1024] [--repeats 3] [--only TEXT]

Draws a category (smooth noise, and defects of elliptic shape on 60 % of the images, about 1 % of all pixels),
writes it to a temporary folder, and measures every variant in a process of its own, so that its peak memory
is its own. The variants: blemish; a plain implementation of the official AUPRO by sorting all pixels;
scikit-learn; torchmetrics, where it is installed. Reading the arrays into memory is not timed, except where
the variant says so. The variants take turns, and the fastest of the repeats counts, so that other work on the
machine disturbs the ratios little. Prints a table in markdown.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

REPORTED = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_0.05", "aupimo", "seg_f1")


def draw_image(seed: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((size, size), dtype=np.float32)
    scores = cv2.GaussianBlur(noise, (0, 0), 4) * 12 + 0.05 * noise
    mask = np.zeros((size, size), np.uint8)
    if seed % 5 < 3:
        for x, y in random.integers(size // 10, size - size // 10, (3, 2)):
            axes = (int(size * 0.043), int(size * 0.041))
            cv2.ellipse(mask, (int(x), int(y)), axes, 0, 0, 360, 1, -1)
        scores += 2 * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), size / 100)
    return mask, scores


def write_category(folder: Path, num_images: int, size: int) -> float:
    """Write masks.npy and maps.npy; return the part of the pixels that is anomalous."""
    anomalous = 0
    with (folder / "masks.npy").open("wb") as masks, (folder / "maps.npy").open("wb") as maps:
        for file, dtype in ((masks, "|u1"), (maps, "<f4")):
            header = {"descr": dtype, "fortran_order": False, "shape": (num_images, size, size)}
            np.lib.format.write_array_header_1_0(file, header)
        for index in range(num_images):
            mask, scores = draw_image(index, size)
            masks.write(mask.tobytes())
            maps.write(scores.astype("<f4").tobytes())
            anomalous += int(mask.sum())
    return anomalous / (num_images * size * size)


def argsort_aupro(masks: NDArray[np.uint8], maps: NDArray[np.float32], limit: float = 0.3) -> float:
    """Compute AUPRO as its definition reads: sort all pixels, add up, merge ties, integrate."""
    weights = np.zeros(maps.shape)
    num_regions = 0
    for mask, weight in zip(masks, weights, strict=True):
        num_labels, labels = cv2.connectedComponents(mask, connectivity=8)
        areas = np.bincount(labels.ravel(), minlength=num_labels)
        weight[mask > 0] = 1.0 / areas[labels[mask > 0]]
        num_regions += num_labels - 1
    order = np.argsort(maps, axis=None)[::-1]
    scores = maps.ravel()[order]
    rates = np.cumsum(masks.ravel()[order] == 0, dtype=np.float64)
    overlaps = np.cumsum(weights.ravel()[order])
    last = np.append(scores[1:] != scores[:-1], True)
    x = np.concatenate([[0.0], rates[last] / rates[-1]])
    y = np.concatenate([[0.0], overlaps[last] / num_regions])
    inside = x <= limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return float(np.trapezoid(y, x) / limit)


def sklearn_auroc(masks: NDArray[np.uint8], maps: NDArray[np.float32]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(masks.ravel(), maps.ravel()))


def sklearn_ap(masks: NDArray[np.uint8], maps: NDArray[np.float32]) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(masks.ravel(), maps.ravel()))


def torchmetrics_auroc(masks: NDArray[np.uint8], maps: NDArray[np.float32]) -> float:
    import torch
    from torchmetrics.functional.classification import binary_auroc

    return float(binary_auroc(torch.from_numpy(maps).ravel(), torch.from_numpy(masks).ravel().long()))


def torchmetrics_ap(masks: NDArray[np.uint8], maps: NDArray[np.float32]) -> float:
    import torch
    from torchmetrics.functional.classification import binary_average_precision

    return float(binary_average_precision(torch.from_numpy(maps).ravel(), torch.from_numpy(masks).ravel().long()))


def blemish_aupro(masks: NDArray[np.uint8], maps: NDArray[np.float32]) -> float:
    from blemish.metrics import aupro

    return aupro(masks, maps)


def blemish_all(masks: NDArray[np.uint8], maps: NDArray[np.float32]) -> dict[str, float]:
    from blemish.metrics import METRICS, rank_masks_and_maps

    ranking = rank_masks_and_maps(masks, maps)
    return {name: METRICS[name](ranking, 1.0) for name in REPORTED}


def blemish_from_files(folder: Path) -> dict[str, float]:
    """Read one image at a time, as predictions come."""
    from blemish.metrics import METRICS, rank_pixels

    def read() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        for index in range(len(np.load(folder / "maps.npy", mmap_mode="r"))):
            files = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("masks", "maps")]
            yield np.array(files[0][index]), np.array(files[1][index])

    ranking = rank_pixels(read())
    return {name: METRICS[name](ranking, 1.0) for name in REPORTED}


def blemish_intervals(masks: NDArray[np.uint8], maps: NDArray[np.float32]) -> dict[str, float]:
    from blemish.metrics import bootstrap, rank_masks_and_maps

    intervals = bootstrap(rank_masks_and_maps(masks, maps), REPORTED, threshold=1.0)
    return {name: interval.high - interval.low for name, interval in intervals.items()}


IN_MEMORY: dict[str, Callable[[NDArray[np.uint8], NDArray[np.float32]], object]] = {
    "blemish: AUPRO alone": blemish_aupro,
    "blemish: all pixel metrics": blemish_all,
    "blemish: all pixel metrics, with intervals (1000 resamples)": blemish_intervals,
    "argsort of all pixels: AUPRO": argsort_aupro,
    "scikit-learn: AUROC": sklearn_auroc,
    "scikit-learn: AP": sklearn_ap,
    "torchmetrics: AUROC": torchmetrics_auroc,
    "torchmetrics: AP": torchmetrics_ap,
}
FROM_FILES = "blemish: all pixel metrics, one map at a time from files (reading timed)"
VARIANTS = [*list(IN_MEMORY)[:2], FROM_FILES, *list(IN_MEMORY)[2:]]


def run_variant(name: str, folder: Path) -> dict[str, object]:
    """Measure one variant in this process: seconds, peak memory in MB, and what it computed."""
    # A first call on two small images imports what is needed, so that no import is timed.
    drawn = [draw_image(seed, 256) for seed in (0, 4)]
    small = np.stack([mask for mask, _ in drawn]), np.stack([scores for _, scores in drawn])
    blemish_aupro(*small)
    if name == FROM_FILES:
        start, start_cpu = time.perf_counter(), time.process_time()
        value: object = blemish_from_files(folder)
    else:
        masks, maps = np.load(folder / "masks.npy"), np.load(folder / "maps.npy")
        IN_MEMORY[name](*small)
        start, start_cpu = time.perf_counter(), time.process_time()
        value = IN_MEMORY[name](masks, maps)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "value": value}


def measure(name: str, folder: Path) -> dict[str, object] | None:
    """Measure one variant in a process of its own; None where its library is not installed."""
    command = [sys.executable, __file__, "--variant", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def machine() -> str:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def show(results: dict[str, dict[str, object] | None], num_images: int, size: int, anomalous: float) -> None:
    packages = ("numpy", "scikit-learn", "torch", "torchmetrics", "opencv-python-headless")
    print(f"{num_images} maps of {size}x{size}, float32, {anomalous:.1%} of the pixels anomalous.")
    print(f"{datetime.date.today().isoformat()}; {machine()}; Python {platform.python_version()}; ", end="")
    print("; ".join(version(package) for package in packages) + ".\n")
    print("| what | time (s) | processor time (s) | peak memory (MB) | result |\n|---|---:|---:|---:|---|")
    for name, result in results.items():
        if result is None:
            print(f"| {name} | not installed | | | |")
        else:
            value = result["value"]
            shown = f"{value:.9f}" if isinstance(value, float) else ""
            print(f"| {name} | {result['seconds']:.2f} | {result['cpu']:.2f} | {result['peak']:.0f} | {shown} |")
    held = num_images * size * size * 5 / 1e6
    print(f"\nPeak memory is that of the whole process, with the {held:.0f} MB of maps and masks that all but")
    print("the variant from files hold as their input.\n")
    for title, slow, fast in RATIOS:
        first, second = results.get(slow), results.get(fast)
        if first is not None and second is not None:
            print(f"- {title}: {float(str(first['seconds'])) / float(str(second['seconds'])):.1f}")


RATIOS = (
    ("AUPRO, argsort over blemish", "argsort of all pixels: AUPRO", "blemish: AUPRO alone"),
    ("scikit-learn's AUROC over all pixel metrics", "scikit-learn: AUROC", "blemish: all pixel metrics"),
    ("torchmetrics' AUROC over all pixel metrics", "torchmetrics: AUROC", "blemish: all pixel metrics"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="measure the variants whose name holds this text")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(run_variant(options.variant, options.folder)))
        return
    results: dict[str, dict[str, object] | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        anomalous = write_category(Path(folder), options.images, options.size)
        for _ in range(options.repeats):
            for name in [variant for variant in VARIANTS if options.only in variant]:
                result, before = measure(name, Path(folder)), results.get(name)
                if before is None or (result and float(str(result["seconds"])) < float(str(before["seconds"]))):
                    results[name] = result
    show(results, options.images, options.size, anomalous)


if __name__ == "__main__":
    main()
