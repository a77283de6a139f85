"""usage: kills.py [--kills N] [--pairs N] [--seed N]: kills commands at random, and runs pairs of them at once.

After each kill the model of before or the new one has to load, and the same command once more has to lead to what it
leads to undisturbed, file by file. Half of the kills are at a point: the n-th time that the process opens, renames or
removes a file; the others after a random time. Of a pair each has to succeed, and its change be there, or be refused
in one line. All commands are forked from one process that has imported everything, and computed nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # a forked process has no other threads

import cv2
import numpy as np
import onnx
import onnxruntime  # noqa: F401 - imported once for all that are forked

import blemish.reporting.render
import blemish.runs.export
import blemish.runs.testing
import blemish.runs.update
from blemish.cli import main
from blemish.model.artifact import load, load_detector
from blemish.model.folder import DOCUMENT, TENSORS, read_model

EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock", "shutil.rmtree"}
"""What is counted, beside files that are opened to be written."""
LONGEST = 300
"""Seconds after which a command hangs."""
RETRIES = 3
"""Times that a reader beside two writers reads."""


@dataclass(frozen=True)
class Scene:
    """A command, what it starts from and where its model lies."""

    command: tuple[str, ...]
    start: str
    model: str
    again: tuple[str, ...] = ()
    """What is added to run it once more."""


FIT = ("fit", "D/part/train/good", "--size", "48", "--model", "padim", "--backbone", "gabor", "--align", "off")
TRAIN = ("train", "--data_path", "D", "--size", "32", "--figures", "0", "--align", "off", "--ckpt_path", "run")
SCENES = {
    "fit": Scene((*FIT, "--out", "m"), "nothing", "m", ("--force",)),
    "fit over": Scene((*FIT, "--out", "m", "--seed", "3", "--force"), "model", "m"),
    "update": Scene(("fit", "first", "--update", "m"), "model", "m"),
    "update to": Scene(("fit", "first", "--update", "m", "--out", "new"), "model", "new", ("--force",)),
    "calibrate": Scene(("calibrate", "m", "--images", "second"), "model", "m"),
    "folds": Scene(("calibrate", "m", "--folds", "2"), "model", "m"),
    "train": Scene((*TRAIN, "--model", "ae", "--epochs", "2", "--resume"), "nothing", "run/part"),
    "train over": Scene((*TRAIN, "--model", "padim", "--backbone", "gabor"), "run", "run/part"),
    "export": Scene(("export", "m"), "model", "m"),
    "openvino": Scene(("export", "m", "--format", "openvino", "--half"), "model", "m"),
    "report": Scene(("report", "run", "--out", "page.html", "--files", "files"), "run", "run/part"),
}
WRITERS = {
    "update first": ("fit", "first", "--update", "m"),
    "update second": ("fit", "second", "--update", "m"),
    "threshold": ("calibrate", "m", "--threshold", "7.5"),
    "area": ("calibrate", "m", "--min-area", "11"),
    "images": ("calibrate", "m", "--images", "third", "--apply"),
    "export": ("export", "m"),
}
EFFECTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "update first": lambda state: state["learned"] in (9 + 3, 9 + 3 + 4),
    "update second": lambda state: state["learned"] in (9 + 4, 9 + 3 + 4),
    "threshold": lambda state: state["threshold"] == 7.5,
    "area": lambda state: state["area"] == 11,
    "images": lambda state: state["good"] == 5,
    "export": lambda state: "onnx" in state["exports"],
}
UNDOES = {"threshold": ["images"], "images": ["threshold"], "export": ["update first", "update second"]}
"""Change -> those that rightly take its place where they come later."""


class BrokenError(Exception):
    """What must not happen."""


def forked(work: Callable[[], Any], folder: Path, log: Path) -> int:
    """The number of a process that does the work in a folder and prints to a file."""
    number = os.fork()
    if number:
        return number
    try:
        signal.alarm(LONGEST)
        os.chdir(folder)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 99
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def ended(number: int) -> int:
    """The exit code of a process, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


