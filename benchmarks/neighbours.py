"""The nearest of 6144 vectors of 1536 numbers to each of 1024, by all products and by bounds of each width.

    python benchmarks/neighbours.py

Vectors whose variances fall with a power of their rank, drawn around 200 centres (as patches of parts that lie alike
are) or around none; one thread, medians of five. How a pretrained network's features vary lies between such cases; a
random network's vary in few directions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from blemish.detectors.parts.neighbours import WIDTHS, Contraction, Neighbours, cheapest_contraction
from processes import print_table

ROWS, VALUES, COLUMNS, CENTRES = 6144, 1024, 1536, 200
CASES = {
    "around centres, 1 / rank^2": (2.0, 0.5),
    "around centres, 1 / rank": (1.0, 0.5),
    "close around centres, 1 / rank": (1.0, 0.2),
    "around centres, 1 / sqrt(rank)": (0.5, 0.5),
    "around none, 1 / rank": (1.0, None),
    "around none, all alike": (0.0, None),
}
"""Name -> the power, and the deviation from a centre in units of the centres' own."""


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, (power, deviation) in CASES.items():
        bank, values = draw(power, deviation, ROWS, 0), draw(power, deviation, VALUES, 1)
        seconds = [timed(Neighbours(bank), values)]
        seconds += [timed(Neighbours(bank, Contraction.of(bank, width)), values) for width in WIDTHS]
        start = time.perf_counter()
        contraction = cheapest_contraction(bank)
        choosing = time.perf_counter() - start
        chosen = contraction.directions.shape[1] if contraction else "all products"
        rows.append([name, *(1e3 * value for value in seconds), chosen, 1e3 * choosing])
    print_table(["ms", "all products", *(f"width {width}" for width in WIDTHS), "chosen", "choosing, once"], rows)


def draw(power: float, deviation: float | None, count: int, seed: int) -> Tensor:
    """(count, COLUMNS)."""
    scale = torch.arange(1, COLUMNS + 1) ** (-power / 2)
    centres = torch.randn(CENTRES, COLUMNS, generator=torch.Generator().manual_seed(7)) * scale
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(count, COLUMNS, generator=generator) * scale
    if deviation is None:
        return own
    return centres[torch.randint(CENTRES, (count,), generator=generator)] + deviation * own


def timed(neighbours: Neighbours, values: Tensor) -> float:
    return median(_seconds(lambda: neighbours.nearest(values)) for _ in range(5))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
