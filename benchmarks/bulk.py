"""usage: bulk.py OUT [--files N] [--kills N] [--size N] [--throughput FOLDER --model MODEL]: bulk scoring, measured.

Writes so many small images, scores them by `blemish score` that is killed at random times and started again, and
checks that each file has one row, in the manifest's order. Prints how memory grew in the longest stretch.
With --throughput, compares `blemish score` with `blemish predict` on the images of a folder instead, in turns.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow.parquet as pq

from processes import print_table

BLEMISH = [sys.executable, "-m", "blemish", "--quiet"]
SIDE = 64
SHARD = 100


def write_images(folder: Path, number: int) -> list[Path]:
    """So many distinct PNGs of SIDE x SIDE; the first 40 are copied to `good`, for `fit`."""
    generator, paths = np.random.default_rng(0), []
    for index in range(number):
        path = folder / "images" / f"{index // 1000:03}" / f"{index:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.clip(generator.normal(np.linspace(60, 160, SIDE)[None, :, None], 8, (SIDE, SIDE, 3)), 0, 255)
        cv2.imwrite(str(path), picture.astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        paths.append(path)
    (folder / "good").mkdir(exist_ok=True)
    for path in paths[:40]:
        shutil.copy(path, folder / "good")
    (folder / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    return paths


def watch(command: list[str], scores: Path, seconds: float) -> tuple[int | None, list[tuple[int, float]]]:
    """Runs a command for so many seconds after its first new shard, then kills it.

    Gives its exit code, None if it was killed, and (images scored, MB held) as it went.
    """
    before, found, first = len(list(scores.glob("part-*"))), list[tuple[int, float]](), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        done = len(list(scores.glob("part-*"))) - before
        if done:
            first = first or time.monotonic()
            try:
                found.append((done * SHARD, psutil.Process(process.pid).memory_info().rss / 1e6))
            except psutil.Error:
                break
            if time.monotonic() - first > seconds:
                process.kill()
                process.wait()
                return None, found
        time.sleep(0.05)
    return process.wait(), found


def slope(held: list[tuple[int, float]]) -> float:
    """MB per 1,000 images, by least squares over the second half of the images, when all is loaded."""
    images, memory = np.array(held).T
    late = images >= images.max() / 2
    return float(np.polyfit(images[late], memory[late], 1)[0]) * 1000


def killed_and_resumed(out: Path, number: int, kills: int, size: int) -> None:
    paths = write_images(out, number)
    fit = ["fit", str(out / "good"), "--out", str(out / "model"), "--force", "--model", "padim"]
    subprocess.run([*BLEMISH, *fit, "--size", str(size), "--align", "off", "--backbone", "gabor"], check=True)
    shutil.rmtree(out / "s", ignore_errors=True)
    command = [*BLEMISH, "score", str(out / "list.txt"), "--model", str(out / "model"), "--out", str(out / "s")]
    command += ["--shard-size", str(SHARD)]
    scores, generator, stretches, killed = out / "s" / "scores", random.Random(0), list[list[tuple[int, float]]](), 0
    for _ in range(kills):
        code, held = watch(command, scores, generator.uniform(0, 6))
        killed += code is None
        stretches.append(held)
    code, held = watch(command, scores, float("inf"))
    assert code == 0, code
    stretches.append(held)
    names = [name for part in sorted(scores.glob("part-*")) for name in pq.read_table(part)["path"].to_pylist()]
    assert names == [str(path) for path in paths], "a file is missing, twice, or in another place"
    longest = max(stretches, key=lambda found: found[-1][0] if found else 0)
    memory = [megabytes for _, megabytes in longest]
    row = [number, killed, longest[-1][0], memory[len(memory) // 2], max(memory), slope(longest)]
    head = [
        "files",
        "kills",
        "longest stretch, images",
        "MB half-way",
        "MB at most",
        "MB per 1,000 images, second half",
    ]
    print_table(head, [row])
    print("each file has one row, in the manifest's order")


def throughput(out: Path, folder: Path, model: Path, rounds: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    names = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".bmp", ".tif"))
    listed = str(out / "list.txt")
    Path(listed).write_text("".join(f"{path}\n" for path in names))
    seconds: dict[str, list[float]] = {"predict": [], "score": []}
    for _ in range(rounds):
        for name, found in seconds.items():
            shutil.rmtree(out / name, ignore_errors=True)
            what = ["predict", str(model), "-"] if name == "predict" else ["score", listed, "--model", str(model)]
            started = time.perf_counter()
            with Path(listed).open() as lines:
                command = [*BLEMISH, *what, "--out", str(out / name)]
                subprocess.run(command, check=True, stdin=lines, stdout=subprocess.DEVNULL)
            found.append(time.perf_counter() - started)
    best = {name: min(found) for name, found in seconds.items()}
    print_table(
        ["command", "images", "s, best", "images/s"],
        [[name, len(names), value, len(names) / value] for name, value in best.items()],
    )
    print(f"score is {best['predict'] / best['score']:.2f} times as fast as predict, the start of both included")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--throughput", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.throughput:
        throughput(given.out, given.throughput, given.model, given.rounds)
    else:
        killed_and_resumed(given.out, given.files, given.kills, given.size)
