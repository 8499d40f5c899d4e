"""Facts about the gaps that binomial counts show at parity: enumeration, the normal limit, degenerate tables."""

import itertools
import math
from functools import partial

import jax
import numpy as np
import pytest
import scipy.stats

from badrjax.uncertainty import noise_floor, noise_floor_from_counts
from tests.uncertainty.cases import (
    KEY,
    N,
    assert_mean,
    assert_same,
    floor_from_counts,
    table_of,
)


# What binomial rates differ by, from all their outcomes.
def enumerated(count, rate):
    chances = [scipy.stats.binom.pmf(np.arange(n + 1), n, rate) for n in count]
    total = 0.0
    for drawn in itertools.product(*(range(n + 1) for n in count)):
        chance = math.prod(c[x] for c, x in zip(chances, drawn, strict=True))
        total += chance * np.ptp([x / n for x, n in zip(drawn, count, strict=True)])
    return total


def test_floors_of_small_groups_are_those_of_enumeration():
    positive, negative = np.array([3.0, 5.0, 0.0]), np.array([2.0, 4.0, 6.0])
    ours = floor_from_counts(KEY, positive, negative, 0.7, 0.25, num_samples=20_000)
    share = (8 * 0.7 + 12 * 0.25) / 20
    assert_mean(ours.demographic_parity.samples, enumerated((5, 9, 6), share))
    assert_mean(ours.equal_opportunity.samples, enumerated((3, 5), 0.7))
    assert_mean(ours.predictive_equality.samples, enumerated((2, 4, 6), 0.25))
    larger = np.maximum(ours.equal_opportunity.samples, ours.predictive_equality.samples)
    np.testing.assert_array_equal(ours.equalized_odds.samples, larger)
    for floor in ours:
        np.testing.assert_allclose(floor.mean, np.mean(floor.samples), rtol=1e-5)
        np.testing.assert_allclose(floor.quantile, np.quantile(floor.samples, 0.95), rtol=1e-5)
        assert floor.num_finite == 20_000


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.95])
def test_floors_of_large_groups_are_the_normal_limit(rate):
    count = np.array([4000.0, 9000.0, 0.0])
    ours = floor_from_counts(KEY, count, count, rate, 1 - rate, num_samples=20_000)
    deviation = math.sqrt(rate * (1 - rate) * (1 / 4000 + 1 / 9000))
    for floor in (ours.equal_opportunity, ours.predictive_equality):
        np.testing.assert_allclose(floor.mean, math.sqrt(2 / math.pi) * deviation, rtol=0.02)
        np.testing.assert_allclose(floor.quantile, 1.96 * deviation, rtol=0.03)


def test_rates_of_nought_and_one_leave_no_gap():
    count = np.array([7.0, 1e6, 3.0])
    for rate in (0.0, 1.0):
        ours = floor_from_counts(KEY, count, count, rate, rate, num_samples=20_000)
        assert all(floor.quantile == 0 and floor.mean == 0 for floor in ours)


floor_of_table = jax.jit(partial(noise_floor, num_groups=5, num_samples=200))


def test_the_floor_of_a_table_is_that_of_its_counts():
    labels, predictions, groups = table_of(0)
    weight = (np.arange(N) % 3).astype(np.float32)
    ours = floor_of_table(KEY, labels, predictions, groups, weight=weight)
    count = [[weight[(groups == k) & (labels == y)].sum() for k in range(5)] for y in (1, 0)]
    rate = [np.average(predictions[labels == y], weights=weight[labels == y]) for y in (1, 0)]
    expected = floor_from_counts(KEY, np.array(count[0]), np.array(count[1]), *rate, num_samples=200)
    assert_same(ours, expected, rtol=1e-5, atol=1e-6)
    # Repeated rows and padding.
    garbage = (np.where(weight > 0, column, bad) for column, bad in ((labels, -7), (predictions, 99), (groups, 4)))
    assert_same(floor_of_table(KEY, *garbage, weight=weight), ours, rtol=0, atol=1e-7)
    again = (np.append(np.repeat(c, weight.astype(int)), 0) for c in (labels, predictions, groups))
    repeated = floor_of_table(KEY, *again, weight=np.append(np.ones(N - 1, np.float32), np.float32(0)))
    assert_same(repeated, ours, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_lanes_of_floors_equal_a_loop():
    labels, predictions, groups = table_of(0)
    weight = (np.arange(N) % 3).astype(np.float32)
    keys = jax.random.split(KEY, 2)
    lanes = jax.vmap(lambda key: floor_of_table(key, labels, predictions, groups, weight=weight))(keys)
    for lane in range(2):
        alone = floor_of_table(keys[lane], labels, predictions, groups, weight=weight)
        assert_same(jax.tree.map(lambda leaf, i=lane: leaf[i], lanes), alone, rtol=1e-5, atol=1e-6)


def test_what_cannot_differ_has_no_floor():
    # Only group 0 has rows labelled 1.
    labels, predictions, groups = np.array([1, 1, 0, 0, 0]), np.array([1, 0, 1, 0, 0]), np.array([0, 0, 0, 1, 1])
    weight = np.ones(5, np.float32)

    def num_finite(labels, groups):
        table = (np.pad(column, (0, N - 5)) for column in (labels, predictions, groups))
        ours = floor_of_table(KEY, *table, weight=np.pad(weight, (0, N - 5)))
        for floor in ours:
            assert np.isfinite(floor.mean) == np.isfinite(floor.quantile) == (floor.num_finite == 200)
        return [int(floor.num_finite) for floor in ours]

    assert num_finite(labels, groups) == [200, 0, 200, 0]
    # No row labelled 1 at all, one group alone, and wrong labels, which are no number that looks like a result.
    assert num_finite(labels * 0, groups) == [200, 0, 200, 0]
    assert num_finite(labels, groups * 0) == [0, 0, 0, 0]
    assert num_finite(labels - 1, groups) == [0, 0, 0, 0]


@pytest.mark.slow
def test_many_small_groups_are_far_apart_at_parity():
    # 18 groups and 617 rows: nothing near 0 can be measured.
    count = np.array([120, 90, 70, 60, 50, 45, 40, 35, 30, 20, 15, 12, 10, 8, 5, 3, 3, 1], float)
    positive = np.round(0.45 * count)
    ours = floor_from_counts(KEY, positive, count - positive, 0.6, 0.3, num_samples=200)
    assert 0.5 < ours.demographic_parity.mean < 0.9
    assert 0.7 < ours.equalized_odds.mean < 1


def test_infinite_counts_are_refused():
    with pytest.raises(ValueError, match="num_positive must hold frequencies >= 0 and finite"):
        noise_floor_from_counts(KEY, np.array([np.inf, 3.0]), np.array([10.0, 5.0]), 0.5, 0.5, num_samples=10)
