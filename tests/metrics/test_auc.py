"""Facts about the area under the ROC curve: agreement with scikit-learn, precision and corners."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sklearn
from hypothesis import given, settings

from badrjax import metrics
from tests.metrics.tables import assert_same, everything, tables


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighting", ["spread", *(pytest.param(w, marks=pytest.mark.slow) for w in ("none", "equal"))])
def test_auc_of_many_rows_in_float32(ties, weighting):
    random = np.random.default_rng(4)
    n, num_groups = 200_000, 50
    labels = random.integers(0, 2, n)
    scores = (random.normal(size=n) + 0.5 * labels).astype(np.float32)
    scores = scores.round(1) if ties else scores
    groups = random.integers(0, num_groups, n)
    weight = {
        "none": None,
        "equal": np.full(n, 0.1, np.float32),
        "spread": random.exponential(size=n).astype(np.float32),
    }[weighting]
    expected = sklearn.roc_auc_score(labels, scores, sample_weight=weight)
    assert abs(metrics.auc(labels, scores, weight) - expected) < 5e-7
    ours = metrics.group_auc(labels, scores, groups, num_groups, weight)
    for k in range(0, num_groups, 7):
        mine = groups == k
        expected = sklearn.roc_auc_score(
            labels[mine], scores[mine], sample_weight=None if weight is None else weight[mine]
        )
        assert abs(ours[k] - expected) < 1e-6


def test_a_light_group_beside_a_heavy_one_keeps_its_digits():
    random = np.random.default_rng(5)
    groups = np.repeat([0, 1, 2], [5000, 50, 5000])
    labels = random.integers(0, 2, groups.size)
    scores = random.normal(size=groups.size).astype(np.float32)
    for scale in (1e-12, 1e12):
        weight = np.where(groups == 1, np.float32(scale), np.float32(1))
        ours = metrics.group_auc(labels, scores, groups, 3, weight)[1]
        np.testing.assert_allclose(ours, sklearn.roc_auc_score(labels[groups == 1], scores[groups == 1]), rtol=1e-6)


def test_auc_at_its_corners():
    scores = np.arange(1000, dtype=np.float32)
    weight = np.random.default_rng(4).uniform(0.1, 3, 1000).astype(np.float32)
    for negatives in range(100, 1000, 100):
        labels = np.repeat([0, 1], [negatives, 1000 - negatives])
        for given_weight in (np.ones_like(weight), weight):
            worst = metrics.auc(labels, -scores, given_weight)
            best = metrics.auc(labels, scores, given_weight)
            assert 0 <= worst <= 5e-7
            assert 1 - 5e-7 <= best <= 1
            ties = metrics.auc(labels, np.ones(1000, np.float32), given_weight)
            np.testing.assert_allclose(ties, 0.5, rtol=1e-6)
            # Counts are exact.
            assert given_weight is weight or (worst, best, ties) == (0, 1, 0.5)


@settings(deadline=None, max_examples=20)
@given(tables(3))
def test_auc_depends_on_the_ranking_alone_and_turns_with_it(table):
    labels, predictions, scores, rows = table
    ours = everything(*table, 3)
    up = everything(labels, predictions, np.float32(2) * np.cbrt(scores), rows, 3)
    down = everything(labels, predictions, -scores, rows, 3)
    swapped = everything(1 - labels, predictions, scores, rows, 3)
    for name in ("auc", "group_auc"):
        assert_same(ours[name], up[name])
        assert_same(ours[name], 1 - down[name])
        assert_same(ours[name], 1 - swapped[name])


def test_a_nan_score_that_counts_shows_in_its_group_only():
    labels, groups = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    for row, bad in ((2, 1), (3, 1), (5, 2), (0, 0)):
        scores = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0], np.float32)
        scores[row] = np.nan
        ours = metrics.group_auc(labels, scores, groups, 4)
        np.testing.assert_array_equal(np.isnan(ours), [bad == 0, bad == 1, bad == 2, True])
        assert np.isnan(metrics.auc(labels, scores))


def test_the_smallest_differences_between_scores_count():
    # Below the normal range of float32, and next to each other.
    for low, high in (
        (1e-40, 2e-40),
        (-1e-40, 0.0),
        (-2e-40, -1e-40),
        (1.0, np.nextafter(np.float32(1), np.float32(2))),
    ):
        scores = np.array([low, high], np.float32)
        assert metrics.auc(np.array([0, 1]), scores) == 1
        assert metrics.auc(np.array([1, 0]), scores) == 0
    assert metrics.auc(np.array([0, 1]), np.array([0.0, -0.0])) == 0.5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_scores_of_any_float_type(dtype):
    labels = np.array([0, 1, 1, 0, 1])
    scores = np.array([0.0, 0.5, 2.0, 0.5, 1.0]).astype(dtype)
    assert metrics.auc(labels, scores) == pytest.approx(5.5 / 6)
