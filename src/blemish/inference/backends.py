"""Backends for exported detectors: ONNX Runtime and OpenVINO, on the processor, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError, one_line
from blemish.features.engine import import_openvino
from blemish.inference.export_files import ADVICE, check_openvino, external_files
from blemish.inference.subprocess_check import check_in_subprocess
from blemish.model.folder import DOCUMENT, ModelFolder

ONNX = "model.onnx"
OPENVINO = ("openvino/model.xml", "openvino/model.bin")
"""Files of the exports, relative to the model's folder. OpenVINO finds the .bin file by the name of the .xml file."""
IMAGES, INSIDE, SCORES, MAPS = "images", "inside", "scores", "maps"
"""Names of the inputs and outputs of an exported graph; INSIDE exists only with tiles, a region or registration."""
BATCH, HEIGHT, WIDTH = "batch", "height", "width"
"""Names of the variable dimensions of a graph."""
SIDE_STEP, SMALLEST_SIDE = 16, 96
"""A variable height or width is a multiple of SIDE_STEP, and at least SMALLEST_SIDE."""

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


class OnnxBackend:
    """Computes an ONNX graph with ONNX Runtime on `threads` threads (0: one per core)."""

    def __init__(self, path: Path, threads: int = 0):
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 4  # errors are raised, so they need not be logged too
        self._path = path
        with _runtime_errors(path, "ONNX Runtime"):
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            inputs = {io.name: io.shape for io in self._session.get_inputs()}
            outputs = {io.name: io.shape for io in self._session.get_outputs()}
            self._sides = _sides(inputs, outputs, lambda side: side if isinstance(side, int) else None)
            self._names = list(inputs)

    def __call__(self, images: Array, inside: Mask | None = None) -> tuple[Array, Array]:
        """Scores (B,) and maps (B, h, w) of a batch; raises BlemishError if the graph takes no images of this size."""
        _check_size(images.shape[2:], self._sides)
        with _runtime_errors(self._path, "ONNX Runtime"):
            scores, maps = self._session.run([SCORES, MAPS], _inputs(images, inside, self._names))
            return _checked(scores, maps, len(images))


class OpenVinoBackend:
    """Computes an OpenVINO graph on `threads` threads (0: one per core).

    It always computes in float32. By default OpenVINO uses bfloat16, with 3 decimal digits, on processors that support
    it, so the same image would have another score on another machine.
    """

    def __init__(self, path: Path, threads: int = 0):
        openvino = import_openvino()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or os.cpu_count() or 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._path = path
        with _runtime_errors(path, "OpenVINO"):
            self._run = openvino.Core().compile_model(path, "CPU", settings)
            inputs = {io.any_name: list(io.partial_shape) for io in self._run.inputs}
            outputs = {io.any_name: list(io.partial_shape) for io in self._run.outputs}
            self._sides = _sides(inputs, outputs, lambda side: None if side.is_dynamic else side.get_length())
            self._names = list(inputs)

    def __call__(self, images: Array, inside: Mask | None = None) -> tuple[Array, Array]:
        """Scores (B,) and maps (B, h, w) of a batch; raises BlemishError if the graph takes no images of this size."""
        _check_size(images.shape[2:], self._sides)
        with _runtime_errors(self._path, "OpenVINO"):
            found = self._run(_inputs(images, inside, self._names))
            scores, maps = _checked(found[SCORES], found[MAPS], len(images))
        return scores.copy(), maps.copy()  # the runtime reuses the memory for the next result


@contextmanager
def _runtime_errors(path: Path, runtime: str) -> Iterator[None]:
    """A context that turns any exception into a BlemishError about the graph: each runtime has its own classes."""
    try:
        yield
    except BlemishError:
        raise
    except Exception as error:
        reason = one_line(error, 200) or type(error).__name__
        raise BlemishError(f"{path}: cannot be run by {runtime} ({reason}). {ADVICE}") from None


def _sides(
    inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], fixed: Callable[[Any], int | None]
) -> list[int | None]:
    """The height and width of a graph's images, None if variable; ValueError if the graph is not an export.

    `inputs` and `outputs` map names to shapes. `fixed` gives the size of a dimension, or None if it is variable.
    """
    has_inputs = list(inputs) in ([IMAGES], [IMAGES, INSIDE]) and len(inputs[IMAGES]) == 4
    if not has_inputs or not {SCORES, MAPS} <= set(outputs):
        names = f"inputs {', '.join(inputs)} and outputs {', '.join(outputs)}"
        raise ValueError(f"it has {names}, not {IMAGES}, {SCORES} and {MAPS}")
    return [fixed(side) for side in inputs[IMAGES][2:]]


