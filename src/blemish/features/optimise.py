"""A network as a processor computes it fastest: the same layers, with fewer passes over memory.

The weights of a batch norm are folded into the convolution before it; an addition and a ReLU after a convolution are
computed while its result is written; weights are laid out as oneDNN, torch's library for processors, wants them.
torch's own compiler calls the operators that do this. They are not public and depend on the processor, and tracing a
network loses what is changed in place and used elsewhere. So this is the only module that uses them, the result is
compared with the network once, and wherever anything fails or differs the network is used as it is, with a line in the
log.
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
"""Data type -> the relative difference, in norm, that a level may have: more than another order of rounding makes."""
ADDITIONS = {operator.add, torch.add}
RECTIFIERS = {F.relu, F.relu_, torch.relu, torch.relu_}
_TRACING = Lock()


class FusedConvolution(nn.Module):
    """A convolution, and after it perhaps an addition and a ReLU, in one pass."""

    def __init__(self, convolution: nn.Conv2d, size: torch.Size, rectifies: bool):
        super().__init__()
        own = convolution
        self.how = [list(own.padding), list(own.stride), list(own.dilation), own.groups]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(own.weight.detach(), *self.how, list(size))
        self.bias = None if own.bias is None else own.bias.detach()
        self.rectifies = rectifies

    def forward(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """The convolution of the images, with the others added where there are any."""
        compute, given = torch.ops.mkldnn._convolution_pointwise, (self.weight, self.bias, *self.how)
        if others is None:
            found: Tensor = compute(images, *given, "relu" if self.rectifies else "none", [], "")
        else:
            found = compute.binary(images, others, *given, "add", 1.0, "relu" if self.rectifies else None, [], "")
        return found


def optimise(network: nn.Module, example: Tensor) -> nn.Module:
    """A module that computes the network's levels faster for images like the example (1, C, H, W).

    The network itself where there is no faster one: off the processor, for data types that the processor does not
    compute in, for networks that cannot be traced, and where the levels would differ. The weights are copied, so none
    may change later on.
    """
    if not has_onednn(example.device, example.dtype) or example.dtype not in TOLERANCE:
        logger.debug("the network is used as it is: oneDNN computes no %s here", example.dtype)
        return network
    noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    try:
        graph = _rearranged(network, noise)
        if _is_close(graph(noise), network(noise), TOLERANCE[example.dtype]):
            return graph
        reason = "its levels differ once rearranged"
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


def _rearranged(network: nn.Module, images: Tensor) -> fx.GraphModule:
    """The network with each of its convolutions, and what can be fused with it, made anew for images like these."""
    graph = _traced(network)
    _drop_identities(graph)
    _fold_batch_norms(graph)
    _fuse_convolutions(graph, _Shapes(graph).of(images))
    return graph


class _Tracer(fx.Tracer):
    """Leaves other threads alone: while one traces, it is asked about every call of a module in the process."""

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
    with _TRACING:  # two who trace at a time would each put back what the other one left
        return fx.GraphModule(network, _Tracer().trace(network))


class _Shapes(fx.Interpreter):
    """The shapes of all that is computed."""

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
    """Takes out what does nothing: a place where timm could put something, such as between a norm and its ReLU."""
    for node in list(graph.graph.nodes):
        if type(_called(graph, node)) is nn.Identity:
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)


def _fold_batch_norms(graph: fx.GraphModule) -> None:
    """Puts each batch norm that follows a convolution alone into its weights; the network keeps its own."""
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
    """Replaces each convolution and what it can be fused with."""
    for number, node in enumerate(list(graph.graph.nodes)):
        convolution = _called(graph, node)
        if (
            type(convolution) is not nn.Conv2d
            or convolution.padding_mode != "zeros"
            or type(convolution.padding) is str
        ):
            continue
        done, inputs = [node], [node.args[0]]
        if (added := _only_user(node)) is not None and (others := _added(added, node, shapes)) is not None:
            done.append(added)
            inputs.append(others)
        if (rectified := _only_user(done[-1])) is not None and _is_rectifier(graph, rectified):
            done.append(rectified)
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


def _called(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None for other nodes."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _added(node: fx.Node, summand: fx.Node, shapes: dict[fx.Node, torch.Size]) -> fx.Node | None:
    """The other of two summands of the same shape; None where the node is no such addition."""
    if node.target not in ADDITIONS or len(node.args) != 2:
        return None
    others = [argument for argument in node.args if isinstance(argument, fx.Node) and argument is not summand]
    return others[0] if len(others) == 1 and shapes.get(others[0]) == shapes[summand] else None


def _is_rectifier(graph: fx.GraphModule, node: fx.Node) -> bool:
    return type(_called(graph, node)) is nn.ReLU or node.target in RECTIFIERS