class Play:
    """The stage: the data, what a scene starts from, and what it leads to undisturbed."""

    def __init__(self, root: Path):
        self.root, self.log = root, root / "log"
        (root / "data").mkdir()
        (root / "states" / "nothing").mkdir(parents=True)
        self._do(lambda: _write_data(root / "data"))
        for name, command in (
            ("model", (*FIT, "--out", "m")),
            ("run", (*TRAIN, "--model", "patchcore", "--backbone", "gabor")),
        ):
            folder = root / "states" / name
            folder.mkdir()
            self._link_data(folder)
            self._do(lambda command=command: main(command), folder)
        self._do(lambda: onnx.save(_graph(root / "states" / "model" / "m"), str(root / "graph.onnx")))
        self.learned = len(read_model(root / "states" / "model" / "m").provenance["learned_from"])
        self._number = 0

    def _do(self, work: Callable[[], Any], folder: Path | None = None) -> None:
        if code := ended(forked(work, folder or self.root, self.log)):
            raise BrokenError(f"exit code {code}: {self.said()}")

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _link_data(self, folder: Path) -> None:
        for path in (self.root / "data").iterdir():
            if not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)

    def set_up(self, start: str) -> Path:
        """A fresh folder with what a scene starts from."""
        self._number += 1
        folder = self.root / f"scene{self._number}"
        shutil.copytree(self.root / "states" / start, folder, symlinks=True)
        self._link_data(folder)
        return folder

    def start(
        self, command: Sequence[str], folder: Path, before: Callable[[], Any] = int, log: Path | None = None
    ) -> int:
        """Starts a command in a folder, `before` in the same process first."""

        def work() -> None:
            graph, real = onnx.load(str(self.root / "graph.onnx")), blemish.runs.export.to_onnx

            def known(
                detector: Any, *rest: Any
            ) -> Any:  # to make a graph takes seconds; that of an updated model differs
                is_known = int(detector.gaussians.count) == self.learned
                return graph if is_known else real(detector, *rest)

            blemish.runs.export.to_onnx = known
            blemish.runs.testing.NUM_RESAMPLES = 20
            before()
            main(list(command))

        return forked(work, folder, log or self.log)

    def run(self, command: Sequence[str], folder: Path) -> int:
        return ended(self.start(command, folder))

    def state(self, folder: Path) -> dict[str, Any] | None:
        """What the model in a folder is; None where there is none. Raises BrokenError where it cannot be used."""
        out = self.root / "state.json"
        self._do(lambda: out.write_text(json.dumps(_state(folder))))
        return dict(found) if (found := json.loads(out.read_text())) else None


def _state(folder: Path) -> dict[str, Any] | None:
    if not (folder / DOCUMENT).exists():
        return None
    model, artifact = read_model(folder), load(folder)
    for name in model.sha256:
        model.file(name)
    return {
        "tensors": model.sha256[TENSORS],
        "threshold": artifact.calibration.threshold,
        "area": artifact.calibration.min_area,
        "good": artifact.calibration.num_images,
        "learned": len(model.provenance["learned_from"]),
        "exports": sorted(model.exports),
    }


def _graph(folder: Path) -> onnx.ModelProto:
    from blemish.export.graphs import to_onnx

    return to_onnx(load_detector(read_model(folder), in_float32=True))


def _write_data(root: Path) -> None:
    generator = np.random.default_rng(0)
    folders = {
        "D/part/train/good": 10,
        "D/part/test/good": 2,
        "D/part/test/bad": 2,
        "first": 3,
        "second": 4,
        "third": 5,
    }
    for name, count in folders.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture = generator.normal(np.linspace(60, 160, 48)[None, :, None], 8, (48, 48, 3))
            picture[10:20, 10:20] += 90 * ("bad" in name)
            cv2.imwrite(str(root / name / f"{number}.png"), np.clip(picture, 0, 255).astype(np.uint8))


def listing(folder: Path) -> list[str]:
    """The files, hidden ones too, the hashes in their names left out: OpenVINO writes other bytes each time."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_symlink())
    return sorted(re.sub(r"-[0-9a-f]{12}\.", "-HASH.", name) for name in files)


def dying_at(point: int, seen: list[str]) -> Callable[[], None]:
    """What has the process that calls it killed at the n-th event; `seen` has those before."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event not in EVENTS and not is_write:
            return
        seen.append(event)
        if len(seen) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


@dataclass
class Undisturbed:
    """What a scene leads to when nothing happens."""

    before: dict[str, Any] | None
    after: dict[str, Any] | None
    files: list[str]
    seconds: float
    points: int


