"""Computes networks on a processor with OpenVINO, which takes a third of torch's time or less.

A network becomes a graph once: a description in XML, and its weights. The graph is plain data, which a model keeps, so
that neither the network nor the conversion is needed again where it is loaded. It holds for images of one size.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

LENGTH = 8
"""Bytes at the start of a packed graph that give the length of its XML."""
_converting = Lock()
_forked = False


class EngineError(RuntimeError):
    """Why the engine cannot compute a network: it is missing, or lacks an operation, or the graph is damaged."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A network for images of one size, as OpenVINO writes it."""

    xml: bytes
    weights: bytes

    def packed(self) -> NDArray[np.uint8]:
        """The graph as one array of bytes: the length of the XML, the XML, the weights."""
        joined = len(self.xml).to_bytes(LENGTH, "little") + self.xml + self.weights
        return np.frombuffer(joined, np.uint8).copy()

    @classmethod
    def unpacked(cls, packed: NDArray[np.uint8]) -> Graph:
        """The graph of `packed`; raises EngineError unless it is one whose constants lie within its weights."""
        content = packed.tobytes()
        end = LENGTH + int.from_bytes(content[:LENGTH], "little")
        if problem := graph_problem(content[LENGTH:end], len(content) - end):
            raise EngineError(f"its graph is damaged: {problem}")
        return cls(content[LENGTH:end], content[end:])


class Engine:
    """Runs a graph. The number of threads is torch's in the thread that calls; the bits do not depend on it."""

    def __init__(self, graph: Graph, in_bfloat16: bool):
        """Raises EngineError where the graph cannot be read or compiled."""
        if _forked:  # the threads of OpenVINO are not there in a forked process, and new ones wait for ever
            raise EngineError("OpenVINO was used before this process was forked")
        openvino, self._in_bfloat16 = _openvino(), in_bfloat16
        weights = np.frombuffer(graph.weights, np.uint8)
        try:
            self._model = _core().read_model(graph.xml, openvino.Tensor(weights))
            self.shape = tuple(self._model.input(0).shape)
            """(1, 3, H, W) of its images."""
        except Exception as error:  # OpenVINO raises RuntimeError, and whatever its bindings do
            raise EngineError(_reason(error)) from None
        self._process, self._lock = os.getpid(), Lock()
        self._compiled: dict[int, Any] = {}
        """Number of threads an image -> the compiled graph."""
        self._network()

    @property
    def is_usable(self) -> bool:
        """Whether it was made in this process, not in one that this process was forked from."""
        return self._process == os.getpid()

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The levels (B, C, h, w) in float32 of images (B, 3, H, W) in float32, computed one by one."""
        import torch

        found = [self._levels(image[None]) for image in images.numpy()]
        return [torch.from_numpy(np.concatenate(level)) for level in zip(*found, strict=True)]

    def _levels(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        request = self._network().create_infer_request()  # of its own, so that threads do not share its memory
        request.infer([np.ascontiguousarray(image)])
        return [output.data for output in request.output_tensors]

    def _network(self) -> Any:
        """The compiled graph for as many threads an image as torch has here; other threads compute beside it."""
        import torch

        threads = torch.get_num_threads()
        with self._lock:
            if threads not in self._compiled:
                self._compiled[threads] = self._compile(threads)
            return self._compiled[threads]

    def _compile(self, threads: int) -> Any:
        streams = max(1, (os.cpu_count() or 1) // threads)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if self._in_bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # other processes share the cores
        }
        try:
            return _core().compile_model(self._model, "CPU", settings)
        except Exception as error:
            raise EngineError(_reason(error)) from None


def to_graph(network: nn.Module, example: Tensor) -> Graph:
    """The network as a graph for images of the example's shape (1, 3, H, W); raises EngineError where it has none."""
    import torch

    openvino = _openvino()
    try:
        with _converting, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both call functions of torch that are deprecated
            program = torch.export.export(network, (example,))
            model = openvino.convert_model(program, input=list(example.shape))
    except Exception as error:  # each operation that cannot be converted fails in its own way
        raise EngineError(_reason(error)) from None
    return _serialised(model)


def graph_problem(xml: bytes, num_bytes: int) -> str | None:
    """What is wrong with a graph of OpenVINO whose weights have `num_bytes` bytes; None if it is valid."""
    if b"<!" in xml.replace(b"<!--", b""):
        return "it declares a document type"
    try:
        net = ElementTree.fromstring(xml)  # safe: without a document type there are no entities to expand
        if net.tag != "net":
            return f"its root is {net.tag}"
        for data in net.iterfind("layers/layer[@type='Const']/data"):
            start, length = int(data.attrib["offset"]), int(data.attrib["size"])
            if min(start, length) < 0 or start + length > num_bytes:
                return "a constant lies outside its weights"
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return str(error)
    return None


def import_openvino() -> ModuleType:
    """The openvino module with telemetry disabled; by default each import sends a report over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # makes it import a stub
    return import_module("openvino")


def _openvino() -> ModuleType:
    try:
        return import_openvino()
    except ImportError:
        raise EngineError("OpenVINO is not installed: pip install 'blemish[openvino]'") from None


@cache
def _core() -> Any:
    return _openvino().Core()


def _serialised(model: Any) -> Graph:
    """The same bytes for the same network, whatever was converted before: names are numbers."""
    model.set_friendly_name("network")
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(str(number))
    with TemporaryDirectory(prefix="blemish-") as folder:
        xml, weights = Path(folder) / "network.xml", Path(folder) / "network.bin"
        _openvino().serialize(model, xml, weights)
        return Graph(xml.read_bytes(), weights.read_bytes())


def _reason(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2] or type(error).__name__


def _in_forked_process() -> None:
    global _forked
    _forked = _forked or _core.cache_info().currsize > 0


with suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_forked_process)