def _checked(scores: Any, maps: Any, number: int) -> tuple[Array, Array]:
    """The outputs; ValueError unless they are a score and a map, in float32, for each of `number` images."""
    has_type = all(isinstance(array, np.ndarray) and array.dtype == np.float32 for array in (scores, maps))
    if not has_type or scores.shape != (number,) or maps.ndim != 3 or len(maps) != number or not maps.size:
        raise ValueError("its outputs are not a score and a map for each image")
    return scores, maps


def _inputs(images: Array, inside: Mask | None, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The inputs of a graph by name; all pixels count without `inside`.

    Raises BlemishError if there is a mask, but the graph has no input for it.
    """
    if INSIDE not in names and inside is not None:
        raise BlemishError(
            "this export supports neither tiles nor a region, because an earlier version wrote it. Export it again."
        )
    inputs: dict[str, NDArray[Any]] = {IMAGES: np.ascontiguousarray(images)}
    if INSIDE in names:
        inputs[INSIDE] = np.ones((len(images), *images.shape[2:]), bool) if inside is None else inside
    return inputs


def _check_size(size: Sequence[int], fixed: Sequence[int | None]) -> None:
    """Raises BlemishError unless images of this (height, width) fit a graph; `fixed` has None for a variable side."""

    def fits(side: int, required: int | None) -> bool:
        return side == required if required else side >= SMALLEST_SIDE and side % SIDE_STEP == 0

    if all(map(fits, size, fixed)):
        return
    allowed = " x ".join(map(str, fixed)) if all(fixed) else f"multiples of {SIDE_STEP}, at least {SMALLEST_SIDE}"
    raise BlemishError(f"images of {size[0]} x {size[1]} were given; this export takes {allowed}. Resize the images.")


def onnx_backend(model: ModelFolder, threads: int = 0, device: str = "auto") -> OnnxBackend:
    """The backend for the ONNX export of a model; raises BlemishError if there is no export, or it is damaged."""
    _check_device("onnx", device)
    path = _exported(model, "onnx", (ONNX,))
    names = {file: name for name, file in model.files.items()}
    others = [names.get(file, file) for file in sorted(external_files(path))]
    for name in others:
        model.file(name)
    digests = [model.sha256[name] for name in (ONNX, *others)]
    check_in_subprocess(f"{__name__}:OnnxBackend", "onnxruntime", path, model.preprocess.size, digests)
    return OnnxBackend(path, threads)


def openvino_backend(model: ModelFolder, threads: int = 0, device: str = "auto") -> OpenVinoBackend:
    """The backend for the OpenVINO export of a model; raises BlemishError if there is no export, or it is damaged."""
    _check_device("openvino", device)
    path = _exported(model, "openvino", OPENVINO)
    check_openvino(path, model.path(OPENVINO[1]))
    digests = [model.sha256[name] for name in OPENVINO]
    check_in_subprocess(f"{__name__}:OpenVinoBackend", "openvino", path, model.preprocess.size, digests)
    return OpenVinoBackend(path, threads)


def identity_of(model: ModelFolder, backend: str) -> dict[str, Any]:
    """What determines predictions: the backend, and the hashes of the model's files without those of other backends."""
    others = [files for name, files in {"onnx": (ONNX,), "openvino": OPENVINO}.items() if name != backend]
    left_out = {file for files in others for file in files}
    return {
        "backend": backend,
        "sha256": {name: digest for name, digest in model.sha256.items() if name not in left_out},
    }


def _check_device(backend: str, device: str) -> None:
    if device not in ("auto", "cpu"):
        raise BlemishError(
            f"device: {device} was given, but {backend} runs on the processor only. Use the torch backend."
        )


def _exported(model: ModelFolder, name: str, files: Sequence[str]) -> Path:
    """The path of the first of an export's files; raises BlemishError if one is missing or its hash is wrong."""
    if files[0] not in model.sha256:
        command = f"blemish export {model.folder} --format {name}"
        raise BlemishError(f"{model.folder / DOCUMENT}: lists no {files[0]}. Write it with '{command}'.")
    first, *_ = [model.file(file) for file in files]
    return first
