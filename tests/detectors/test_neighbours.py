"""The nearest of many by bounds, against all distances."""

from __future__ import annotations

import pytest
import torch

from blemish.detectors.parts.neighbours import (
    CHUNK,
    LEADING,
    SLACK,
    Contraction,
    Neighbours,
    cheapest_contraction,
    nearest,
    nearest_in_graph,
)

WIDE = 8 * LEADING


def vectors(rows: int, decay: float, columns: int = WIDE, seed: int = 0) -> torch.Tensor:
    """Whose variances fall with a power of their rank; with 0 they spread alike in all directions."""
    drawn = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.arange(1, columns + 1) ** (-decay / 2)


def brute_force(values: torch.Tensor, bank: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    distances = torch.cdist(values.double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.min(1)


@pytest.mark.parametrize("width", [None, 16, LEADING])
@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("rows", [1, 5, CHUNK, 3 * CHUNK + 7, 1000])
def test_bounds_leave_what_all_distances_give(rows, decay, width):
    values, bank = vectors(700, decay), vectors(rows, decay, seed=1)
    distances, found = Neighbours(bank, width and Contraction.of(bank, width)).nearest(values)
    expected, places = brute_force(values, bank)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found, places)


def test_the_cheapest_contraction_is_told_by_how_the_bank_varies():
    def chosen(decay: float, columns: int = WIDE) -> int | None:
        found = cheapest_contraction(vectors(2000, decay, columns))
        return found and found.directions.shape[1]

    assert chosen(0.0) is None  # bounds exclude nothing
    assert chosen(4.0) == 16
    assert chosen(4.0) < chosen(2.0)
    assert chosen(4.0, columns=255) is None
    assert chosen(4.0, columns=256) == 16
    assert chosen(2.0) == chosen(2.0)
    assert cheapest_contraction(vectors(1, 2.0)) is None
    assert cheapest_contraction(torch.ones(100, WIDE)) is None


@pytest.mark.parametrize("columns", [12, WIDE])
def test_of_rows_as_near_as_each_other_the_first_is_found(columns):
    bank = vectors(200, 2.0, columns).repeat(3, 1)
    distances, rows = nearest(bank, bank)
    assert distances.max() == 0
    assert torch.equal(rows, torch.arange(200).repeat(3))


@pytest.mark.parametrize("columns", [12, WIDE])
def test_vectors_that_are_all_alike_are_at_distance_zero(columns):
    same = torch.full((100, columns), 3.0)
    distances, rows = nearest(same, same)
    assert distances.max() == 0
    assert rows.max() == 0


def test_far_values_are_as_exact_as_near_ones():
    values, bank = vectors(100, 3.0), vectors(500, 3.0, seed=1)
    values[::7] += 100
    distances, rows = Neighbours.of(bank.half(), None).nearest(values)
    expected, places = brute_force(values, bank.half())
    torch.testing.assert_close(distances.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(rows, places)


@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_short_vectors_are_no_farther_from_each_other(decay):
    values = vectors(300, decay)
    short = Contraction.of(values)(values)
    assert short.shape == (300, LEADING + 1)
    assert (torch.pdist(short.double()) <= torch.pdist(values.double()) * (1 + 1e-6)).all()


@pytest.mark.parametrize("share", [1.0, 0.2, 0.1, 0.05, 1e-2, 1e-3, 1e-5, 0.0])
def test_a_rest_of_any_length_is_as_long_as_slack_allows(share):
    contraction = Contraction.of(vectors(500, 3.0))
    along = vectors(400, 0.0, LEADING, seed=1) @ contraction.directions.T
    values = along + share * vectors(400, 0.0, seed=2)
    found = contraction(values).double()
    rest = values.double() - found[:, :-1] @ contraction.directions.T.double()
    errors = (found[:, -1] - torch.linalg.vector_norm(rest, dim=1)).abs() / torch.linalg.vector_norm(values, dim=1)
    assert errors.max() < SLACK


@pytest.mark.parametrize("share", [1e-2, 1e-4])
def test_values_with_hardly_a_rest_find_the_nearest_of_rows_that_have_one(share):
    directions = torch.linalg.qr(vectors(WIDE, 0.0))[0]
    bank = vectors(600, 0.0, LEADING) @ directions[:LEADING] + vectors(600, 0.0, WIDE - LEADING) @ directions[LEADING:]
    bank[::3] = vectors(200, 0.0, LEADING, seed=4) @ directions[:LEADING]
    values = vectors(300, 0.0, LEADING, seed=5) @ directions[:LEADING] + share * vectors(300, 0.0, seed=6)
    distances, rows = Neighbours(bank, Contraction.of(bank)).nearest(values)
    expected, places = brute_force(values, bank)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(rows, places)


def test_a_changed_bank_is_arranged_anew():
    bank = vectors(10, 1.0)
    known = Neighbours.of(bank, None)
    assert Neighbours.of(bank, known) is known
    assert Neighbours.of(bank.clone(), known) is not known


@pytest.mark.parametrize("size", [1, 2, 256, 300])
def test_a_graph_finds_the_same_neighbours(size):
    generator = torch.Generator().manual_seed(0)
    values, bank = torch.randn(100, 10, generator=generator), torch.randn(size, 10, generator=generator)
    distances, rows = nearest(values, bank)
    in_graph, rows_in_graph = nearest_in_graph(values, bank)
    torch.testing.assert_close(in_graph, distances)
    assert torch.equal(rows_in_graph, rows)


def test_a_graph_keeps_what_is_not_a_number():
    bank = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    values = torch.zeros(2, 10)
    values[1, 3] = torch.nan
    assert nearest_in_graph(values, bank)[0].isnan().tolist() == [False, True]