def undisturbed(play: Play, scene: Scene) -> Undisturbed:
    folder = play.set_up(scene.start)
    before, seen, count = play.state(folder / scene.model), [], play.root / "count"
    arm = dying_at(-1, seen)

    def counted() -> None:
        arm()
        sys.addaudithook(lambda *_: os.pwrite(handle, str(len(seen)).encode(), 0) and None)

    handle = os.open(count, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    started = time.monotonic()
    if code := ended(play.start(scene.command, folder, counted)):
        raise BrokenError(f"{scene.command}: exit code {code}: {play.said()}")
    seconds, points = time.monotonic() - started, int(os.pread(handle, 99, 0))
    os.close(handle)
    found = Undisturbed(before, play.state(folder / scene.model), listing(folder), seconds, points)
    shutil.rmtree(folder)
    return found


def kill(play: Play, scene: Scene, expected: Undisturbed, point: int, share: float) -> bool:
    """Kills the scene's command once, at a point or, where it is 0, after a share of its time, and checks what is left.

    Gives whether it was still running.
    """
    folder = play.set_up(scene.start)
    if point:
        what, code = f"at event {point}", ended(play.start(scene.command, folder, dying_at(point, [])))
    else:
        seconds = share * expected.seconds
        number = play.start(scene.command, folder)
        time.sleep(seconds)
        os.kill(number, signal.SIGKILL)
        what, code = f"after {seconds:.3f} s", ended(number)
    where = f"{' '.join(scene.command)} killed {what} in {folder}"
    try:
        state = play.state(folder / scene.model)
    except BrokenError as failure:
        raise BrokenError(f"{where}: cannot be loaded: {failure}") from None
    if state not in (expected.before, expected.after):
        raise BrokenError(f"{where}: {state} is neither {expected.before} nor {expected.after}")
    command = (*scene.command, *scene.again)
    if (again := play.run(command, folder)) not in ((0, 2) if state == expected.after else (0,)):
        raise BrokenError(f"{where}: once more gives {again}: {play.said()}")
    if (state := play.state(folder / scene.model)) != expected.after:
        raise BrokenError(f"{where}: once more leads to {state} instead of {expected.after}")
    if (files := listing(folder)) != expected.files:
        raise BrokenError(f"{where}: once more leaves {sorted(set(files) ^ set(expected.files))}")
    shutil.rmtree(folder)
    return code == -signal.SIGKILL


def pair(play: Play, chance: random.Random) -> tuple[int, int]:
    """Runs two writers and a reader at once; how many of the writers succeeded, and how many were refused."""
    folder, names = play.set_up("model"), [chance.choice(list(WRITERS)) for _ in range(2)]
    start, logs = time.monotonic() + 0.3, [play.root / f"log{number}" for number in range(3)]

    def at_once(delay: float) -> Callable[[], None]:
        return lambda: time.sleep(max(0.0, start + delay - time.monotonic()))

    numbers = [
        play.start(WRITERS[name], folder, at_once(chance.uniform(0, 0.2)), log)
        for name, log in zip(names, logs, strict=False)
    ]
    numbers.append(forked(lambda: (at_once(0)(), [load(folder / "m") for _ in range(RETRIES)]), folder, logs[2]))
    codes, said = [ended(number) for number in numbers], [log.read_text(errors="replace") for log in logs]
    where = f"{names} in {folder}: exit codes {codes}: {said}"
    if codes[2] != 0 or not {*codes[:2]} <= {0, 2} or codes[:2] == [2, 2]:
        raise BrokenError(where)
    refused = [text for code, text in zip(codes, said, strict=True) if code == 2]
    if not all("is being changed by" in text or "is new to the model" in text for text in refused):
        raise BrokenError(where)
    succeeded = [name for name, code in zip(names, codes, strict=False) if code == 0]
    state = play.state(folder / "m")
    for name in succeeded:
        if not EFFECTS[name](state or {}) and not set(UNDOES.get(name, ())) & set(succeeded):
            raise BrokenError(f"{where}: {name} is lost: {state}")
    if any(name.startswith(".") for path in listing(folder / "m") for name in path.split("/")):
        raise BrokenError(f"{where}: left {listing(folder / 'm')}")
    shutil.rmtree(folder)
    return len(succeeded), len(refused)


def show(kills: int, pairs: int, seed: int, only: Sequence[str]) -> None:
    """Does it all and prints the figures."""
    chance = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    play = Play(root)
    scenes = {name: SCENES[name] for name in only or SCENES}
    expected = {name: undisturbed(play, scene) for name, scene in scenes.items()}
    points = {name: chance.sample(range(1, found.points + 1), found.points) for name, found in expected.items()}
    hit = dict.fromkeys(scenes, 0)
    for number in range(kills):
        name, turn = list(scenes)[number % len(scenes)], number // len(scenes)
        point = points[name][turn // 2 % len(points[name])] if turn % 2 else 0
        hit[name] += kill(play, scenes[name], expected[name], point, chance.random())
        print(f"\rkills: {number + 1}", end="", file=sys.stderr)
    for name, found in expected.items():
        print(f"{name}: {found.points} points in {found.seconds:.2f} s, {hit[name]} kills")
    print(f"{sum(hit.values())} of {kills} kills hit a running command: no model lost, none corrupt, nothing left")
    counts = [pair(play, chance) for _ in range(pairs)]
    done, refused = (sum(count[row] for count in counts) for row in range(2))
    print(f"{pairs} pairs of writers: {done} done, {refused} refused in one line, none lost")
    shutil.rmtree(root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for option, default in (("--kills", 200), ("--pairs", 100), ("--seed", 0)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--only", nargs="*", default=(), choices=list(SCENES))
    given = parser.parse_args()
    show(given.kills, given.pairs, given.seed, given.only)
