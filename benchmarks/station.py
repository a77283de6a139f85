"""What the station's service adds to inspecting, under load from clients on loopback.

    python benchmarks/station.py [--seconds 60] [--clients 4] [--side 1024] [--method ensemble] [--out FOLDER]

Teaches a product with images of `--side` pixels, measures `blemish predict` on the same images, then posts them to
`blemish serve` for so long, after a warm-up of two minutes (a tenth of the time where that is shorter). Prints
throughput beside that of predict, the service's own part of an answer (Server-Timing), memory over time with its
slope, lost answers, and how long a page's request takes meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import psutil

from blemish.data.synthetic import synthesize
from blemish.station import job
from blemish.station.tables import Job, Product
from blemish.station.uploads import Arrived, Limits, add_image
from blemish.station.workspace import open_workspace

NUM_GOOD, NUM_POSTED = 24, 24
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def prepare(out: Path, side: int, method: str) -> tuple[Path, Path, Path]:
    """The workspace, its model's folder, and the images to post."""
    (data,) = synthesize(out / "data", categories=["gear"], size=side, num_train=NUM_GOOD, num_test_good=NUM_POSTED)
    images, root = data / "test" / "good", out / "workspace"
    workspace = open_workspace(root)
    with workspace.store.writing() as session:
        product = Product(name="gear", created_by="benchmark")
        session.add(product)
    for path in sorted((data / "train" / "good").glob("*.png")):
        add_image(workspace, product.id, Arrived(path.read_bytes(), path.name), "benchmark", Limits())
    with workspace.store.writing() as session:
        settings = {"model": method, "validation": 0.3}
        made = Job(product_id=product.id, kind="teach", settings=settings, created_by="benchmark", station="", log=[])
        session.add(made)
    job.run(workspace, made.id)
    with workspace.store.reading() as session:
        error = session.get_one(Job, made.id).error
    if error:
        raise SystemExit(error)
    workspace.store.close()
    return root, next((root / "models").iterdir()), images


def predict_rate(model: Path, images: Path, out: Path) -> float:
    """Images per second of `blemish predict`, as it says itself."""
    command = [sys.executable, "-m", "blemish", "predict", str(model), str(images), "--out", str(out), "--fresh"]
    said = subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=True).stdout
    return float(said.partition(" images/s")[0].rpartition(" ")[2])


class Client(threading.Thread):
    """Posts the images one after the other, and notes how long each part took."""

    def __init__(self, base: str, contents: list[bytes], ended: threading.Event):
        super().__init__()
        self.base, self.contents, self.ended = base, contents, ended
        self.answers: list[tuple[float, float, float]] = []
        self.lost = self.asked = 0

    def run(self) -> None:
        while not self.ended.is_set():
            content = self.contents[self.asked % len(self.contents)]
            self.asked += 1
            request = urllib.request.Request(
                self.base + "/v1/products/1/inspect", content, {"Content-Type": "image/png"}
            )
            started = time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    answer.read()
                    parts = dict(one.split(";dur=") for one in answer.headers["Server-Timing"].split(", "))
            except urllib.error.HTTPError as error:
                self.lost += error.code != 429
            except OSError:
                self.lost += 1
            else:
                now = time.monotonic()
                self.answers.append((now, 1000 * (now - started), float(parts["own"])))


def watch(base: str, process: psutil.Process, ended: threading.Event) -> tuple[list[tuple[float, float]], list[float]]:
    """(time, MB of memory) and milliseconds of a page's request, every second."""
    memory, pages = [], []
    while not ended.wait(1):
        memory.append((time.monotonic(), process.memory_info().rss / 1e6))
        started = time.monotonic()
        urllib.request.urlopen(base + "/v1/products/1/counters", timeout=60).read()
        pages.append(1000 * (time.monotonic() - started))
    return memory, pages


def measure(root: Path, images: Path, seconds: float, clients: int) -> dict[str, float]:
    """The figures of a served workspace under load."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "blemish", "serve", str(root), "--port", str(port)], env=ENVIRONMENT
    )
    base, ended = f"http://127.0.0.1:{port}", threading.Event()
    try:
        wait_for(base)
        contents = [path.read_bytes() for path in sorted(images.glob("*.png"))]
        threads = [Client(base, contents, ended) for _ in range(clients)]
        for thread in threads:
            thread.start()
        threading.Timer(seconds, ended.set).start()
        started = time.monotonic()
        memory, pages = watch(base, psutil.Process(process.pid), ended)
        for thread in threads:
            thread.join()
    finally:
        process.terminate()
        process.wait()
    return figures(threads, memory, pages, started + min(120, seconds / 10))


def figures(
    threads: list[Client], memory: list[tuple[float, float]], pages: list[float], warm: float
) -> dict[str, float]:
    answers = [one for thread in threads for one in thread.answers if one[0] > warm]
    times = [at for at, _, _ in answers]
    later = np.asarray([one for one in memory if one[0] > warm])
    return {
        "images per second": (len(answers) - 1) / (max(times) - min(times)),
        "answer p95, ms": float(np.quantile([whole for _, whole, _ in answers], 0.95)),
        "own part p50, ms": float(np.quantile([own for _, _, own in answers], 0.5)),
        "own part p95, ms": float(np.quantile([own for _, _, own in answers], 0.95)),
        "page p95, ms": float(np.quantile(pages, 0.95)),
        "memory, MB": float(later[:, 1].mean()),
        "memory slope, MB per minute": float(60 * np.polyfit(later[:, 0] - later[0, 0], later[:, 1], 1)[0]),
        "answers": len(answers),
        "lost answers": sum(thread.lost for thread in threads),
    }


def wait_for(base: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(base + "/healthz", timeout=5)
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the station does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--method", default="ensemble")
    parser.add_argument("--out", type=Path, default=Path("runs/station"))
    given = parser.parse_args()
    if (given.out / "workspace").exists():
        raise SystemExit(f"{given.out}: holds a workspace already. Give another --out.")
    root, model, images = prepare(given.out, given.side, given.method)
    rate = predict_rate(model, images, given.out / "predicted")
    found = {"blemish predict, images per second": rate} | measure(root, images, given.seconds, given.clients)
    found["share of predict"] = found["images per second"] / rate
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
