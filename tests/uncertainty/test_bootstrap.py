"""Facts about bootstrap intervals: closed forms, coverage, strata, clusters, reproducibility."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

from badrjax import metrics
from badrjax.uncertainty import bootstrap
from tests.uncertainty.cases import (
    KEY,
    ROWS,
    N,
    S,
    assert_mean,
    assert_same,
    filled,
    interval_of_mean,
    mean_of,
    resamples,
)


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
    drawn = jax.jit(lambda weight: bootstrap(KEY, jnp.sum, weight, num_samples=5))(np.float32([3, -1, 1, 1]))
    assert drawn.num_finite == 0
    ends = jax.jit(lambda confidence: bootstrap(KEY, jnp.sum, 4, num_samples=5, confidence=confidence))(1.5)
    assert np.isnan([ends.low, ends.high, ends.upper_bound]).all()
