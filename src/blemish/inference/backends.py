"""What runs an exported detector: ONNX Runtime and OpenVINO, on the processor, without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.model.folder import DOCUMENT, ModelFolder

ONNX = "model.onnx"
OPENVINO = ("openvino/model.xml", "openvino/model.bin")
"""Files of an export, beside model.json. OpenVINO finds the second by the name of the first."""
IMAGES, INSIDE, SCORES, MAPS = "images", "inside", "scores", "maps"
"""Names of what goes into an exported graph and of what comes out; the second where there are tiles or a region."""
BATCH, HEIGHT, WIDTH = "batch", "height", "width"
"""Names of those dimensions of a graph that are not fixed."""
SIDE_STEP, SMALLEST_SIDE = 16, 96
"""Height and width that are not fixed are multiples of the one, from the other on."""

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


class OnnxBackend:
    """Runs a graph with ONNX Runtime on `threads` threads (0: one per core)."""

    def __init__(self, path: Path, threads: int = 0):
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 3  # its warnings are about the graph, which the export has checked
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._sides = [side if isinstance(side, int) else None for side in self._session.get_inputs()[0].shape[2:]]
        self._names = [value.name for value in self._session.get_inputs()]

    def __call__(self, images: Array, inside: Mask | None = None) -> tuple[Array, Array]:
        """Scores and maps of the batch; raises BlemishError where the graph takes no such images."""
        _check_size(images.shape[2:], self._sides)
        scores, maps = self._session.run([SCORES, MAPS], _inputs(images, inside, self._names))
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
        self._names = [value.any_name for value in self._run.inputs]
        sides = list(self._run.input(IMAGES).partial_shape)[2:]
        self._sides = [None if side.is_dynamic else side.get_length() for side in sides]

    def __call__(self, images: Array, inside: Mask | None = None) -> tuple[Array, Array]:
        """Scores and maps of the batch; raises BlemishError where the graph takes no such images."""
        _check_size(images.shape[2:], self._sides)
        found = self._run(_inputs(images, inside, self._names))
        return found[SCORES].copy(), found[MAPS].copy()  # the runtime writes the next result to the same place


def _inputs(images: Array, inside: Mask | None, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """What a graph that takes these names is given; where nothing else is told, all of the images counts."""
    if INSIDE not in names and inside is not None:
        raise BlemishError(
            "this export knows of no tiles and no region, since an earlier version wrote it. Export the model again."
        )
    given: dict[str, NDArray[Any]] = {IMAGES: np.ascontiguousarray(images)}
    if INSIDE in names:
        given[INSIDE] = np.ones((len(images), *images.shape[2:]), bool) if inside is None else inside
    return given


def _check_size(size: Sequence[int], fixed: Sequence[int | None]) -> None:
    """Raises BlemishError where images of this (height, width) do not go into a graph with these sides."""
    if all(
        side == other if other else side >= SMALLEST_SIDE and side % SIDE_STEP == 0
        for side, other in zip(size, fixed, strict=True)
    ):
        return
    allowed = " x ".join(map(str, fixed)) if all(fixed) else f"multiples of {SIDE_STEP} from {SMALLEST_SIDE} on"
    raise BlemishError(f"images of {size[0]} x {size[1]} were given; this export takes {allowed}. Resize the images.")


def import_openvino() -> ModuleType:
    """OpenVINO without its telemetry: by itself it reports each import to its makers over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # it then imports a stub instead
    return import_module("openvino")


def onnx_backend(model: ModelFolder, threads: int = 0, device: str = "auto") -> OnnxBackend:
    """What runs the ONNX export of a model folder on the processor; raises BlemishError where it has none."""
    _refuse_other("onnx", device)
    return OnnxBackend(_exported(model, "onnx", (ONNX,)), threads)


def openvino_backend(model: ModelFolder, threads: int = 0, device: str = "auto") -> OpenVinoBackend:
    """What runs the OpenVINO export of a model folder on the processor; raises BlemishError where it has none."""
    _refuse_other("openvino", device)
    return OpenVinoBackend(_exported(model, "openvino", OPENVINO), threads)


def identity_of(model: ModelFolder, backend: str) -> dict[str, Any]:
    """What predictions are made by: the backend, and the hashes of the model's files but those of other backends."""
    others = [files for name, files in {"onnx": (ONNX,), "openvino": OPENVINO}.items() if name != backend]
    left_out = {file for files in others for file in files}
    return {
        "backend": backend,
        "sha256": {name: digest for name, digest in model.sha256.items() if name not in left_out},
    }


def _refuse_other(backend: str, device: str) -> None:
    if device not in ("auto", "cpu"):
        raise BlemishError(f"device: {device} was given, but {backend} runs on the processor alone. Use torch for it.")


def _exported(model: ModelFolder, name: str, files: Sequence[str]) -> Path:
    """The first of an export's files, each as it was written; raises BlemishError where it is not there."""
    if files[0] not in model.sha256:
        command = f"blemish export {model.folder} --format {name}"
        raise BlemishError(f"{model.folder / DOCUMENT}: knows no {files[0]}. Write it with '{command}'.")
    first, *_ = [model.file(file) for file in files]
    return first
