"""Converting a fitted detector to an ONNX or OpenVINO graph, in float32, half precision or int8."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.features.engine import import_openvino
from blemish.inference.backends import (
    BATCH,
    HEIGHT,
    IMAGES,
    INSIDE,
    MAPS,
    ONNX,
    OPENVINO,
    SCORES,
    SIDE_STEP,
    SMALLEST_SIDE,
    WIDTH,
)

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram

    from blemish.detectors.base import Detector

Precision = Literal["float32", "half", "int8"]
OPSET = 18
"""The ONNX operator set that torch's exporter targets."""
LARGEST_SIDE = 8192
SMALLEST_HALF = 4096
"""Fewest values of a tensor stored in half precision. Smaller ones save nothing, and filters need exact sums."""


def to_onnx(detector: Detector, takes_inside: bool = False) -> ModelProto:
    """The fitted detector as an ONNX graph: images (batch, 3, H, W) to scores (batch,) and maps (batch, h, w).

    With `takes_inside` the graph has a second input, a boolean mask (batch, H, W) of the pixels that count. The batch
    size is variable. Height and width are variable, in multiples of SIDE_STEP from SMALLEST_SIDE, unless what the
    detector learned depends on the position; then they are the detector's.
    """
    batch, (height, width) = {0: _dimension(BATCH)}, detector.input_size
    if takes_any_size(detector):
        sides = {2: SIDE_STEP * _dimension(HEIGHT), 3: SIDE_STEP * _dimension(WIDTH)}
        return _graph(_program(detector, batch | sides, takes_inside), (BATCH, HEIGHT, WIDTH))
    return _graph(_program(detector, batch, takes_inside), (BATCH, height, width))


def takes_any_size(detector: Detector) -> bool:
    """Whether the detector can compute images of other sizes than its own.

    The answer for neural networks is always no: torch may need unlimited time to export a graph for variable sizes if
    their code computes with the size.
    """
    import torch

    from blemish.features.timm_features import NetworkFeatures

    has_network = any(isinstance(module, NetworkFeatures) for module in detector.modules())
    if has_network or min(detector.input_size) < SMALLEST_SIDE:
        return False
    height, width = detector.input_size
    try:
        with torch.inference_mode():
            detector.eval()(torch.zeros(1, 3, height + SIDE_STEP, width + 2 * SIDE_STEP))
    except (RuntimeError, ValueError, AssertionError):  # its tensors do not fit another size
        return False
    return True


def _dimension(name: str) -> Any:
    import torch

    low, high = (1, None) if name == BATCH else (SMALLEST_SIDE // SIDE_STEP, LARGEST_SIDE // SIDE_STEP)
    return torch.export.Dim(name, min=low, max=high)


def _program(detector: Detector, dimensions: dict[int, Any], takes_inside: bool) -> ExportedProgram:
    """The exported program of the detector; fails if its code needs a fixed value of a variable dimension."""
    import torch

    images, inside = torch.zeros(2, 3, *detector.input_size), torch.ones(2, *detector.input_size, dtype=torch.bool)
    without_channels = {max(0, axis - 1): dimension for axis, dimension in dimensions.items()}
    given, shapes = ((images, inside), (dimensions, without_channels)) if takes_inside else ((images,), (dimensions,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter calls deprecated functions of torch
        return torch.export.export(detector.eval(), given, dynamic_shapes=shapes)


def _graph(program: ExportedProgram, sides: tuple[str | int, ...]) -> ModelProto:
    """The program as an ONNX graph; `sides` are batch, height and width: names if variable, sizes if fixed."""
    import onnx_ir
    import torch
    from onnx_ir.passes.common import NameFixPass
    from onnxscript import optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            opset_version=OPSET,
            input_names=[IMAGES, INSIDE][: len(program.graph_signature.user_inputs)],
            output_names=[SCORES, MAPS],
            dynamo=True,
            optimize=False,  # it drops the addition of 1e-8, which changes a square root
            verbose=False,
        )
    assert exported is not None
    model = exported.model
    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    NameFixPass()(model)  # values and buffers may share a name
    graph = onnx_ir.to_proto(model)
    del graph.graph.value_info[:]  # its dimensions have generated names
    places = {IMAGES: (0, 2, 3), INSIDE: (0, 1, 2), SCORES: (0,), MAPS: (0, 1, 2)}
    for value in (*graph.graph.input, *graph.graph.output):
        for place, side in zip(places[value.name], sides, strict=False):
            dimension = value.type.tensor_type.shape.dim[place]
            dimension.CopyFrom(type(dimension)(**{"dim_param" if isinstance(side, str) else "dim_value": side}))
    return graph


def size_of(graph: ModelProto) -> tuple[int, int] | None:
    """(height, width) of the graph's images; None if they are variable."""
    height, width = graph.graph.input[0].type.tensor_type.shape.dim[2:]
    return None if height.dim_param else (height.dim_value, width.dim_value)


def to_half(graph: ModelProto) -> ModelProto:
    """A copy of the graph whose large tensors are stored in half precision, which halves the file.

    The computation stays in float32, so that results do not depend on the processor.
    """
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    halved = ModelProto()
    halved.CopyFrom(graph)
    casts = []
    for tensor in halved.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALLEST_HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def to_int8(graph: ModelProto, images: Iterator[NDArray[np.float32]]) -> ModelProto:
    """A copy of the graph with 8-bit convolutions, whose value ranges are measured on good images, each (1, 3, H, W).

    Only convolutions that mix channels are quantised; they are most of a network's work. Filters of single channels,
    distances and the map stay in float32, because good images do not show the range of values on defects. Weights use 7
    bits, because processors without VNNI accumulate pairs of products in 16 bits. Raises BlemishError if there is no
    such convolution.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="blemish-") as folder:
        plain, simplified, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "simplified", "quantised"))
        onnx.save(graph, plain)
        quant_pre_process(plain, simplified, skip_symbolic_shape=True)
        nodes = _mixing_convolutions(onnx.load(simplified))
        if not nodes:
            raise BlemishError("int8: this detector has no convolution that 8 bits would speed up. Use half.")
        quantize_static(
            simplified,
            quantised,
            _reader(images, len(graph.graph.input) > 1),
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(quantised)


def write_onnx(graph: ModelProto, folder: Path) -> None:
    """Writes the graph with all its tensors to one file in `folder`, named ONNX."""
    import onnx

    onnx.save(graph, folder / ONNX)


def write_openvino(graph: ModelProto, folder: Path) -> None:
    """Writes the graph to the two OPENVINO files in `folder`, each tensor in its precision in the graph."""
    openvino = import_openvino()
    (folder / OPENVINO[0]).parent.mkdir()
    model = openvino.Core().read_model(graph.SerializeToString())
    openvino.save_model(model, folder / OPENVINO[0], compress_to_fp16=False)


def _mixing_convolutions(graph: ModelProto) -> list[str]:
    """Names of the convolutions with constant weights in which an output depends on several channels."""
    channels = {tensor.name: tensor.dims[1] for tensor in graph.graph.initializer if len(tensor.dims) == 4}
    nodes = (node for node in graph.graph.node if node.op_type == "Conv")
    return [node.name for node in nodes if channels.get(node.input[1], 0) > 1]


def _reader(images: Iterator[NDArray[np.float32]], takes_inside: bool) -> object:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Feeds the images to the quantiser."""

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            """The inputs for the next image; None after the last."""
            image = next(images, None)
            if image is None:
                return None
            inside = {INSIDE: np.ones((len(image), *image.shape[2:]), bool)} if takes_inside else {}
            return {IMAGES: image, **inside}

    return Reader()
