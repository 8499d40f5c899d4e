"""Facts about errors of regression and gaps between groups: scikit-learn, SciPy, invariances, what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sklearn
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax import metrics
from badrjax.metrics import distributions
from tests.metrics.tables import N, arrays, assert_same

K = 4


@partial(jax.jit, static_argnums=4)
def everything(targets, predictions, groups, weight, num_groups=K):
    rows = groups, num_groups, weight
    return {
        "rmse": metrics.rmse(targets, predictions, weight),
        "mean_absolute_error": metrics.mean_absolute_error(targets, predictions, weight),
        "r2": metrics.r2(targets, predictions, weight),
        "group_rmse": metrics.group_rmse(targets, predictions, *rows),
        "group_mean_absolute_error": metrics.group_mean_absolute_error(targets, predictions, *rows),
        "rmse_difference": metrics.rmse_difference(targets, predictions, *rows),
        "mean_difference": metrics.mean_difference(predictions, *rows),
        "wasserstein": metrics.distribution_difference(predictions, *rows),
        "kolmogorov_smirnov": metrics.distribution_difference(predictions, *rows, "kolmogorov_smirnov"),
    }


def gap(values):
    known = values[~np.isnan(values)]
    return np.ptp(known) if known.size >= 2 else np.nan


def expected(targets, predictions, groups, weight, num_groups=K):
    """The same from scikit-learn, SciPy and double loops."""
    kept = weight > 0
    t, p, g, w = (column[kept].astype(float) for column in (targets, predictions, groups, weight))

    def within(function):
        mine = (g == k for k in range(num_groups))
        return np.array([function(t[m], p[m], sample_weight=w[m]) if m.any() else np.nan for m in mine])

    root, absolute = within(sklearn.root_mean_squared_error), within(sklearn.mean_absolute_error)
    pairs = [(g == a, g == b) for a in range(num_groups) for b in range(a) if (g == a).any() and (g == b).any()]
    varies = kept.any() and np.ptp(t) > 0
    return {
        "rmse": sklearn.root_mean_squared_error(t, p, sample_weight=w) if kept.any() else np.nan,
        "mean_absolute_error": sklearn.mean_absolute_error(t, p, sample_weight=w) if kept.any() else np.nan,
        "r2": sklearn.r2_score(t, p, sample_weight=w) if varies else np.nan,
        "group_rmse": root,
        "group_mean_absolute_error": absolute,
        "rmse_difference": gap(root),
        "mean_difference": gap(within(lambda t, p, sample_weight: np.average(p, weights=sample_weight))),
        "wasserstein": max(
            (scipy.stats.wasserstein_distance(p[a], p[b], w[a], w[b]) for a, b in pairs), default=np.nan
        ),
        "kolmogorov_smirnov": max((highest_step(p[a], p[b], w[a], w[b]) for a, b in pairs), default=np.nan),
    }


def highest_step(u, v, u_weight, v_weight):
    return max(abs(np.average(u <= t, weights=u_weight) - np.average(v <= t, weights=v_weight)) for t in (*u, *v))


def tables():
    number = arrays(-2.0, -0.5, 0.0, 0.25, 1.0, 3.0).map(np.float32)
    weight = arrays(0.0, 0.0, 0.5, 1.0, 2.0, 3.0).map(np.float32)
    return st.tuples(number, number, arrays(0, 1, 3), weight)


@settings(deadline=None, max_examples=40)
@given(tables())
def test_all_agree_with_scikit_learn_and_scipy(table):
    assert_same(everything(*table), expected(*table))


@pytest.mark.parametrize("num_groups", [2, 20])
def test_float64_to_many_digits(x64, num_groups):
    random = np.random.default_rng(num_groups)
    targets, predictions = random.normal(size=(2, 300)) + 5
    table = targets, predictions, random.integers(0, num_groups, 300), random.uniform(0.1, 2, 300)
    ours = everything(*table, num_groups)
    assert all(leaf.dtype == np.float64 for leaf in ours.values())
    assert_same(ours, expected(*table, num_groups), rtol=1e-12, atol=1e-12)


def test_precision_follows_the_input(x64):
    table = np.ones(N, np.float32), np.zeros(N, np.float32), np.arange(N) % K
    assert all(leaf.dtype == np.float32 for leaf in everything(*table, None).values())
    assert all(leaf.dtype == np.float32 for leaf in everything(np.ones(N, int), *table[1:], np.ones(N)).values())


@pytest.mark.parametrize("num_rows", [1000, 100_000])
def test_distances_do_not_depend_on_blocks_and_hold_for_many_rows(num_rows):
    random = np.random.default_rng(1)
    groups = random.integers(0, 3, num_rows)
    predictions = (random.normal(size=num_rows) * (1 + groups)).astype(np.float32)
    mine = [predictions[groups == k].astype(float) for k in range(3)]
    distance = jax.jit(metrics.distribution_difference, static_argnums=(2, 4))
    ours = distance(predictions, groups, 3)
    theirs = max(scipy.stats.wasserstein_distance(mine[a], mine[b]) for a in range(3) for b in range(a))
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)
    ours = distance(predictions, groups, 3, None, "kolmogorov_smirnov")
    theirs = max(scipy.stats.ks_2samp(mine[a], mine[b], method="asymp").statistic for a in range(3) for b in range(a))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_block_of_few_rows_changes_nothing(monkeypatch):
    random = np.random.default_rng(2)
    predictions, groups = random.normal(size=50).round(1), random.integers(0, 3, 50)
    for distance in ("wasserstein", "kolmogorov_smirnov"):
        monkeypatch.setattr(distributions, "_BLOCK_ENTRIES", 2**18)
        one_block = metrics.distribution_difference(predictions, groups, 3, None, distance)
        monkeypatch.setattr(distributions, "_BLOCK_ENTRIES", 7 * 9)
        np.testing.assert_allclose(
            metrics.distribution_difference(predictions, groups, 3, None, distance), one_block, rtol=1e-6
        )


@settings(deadline=None, max_examples=25)
@given(tables(), arrays(0, 1, 2, 3), st.permutations(range(N)), st.permutations(range(K)))
def test_repetition_padding_order_and_names_change_nothing(table, times, order, names):
    *columns, groups, _ = table
    order, names, weight = np.array(order), np.array(names), times.astype(np.float32)
    ours = everything(*columns, groups, weight)

    padding = 3 * N - times.sum()
    repeated = (np.pad(np.repeat(column, times), (0, padding)) for column in (*columns, groups, np.ones(N)))
    assert_same(ours, everything(*repeated))

    for rubbish in (np.nan, np.inf):
        dirty = (np.where(weight > 0, column, np.float32(rubbish)) for column in columns)
        assert_same(ours, everything(*dirty, np.where(weight > 0, groups, 2), weight), rtol=1e-6, atol=1e-7)

    moved = everything(*(column[order] for column in columns), names[groups[order]], weight[order])
    assert_same(ours, jax.tree.map(lambda leaf: leaf[names] if leaf.ndim else leaf, moved))


def test_lanes_equal_a_loop():
    random = np.random.default_rng(0)
    table = (
        *random.normal(size=(2, 3, N)).astype(np.float32),
        random.integers(0, K, (3, N)),
        random.integers(0, 3, (3, N)).astype(np.float32),
    )
    table[2][1], table[3][2] = 1, 0  # a lane of one group, a lane of padding
    lanes = jax.vmap(everything)(*table)
    for lane in range(3):
        alone = everything(*(column[lane] for column in table))
        assert_same(jax.tree.map(lambda leaf, i=lane: leaf[i], lanes), alone)


def test_what_cannot_be_measured_is_nan():
    rows = np.arange(3.0), np.ones(3), np.array([1, 1, 1])
    ours = everything(*rows, np.ones(3))
    for name in ("rmse_difference", "mean_difference", "wasserstein", "kolmogorov_smirnov"):
        assert np.isnan(ours[name])
    np.testing.assert_array_equal(np.isnan(ours["group_rmse"]), [True, False, True, True])
    for empty in (everything(*rows, np.zeros(3)), everything(*(column[:0] for column in rows), np.zeros(0))):
        assert all(np.isnan(leaf).all() for leaf in empty.values())


def test_r2_of_constant_targets_is_nan_however_they_round():
    for value in (0.0, 0.1, 1e7 + 1, 3e-20):
        targets = np.full(N, value, np.float32)
        weight = np.linspace(0.1, 1, N).astype(np.float32)
        assert np.isnan(everything(targets, targets + 1, np.zeros(N, int), weight)["r2"])


def test_nan_that_counts_shows_and_infinity_is_no_distance():
    groups = np.arange(N) % 2
    predictions = np.arange(N, dtype=np.float32)
    for bad, known in ((np.nan, False), (np.inf, True), (-np.inf, True)):
        predictions[3] = bad
        ours = everything(np.zeros(N, np.float32), predictions, groups, np.ones(N, np.float32))
        assert np.isnan(ours["wasserstein"])
        assert np.isnan(ours["kolmogorov_smirnov"]) != known
        np.testing.assert_array_equal(np.isfinite(ours["group_rmse"]), [True, False, False, False])
    # Two infinite predictions are equal.
    ties = np.array([np.inf, np.inf, 0.0, 0.0], np.float32)
    assert metrics.distribution_difference(ties, np.array([0, 1, 0, 1]), 2, None, "kolmogorov_smirnov") == 0


def test_a_shift_is_the_wasserstein_distance_and_the_mean_difference():
    base = np.random.default_rng(0).normal(size=10)
    predictions, groups = np.concatenate([base, base + 2.5]).astype(np.float32), np.repeat([0, 1], 10)
    ours = everything(np.zeros(N, np.float32), predictions, groups, np.ones(N, np.float32))
    np.testing.assert_allclose(ours["wasserstein"], 2.5, rtol=1e-6)
    np.testing.assert_allclose(ours["mean_difference"], 2.5, rtol=1e-6)


@jax.jit
def slope_of_rmse(predictions, targets, groups, weight):
    return jax.grad(lambda p: jnp.nansum(metrics.group_rmse(targets, p, groups, K, weight)))(predictions)


def test_the_slope_of_rmse_is_its_closed_form_and_finite_where_it_is_zero():
    random = np.random.default_rng(0)
    targets, predictions = random.normal(size=(2, N)).astype(np.float32)
    groups, weight = np.arange(N) % 3, (np.arange(N) % 4).astype(np.float32)
    targets[groups == 1] = predictions[groups == 1]
    predictions[weight == 0] = np.nan
    slope = slope_of_rmse(predictions, targets, groups, weight)
    ours = everything(targets, predictions, groups, weight)["group_rmse"]
    counted = (weight > 0) & (groups != 1)
    for k in (0, 2):
        mine = counted & (groups == k)
        closed = weight[mine] * (predictions - targets)[mine] / (weight[mine].sum() * ours[k])
        np.testing.assert_allclose(slope[mine], closed, rtol=1e-5)
    np.testing.assert_array_equal(slope[~counted], 0)


def test_integers_are_numbers():
    assert metrics.rmse([1, 2, 3], [1, 2, 5]) == pytest.approx(np.sqrt(4 / 3))
    assert metrics.rmse([1, 2, 3], np.array([1.0, 2.0, 5.0], np.float16)) == pytest.approx(np.sqrt(4 / 3))


Y, P, G = [0.0, 1.0, 2.0], [0.5, 1.0, 1.0], [0, 1, 1]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "targets must hold numbers.*for regression", lambda: metrics.rmse([True, False, True], P)),
        (TypeError, "predictions must hold numbers", lambda: metrics.r2(Y, np.array([True, False, True]))),
        (TypeError, "predictions must hold numbers", lambda: metrics.mean_difference(["a", "b", "c"], G, 2)),
        (TypeError, "integer ids", lambda: metrics.group_rmse(Y, P, P, 2)),
        (ValueError, "predictions has 2", lambda: metrics.rmse(Y, P[:2])),
        (ValueError, "predictions must have one axis", lambda: metrics.mean_absolute_error(Y, np.ones((3, 1)))),
        (ValueError, "weight must hold frequencies", lambda: metrics.rmse(Y, P, [1.0, -1.0, 1.0])),
        (ValueError, r"in \[0, 1\)", lambda: metrics.mean_difference(P, G, 1)),
        (
            ValueError,
            "unknown distance 'wassertein'",
            lambda: metrics.distribution_difference(P, G, 2, None, "wassertein"),
        ),
    ],
)
def test_wrong_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_squares_neither_overflow_nor_underflow(size):
    targets, predictions = np.float32([size, 3 * size]), np.float32([size, 2 * size])
    np.testing.assert_allclose(metrics.r2(targets, predictions), 0.5, rtol=1e-6)
    np.testing.assert_allclose(metrics.rmse(targets, predictions), size / 2**0.5, rtol=1e-6)


def test_a_traced_weight_that_is_no_frequency_is_nan():
    columns = np.float32([1.0, 2.0, 4.0]), np.float32([1.0, 2.5, 3.0])
    for metric in (metrics.r2, metrics.rmse):
        for wrong in (np.nan, -1.0):
            assert np.isnan(jax.jit(metric)(*columns, np.float32([wrong, 2.0, 3.0])))
