"""What the station's service adds to inspecting, under load from clients on loopback.

    python benchmarks/station.py [--seconds 60] [--clients 4] [--side 1024] [--method ensemble] [--results 0]
        [--out FOLDER]

Teaches a product with images of `--side` pixels, measures `blemish predict` on good images, then posts the same images
to `blemish serve` for so long, after a warm-up of two minutes (a tenth of the time where that is shorter), each time
as another file: so every image is hashed, decoded, computed and written. Prints throughput beside that of predict
before and after, the parts of an answer as the service says them (Server-Timing), memory over time with its slope,
lost answers, and how long the pages' requests and actions take meanwhile.

The own part is all of the time from a request's arrival to its answer but receiving the body, decoding, waiting for
the model and computing: checks of who asks, the queue between threads, hashing, the image's file, the database.
`--results` is how many results of the last week there are before, a twentieth of them not good.

Images that were inspected over a minute ago are removed, so that the disk does not fill.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from sqlalchemy import insert

from blemish.data.synthetic import synthesize
from blemish.station import job
from blemish.station.tables import Inspection, Job, Model, Product
from blemish.station.uploads import Arrived, Limits, add_image
from blemish.station.workspace import open_workspace

NUM_GOOD, NUM_POSTED = 24, 96
WARM_SECONDS = 120.0
PARTS = ("receive", "decode", "queue", "compute", "record", "own")
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


def add_results(root: Path, number: int) -> None:
    """Puts results of the last week into the database, most of them good, without images."""
    workspace, generator, rows = open_workspace(root), random.Random(0), []
    with workspace.store.reading() as session:
        model = session.get_one(Model, 1)
    for row in range(number):
        verdict = generator.choices(("good", "review", "defect"), (0.95, 0.03, 0.02))[0]
        rows.append(
            {
                "product_id": model.product_id,
                "model_id": model.id,
                "decision_id": model.active_decision_id,
                "name": f"{row}.png",
                "sha256": f"{row:064x}",
                "width": 1024,
                "height": 1024,
                "score": generator.random(),
                "p_value": generator.random(),
                "verdict": verdict,
                "regions": [],
                "source": "benchmark",
                "latency": generator.uniform(0.05, 0.5),
                "drawn": generator.random(),
                "created_by": "benchmark",
                "created_at": time.time() - 7 * 86400 * (1 - row / number),
                "awaits_review": verdict != "good" and generator.random() < 0.1,
            }
        )
    with workspace.store.writing() as session:
        session.execute(insert(Inspection), rows)
    workspace.store.close()


def predict_rate(model: Path, images: Path, out: Path) -> float:
    """Images per second of `blemish predict`, as it says itself."""
    command = [sys.executable, "-m", "blemish", "predict", str(model), str(images), "--out", str(out), "--fresh"]
    said = subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=True).stdout
    return float(said.partition(" images/s")[0].rpartition(" ")[2])


def another_file(png: bytes, number: int) -> bytes:
    """The same image as another file: a text chunk with the number stands before its end."""
    content = b"tEXtnumber\0" + str(number).encode()
    chunk = (len(content) - 4).to_bytes(4) + content + zlib.crc32(content).to_bytes(4)
    return png[:-12] + chunk + png[-12:]


class Client(threading.Thread):
    """Posts images one after the other, and notes how long each part took."""

    def __init__(self, port: int, contents: list[bytes], numbers: Iterator[int], ended: threading.Event):
        super().__init__()
        self.port, self.contents, self.numbers, self.ended = port, contents, numbers, ended
        self.answers: list[dict[str, float]] = []
        self.lost = self.refused = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while not self.ended.is_set():
            number = next(self.numbers)
            body, started = another_file(self.contents[number % len(self.contents)], number), time.monotonic()
            try:
                connection.request("POST", "/v1/products/1/inspect", body, {"Content-Type": "image/png"})
                answer = connection.getresponse()
                found = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                self.lost += 1
                connection.close()
                continue
            self.refused += answer.status == 429
            self.lost += answer.status not in (200, 429) or (answer.status == 200 and found["id"] is None)
            if answer.status == 200:
                parts = dict(one.split(";dur=") for one in answer.headers["Server-Timing"].split(", "))
                whole = {"at": time.monotonic(), "answer": 1000 * (time.monotonic() - started)}
                self.answers.append(whole | {name: float(parts[name]) for name in PARTS})


def ask(base: str, method: str, path: str, body: object = None) -> bytes:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, content, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: bytes = answer.read()
        return found


def actions(base: str) -> Iterator[tuple[str, float]]:
    """What people do meanwhile: pages, what they load, and changes; the name and milliseconds of each request."""
    own, thresholds = "/v1/products/1", json.loads(ask(base, "GET", "/v1/models/1"))["decision"]
    decision = {name: thresholds[name] for name in ("review_threshold", "defect_threshold", "min_area")}
    while True:
        latest = json.loads(ask(base, "GET", f"{own}/inspections?limit=1"))
        for name, method, path, body in [
            ("page", "GET", "/products/1/inspect", None),
            ("counters", "GET", f"{own}/counters", None),
            ("last fifty", "GET", f"{own}/inspections?limit=50", None),
            *(("picture", "GET", one["links"]["picture"], None) for one in latest if "picture" in one["links"]),
            ("next review", "POST", f"{own}/review-queue", {}),
            ("report", "GET", f"{own}/report?days=7", None),
            ("decision", "POST", "/v1/models/1/decisions", decision | {"note": str(time.monotonic())}),
        ]:
            started = time.monotonic()
            ask(base, method, path, body)
            yield name, 1000 * (time.monotonic() - started)


def remove_old(files: Path, kept: set[Path]) -> None:
    """Removes images that were inspected over a minute ago, which the station would keep."""
    for path in set(files.glob("??/*")) - kept:
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - 60:
                path.unlink()


Watched = tuple[list[tuple[float, float]], list[tuple[float, str, float]]]


def watch(base: str, process: psutil.Process, files: Path, ended: threading.Event) -> Watched:
    """(time, MB of memory) and (time, name, milliseconds) of an action, every second."""
    memory, done, doing, kept = [], [], actions(base), set(files.glob("??/*"))
    while not ended.wait(1):
        memory.append((time.monotonic(), process.memory_info().rss / 1e6))
        name, milliseconds = next(doing)
        done.append((time.monotonic(), name, milliseconds))
        remove_old(files, kept)
    return memory, done


def measure(root: Path, images: Path, seconds: float, clients: int) -> dict[str, object]:
    """The figures of a served workspace under load."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "blemish", "serve", str(root), "--port", str(port), "--keep-free", "0"]
    process = subprocess.Popen(command, env=ENVIRONMENT)
    base, ended, numbers = f"http://127.0.0.1:{port}", threading.Event(), itertools.count()
    try:
        wait_for(base)
        contents = [path.read_bytes() for path in sorted(images.glob("*.png"))]
        threads = [Client(port, contents, numbers, ended) for _ in range(clients)]
        for thread in threads:
            thread.start()
        threading.Timer(seconds, ended.set).start()
        started = time.monotonic()
        memory, done = watch(base, psutil.Process(process.pid), root / "files", ended)
        for thread in threads:
            thread.join()
    finally:
        ended.set()
        process.terminate()
        process.wait()
    return figures(threads, memory, done, started + min(WARM_SECONDS, seconds / 10))


