"""Exact nearest-neighbour search among many vectors, without computing every distance."""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

BLOCK = 256
"""Rows of a distance matrix that are computed at once; larger blocks leave the cache before they are looked through."""
CHUNK = 64
"""Columns whose minimum is computed first: a minimum is found much faster than its index."""
LEADING = 64
"""Default number of coordinates of short vectors (`Contraction`)."""
LONG = 4 * LEADING
"""Vectors with fewer coordinates are not shortened: a product of all takes less time than finding what is left."""
WIDTHS = 16, 32, 64, 128
"""Numbers of coordinates of short vectors that `cheapest_contraction` chooses from."""
SAMPLE = 64
"""Number of rows of a bank that it chooses by."""
PAIR = 64
"""Time per coordinate of the distance of one pair, relative to that in a matrix product (about 30 on a core with
AVX-512, and as much again for finding the pair)."""
PAIRS = 128
"""Pairs of vectors whose distances are computed at once on a CPU, so that they fit into a core's cache. On other
devices it is `BLOCK`."""
SLACK = 1e-5
"""Tolerance of a bound relative to the squared norms; rounding errors are smaller."""
SHORT = 1e-2
"""Where the squared norm of a remainder is below this share of the vector's squared norm, the remainder itself is
computed. The difference of squares would have a rounding error larger than SLACK."""


class Contraction:
    """Maps vectors (N, C) to short vectors (N, D + 1) whose distances are lower bounds of the vectors' distances.

    A short vector consists of the coordinates along orthonormal directions (C, D) and the norm of the remainder; by the
    triangle inequality, remainders differ at least as much as their norms. Any directions give valid bounds; those of
    the largest variance give tight ones.
    """

    def __init__(self, directions: Tensor):
        self.directions = directions

    @classmethod
    def of(cls, vectors: Tensor, width: int = LEADING) -> Self:
        """The contraction along the `width` directions of largest variance of vectors (N, C)."""
        return cls(_directions(vectors, width))

    def __call__(self, values: Tensor) -> Tensor:
        """The short vectors (N, D + 1) of values (N, C)."""
        return torch.cat([self._contracted(block) for block in torch.split(values, BLOCK)])

    def _contracted(self, values: Tensor) -> Tensor:
        leading = values @ self.directions
        squares = values.square().sum(1)
        rest = squares - leading.square().sum(1)
        is_short = rest < SHORT * squares
        lengths = rest.clamp_min(0).sqrt()
        if is_short.any():
            left = torch.addmm(values[is_short], leading[is_short], self.directions.T, alpha=-1)
            lengths[is_short] = torch.linalg.vector_norm(left, dim=1)
        return torch.cat([leading, lengths[:, None]], 1)


