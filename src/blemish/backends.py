"""What runs an exported detector: ONNX Runtime and OpenVINO, on the processor, without torch."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.model_folder import ModelFolder

ONNX = "model.onnx"
OPENVINO = ("openvino/model.xml", "openvino/model.bin")
"""Files of an export, beside model.json. OpenVINO finds the second by the name of the first."""
IMAGES, SCORES, MAPS = "images", "scores", "maps"
"""Names of what goes into an exported graph and of what comes out."""

Array = NDArray[np.float32]


class OnnxBackend:
    """Runs a graph with ONNX Runtime on `threads` threads (0: one per core)."""

    def __init__(self, path: Path, threads: int = 0):
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 3  # its warnings are about the graph, which the export has checked
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Array) -> tuple[Array, Array]:
        """Scores and maps of the batch."""
        scores, maps = self._session.run([SCORES, MAPS], {IMAGES: np.ascontiguousarray(images)})
        return scores, maps


class OpenVinoBackend:
    """Runs a graph with OpenVINO on `threads` threads (0: one per core).

    Always in float32: by itself OpenVINO computes in bfloat16 where the processor can, with 3 decimal digits, and the
    same picture would score differently on another machine.
    """

    def __init__(self, path: Path, threads: int = 0):
        openvino = import_openvino()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or os.cpu_count() or 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._run = openvino.Core().compile_model(path, "CPU", settings)

    def __call__(self, images: Array) -> tuple[Array, Array]:
        """Scores and maps of the batch."""
        found = self._run({IMAGES: np.ascontiguousarray(images)})
        return found[SCORES].copy(), found[MAPS].copy()  # the runtime writes the next result to the same place


def import_openvino() -> ModuleType:
    """OpenVINO without its telemetry: by itself it reports each import to its makers over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # it then imports a stub instead
    return import_module("openvino")


def onnx_backend(model: ModelFolder, threads: int = 0) -> OnnxBackend:
    """What runs the ONNX export of a model folder; raises BlemishError where it has none."""
    return OnnxBackend(model.file(ONNX), threads)


def openvino_backend(model: ModelFolder, threads: int = 0) -> OpenVinoBackend:
    """What runs the OpenVINO export of a model folder; raises BlemishError where it has none."""
    graph, _ = (model.file(name) for name in OPENVINO)
    return OpenVinoBackend(graph, threads)
