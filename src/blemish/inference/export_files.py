"""Checks of exported files that need no runtime.

An ONNX graph may refer to other files for its weights. They are listed and checked here, before a runtime opens them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from blemish.errors import BlemishError
from blemish.features.engine import graph_problem

ADVICE = "Export again with 'blemish export', or copy the whole folder anew."

MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, TRAINING, ENTRY = range(9)
INNER: dict[int, dict[int, int]] = {
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    TENSOR: {13: ENTRY},
    SPARSE: {1: TENSOR, 2: TENSOR},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    TRAINING: {1: GRAPH, 2: GRAPH},
    ENTRY: {},
}
"""Message type of onnx.proto -> field number -> type of the nested message: all paths to a tensor's `external_data`."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The protobuf wire types that ONNX uses."""


def external_files(path: Path) -> set[str]:
    """The names of the files in which an ONNX graph stores tensors outside of `path`.

    Raises BlemishError if the file is not an ONNX graph.
    """
    try:
        return set(_locations(memoryview(path.read_bytes())))
    except ValueError as error:
        raise BlemishError(f"{path}: not an ONNX graph, or damaged ({error}). {ADVICE}") from None


def check_openvino(xml: Path, weights: Path) -> None:
    """Raises BlemishError if the two files are not an OpenVINO graph, or a constant lies outside the weights."""
    if problem := graph_problem(xml.read_bytes(), weights.stat().st_size):
        raise BlemishError(f"{xml}: not a graph of OpenVINO, or damaged ({problem}). {ADVICE}")


def _locations(content: memoryview) -> Iterator[str]:
    """The `location` of each tensor's external data in a serialised ModelProto, at any depth."""
    remaining = [(MODEL, content)]
    if not content:
        raise ValueError("empty")
    while remaining:
        kind, message = remaining.pop()
        entry: dict[int, bytes] = {}
        for number, value in _fields(message):
            if kind == ENTRY:
                entry[number] = bytes(value)
            elif number in INNER[kind]:
                remaining.append((INNER[kind][number], value))
        if entry.get(1) == b"location":
            yield entry.get(2, b"").decode("utf-8", "backslashreplace")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, content) of each length-delimited field of a protobuf message; other fields are skipped."""
    offset = 0
    while offset < len(message):
        tag, offset = _varint(message, offset)
        wire = tag & 7
        if wire == VARINT:
            _, offset = _varint(message, offset)
            continue
        if wire == BYTES:
            length, offset = _varint(message, offset)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(wire, -1)
        if length < 0 or offset + length > len(message):
            raise ValueError("truncated" if length >= 0 else f"wire type {wire}")
        if wire == BYTES:
            yield tag >> 3, message[offset : offset + length]
        offset += length


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """The variable-length integer at an offset, and the offset after it."""
    number = 0
    for index, byte in enumerate(message[offset : offset + 10]):
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, offset + index + 1
    raise ValueError("truncated")
