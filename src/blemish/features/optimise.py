"""Finds what computes a network faster than torch on a processor, and computes the same."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from blemish.features.engine import Engine, EngineError, Graph, to_graph

logger = logging.getLogger("blemish")

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Precision -> largest relative difference (in norm) of a level: in float32 more than another order of summation
causes, in bfloat16 twice of what random weights cause."""


def optimise(network: nn.Module, example: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Graph, Engine] | None:
    """The network as a graph, and the engine that computes it in `dtype`, for images of the example's shape.

    The network is in float32; it takes images (1, 3, H, W) in [0, 1], and gives levels in float32. The engine's levels
    are compared with its own once. None where they differ, or the engine cannot compute it; a line is logged then.
    """
    noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    try:
        graph = to_graph(network, noise)
        engine = Engine(graph, dtype == torch.bfloat16)
        with torch.no_grad():
            if _is_close(engine(noise), network(noise), TOLERANCE[dtype]):
                return graph, engine
        reason = "its levels differ in OpenVINO"
    except EngineError as error:
        reason = str(error)
    logger.info("the network is computed by torch, more slowly: %s", reason)
    return None


def _is_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    norm = torch.linalg.vector_norm
    return len(found) == len(expected) and all(
        one.shape == other.shape and bool(norm(one - other) <= tolerance * norm(other))
        for one, other in zip(found, expected, strict=True)
    )
