"""What the files of an export are made of, as far as it shows without the runtime that reads them.

A graph may name other files to read its weights from, so which they are is known before a runtime opens any.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from blemish.errors import BlemishError

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
"""Message of onnx.proto -> number of a field -> the message in it: all ways to a tensor's `external_data`."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf that ONNX has."""


def external_files(path: Path) -> set[str]:
    """The names of the files that an ONNX graph keeps tensors in, beside its own; raises BlemishError for no graph."""
    try:
        return set(_locations(memoryview(path.read_bytes())))
    except ValueError as error:
        raise BlemishError(f"{path}: not an ONNX graph, or damaged ({error}). {ADVICE}") from None


def check_openvino(xml: Path, weights: Path) -> None:
    """Raises BlemishError where the pair of files is no graph of OpenVINO, or a constant lies beyond the weights."""
    try:
        problem = _openvino_problem(xml.read_bytes(), weights.stat().st_size)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        problem = str(error)
    if problem:
        raise BlemishError(f"{xml}: not a graph of OpenVINO, or damaged ({problem}). {ADVICE}")


def _openvino_problem(xml: bytes, num_bytes: int) -> str | None:
    """What is wrong with a graph of OpenVINO beside so many bytes of weights; None where nothing is."""
    if b"<!" in xml.replace(b"<!--", b""):
        return "it declares a document type"
    net = ElementTree.fromstring(xml)  # it declares no entities, so it stays as large as it is
    if net.tag != "net":
        return f"its root is {net.tag}"
    for data in net.iterfind("layers/layer[@type='Const']/data"):
        start, length = int(data.attrib["offset"]), int(data.attrib["size"])
        if min(start, length) < 0 or start + length > num_bytes:
            return "a constant lies beyond its weights"
    return None


def _locations(content: memoryview) -> Iterator[str]:
    """The `location` of each tensor's external data in a ModelProto, at whatever depth."""
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
    """(number, content) of each field of a protobuf message that has a length; numbers are passed over."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        wire = tag & 7
        if wire == VARINT:
            _, place = _varint(message, place)
            continue
        if wire == BYTES:
            length, place = _varint(message, place)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(wire, -1)
        if length < 0 or place + length > len(message):
            raise ValueError("truncated" if length >= 0 else f"wire type {wire}")
        if wire == BYTES:
            yield tag >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at a place, and the place behind it."""
    number = 0
    for index, byte in enumerate(message[place : place + 10]):
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, place + index + 1
    raise ValueError("truncated")