def figures(
    threads: list[Client], memory: list[tuple[float, float]], done: list[tuple[float, str, float]], warm: float
) -> dict[str, object]:
    answers = [one for thread in threads for one in thread.answers if one["at"] > warm]
    times = [one["at"] for one in answers]
    later = np.asarray([one for one in memory if one[0] > warm])
    taken = defaultdict(list)
    for at, name, milliseconds in done:
        if at > warm:
            taken[name].append(milliseconds)
    return {
        "images per second": (len(answers) - 1) / (max(times) - min(times)),
        "parts of an answer, ms (median, 95 %)": {name: spread(answers, name) for name in ("answer", *PARTS)},
        "actions of pages, ms (95 %, largest)": {
            name: [round(float(np.quantile(some, 0.95)), 1), round(max(some), 1)] for name, some in taken.items()
        },
        "memory, MB": float(later[:, 1].mean()),
        "memory slope, MB per minute": float(60 * np.polyfit(later[:, 0] - later[0, 0], later[:, 1], 1)[0]),
        "answers": len(answers),
        "lost answers": sum(thread.lost for thread in threads),
        "refused for a full queue": sum(thread.refused for thread in threads),
    }


def spread(answers: list[dict[str, float]], name: str) -> list[float]:
    values = [one[name] for one in answers]
    return [round(float(np.quantile(values, share)), 2) for share in (0.5, 0.95)]


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
    parser.add_argument("--results", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/station"))
    given = parser.parse_args()
    if (given.out / "workspace").exists():
        raise SystemExit(f"{given.out}: holds a workspace already. Give another --out.")
    root, model, images = prepare(given.out, given.side, given.method)
    if given.results:
        add_results(root, given.results)
    before = predict_rate(model, images, given.out / "predicted")
    found = measure(root, images, given.seconds, given.clients)
    rates = [before, predict_rate(model, images, given.out / "predicted")]
    found |= {"blemish predict, images per second (before, after)": rates}
    found["share of predict"] = found["images per second"] / (sum(rates) / 2)
    shown = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    print(json.dumps(shown, indent=2))


if __name__ == "__main__":
    main()
