"""Adjusted p-values and the sign test, against scipy and against what they are defined by."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from badrjax.results import benjamini_hochberg, holm, holm_levels, sign_test

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def test_benjamini_hochberg_agrees_with_scipy_and_leaves_out_what_was_not_tested():
    p = np.random.default_rng(0).uniform(size=20) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))
    with_gaps = np.insert(p, [3, 11], np.nan)
    adjusted = benjamini_hochberg(with_gaps)
    np.testing.assert_allclose(adjusted[~np.isnan(with_gaps)], stats.false_discovery_control(p))
    assert np.isnan(adjusted[np.isnan(with_gaps)]).all()
    assert np.isnan(benjamini_hochberg([np.nan])).all()


def closed_bonferroni(p):
    """Holm's procedure as closed testing: the largest Bonferroni p-value over all intersections with each test."""
    indices = range(len(p))
    subsets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(indices, size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in indices]


@hypothesis.given(P_VALUES)
@hypothesis.settings(deadline=None)
def test_holm_is_closed_testing_by_bonferroni(p):
    np.testing.assert_allclose(holm(p), closed_bonferroni(p))


@hypothesis.given(P_VALUES)
def test_intervals_at_holm_levels_exclude_nothing_where_holm_rejects(p):
    p, levels = np.array(p), holm_levels(p)
    clear = np.abs(holm(p) - 0.05) > 1e-9  # at the level itself rounding decides
    np.testing.assert_array_equal((p <= levels)[clear], (holm(p) <= 0.05)[clear])
    assert np.all((levels >= 0.05 / len(p)) & (levels <= 0.05))


def test_tests_that_were_not_made_take_no_level():
    assert holm_levels([0.01, np.nan, 0.5])[0] == 0.025
    assert np.isnan(holm_levels([0.01, np.nan])[1])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.5]), [0.02, np.nan, 0.5])


def test_holm_holds_the_chance_of_any_false_rejection():
    p = np.random.default_rng(1).uniform(size=(2000, 10))
    assert np.mean([holm(row).min() <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)


def test_the_sign_test_is_binomial():
    test = sign_test([0.1, 0.2, 0.3, 0.1, 0.4, -0.1, 0.0])
    assert test[:3] == (5, 1, 1)
    assert test.p_value == pytest.approx(stats.binomtest(5, 6).pvalue)
    assert sign_test([0.0]) == (0, 0, 1, 1.0)


def test_a_cluster_has_one_vote_and_abstains_where_it_is_split():
    assert sign_test([0.1, 0.2, 0.3], ["adult", "adult", "bank"])[:3] == (2, 0, 0)
    assert sign_test([0.1, -0.9, 0.3], ["adult", "adult", "bank"])[:3] == (1, 0, 1)
    assert sign_test([0.1, -0.9, -0.3], ["adult", "adult", "adult"])[:3] == (0, 1, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: benjamini_hochberg([0.5, 1.5]), "p_values"),
        (lambda: holm([[0.5]]), "p_values"),
        (lambda: holm_levels([0.5], 1.0), "level"),
        (lambda: sign_test([np.nan]), "finite"),
        (lambda: sign_test([0.1, 0.2], ["adult"]), "clusters"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
