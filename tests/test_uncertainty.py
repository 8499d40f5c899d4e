"""Facts about bootstrap intervals and the gaps at parity: closed forms, enumeration, coverage, reproducibility."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

from badrjax import metrics
from badrjax.uncertainty import bootstrap, noise_floor, noise_floor_from_counts, permutation_floor

N = 40
# Rows of most tables, for one compilation; weight 0 fills them up.
ROWS = 120
S = 2000
KEY = jax.random.key(0)


def filled(column, rest=0):
    return np.concatenate([column, np.full(ROWS - len(column), rest, column.dtype)])


def mean_of(values, weight):
    return jnp.sum(jnp.where(weight > 0, weight * values, 0.0)) / jnp.sum(weight)


def identity(weight):
    return weight


@partial(jax.jit, static_argnames=("num_samples", "num_clusters", "max_draws", "batch_size"))
def interval_of_mean(key, values, weight, strata=None, clusters=None, **options):
    return bootstrap(key, Partial(mean_of, values), weight, strata=strata, clusters=clusters, **options)


@partial(jax.jit, static_argnames=("num_samples", "num_clusters", "max_draws", "batch_size"))
def resamples(key, weight, strata=None, clusters=None, **options):
    return bootstrap(key, identity, weight, strata=strata, clusters=clusters, **options).samples


def assert_same(left, right, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), left, right)


def assert_mean(draws, expected):
    """The mean of independent draws is within five standard errors of what is expected."""
    draws = np.asarray(draws, float)
    error = draws.std(axis=0, ddof=1) / np.sqrt(draws.shape[0])
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - expected), 5 * error + 1e-6)


def test_the_standard_error_of_a_share_is_its_closed_form():
    values = (np.arange(N) < 12).astype(np.float32)
    ours = interval_of_mean(KEY, filled(values), filled(np.ones(N, np.float32)), num_samples=S)
    error = math.sqrt(0.3 * 0.7 / N)
    np.testing.assert_allclose(ours.estimate, 0.3, rtol=1e-6)
    # The standard error of a standard error from 2000 draws is 1.6 %.
    np.testing.assert_allclose(ours.standard_error, error, rtol=0.06)
    assert ours.num_finite == S
    samples = np.sort(ours.samples)
    for end, probability in ((ours.low, 2.5), (ours.high, 97.5), (ours.lower_bound, 5), (ours.upper_bound, 95)):
        np.testing.assert_allclose(end, np.percentile(samples, probability), rtol=1e-5)
    # Numbers of rows drawn are binomial, to the last one.
    chance = scipy.stats.binom.pmf(np.arange(N + 1), N, 0.3)
    share = np.bincount(np.round(ours.samples * N).astype(int), minlength=N + 1) / S
    np.testing.assert_array_less(np.abs(share - chance), 5 * np.sqrt(chance / S) + 2e-3)


def test_resampled_frequencies_are_multinomial():
    weight = np.array([0.0, 1.0, 2.0, 0.0, 5.0, 4.0, 0.0], np.float32)
    times = np.asarray(resamples(KEY, weight, num_samples=4000, max_draws=12))
    assert (times[:, weight == 0] == 0).all()
    assert (times.sum(axis=1) == 12).all()
    assert (times % 1 == 0).all()
    assert_mean(times, weight)
    chance = weight[weight > 0] / 12
    covariance = 12 * (np.diag(chance) - np.outer(chance, chance))
    np.testing.assert_allclose(np.cov(times[:, weight > 0].T), covariance, atol=0.25)


def test_weights_are_repeated_rows_in_distribution():
    random = np.random.default_rng(0)
    values, times = random.normal(size=N).astype(np.float32), random.integers(0, 4, N)
    weighted = interval_of_mean(KEY, filled(values), filled(times.astype(np.float32)), num_samples=S)
    repeated, ones = (filled(np.repeat(column, times)) for column in (values, np.ones(N, np.float32)))
    unweighted = interval_of_mean(jax.random.key(1), repeated, ones, num_samples=S)
    np.testing.assert_allclose(weighted.estimate, unweighted.estimate, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(weighted.standard_error, unweighted.standard_error, rtol=0.1)
    assert scipy.stats.ks_2samp(weighted.samples, unweighted.samples).pvalue > 1e-3


def test_frequencies_that_are_not_whole_are_drawn_in_proportion():
    weight = np.array([0.3, 0.0, 1.45, 2.75, 0.25, 1.5], np.float32)
    times = np.asarray(resamples(KEY, weight, num_samples=4000))
    assert (times.sum(axis=1) == 6).all()  # 6.25, rounded
    assert_mean(times, weight * 6 / 6.25)


def test_strata_keep_their_totals():
    weight = np.array([1.0, 2.0, 0.0, 3.0, 1.0, 4.0, 0.0], np.float32)
    strata = np.array([7, -1, 7, 7, -1, 3, 100])
    times = np.asarray(resamples(KEY, weight, strata, num_samples=2000, max_draws=20))
    for stratum in (7, -1, 3):
        assert (times[:, strata == stratum].sum(axis=1) == weight[strata == stratum].sum()).all()
    assert_mean(times, weight)
    # Where totals are not whole they are rounded up or down.
    times = np.asarray(resamples(KEY, weight * np.float32(1.3), strata, num_samples=2000, max_draws=20))
    for stratum in (7, -1, 3):
        total = 1.3 * weight[strata == stratum].sum()
        assert (np.abs(times[:, strata == stratum].sum(axis=1) - total) < 1 + 1e-5).all()


@pytest.mark.slow
def test_clusters_are_drawn_as_wholes():
    clusters = np.array([0, 0, 1, 2, 2, 2, 4, 5])
    weight = np.array([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 3.0, 0.0], np.float32)
    times = np.asarray(resamples(KEY, weight, None, clusters, num_clusters=7, num_samples=2000))
    for c in range(5):
        mine = times[:, clusters == c] / weight[clusters == c]
        assert (mine == mine[:, :1]).all()
    drawn = np.stack([times[:, i] / weight[i] for i in (0, 2, 3, 6)], axis=1)
    assert (drawn.sum(axis=1) == 4).all()
    assert_mean(drawn, 1.0)
    assert (times[:, 7] == 0).all()
    # One cluster a row is the plain bootstrap.
    ones, rows = np.ones(N, np.float32), np.arange(N)
    plain = resamples(KEY, ones, num_samples=50)
    np.testing.assert_array_equal(resamples(KEY, ones, None, rows, num_clusters=N, num_samples=50), plain)
    # In strata as many clusters are drawn as each has.
    strata = np.array([0, 0, 1, 1, 1, 1, 0, 5])
    times = np.asarray(resamples(KEY, weight, strata, clusters, num_clusters=7, num_samples=50))
    np.testing.assert_array_equal(times[:, 0] + times[:, 6] / 3, 2)
    np.testing.assert_array_equal(times[:, 2] + times[:, 3], 2)


@pytest.mark.slow
def test_repeated_rows_as_clusters_are_wider_than_as_rows():
    values = np.repeat(np.arange(10, dtype=np.float32), 4)
    ones = np.ones(N, np.float32)
    rows = interval_of_mean(KEY, filled(values), filled(ones), num_samples=S).standard_error
    clusters = interval_of_mean(KEY, values, ones, None, np.arange(N) // 4, num_clusters=10, num_samples=S)
    np.testing.assert_allclose(clusters.standard_error / rows, 2.0, rtol=0.1)


@pytest.mark.slow
def test_the_interval_of_a_mean_covers_it():
    # 200 tables, of which a 90 % interval should cover 0 in about 176: the percentile interval is a little narrow.
    values = np.random.default_rng(0).normal(size=(200, N)).astype(np.float32)
    keys = jax.random.split(KEY, 200)
    one = partial(interval_of_mean, weight=np.ones(N, np.float32), num_samples=200, confidence=0.9)
    ours = jax.vmap(one)(keys, values)
    covered = np.mean((ours.low <= 0) & (ours.high >= 0))
    assert 0.83 <= covered <= 0.95
    assert 0.84 <= np.mean(ours.upper_bound >= 0) <= 0.96
    assert 0.84 <= np.mean(ours.lower_bound <= 0) <= 0.96


def four_differences(labels, predictions, groups, weight):
    table = labels, predictions, groups, 3, weight
    return {
        "odds": metrics.equalized_odds_difference(*table),
        "rates": metrics.by_group(*table).true_positive_rate,
    }


@jax.jit
def interval_of_odds(key, labels, predictions, groups, weight, strata):
    metric = Partial(four_differences, labels, predictions, groups)
    return bootstrap(key, metric, weight, num_samples=150, strata=strata)


@pytest.mark.slow
def test_the_interval_of_a_max_of_max_covers_it():
    # Rates far apart: the gap in true positive rates, 0.6, is the larger.
    random = np.random.default_rng(0)
    tables, rows = 60, 240
    groups, labels = random.integers(0, 3, (tables, rows)), random.integers(0, 2, (tables, rows))
    chance = np.array([[0.2, 0.3, 0.4], [0.2, 0.5, 0.8]])[labels, groups]
    predictions = (random.uniform(size=chance.shape) < chance).astype(int)
    ours = jax.vmap(interval_of_odds)(
        jax.random.split(KEY, tables),
        labels,
        predictions,
        groups,
        np.ones(chance.shape, np.float32),
        2 * groups + labels,
    )
    low, high = ours.low["odds"], ours.high["odds"]
    assert 0.88 <= np.mean((low <= 0.6) & (high >= 0.6)) <= 1
    assert 0.88 <= np.mean(ours.upper_bound["odds"] >= 0.6) <= 1
    assert ours.high["rates"].shape == (tables, 3)


def test_resamples_that_are_not_finite_are_counted_and_left_out():
    # The one positive of group 1 is missing from a resample with chance (1 - 1/4)^4.
    labels, predictions = np.array([1, 1, 1, 0]), np.array([1, 0, 1, 0])
    metric = lambda weight: metrics.by_group(labels, predictions, np.array([0, 0, 1, 1]), 3, weight)[5]  # noqa: E731
    ours = jax.jit(partial(bootstrap, metric=metric, weight=np.ones(4, np.float32), num_samples=2000))(KEY)
    np.testing.assert_allclose(1 - ours.num_finite[1] / 2000, 0.75**4, atol=0.05)
    assert np.isnan(ours.samples[:, 1]).sum() == 2000 - ours.num_finite[1]
    np.testing.assert_array_equal([ours.low[1], ours.high[1], ours.standard_error[1]], [1, 1, 0])
    assert ours.num_finite[2] == 0
    for entry in ours[:6]:
        assert np.isnan(entry[2])


@pytest.mark.slow
def test_bits_depend_on_the_key_alone():
    values = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    weight = np.ones(ROWS, np.float32)
    ours = interval_of_mean(KEY, values, weight, num_samples=S)
    again = interval_of_mean(KEY, values, weight, num_samples=S, batch_size=48)
    np.testing.assert_allclose(again.samples, ours.samples, rtol=1e-5, atol=1e-6)
    assert_same(bootstrap(KEY, Partial(mean_of, values), ROWS, num_samples=S), ours, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_lanes_of_keys_equal_a_loop():
    values = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    weight = np.ones(ROWS, np.float32)
    keys = jax.random.split(KEY, 2)
    lanes = jax.vmap(lambda key: interval_of_mean(key, values, weight, num_samples=S))(keys)
    for lane in range(2):
        alone = interval_of_mean(keys[lane], values, weight, num_samples=S)
        assert_same(jax.tree.map(lambda leaf, i=lane: leaf[i], lanes), alone, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(lanes.samples[0], lanes.samples[1])


def test_padding_changes_no_draw():
    values, weight = np.random.default_rng(0).normal(size=N).astype(np.float32), np.ones(N, np.float32)
    padded = interval_of_mean(KEY, filled(values, np.nan), filled(weight), num_samples=S)
    ours = interval_of_mean(KEY, values, weight, np.zeros(N, int), num_samples=S)
    assert_same(padded, ours, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_double_precision_is_kept(x64):
    ours = interval_of_mean(KEY, np.arange(4.0), np.ones(4), num_samples=20)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(ours._replace(num_finite=None)))
    ours = interval_of_mean(KEY, np.arange(4, dtype=np.float32), np.ones(4, np.float32), num_samples=20)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(ours._replace(num_finite=None)))


def test_no_weight_or_too_much_is_nan_under_tracing():
    for weight in (0, 2, np.nan):
        ours = interval_of_mean(KEY, np.ones(ROWS, np.float32), np.full(ROWS, weight, np.float32), num_samples=S)
        assert ours.num_finite == 0
        assert np.isnan([ours.low, ours.high, ours.upper_bound, ours.standard_error]).all()


# What binomial rates differ by, from all their outcomes.
def enumerated(count, rate):
    chances = [scipy.stats.binom.pmf(np.arange(n + 1), n, rate) for n in count]
    total = 0.0
    for drawn in itertools.product(*(range(n + 1) for n in count)):
        chance = math.prod(c[x] for c, x in zip(chances, drawn, strict=True))
        total += chance * np.ptp([x / n for x, n in zip(drawn, count, strict=True)])
    return total


floor_from_counts = jax.jit(noise_floor_from_counts, static_argnames="num_samples")


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


def table_of(seed):
    random = np.random.default_rng(seed)
    labels, predictions, groups = random.integers(0, 2, (3, N))
    return labels, predictions, groups + random.integers(0, 2, N)


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


ONES, FEW = np.ones(4, np.float32), np.array([0, 1, 1, 0])
SUM = jnp.sum


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "typed key", lambda: bootstrap(0, SUM, ONES)),
        (TypeError, "typed key", lambda: noise_floor(jnp.zeros(2, jnp.uint32), FEW, FEW, FEW, 2)),
        (ValueError, "one key", lambda: bootstrap(jax.random.split(KEY), SUM, ONES)),
        (TypeError, "metric must be a function of the weight", lambda: bootstrap(KEY, ONES, SUM)),
        (TypeError, "metric must be a function of the groups", lambda: permutation_floor(KEY, FEW, SUM)),
        (ValueError, "num_samples must be", lambda: bootstrap(KEY, SUM, ONES, num_samples=0)),
        (ValueError, "batch_size must be", lambda: bootstrap(KEY, SUM, ONES, batch_size=1.5)),
        (ValueError, "confidence must lie between 0 and 1", lambda: bootstrap(KEY, SUM, ONES, confidence=95)),
        (ValueError, "weight must hold frequencies", lambda: bootstrap(KEY, SUM, -ONES)),
        (ValueError, "positive number of rows", lambda: bootstrap(KEY, SUM, 0)),
        (ValueError, "not half a row.*scaling", lambda: bootstrap(KEY, SUM, ONES / 10)),
        (ValueError, "at most 2\\^24", lambda: bootstrap(KEY, SUM, ONES * 1e7)),
        (ValueError, "more than max_draws=3", lambda: bootstrap(KEY, SUM, ONES, max_draws=3)),
        (ValueError, "max_draws must be", lambda: bootstrap(KEY, SUM, ONES, max_draws=0)),
        (ValueError, "strata has 3", lambda: bootstrap(KEY, SUM, ONES, strata=FEW[:3])),
        (TypeError, "strata must hold integer ids", lambda: bootstrap(KEY, SUM, ONES, strata=ONES)),
        (ValueError, "go together", lambda: bootstrap(KEY, SUM, ONES, clusters=FEW)),
        (ValueError, r"clusters must lie in \[0, 1\)", lambda: bootstrap(KEY, SUM, ONES, clusters=FEW, num_clusters=1)),
        (
            ValueError,
            "cluster 0 has rows in 2 strata",
            lambda: bootstrap(KEY, SUM, ONES, clusters=FEW, num_clusters=2, strata=[0, 1, 1, 1]),
        ),
        (ValueError, "labels must be 0 or 1", lambda: noise_floor(KEY, FEW * 2, FEW, FEW, 2)),
        (ValueError, "true_positive_rate must lie", lambda: noise_floor_from_counts(KEY, ONES, ONES, 70, 0.1)),
        (
            ValueError,
            "true_positive_rate must be one rate",
            lambda: noise_floor_from_counts(KEY, ONES, ONES, ONES, 0.1),
        ),
        (ValueError, "num_negative must hold", lambda: noise_floor_from_counts(KEY, ONES, -ONES, 0.1, 0.1)),
        (ValueError, "num_negative has 3", lambda: noise_floor_from_counts(KEY, ONES, ONES[:3], 0.1, 0.1)),
        (TypeError, "integer ids", lambda: permutation_floor(KEY, SUM, ONES)),
    ],
)
def test_wrong_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_strata_of_any_size_are_told_apart():
    strata = np.array([0, 0, 2**32, 2**32])
    drawn = bootstrap(KEY, lambda weight: weight, 4, strata=strata, num_samples=50).samples
    np.testing.assert_array_equal(drawn[:, :2].sum(axis=1), np.full(50, 2.0))


def test_cluster_ids_of_a_narrow_type():
    clusters = np.array([0, 1, 0, 1, 2, 2])
    wide = bootstrap(KEY, lambda weight: weight, 6, clusters=clusters, num_clusters=200, num_samples=5)
    narrow = bootstrap(
        KEY, lambda weight: weight, 6, clusters=clusters.astype(np.int8), num_clusters=200, num_samples=5
    )
    np.testing.assert_array_equal(wide.samples, narrow.samples)


def test_what_would_raise_gives_no_bounds_under_tracing():
    drawn = jax.jit(lambda weight: bootstrap(KEY, SUM, weight, num_samples=5))(np.float32([3, -1, 1, 1]))
    assert drawn.num_finite == 0
    ends = jax.jit(lambda confidence: bootstrap(KEY, SUM, 4, num_samples=5, confidence=confidence))(1.5)
    assert np.isnan([ends.low, ends.high, ends.upper_bound]).all()


def test_infinite_counts_are_refused():
    with pytest.raises(ValueError, match="num_positive must hold frequencies >= 0 and finite"):
        noise_floor_from_counts(KEY, np.array([np.inf, 3.0]), np.array([10.0, 5.0]), 0.5, 0.5, num_samples=10)
