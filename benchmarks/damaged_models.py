# ruff: noqa: ARG005
"""Damages a model folder in many ways, with fresh hashes, and has each used: what is wrong has to be one line.

    python benchmarks/damaged_models.py MODEL IMAGES COUNT [--first 0] [--seed 0] [--patience 5] [--kinds json onnx ...]

MODEL is exported to every format that is damaged; nothing of it is changed. Exits with 1, and names the cases, where
there was a traceback, a crash, a hang beyond the patience, or more than one line of at most 500 characters.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 1.5, 1e308, 10**30, float("nan"), float("inf"), "", "1", "x" * 3000, "\0", "../x", "\ud800",
    "a\nb", [], {}, [[]], [None], {"": None}, [1] * 5000, ["x"], {"x": 1}, "/etc/passwd", "model.json", [1e400, -1],
)  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in plain data; of a long list the first three."""
    inner = (
        content.items() if isinstance(content, dict) else enumerate(content[:3]) if isinstance(content, list) else ()
    )
    return [path] * bool(path) + [place for key, value in inner for place in places(value, (*path, key))]


def damaged_json(raw: bytes, random: Random) -> bytes:
    """A value of another kind at a place, a place less or more, or damaged bytes."""
    content = json.loads(raw)
    way = random.integers(10)
    if way == 0:
        return damaged_bytes(raw, random)
    if way == 1:
        odd = (
            b"",
            b"[" * 100_000,
            b"\xff\xfe" + raw,
            raw.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + raw,
            b"3",
            b"null",
        )
        return odd[random.integers(len(odd))]
    found = places(content)
    path = found[random.integers(len(found))]
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    if way == 2:
        del parent[path[-1]]
    elif way == 3 and isinstance(parent, dict):
        parent["more"] = VALUES[random.integers(len(VALUES))]
    else:
        parent[path[-1]] = VALUES[random.integers(len(VALUES))]
    return json.dumps(content).encode()


def damaged_bytes(raw: bytes, random: Random) -> bytes:
    """Bits flipped, cut off, a part zeroed, doubled or left out."""
    way, spoiled = random.integers(5), bytearray(raw)
    start = int(random.integers(len(raw)) if random.integers(2) else random.integers(min(400, len(raw))))
    stop = start + int(random.integers(1, 64))
    if way == 0:
        return raw[:start]
    if way == 1:
        spoiled[start:stop] = bytes(len(spoiled[start:stop]))
    elif way == 2:
        spoiled[start:start] = spoiled[start:stop]
    elif way == 3:
        del spoiled[start:stop]
    else:
        for place in random.integers(0, len(raw), int(random.integers(1, 9))):
            spoiled[place] ^= 1 << random.integers(8)
        spoiled[start] ^= 1 << random.integers(8)
    return bytes(spoiled)


def damaged_tensors(raw: bytes, random: Random) -> bytes:
    """Other shapes, types, names, offsets or values in a safetensors file that is still one; or damaged bytes."""
    if random.integers(4) == 0:
        return damaged_bytes(raw, random)
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), bytearray(raw[8 + length :])
    name = sorted(header)[random.integers(len(header))]
    entry = header[name]
    way = random.integers(7)
    if way == 0:
        del header[name]
    elif way == 1:
        header["more"] = header.pop(name)
    elif way == 2 and entry.get("shape"):
        entry["shape"] = [[*entry["shape"], 1], entry["shape"][::-1], [0, *entry["shape"]], [-1], [10**18, 10**18]][
            random.integers(5)
        ]
    elif way == 3 and "dtype" in entry:
        entry["dtype"] = ["F16", "I32", "BF16", "U32", "F64", "BOOL", "X"][random.integers(7)]
    elif way == 4 and "data_offsets" in entry:
        entry["data_offsets"] = [[0, 0], [5, 1], [-1, 4], [0, 10**18]][random.integers(4)]
    else:
        values = np.frombuffer(data, np.uint8)
        place = random.integers(len(values))
        data[place : place + 4] = (b"\xff\xff\xff\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff")[random.integers(3)]
    packed = json.dumps(header).encode()
    return len(packed).to_bytes(8, "little") + packed + bytes(data)


