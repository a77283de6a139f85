"""The nearest of many vectors, without computing every distance."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

BLOCK = 512
"""Rows of a distance matrix that are held at once: larger ones cost more in fresh memory than in arithmetic."""
CHUNK = 64
"""Neighbouring columns whose minimum is taken first: a minimum alone is found many times as fast as its place."""
LEADING = 64
"""Coordinates that distances are bounded by, where they are not chosen (`cheapest`); vectors of less than four times as
many are compared as they are."""
WIDTHS = 16, 32, 64, 128
"""Numbers of such coordinates that are chosen from."""
SAMPLE = 64
"""Rows of a bank that this is chosen by."""
PAIR = 64
"""A number of two vectors that are compared by themselves takes as long as so many of a matrix product (30 on a core
with AVX-512, and finding the pair as much again)."""
PAIRS = 128
"""Of vectors that are compared at once on a processor: a core's cache holds them. Elsewhere these are `BLOCK`."""
SLACK = 1e-5
"""Of the squared norms: more than rounding takes from a bound."""
SHORT = 1e-2
"""Of a vector's square: where less is left, what is left is computed, since a difference of squares would be rounded to
more than SLACK allows for (by 1e-6 of the square, so a length of a tenth by 5e-6)."""


class Contraction:
    """Short vectors that are no farther from each other than the vectors (N, C) they stand for.

    They have the coordinates along orthonormal directions (C, D) and the length of what these leave; by the triangle
    inequality two rests differ by no less than their lengths do. Any directions give bounds; those in which the vectors
    vary most give tight ones.
    """

    def __init__(self, directions: Tensor):
        self.directions = directions

    @classmethod
    def of(cls, vectors: Tensor, width: int = LEADING) -> Self:
        """Along so many directions, in which these vectors (N, C) vary most."""
        return cls(_directions(vectors, width))

    def __call__(self, values: Tensor) -> Tensor:
        """(N, D + 1)."""
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
    """The rows of a bank (M, C), arranged so that the nearest to any vector is found fast; exact.

    One product of short vectors (`Contraction`) excludes most rows; what it leaves is compared in full. Where it leaves
    much a product of whole vectors follows. Without a contraction that is all there is.
    """

    def __init__(self, bank: Tensor, contraction: Contraction | None = None):
        self.bank = bank
        """As it was given."""
        self.rows = F.pad(bank.float(), (0, 0, 0, -len(bank) % CHUNK))  # those added are infinitely far
        self._half = _half_squares(self.rows, len(bank))
        self._largest = self._half[: len(bank)].amax()
        self._contraction = contraction
        if contraction is not None:
            self._short = contraction(self.rows)
            self._short_half = _half_squares(self._short, len(bank))

    @property
    def whole(self) -> tuple[Tensor, Tensor]:
        """The rows (M, C) in float32 and half their squared norms (M,), as `whole` computes them, but at hand."""
        return self.rows[: len(self.bank)], self._half[: len(self.bank)]

    @classmethod
    def of(cls, bank: Tensor, known: Self | None) -> Self:
        """Those of this bank: the known ones, where they are."""
        return known if known is not None and known.bank is bank else cls(bank, cheapest(bank.float()))

    def nearest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) distances and (N,) rows: of each of the values (N, C) to the nearest row.

        The distance is computed directly, free of cancellation.
        """
        find = self._by_product if self._contraction is None else self._by_bounds
        squares, rows = zip(*(find(block) for block in torch.split(values, BLOCK)), strict=True)
        return torch.cat(squares).sqrt(), torch.cat(rows)

    def _by_product(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance and row of the nearest, by all products; precise where values are centred."""
        products = torch.addmm(self._half, values, self.rows.T, alpha=-1)
        rows = _argmin(products, _lowest(products))
        return self._squares(values, rows), rows

    def _by_bounds(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same by the products of short vectors, and of whole ones where these do not tell."""
        assert self._contraction is not None
        bounds = torch.addmm(self._short_half, self._contraction(values), self._short.T, alpha=-1)
        lowest = _lowest(bounds)
        rows = _argmin(bounds, lowest)
        squares = self._squares(values, rows)
        own = values.square().sum(1) / 2
        limits = squares / 2 - own + SLACK * (own + self._largest)
        value, row, is_hard = _at_most(bounds, lowest, limits, len(self.rows) // PAIR)
        others = row != rows[value]
        self._take_pairs(values, value[others], row[others], squares, rows)
        if is_hard.any():
            squares[is_hard], rows[is_hard] = self._by_product(values[is_hard])
        return squares, rows

    def _squares(self, values: Tensor, rows: Tensor) -> Tensor:
        return pair_squares(values, torch.arange(len(values), device=values.device), self.rows, rows)

    def _take_pairs(self, values: Tensor, value: Tensor, row: Tensor, squares: Tensor, rows: Tensor) -> None:
        """Takes the pairs (P,), (P,) into the nearest found so far: of rows as near as each other the first."""
        found, before = pair_squares(values, value, self.rows, row), squares.clone()
        squares.scatter_reduce_(0, value, found, "amin")
        rows.masked_fill_(squares < before, len(self.rows))
        rows.scatter_reduce_(0, value, torch.where(found == squares[value], row, len(self.rows)), "amin")


def cheapest(bank: Tensor) -> Contraction | None:
    """The contraction that a search in this bank (M, C) needs least arithmetic with; None: all products need less.

    Told by what bounds leave to some of its rows, which look for the nearest other one. So it is the same for a bank
    wherever it is asked, and what is found does not depend on it.
    """
    if bank.shape[1] < 4 * WIDTHS[0]:
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
    """(P,): squared distances of rows (P,) of the first vectors to others (P,) of the second, free of cancellation."""
    size = PAIRS if first.device.type == "cpu" else BLOCK
    pairs = zip(torch.split(rows, size), torch.split(others, size), strict=True)
    found = [second.index_select(0, other).sub_(first.index_select(0, row)).square_().sum(1) for row, other in pairs]
    return torch.cat(found) if found else first.new_zeros(0)


def nearest(values: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """As `Neighbours(bank).nearest(values)`, for a bank that is asked once, or is asked in an exported graph."""
    if not torch.compiler.is_exporting():
        return Neighbours(bank, cheapest(bank)).nearest(values)
    # A graph knows no number of values, so it has no blocks; nor can its work depend on what it finds.
    rows = torch.addmm(bank.square().sum(1) / 2, values, bank.T, alpha=-1).argmin(1)
    return (values - bank[rows]).square().sum(1).sqrt(), rows


def _half_squares(rows: Tensor, count: int) -> Tensor:
    """(M,): half the squared norm of each of the first `count` rows, infinity for the others."""
    half: Tensor = rows.square().sum(1) / 2
    half[count:] = torch.inf
    return half


def _chunks(values: Tensor) -> Tensor:
    return values.view(len(values), -1, CHUNK)


def _lowest(values: Tensor) -> Tensor:
    """(N, M / CHUNK): the minimum of each chunk of columns."""
    return _chunks(values).amin(2)


def _argmin(values: Tensor, lowest: Tensor) -> Tensor:
    """(N,): the column of the minimum of each row of values (N, M), the first where there are several."""
    chunk = lowest.argmin(1, keepdim=True)
    inside = _chunks(values).take_along_dim(chunk[:, :, None], 1)
    return chunk[:, 0] * CHUNK + inside[:, 0].argmin(1)


def _at_most(values: Tensor, lowest: Tensor, limits: Tensor, few: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the values (N, M) that do not exceed their row's limit; (N,) whether more than `few` do.

    A row that has more is not listed.
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
    """(C, width): about the leading principal ones, the first first, by two rounds of subspace iteration."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(vectors.shape[1], width, generator=generator).to(vectors)
    some = vectors[:: -(-len(vectors) // 4096)]
    for _ in range(2):
        found = torch.linalg.qr(some.T @ (some @ found))[0]
    along = some @ found
    leading: Tensor = found @ torch.linalg.eigh(along.T @ along)[1].flip(1)
    return leading


def whole(bank: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a bank (M, C) in float32, and half their squared norms (M,)."""
    rows = bank.float()
    return rows, rows.square().sum(1) / 2
