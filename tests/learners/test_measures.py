"""Measures against fairlearn and the row-wise bootstrap, floors against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fairlearn import metrics as fairlearn_metrics
from scipy import stats
from sklearn import metrics as sklearn_metrics

import badrjax as bx
from badrjax.learners.measures import GAPS, MERGED, measure, partitions_of, partitions_of_dataset, wilson
from tests.learners.test_learners import made_up

N = 400
RNG = np.random.default_rng(0)
SEX, RACE = RNG.integers(0, 2, N), RNG.integers(0, 3, N)
LABELS = RNG.integers(0, 2, N)
PREDICTED = np.where(RNG.uniform(size=N) < 0.2 + 0.3 * SEX, 1, LABELS)
ATTRIBUTES = {"sex": bx.encode_groups(SEX), "race": bx.encode_groups(RACE)}
PARTITIONS = partitions_of(ATTRIBUTES)


@pytest.fixture(scope="module")
def found():
    return measure(jax.random.key(0), "classification", LABELS, PREDICTED, PARTITIONS, num_samples=600)


def test_partitions_are_attributes_and_their_intersections(found):
    assert list(PARTITIONS) == ["sex", "race", "sex & race"]
    assert [part.name for part in found.partitions] == ["sex", "race", "sex & race"]
    assert [part.counts.sum() for part in found.partitions] == [N, N, N]
    assert found.partitions[2].group_names == tuple(f"{s} & {r}" for s in range(2) for r in range(3))


def test_estimates_are_those_of_fairlearn_and_scikit_learn(found):
    assert found.overall["accuracy"].value == pytest.approx(sklearn_metrics.accuracy_score(LABELS, PREDICTED))
    assert found.overall["balanced accuracy"].value == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(LABELS, PREDICTED)
    )
    assert found.overall["F1"].value == pytest.approx(sklearn_metrics.f1_score(LABELS, PREDICTED))
    for part, sensitive in zip(found.partitions, (SEX, RACE, SEX * 3 + RACE), strict=True):
        for gap in ("demographic_parity", "equalized_odds"):
            reference = getattr(fairlearn_metrics, f"{gap}_difference")
            expected = reference(LABELS, PREDICTED, sensitive_features=sensitive)
            assert part.gaps[gap].value == pytest.approx(expected, abs=1e-6)
        frame = fairlearn_metrics.MetricFrame(
            metrics=fairlearn_metrics.selection_rate, y_true=LABELS, y_pred=PREDICTED, sensitive_features=sensitive
        )
        np.testing.assert_allclose(part.by_group["positive_rate"].value, frame.by_group, atol=1e-6)


def test_intervals_from_the_table_of_counts_are_those_over_rows(found):
    """Rows that are alike resample as one row of that weight: the same distribution, other draws."""

    @jax.jit
    def over_rows(key):
        def gap(weight):
            return bx.metrics.demographic_parity_difference(
                jnp.asarray(LABELS), jnp.asarray(PREDICTED), jnp.asarray(SEX), 2, weight
            )

        return bx.bootstrap(key, gap, N, num_samples=2000)

    reference, gap = over_rows(jax.random.key(1)), found.partitions[0].gaps["demographic_parity"]
    assert gap.low == pytest.approx(float(reference.low), abs=0.015)
    assert gap.high == pytest.approx(float(reference.high), abs=0.015)
    assert gap.upper_bound == pytest.approx(float(reference.upper_bound), abs=0.015)


def test_the_floor_is_that_of_two_binomial_rates(found):
    n, m = np.bincount(SEX)
    p = PREDICTED.mean()
    expected = np.sqrt(2 * p * (1 - p) * (1 / n + 1 / m) / np.pi)
    assert found.partitions[0].gaps["demographic_parity"].floor == pytest.approx(expected, rel=0.1)
    for part in found.partitions:
        for gap in GAPS:
            assert part.gaps[gap].floor <= part.gaps[gap].floor_95


def test_order_of_rows_does_not_matter(found):
    order = np.random.default_rng(1).permutation(N)
    moved = {name: groups._replace(ids=groups.ids[order]) for name, groups in PARTITIONS.items()}
    again = measure(jax.random.key(0), "classification", LABELS[order], PREDICTED[order], moved, num_samples=600)
    assert again.overall == found.overall
    assert again.partitions[2].gaps == found.partitions[2].gaps


def test_a_regression_has_errors_by_group():
    targets = RNG.normal(size=N).astype(np.float32)
    predicted = targets + 0.5 * SEX.astype(np.float32)
    (part,) = measure(
        jax.random.key(0), "regression", targets, predicted, {"sex": ATTRIBUTES["sex"]}, num_samples=200
    ).partitions
    np.testing.assert_allclose(part.by_group["mean_error"].value, [0, 0.5], atol=1e-6)
    np.testing.assert_allclose(part.by_group["rmse"].value, [0, 0.5], atol=1e-6)
    assert part.gaps["mean_error"].value == pytest.approx(0.5, abs=1e-6)
    # Far above what dealing the groups anew gives, 0.5 * sqrt(2 / pi) * sqrt(1 / n) and some.
    assert part.gaps["mean_error"].floor_95 < 0.12
    np.testing.assert_allclose(part.base, [targets[s == SEX].mean() for s in (0, 1)], atol=1e-6)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="one entry per example"):
        measure(jax.random.key(0), "classification", LABELS[:-1], PREDICTED, PARTITIONS)


def test_shares_have_wilsons_interval_and_few_rows_have_no_bootstrap(found):
    whole = found.overall["accuracy"]
    reference = stats.binomtest(round(whole.value * N), N).proportion_ci(0.95, method="wilson")
    assert (whole.low, whole.high) == pytest.approx((reference.low, reference.high), abs=1e-6)
    alone = wilson([1.0, 0.0, np.nan], [1, 2, 0])
    np.testing.assert_allclose(alone.low, [0.2065, 0.0, np.nan], atol=1e-3)
    np.testing.assert_allclose(alone.high, [1.0, 0.6576, np.nan], atol=1e-3)
    few = {"one": bx.encode_groups(np.arange(N) < 9), "ten": bx.encode_groups(np.arange(N) < 10)}
    nine, ten = measure(jax.random.key(0), "classification", LABELS, PREDICTED, few, num_samples=100).partitions
    assert np.isnan(nine.gaps["demographic_parity"].upper_bound)
    assert np.isfinite(ten.gaps["demographic_parity"].upper_bound)
    assert np.isfinite(nine.gaps["demographic_parity"].floor)


def test_merged_groups_are_a_partition_of_their_own():
    data = bx.datasets.merge_small_groups(made_up(), 2)
    assert list(partitions_of_dataset(data)) == ["sex", "race", "sex & race", MERGED]
    assert partitions_of_dataset(data)[MERGED].names == data.group_names
    assert list(partitions_of_dataset(made_up())) == ["sex", "race", "sex & race"]