def pick(values: Any, random: Random) -> Any:
    return values[random.integers(len(values))]


def other_numbers(node: Any, random: Random) -> None:
    for attribute in node.attribute:
        attribute.i = pick([0, -1, 2**62, 7], random)
        for place in range(len(attribute.ints)):
            attribute.ints[place] = pick([0, -1, 2**40, 3], random)


def elsewhere(tensor: Any, random: Random) -> None:
    tensor.data_location = 1
    names = ["../../../etc/passwd", "model.json", "*/_ORT_MEM_ADDR_/*", "none.bin"]
    tensor.external_data.add(key="location", value=pick(names, random))
    tensor.ClearField("raw_data")


def other_dims(tensor: Any, random: Random) -> None:
    tensor.dims[:] = [pick([0, -1, 2**40, 3], random), *list(tensor.dims)[1:]]


def other_values(tensor: Any, random: Random) -> None:
    tensor.raw_data = bytes(random.integers(0, 256, len(tensor.raw_data), np.uint8))


OPERATIONS = ["Loop", "If", "Nothing", "Reshape", "ConstantOfShape", "Tile", "Gather", "Expand"]
GRAPH_DAMAGES: tuple[Callable[[Any, Any, Any, Random], Any], ...] = (
    lambda graph, node, tensor, random: setattr(node, "op_type", pick(OPERATIONS, random)),
    lambda graph, node, tensor, random: graph.node.remove(node),
    lambda graph, node, tensor, random: other_numbers(node, random),
    lambda graph, node, tensor, random: other_dims(tensor, random),
    lambda graph, node, tensor, random: setattr(tensor, "data_type", int(random.integers(0, 25))),
    lambda graph, node, tensor, random: setattr(tensor, "name", "other"),
    lambda graph, node, tensor, random: setattr(pick([*graph.output, *graph.input], random), "name", "other"),
    lambda graph, node, tensor, random: elsewhere(tensor, random),
    lambda graph, node, tensor, random: node.input.insert(0, graph.node[-1].output[0]),
    lambda graph, node, tensor, random: other_values(tensor, random),
    lambda graph, node, tensor, random: graph.output.pop(),
    lambda graph, node, tensor, random: node.input.extend(node.input),
)


def damaged_onnx(raw: bytes, random: Random) -> bytes:
    """A graph with another node, attribute, shape, type, name or external file; or damaged bytes."""
    import onnx

    if random.integers(3) == 0:
        return damaged_bytes(raw, random)
    model = onnx.load_from_string(raw)
    node, tensor = pick(model.graph.node, random), pick(model.graph.initializer, random)
    pick(GRAPH_DAMAGES, random)(model.graph, node, tensor, random)
    return model.SerializeToString()


def damaged_openvino(raw: bytes, random: Random) -> bytes:
    """Another number, name or element in the XML; or damaged bytes."""
    if random.integers(4) == 0:
        return damaged_bytes(raw, random)
    text = raw.decode()
    pattern = (
        r'(?<==")-?\d[\d,. ]*(?=")',
        r"<(data|edge|layer|port|dim)\b[^>]*>",
        r'(?<=type=")\w+(?=")',
        r"(?<=<dim>)-?\d+",
    )
    found = list(re.finditer(pattern[random.integers(4)], text))
    chosen = found[random.integers(len(found))]
    other = ["", "0", "-1", "99999999999", "x", "1,2,3", "Loop", "Reshape", "<!--"][random.integers(9)]
    return (text[: chosen.start()] + other + text[chosen.end() :]).encode()


KINDS: dict[str, tuple[tuple[str, ...], Callable[[bytes, Random], bytes], str]] = {
    "json": (("model.json",), damaged_json, "torch"),
    "tensors": (("model.safetensors",), damaged_tensors, "torch"),
    "onnx": (("model.onnx",), damaged_onnx, "onnx"),
    "openvino": (("openvino/model.xml", "openvino/model.bin"), damaged_openvino, "openvino"),
}
"""Kind -> its files, how they are damaged, and the backend that reads them."""


