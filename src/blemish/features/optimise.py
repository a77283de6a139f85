"""Makes networks faster on a CPU, by fusing layers so that memory is read and written less often.

Batch norms are folded into the convolutions before them; an addition and a ReLU after a convolution are computed
together with it; weights are stored in the memory layout of oneDNN, torch's CPU library. The operators for this are
those that torch's compiler uses. They are not public and depend on the processor, and tracing a network can miss
changes in place. So only this module uses them, the result is compared with the network once, and where anything fails
or differs the network is used unchanged and a line is logged.
"""

from __future__ import annotations

import logging
import operator
from copy import deepcopy
from threading import Lock, get_ident
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from blemish.features.devices import has_onednn

logger = logging.getLogger("blemish")

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Data type -> largest relative difference (in norm) of a level: more than a different order of summation causes."""
ADDITIONS = {operator.add, torch.add}
RECTIFIERS = {F.relu, F.relu_, torch.relu, torch.relu_}
_TRACING = Lock()


class FusedConvolution(nn.Module):
    """A convolution, with an optional addition and ReLU after it, as one operator."""

    def __init__(self, convolution: nn.Conv2d, size: torch.Size, rectifies: bool):
        super().__init__()
        own = convolution
        self.how = [list(own.padding), list(own.stride), list(own.dilation), own.groups]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(own.weight.detach(), *self.how, list(size))
        self.bias = None if own.bias is None else own.bias.detach()
        self.rectifies = rectifies

    def forward(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """The convolution of the images, plus `others` where they are given."""
        compute, given = torch.ops.mkldnn._convolution_pointwise, (self.weight, self.bias, *self.how)
        if others is None:
            found: Tensor = compute(images, *given, "relu" if self.rectifies else "none", [], "")
        else:
            found = compute.binary(images, others, *given, "add", 1.0, "relu" if self.rectifies else None, [], "")
        return found


def optimise(network: nn.Module, example: Tensor) -> nn.Module:
    """A module that computes the same levels as the network, faster, for images of the example's shape (1, C, H, W).

    Returns the network itself on other devices than the CPU, for data types that the CPU does not support, and where
    tracing fails or the levels differ. The weights are copied, so they must not change afterwards.
    """
    if not has_onednn(example.device, example.dtype) or example.dtype not in TOLERANCE:
        logger.debug("the network is used as it is: oneDNN does not support %s here", example.dtype)
        return network
    noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    try:
        graph = _fused(network, noise)
        if _is_close(graph(noise), network(noise), TOLERANCE[example.dtype]):
            return graph
        reason = "its levels differ after fusing layers"
    except Exception as error:  # tracing fails in each network's own way, operators in each processor's own way
        reason = str(error).strip().partition("\n")[0]
    logger.info("the network is used as it is, more slowly: %s", reason)
    return network


def _is_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    norm = torch.linalg.vector_norm
    return all(
        bool(norm((one - other).float()) <= tolerance * norm(other.float()))
        for one, other in zip(found, expected, strict=True)
    )


def _fused(network: nn.Module, images: Tensor) -> fx.GraphModule:
    """The network with its convolutions replaced by fused ones for images of this shape."""
    graph = _traced(network)
    _drop_identities(graph)
    _fold_batch_norms(graph)
    _fuse_convolutions(graph, _Shapes(graph).of(images))
    return graph


class _Tracer(fx.Tracer):
    """Traces only calls of the thread that created it: during tracing, torch passes it those of all threads."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self._thread = get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _traced(network: nn.Module) -> fx.GraphModule:
    with _TRACING:  # tracing patches classes of torch, which two threads must not do at the same time
        return fx.GraphModule(network, _Tracer().trace(network))


class _Shapes(fx.Interpreter):
    """Records the shape of each node's result."""

    def of(self, images: Tensor) -> dict[fx.Node, torch.Size]:
        self.found: dict[fx.Node, torch.Size] = {}
        self.run(images)
        return self.found

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if isinstance(result, Tensor):
            self.found[node] = result.shape
        return result


def _drop_identities(graph: fx.GraphModule) -> None:
    """Removes identity modules, which timm uses as placeholders, for example between a norm and its ReLU."""
    for node in list(graph.graph.nodes):
        if type(_called(graph, node)) is nn.Identity:
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)


def _fold_batch_norms(graph: fx.GraphModule) -> None:
    """Folds each batch norm that alone follows a convolution into a copy of the convolution's weights."""
    for node in list(graph.graph.nodes):
        if not node.all_input_nodes:
            continue
        source = node.all_input_nodes[0]
        norm, convolution = _called(graph, node), _called(graph, source)
        if type(norm) is nn.BatchNorm2d and type(convolution) is nn.Conv2d and len(source.users) == 1:
            folded = fuse_conv_bn_eval(deepcopy(convolution).float(), deepcopy(norm).float())
            graph.set_submodule(str(source.target), folded.to(convolution.weight.dtype))
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
    graph.recompile()


def _fuse_convolutions(graph: fx.GraphModule, shapes: dict[fx.Node, torch.Size]) -> None:
    """Replaces each convolution, with the addition and the ReLU after it, by a `FusedConvolution`."""
    for number, node in enumerate(list(graph.graph.nodes)):
        convolution = _called(graph, node)
        if type(convolution) is not nn.Conv2d or not _has_zero_padding(convolution):
            continue
        done, inputs = _fusible(graph, node, shapes)
        rectifies = _is_rectifier(graph, done[-1])
        graph.add_submodule(f"fused{number}", FusedConvolution(convolution, shapes[inputs[0]], rectifies))
        with graph.graph.inserting_after(done[-1]):
            new = graph.graph.call_module(f"fused{number}", tuple(inputs))
        shapes[new] = shapes[node]
        done[-1].replace_all_uses_with(new)
        for replaced in reversed(done):
            graph.graph.erase_node(replaced)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _has_zero_padding(convolution: nn.Conv2d) -> bool:
    return convolution.padding_mode == "zeros" and type(convolution.padding) is not str


def _fusible(
    graph: fx.GraphModule, node: fx.Node, shapes: dict[fx.Node, torch.Size]
) -> tuple[list[fx.Node], list[Any]]:
    """The nodes that one operator replaces (a convolution, an addition, a ReLU), and that operator's inputs."""
    done, inputs = [node], [node.args[0]]
    if (added := _only_user(node)) is not None and (others := _added(added, node, shapes)) is not None:
        done.append(added)
        inputs.append(others)
    if (rectified := _only_user(done[-1])) is not None and _is_rectifier(graph, rectified):
        done.append(rectified)
    return done, inputs


def _called(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None for other nodes."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _added(node: fx.Node, summand: fx.Node, shapes: dict[fx.Node, torch.Size]) -> fx.Node | None:
    """The other summand of an addition of equal shapes; None where the node is not one."""
    if node.target not in ADDITIONS or len(node.args) != 2:
        return None
    others = [argument for argument in node.args if isinstance(argument, fx.Node) and argument is not summand]
    return others[0] if len(others) == 1 and shapes.get(others[0]) == shapes[summand] else None


def _is_rectifier(graph: fx.GraphModule, node: fx.Node) -> bool:
    return type(_called(graph, node)) is nn.ReLU or node.target in RECTIFIERS