class Neighbours:
    """A search structure over a bank (M, C) of vectors that finds the exact nearest one.

    A matrix product of short vectors (`Contraction`) rules out most rows of the bank; the distances to the rest are
    computed in full. Where many are left, or without a contraction, a matrix product of the whole vectors is computed.
    """

    def __init__(self, bank: Tensor, contraction: Contraction | None = None):
        self.bank = bank
        """The bank as it was given."""
        self.rows = F.pad(bank.float(), (0, 0, 0, -len(bank) % CHUNK))  # padding rows get an infinite norm
        self._half = _half_squares(self.rows, len(bank))
        self._largest = self._half[: len(bank)].amax()
        self._contraction = contraction
        if contraction is not None:
            self._short = contraction(self.rows)
            self._short_half = _half_squares(self._short, len(bank))

    @property
    def whole(self) -> tuple[Tensor, Tensor]:
        """The result of `rows_and_half_squares` of the bank, which is already computed."""
        return self.rows[: len(self.bank)], self._half[: len(self.bank)]

    @classmethod
    def of(cls, bank: Tensor, cached: Self | None) -> Self:
        """The search structure of this bank: `cached` where it belongs to the same tensor, else a new one."""
        return cached if cached is not None and cached.bank is bank else cls(bank, cheapest_contraction(bank.float()))

    def nearest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The distances (N,) and rows (N,) of the bank's nearest vectors to values (N, C).

        Of equally near rows it is the first. Distances are computed from differences, without cancellation.
        """
        find = self._by_product if self._contraction is None else self._by_bounds
        room = values.new_empty(min(BLOCK, len(values)), len(self.rows))
        squares, rows = zip(*(find(block, room[: len(block)]) for block in torch.split(values, BLOCK)), strict=True)
        return torch.cat(squares).sqrt(), torch.cat(rows)

    def _by_product(self, values: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances and rows of the nearest, by a product with all rows; accurate for centred values.

        The product is written into `room`, of its shape: new memory for each block would take as long as the product.
        """
        products = torch.addmm(self._half, values, self.rows.T, alpha=-1, out=room)
        rows = _argmin(products, _lowest(products))
        return self._squares(values, rows), rows

    def _by_bounds(self, values: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances and rows of the nearest, by short vectors; by `_by_product` where many rows are left."""
        assert self._contraction is not None
        bounds = torch.addmm(self._short_half, self._contraction(values), self._short.T, alpha=-1, out=room)
        lowest = _lowest(bounds)
        rows = _argmin(bounds, lowest)
        squares = self._squares(values, rows)
        own = values.square().sum(1) / 2
        limits = squares / 2 - own + SLACK * (own + self._largest)
        value, row, is_hard = _at_most(bounds, lowest, limits, len(self.rows) // PAIR)
        others = row != rows[value]
        self._take_pairs(values, value[others], row[others], squares, rows)
        if is_hard.any():
            squares[is_hard], rows[is_hard] = self._by_product(values[is_hard], room[: is_hard.sum()])
        return squares, rows

    def _squares(self, values: Tensor, rows: Tensor) -> Tensor:
        return pair_squares(values, torch.arange(len(values), device=values.device), self.rows, rows)

    def _take_pairs(self, values: Tensor, value: Tensor, row: Tensor, squares: Tensor, rows: Tensor) -> None:
        """Updates the nearest so far, in place, with pairs of a value (P,) and a row (P,); of equal ones the first."""
        found, before = pair_squares(values, value, self.rows, row), squares.clone()
        squares.scatter_reduce_(0, value, found, "amin")
        rows.masked_fill_(squares < before, len(self.rows))
        rows.scatter_reduce_(0, value, torch.where(found == squares[value], row, len(self.rows)), "amin")


def cheapest_contraction(bank: Tensor) -> Contraction | None:
    """The contraction with which a search in this bank (M, C) needs least arithmetic; None: no contraction is better.

    It is chosen by a search of the nearest other row for some rows of the bank, so that it depends on the bank alone.
    The results of a search do not depend on it.
    """
    if bank.shape[1] < LONG:
        return None
    step = -(-len(bank) // SAMPLE)
    half = bank.square().sum(1) / 2
    some, own = bank[::step], half[::step, None]
    squares = torch.addmm(half, some, bank.T, alpha=-1) + own
    itself = torch.arange(len(some), device=bank.device) * step
    limits = squares.scatter(1, itself[:, None], torch.inf).amin(1, keepdim=True) + SLACK * (own + half.amax())
    costs: dict[Contraction | None, float] = {None: float(bank.numel())}
    widths = [width for width in WIDTHS if 4 * width <= bank.shape[1]]
    directions = _directions(bank, widths[-1])
    for width in widths:
        contraction = Contraction(directions[:, :width].contiguous())
        short = contraction(bank)
        bounds = torch.addmm(short.square().sum(1) / 2, short[::step], short.T, alpha=-1) + own
        left = ((bounds <= limits).sum(1) - 1) * PAIR
        few = left.where(left <= len(bank), left.new_tensor(len(bank)))
        costs[contraction] = float(few.double().mean()) * bank.shape[1] + width * sum(bank.shape)
    return min(costs, key=lambda contraction: costs[contraction])


def pair_squares(first: Tensor, rows: Tensor, second: Tensor, others: Tensor) -> Tensor:
    """Squared distances (P,) between `rows` (P,) of `first` and `others` (P,) of `second`, computed as differences."""
    size = PAIRS if first.device.type == "cpu" else BLOCK
    pairs = zip(torch.split(rows, size), torch.split(others, size), strict=True)
    found = [second.index_select(0, other).sub_(first.index_select(0, row)).square_().sum(1) for row, other in pairs]
    return torch.cat(found) if found else first.new_zeros(0)


def nearest(values: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """As `Neighbours(bank).nearest(values)`, for a single search."""
    return Neighbours(bank, cheapest_contraction(bank)).nearest(values)


def nearest_in_graph(values: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """As `nearest`, for an exported graph, in which there is no control flow by values.

    To find the index of a minimum takes some runtimes longer than all else. So the minimum of each group of rows is
    taken first, and indices among the groups' minima and within the lowest group.
    """
    side = math.isqrt(len(bank) - 1) + 1
    filled = torch.cat([bank, bank[-1:].expand(-len(bank) % side, -1)])  # the last row again, in the last group
    groups = torch.addmm(filled.square().sum(1) / 2, values, filled.T, alpha=-1).view(values.shape[0], -1, side)
    group = groups.amin(2).argmin(1)
    within = groups.gather(1, group[:, None, None].expand(-1, 1, side))[:, 0].argmin(1)
    rows = (group * side + within).clamp_max(len(bank) - 1)
    return (values - bank[rows]).square().sum(1).sqrt(), rows


def _half_squares(rows: Tensor, count: int) -> Tensor:
    """(M,): half the squared norm of the first `count` rows, infinity for the padding rows after them."""
    half: Tensor = rows.square().sum(1) / 2
    half[count:] = torch.inf
    return half


def _chunks(values: Tensor) -> Tensor:
    return values.view(len(values), -1, CHUNK)


def _lowest(values: Tensor) -> Tensor:
    """(N, M / CHUNK): the minimum of each chunk of columns."""
    return _chunks(values).amin(2)


def _argmin(values: Tensor, lowest: Tensor) -> Tensor:
    """(N,): the column of the minimum of each row of values (N, M), the first of equal ones."""
    chunk = lowest.argmin(1, keepdim=True)
    inside = _chunks(values).take_along_dim(chunk[:, :, None], 1)
    return chunk[:, 0] * CHUNK + inside[:, 0].argmin(1)


def _at_most(values: Tensor, lowest: Tensor, limits: Tensor, few: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the values (N, M) that are at most their row's limit (N,); and a mask (N,) of hard rows.

    A hard row has more than `few` such values; they are not listed.
    """
    near = lowest <= limits[:, None]
    is_hard = near.sum(1) > few
    row, chunk = (near & ~is_hard[:, None]).nonzero(as_tuple=True)
    found, column = (_chunks(values)[row, chunk] <= limits[row, None]).nonzero(as_tuple=True)
    row, column = row[found], chunk[found] * CHUNK + column
    is_hard |= torch.bincount(row, minlength=len(values)) > few
    listed = ~is_hard[row]
    return row[listed], column[listed], is_hard


def _directions(vectors: Tensor, width: int) -> Tensor:
    """(C, width): approximate leading principal directions, in order, by two rounds of subspace iteration."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(vectors.shape[1], width, generator=generator).to(vectors)
    some = vectors[:: -(-len(vectors) // 4096)]
    for _ in range(2):
        found = torch.linalg.qr(some.T @ (some @ found))[0]
    along = some @ found
    leading: Tensor = found @ torch.linalg.eigh(along.T @ along)[1].flip(1)
    return leading


def rows_and_half_squares(bank: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a bank (M, C) in float32, and half their squared norms (M,)."""
    rows = bank.float()
    return rows, rows.square().sum(1) / 2