def damage(folder: Path, kind: str, random: Random) -> None:
    """Damages one file of a model folder and writes its hash into model.json."""
    files, spoil, _ = KINDS[kind]
    name = files[random.integers(len(files))]
    document = json.loads((folder / "model.json").read_text())
    path = folder / document["files"].get(name, name)
    spoiled = (damaged_bytes if name.endswith(".bin") else spoil)(path.read_bytes(), random)
    path.write_bytes(spoiled)
    if name != "model.json":
        document["sha256"][name] = hashlib.sha256(spoiled).hexdigest()
        (folder / "model.json").write_text(json.dumps(document))


def outcome(arguments: list[str]) -> str:
    """What the command made of it: "used", "refused", or what must not be."""
    from blemish.cli import main

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main(arguments)
    except SystemExit as stopped:
        lines = [line for line in said.getvalue().splitlines() if line.startswith("error ")]
        is_one_line = len(said.getvalue().strip().splitlines()) == 1 and len(said.getvalue()) <= 500
        if stopped.code in (None, 0):
            return "used"
        if stopped.code == 2 and (is_one_line or not lines):  # without: a row says that it cannot be inspected
            return "refused"
        return f"exit code {stopped.code}: {said.getvalue()[:600]}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:600]}"
    return "no exit"


def use(model: str, images: str, kind: str, out: str, wide: bool) -> list[str]:
    """The outcomes of the commands that read a model."""
    commands = [["predict", model, images, "--out", out, "--backend", KINDS[kind][2], "--threads", "1"]]
    if kind == "json":
        commands += [["calibrate", model], ["calibrate", model, "--min-area", "3"]]
        if wide:
            commands += [
                ["fit", images, "--update", model, "--out", f"{out}-updated"],
                ["calibrate", model, "--images", images],
            ]
    return [outcome(command) for command in commands]


def serve(calls: Connection) -> None:
    """What the worker does: the commands that it is sent, one model after the other."""
    outcome(["--version"])
    calls.send([])
    while True:
        calls.send(use(*calls.recv()))


class Worker:
    """A process that uses models, and is replaced where one hangs or ends it."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.start()

    def start(self) -> None:
        self.calls, other = Pipe()
        self.process = get_context("spawn").Process(target=serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.calls.recv()

    def __call__(self, patience: int, *arguments: Any) -> list[str]:
        """The outcomes, or ["hang"] where there are none after so many times the patience, or ["crash"]."""
        self.calls.send(arguments)
        try:
            if self.calls.poll(self.patience * patience):
                return list(self.calls.recv())
            ending = "hang"
        except (EOFError, ConnectionError):
            ending = "crash"
        self.process.kill()
        self.process.join()
        self.start()
        return [ending]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0, help="number of the first one, to try one again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=5.0)
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    given = parser.parse_args()
    os.environ["BLEMISH_CACHE"] = tempfile.mkdtemp()
    counts: Counter[str] = Counter()
    bad, worker = [], Worker(given.patience)
    for number in range(given.first, given.first + given.count):
        kind, is_wide = given.kinds[number % len(given.kinds)], number % 10 == 0
        with tempfile.TemporaryDirectory() as root:
            model = Path(shutil.copytree(given.model, Path(root) / given.model.name))
            damage(model, kind, np.random.default_rng([given.seed, number]))
            found = worker(5 if is_wide else 1, str(model), str(given.images), kind, f"{root}/out", is_wide)
        for result in found:
            counts[f"{kind}: {result if result in ('used', 'refused') else 'BAD'}"] += 1
            if result not in ("used", "refused"):
                bad.append(f"{kind} {number}: {result}")
    worker.process.kill()
    print(json.dumps(counts, indent=2, sort_keys=True))
    print(f"{given.count} damaged, {len(bad)} bad", *bad, sep="\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
