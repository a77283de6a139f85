"""Average ranks and tests of several methods, against scipy and by what must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import f, friedmanchisquare

from blemish.metrics import MetricInputError, average_ranks, friedman, groups_alike, holm


def test_the_lowest_has_rank_one_where_lower_is_better():
    assert average_ranks([[0.1, 0.2], [0.3, 0.3]], lower_is_better=True).tolist() == [1.25, 1.75]
    assert average_ranks([[0.1, 0.2], [0.3, 0.3]]).tolist() == [1.75, 1.25]


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(3, 6))
def test_the_friedman_test_is_the_f_of_scipy_s_chi_square(seed, count, methods):
    values = np.random.default_rng(seed).random((count, methods))
    chi_square = friedmanchisquare(*values.T).statistic
    if chi_square < count * (methods - 1) - 1e-6:
        statistic = (count - 1) * chi_square / (count * (methods - 1) - chi_square)
        expected = f.sf(statistic, methods - 1, (methods - 1) * (count - 1))
        assert friedman(values) == pytest.approx(expected, abs=1e-9)
    assert average_ranks(values).sum() == pytest.approx(methods * (methods + 1) / 2)


def test_the_friedman_test_of_equal_and_of_ordered_methods():
    assert friedman([[0.5, 0.5, 0.5]] * 4) == 1.0
    assert friedman([[0.1, 0.2, 0.3]] * 4) == 0.0
    assert friedman([[0.1, 0.2]] * 4) is None
    assert friedman([[0.1, 0.2, 0.3]]) is None


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_at_least_the_p_value_and_at_most_bonferroni_s(p_values):
    corrected = holm(p_values)
    for before, after in zip(p_values, corrected, strict=True):
        assert before <= after <= min(1.0, len(p_values) * before) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.asarray(corrected)[order]) >= 0).all()


def test_groups_are_the_largest_without_a_significant_pair():
    differ = np.zeros((4, 4), bool)
    differ[0, 3] = differ[3, 0] = True
    assert groups_alike([1.0, 2.0, 3.0, 4.0], differ) == [[0, 1, 2], [1, 2, 3]]
    assert groups_alike([4.0, 3.0, 2.0, 1.0], differ) == [[3, 2, 1], [2, 1, 0]]
    assert groups_alike([1.0, 2.0, 3.0, 4.0], ~np.eye(4, dtype=bool)) == []
    assert groups_alike([1.0, 2.0], np.zeros((2, 2), bool)) == [[0, 1]]


@pytest.mark.parametrize("values", [[], [0.1, 0.2], [[0.1, np.nan]], [[]]])
def test_values_that_are_no_matrix_of_numbers_are_refused(values):
    with pytest.raises(MetricInputError, match="a row per category"):
        average_ranks(values)
