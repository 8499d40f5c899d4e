"""Facts about the gaps that permuted groups show: enumeration, strata, padding."""

import itertools
import math
from functools import partial

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from badrjax import metrics
from badrjax.uncertainty import permutation_floor
from tests.uncertainty.cases import (
    KEY,
    N,
    S,
    assert_mean,
    assert_same,
    floor_from_counts,
    table_of,
)


def parity_of(labels, predictions, weight, groups):
    table = labels, predictions, groups, 3, weight
    return {
        "parity": metrics.demographic_parity_difference(*table),
        "counts": metrics.by_group(*table).num_positive,
        "groups": groups,
    }


@partial(jax.jit, static_argnames="batch_size")
def floor_by_permutation(key, labels, predictions, groups, strata, weight, batch_size=None):
    metric = Partial(parity_of, labels, predictions, weight)
    return permutation_floor(key, metric, groups, strata, weight, num_samples=S, batch_size=batch_size)


def test_permutations_of_a_small_table_are_those_of_enumeration():
    labels, predictions, groups = np.array([0, 1, 1, 0, 1]), np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1])
    pad = lambda column, bad: np.pad(column, (0, N - 5), constant_values=bad)  # noqa: E731
    rows = pad(labels, -1), pad(predictions, 7), pad(groups, 2)
    weight = pad(np.ones(5, np.float32), 0)
    ours = floor_by_permutation(KEY, *rows, np.zeros(N, int), weight).samples
    orders = [predictions[list(order)] for order in itertools.permutations(range(5))]
    assert_mean(ours["parity"], np.mean([abs(order[:2].mean() - order[2:].mean()) for order in orders]))
    # Within the labels every group keeps its positives.
    kept = floor_by_permutation(KEY, *rows, pad(labels, 1), weight)
    assert (np.asarray(kept.samples["counts"]) == np.array([1, 2, 0])).all()
    assert (np.asarray(ours["counts"]).std(axis=0)[:2] > 0).all()
    np.testing.assert_allclose(kept.quantile["parity"], np.quantile(kept.samples["parity"], 0.95), rtol=1e-5)


@pytest.mark.slow
def test_permutation_and_binomial_floors_are_alike():
    labels, predictions, groups = table_of(3)
    weight = np.ones(N, np.float32)
    count = np.bincount(groups, minlength=3).astype(float)
    binomial = floor_from_counts(KEY, count, 0 * count, predictions.mean(), np.nan, num_samples=20_000)
    ours = floor_by_permutation(KEY, labels, predictions, groups, np.zeros(N, int), weight)
    # Without replacement the variance is n / (n - 1) times that of the binomial.
    expected = math.sqrt(N / (N - 1)) * binomial.equal_opportunity.mean
    np.testing.assert_allclose(ours.mean["parity"], expected, rtol=0.05)


def test_padding_keeps_its_groups():
    labels, predictions, groups = table_of(1)
    weight = (np.arange(N) % 4 > 0).astype(np.float32)
    for strata in (0 * labels, labels):
        samples = np.asarray(floor_by_permutation(KEY, labels, predictions, groups, strata, weight).samples["groups"])
        assert (samples[:, weight == 0] == groups[weight == 0]).all()
        for stratum in np.unique(strata):
            mine = (weight > 0) & (strata == stratum)
            assert (np.sort(samples[:, mine]) == np.sort(groups[mine])).all()
        assert len(np.unique(samples, axis=0)) > 0.99 * S


@pytest.mark.slow
def test_permutations_depend_on_the_key_alone():
    labels, predictions, groups = table_of(2)
    rows = labels, predictions, groups, labels, np.ones(N, np.float32)
    ours = floor_by_permutation(KEY, *rows)
    assert_same(floor_by_permutation(KEY, *rows, batch_size=48), ours, rtol=1e-5, atol=1e-6)
    keys = jax.random.split(KEY, 2)
    lanes = jax.vmap(lambda key: floor_by_permutation(key, *rows))(keys)
    alone = floor_by_permutation(keys[1], *rows)
    assert_same(jax.tree.map(lambda leaf: leaf[1], lanes), alone, rtol=1e-5, atol=1e-6)
    # Without strata and weight it is one stratum and no padding.
    plain = permutation_floor(KEY, Partial(parity_of, labels, predictions, None), groups, num_samples=S)
    single = floor_by_permutation(KEY, labels, predictions, groups, 0 * labels, np.ones(N, np.float32))
    assert_same(plain, single, rtol=1e-5, atol=1e-6)
