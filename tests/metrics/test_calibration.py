"""Facts about calibration by group: scikit-learn, NumPy's definition, invariances, what is refused."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from badrjax import metrics
from tests.metrics.tables import N, arrays, assert_same

K, BINS = 4, 5


@partial(jax.jit, static_argnames="strategy")
def everything(labels, probabilities, groups, weight, strategy="uniform"):
    table, options = (labels, probabilities, groups, K, weight), {"num_bins": BINS, "strategy": strategy}
    return {
        "curves": metrics.calibration_by_group(*table, **options),
        "error": metrics.group_calibration_error(*table, **options),
        "difference": metrics.calibration_difference(*table, **options),
        "brier": metrics.group_brier(*table),
    }


def tables():
    # Edges of the bins among them.
    probability = arrays(0.0, 0.05, 0.2, 0.3, 0.4, 0.6, 0.61, 0.8, 0.95, 1.0).map(np.float32)
    weight = arrays(0.0, 0.0, 0.5, 1.0, 2.0, 3.0).map(np.float32)
    return st.tuples(arrays(0, 1), probability, arrays(0, 1, 3), weight)


def expected(labels, probabilities, groups, weight, inner):
    """The same from loops over groups and bins, given the inner edges."""
    curves, brier = np.full((3, K, BINS), np.nan), np.full(K, np.nan)
    curves[0] = 0
    bins = np.searchsorted(inner, probabilities, side="left")
    for k in range(K):
        mine = (groups == k) & (weight > 0)
        if mine.any():
            brier[k] = np.average((probabilities - labels)[mine] ** 2, weights=weight[mine])
        for b in range(BINS):
            cell = mine & (bins == b)
            if cell.any():
                w = weight[cell]
                means = np.average(probabilities[cell], weights=w), np.average(labels[cell], weights=w)
                curves[:, k, b] = w.sum(), *means
    error = np.array(
        [np.nansum(n * np.abs(p - y)) / n.sum() if n.sum() else np.nan for n, p, y in curves.swapaxes(0, 1)]
    )
    known = error[~np.isnan(error)]
    difference = np.ptp(known) if known.size >= 2 else np.nan
    return {
        "curves": metrics.GroupCalibration(*curves),
        "error": error,
        "difference": difference,
        "brier": brier,
    }


@settings(deadline=None, max_examples=40)
@given(tables())
def test_curves_and_errors_are_those_of_loops(table):
    _, probabilities, groups, weight = table
    uniform = np.linspace(0, 1, BINS + 1)[1:-1].astype(np.float32)
    assert_same(everything(*table), expected(*table, uniform))
    if weight.any():
        wanted = np.arange(1, BINS) / BINS
        pooled = np.quantile(probabilities, wanted, weights=weight, method="inverted_cdf")
        ours = everything(*table, strategy="quantile")["curves"]
        for k in (0, 1, 3):
            np.testing.assert_allclose(ours.count[k].sum(), weight[groups == k].sum(), rtol=1e-6)
        # Whole weights alone are divided without rounding, here and in NumPy.
        if (weight % 1 == 0).all() and weight.sum() % BINS == 0:
            assert_same(ours, expected(*table, pooled)["curves"])


def test_each_group_agrees_with_scikit_learn():
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 2, 2000), random.integers(0, K, 2000)
    probabilities = np.clip(random.normal(0.3 + 0.3 * labels, 0.3), 0, 1).astype(np.float32)
    weight = random.uniform(0.1, 2, 2000).astype(np.float32)
    unweighted, weighted = (everything(labels, probabilities, groups, w) for w in (None, weight))
    for k in range(K):
        mine = groups == k
        observed, predicted = calibration_curve(labels[mine], probabilities[mine], n_bins=BINS)
        np.testing.assert_allclose(unweighted["curves"].observed[k], observed, rtol=1e-6)
        np.testing.assert_allclose(unweighted["curves"].mean_predicted[k], predicted, rtol=1e-6)
        expected = brier_score_loss(labels[mine], probabilities[mine], sample_weight=weight[mine])
        np.testing.assert_allclose(weighted["brier"][k], expected, rtol=1e-6)
    pooled = np.quantile(probabilities, np.arange(1, BINS) / BINS, method="inverted_cdf")
    ours = everything(labels, probabilities, groups, None, strategy="quantile")
    assert_same(ours, expected_with(labels, probabilities, groups, pooled))


def expected_with(labels, probabilities, groups, inner):
    return expected(labels, probabilities, groups, np.ones(labels.size), inner)


@settings(deadline=None, max_examples=25)
@given(tables(), arrays(0, 1, 2, 3), st.permutations(range(N)), st.sampled_from(["uniform", "quantile"]))
def test_repetition_padding_and_order_change_nothing(table, times, order, strategy):
    *columns, _ = table
    order, weight = np.array(order), times.astype(np.float32)
    ours = everything(*columns, weight, strategy)
    padding = 3 * N - times.sum()
    repeated = (np.pad(np.repeat(column, times), (0, padding)) for column in (*columns, np.ones(N, np.float32)))
    assert_same(ours, everything(*repeated, strategy))
    assert_same(ours, everything(*(column[order] for column in columns), weight[order], strategy))
    labels, probabilities, groups = (
        np.where(weight > 0, c, bad) for c, bad in zip(columns, (9, np.float32(np.nan), 2), strict=True)
    )
    assert_same(ours, everything(labels, probabilities, groups, weight, strategy), rtol=0, atol=1e-7)


def test_perfect_calibration_has_no_error_and_its_gap_is_zero():
    labels = np.array([1, 0, 0, 0, 1, 1, 1, 0] * 2)
    probabilities, groups = np.repeat([0.25, 0.75, 0.25, 0.75], 4), np.repeat([0, 1], 8)
    ours = everything(labels, probabilities, groups, None)
    np.testing.assert_allclose(ours["error"], [0, 0, np.nan, np.nan], atol=1e-7)
    np.testing.assert_allclose(ours["difference"], 0, atol=1e-7)
    # All predictions turned: off by a half.
    worse = everything(labels, np.where(groups == 0, 1 - probabilities, probabilities), groups, None)
    np.testing.assert_allclose(worse["difference"], 0.5, rtol=1e-6)


def test_lanes_and_float64(x64):
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 2, (3, N)), random.integers(0, K, (3, N))
    probabilities, weight = random.uniform(size=(2, 3, N))
    weight[1], groups[2] = 0, 1
    lanes = jax.vmap(everything)(labels, probabilities, groups, weight)
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    for lane in range(3):
        one = jax.tree.map(lambda leaf, i=lane: leaf[i], lanes)
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(one))
        table = labels[lane], probabilities[lane], groups[lane], weight[lane]
        assert_same(one, expected(*table, inner), rtol=1e-12, atol=1e-12)
    single = everything(labels[0], probabilities[0].astype(np.float32), groups[0], None)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(single))


def test_values_outside_their_range_are_refused_or_nan():
    labels, groups = np.array([0, 1, 1]), np.array([0, 1, 1])
    for bad in (-0.5, 1.5, np.nan):
        probabilities = np.array([0.2, bad, 0.7], np.float32)
        with pytest.raises(ValueError, match=r"in \[0, 1\], but row 1 has .*jax.nn.sigmoid"):
            metrics.group_brier(labels, probabilities, groups, 2)
        traced = everything(labels, probabilities, groups, np.ones(3, np.float32))
        traced["curves"] = traced["curves"][1:]
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(traced))
        assert np.isfinite(metrics.group_brier(labels, probabilities, groups, 2, np.array([1.0, 0.0, 1.0]))).all()


LABELS, PROBABILITIES, GROUPS = [0, 1, 1], [0.2, 0.7, 0.9], [0, 1, 1]


@pytest.mark.parametrize(
    ("error", "message", "arguments", "options"),
    [
        (TypeError, "probabilities must hold floats", (LABELS, LABELS, GROUPS, 2), {}),
        (TypeError, "labels must hold classes", (PROBABILITIES, PROBABILITIES, GROUPS, 2), {}),
        (ValueError, "labels must be 0 or 1", ([0, 2, 1], PROBABILITIES, GROUPS, 2), {}),
        (ValueError, "probabilities has 2", (LABELS, PROBABILITIES[:2], GROUPS, 2), {}),
        (ValueError, "num_bins must be", (LABELS, PROBABILITIES, GROUPS, 2), {"num_bins": 0}),
        (ValueError, "unknown strategy 'quantiles'", (LABELS, PROBABILITIES, GROUPS, 2), {"strategy": "quantiles"}),
    ],
)
def test_wrong_input_is_named(error, message, arguments, options):
    with pytest.raises(error, match=message):
        metrics.calibration_difference(*arguments, **options)
