"""Facts about rates by group and their differences: agreement with fairlearn, and what cannot be assessed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax import metrics
from tests.metrics.tables import DIFFERENCES, FAIRLEARN, NUMBERS, assert_same, everything, expected_auc, quiet, tables


@NUMBERS
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_each_group_agrees_with_scikit_learn(num_groups, data):
    labels, predictions, scores, (groups, weight) = table = data.draw(tables(num_groups))
    ours = everything(*table, num_groups)
    for k in {0, 1, 2, *groups.tolist()}:
        mine = (groups == k) & (weight > 0)
        y, p, w = labels[mine], predictions[mine], weight[mine]
        rates = {name: column[k] for name, column in ours["rates"]._asdict().items()}
        mean = lambda values, rows=slice(None), w=w: (  # noqa: E731
            np.average(values[rows], weights=w[rows]) if w[rows].size else np.nan
        )
        expected = {
            "count": w.sum(),
            "num_positive": w[y == 1].sum(),
            "num_negative": w[y == 0].sum(),
            "base_rate": mean(y),
            "positive_rate": mean(p),
            "true_positive_rate": mean(p, y == 1),
            "false_positive_rate": mean(p, y == 0),
            "accuracy": mean(p == y),
            "balanced_accuracy": (mean(p, y == 1) + 1 - mean(p, y == 0)) / 2,
        }
        assert_same(rates, expected)
        np.testing.assert_array_equal(ours["group_accuracy"][k], rates["accuracy"])
        np.testing.assert_array_equal(ours["group_balanced_accuracy"][k], rates["balanced_accuracy"])
        np.testing.assert_allclose(
            ours["group_auc"][k], expected_auc(labels[mine], scores[mine], w), rtol=1e-5, atol=1e-7
        )


NEEDED = {
    "demographic_parity": lambda y: y >= 0,
    "equal_opportunity": lambda y: y == 1,
    "predictive_equality": lambda y: y == 0,
}


def expected_difference(name, labels, predictions, groups, weight):
    """fairlearn's, on the groups that can be assessed."""
    if name == "equalized_odds":
        parts = (
            expected_difference(part, labels, predictions, groups, weight)
            for part in ("equal_opportunity", "predictive_equality")
        )
        return np.max(list(parts))
    able = np.unique(groups[NEEDED[name](labels) & (weight > 0)])
    if able.size < 2:
        return np.nan
    kept = np.isin(groups, able) & (weight > 0)
    return quiet(
        FAIRLEARN[name],
        labels[kept],
        predictions[kept],
        sensitive_features=groups[kept],
        sample_weight=weight[kept],
    )


@NUMBERS
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_differences_agree_with_fairlearn_on_the_groups_that_can_be_assessed(num_groups, data):
    labels, predictions, _, rows = table = data.draw(tables(num_groups))
    ours = everything(*table, num_groups)
    for name in DIFFERENCES:
        expected = expected_difference(name, labels, predictions, *rows)
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


@jax.jit
def differences_of_thirty(labels, predictions, groups, weight):
    return {name: metric(labels, predictions, groups, 30, weight) for name, metric in DIFFERENCES.items()}


# Groups that are absent change nothing, so that there is one compilation.
@pytest.mark.parametrize("num_groups", [2, 5, 30])
def test_differences_equal_fairlearn_on_ordinary_data(num_groups):
    random = np.random.default_rng(num_groups)
    labels, predictions = random.integers(0, 2, (2, 3000))
    groups = random.integers(0, num_groups, 3000)
    weight = random.uniform(0.1, 2, 3000)
    for given_weight in (None, weight):
        ours = differences_of_thirty(labels, predictions, groups, given_weight)
        for name, theirs in FAIRLEARN.items():
            expected = theirs(labels, predictions, sensitive_features=groups, sample_weight=given_weight)
            np.testing.assert_allclose(ours[name], expected, rtol=1e-5)


def test_a_group_without_positives_takes_no_part():
    labels = np.array([0, 1, 1, 1, 0, 1, 0, 0])
    predictions = np.array([0, 1, 1, 0, 0, 1, 0, 0])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    arguments = labels, predictions, groups, 3
    np.testing.assert_allclose(metrics.equal_opportunity_difference(*arguments), 1 / 3, rtol=1e-6)
    # fairlearn gives group 2 the rate 0 of no rows.
    assert FAIRLEARN["equal_opportunity"](labels, predictions, sensitive_features=groups) == 1
    # Its false positive rate counts all the same.
    worse = np.where(groups == 2, 1, predictions)
    assert metrics.equalized_odds_difference(labels, worse, groups, 3) == 1


def test_half_of_equalized_odds_is_not_equalized_odds():
    labels, predictions = np.array([1, 0, 0, 0]), np.array([1, 0, 1, 0])
    groups = np.array([0, 0, 1, 1])
    for call in (lambda f: f, lambda f: jax.jit(f, static_argnums=3)):
        arguments = labels, predictions, groups, 2
        assert np.isnan(call(metrics.equal_opportunity_difference)(*arguments))
        assert call(metrics.predictive_equality_difference)(*arguments) == 0.5
        assert np.isnan(call(metrics.equalized_odds_difference)(*arguments))


def test_one_group_cannot_differ():
    for metric in DIFFERENCES.values():
        assert np.isnan(metric(np.array([0, 1]), np.array([0, 1]), np.array([1, 1]), 3))


def test_what_left_a_group_out_is_told():
    rates = metrics.by_group(
        labels=np.array([1, 0, 1, 0]),
        predictions=np.array([1, 0, 1, 1]),
        groups=np.array([0, 0, 1, 2]),
        num_groups=4,
    )
    assert rates.left_out == {
        "base_rate": (3,),
        "positive_rate": (3,),
        "true_positive_rate": (2, 3),
        "false_positive_rate": (1, 3),
        "accuracy": (3,),
        "balanced_accuracy": (1, 2, 3),
    }
    np.testing.assert_array_equal(rates.count, [2, 1, 1, 0])
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), rates)
    with pytest.raises(ValueError, match="left_out is of one set of rates"):
        _ = lanes.left_out
