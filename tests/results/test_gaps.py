"""Thresholds, floors, and fronts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import badrjax as bx
from badrjax import metrics, results
from tests.results.cases import balanced_rows


def positive_rate(outputs, weight):
    return (weight * outputs).sum() / weight.sum()


def test_a_threshold_is_met_by_its_upper_bound():
    outputs = np.tile(np.arange(400) < 40, (3, 1)).astype(float)  # one in ten, with a standard error of 0.015
    found = {t: results.check_threshold(positive_rate, outputs, t, seed=0) for t in (0.09, 0.11, 0.13)}
    assert [check.met for check in found.values()] == [False, False, True]
    assert [check.share_below for check in found.values()] == [0, 1, 1]
    assert [check.share_met for check in found.values()] == [0, 0, 1]
    assert found[0.13].estimate == pytest.approx(0.1)
    assert found[0.13].upper_bound == pytest.approx(0.1 + 1.645 * 0.015, abs=0.004)


def test_seeds_that_diverge_do_not_meet_a_threshold():
    outputs = np.zeros((20, 30))
    outputs[0] = np.nan
    few = results.check_threshold(positive_rate, outputs, 0.1, seed=0, num_resamples=50)
    assert (few.met, few.share_met, few.num_diverged) == (True, 0.95, 1)
    outputs[:3] = np.nan
    assert not results.check_threshold(positive_rate, outputs, 0.1, seed=0, num_resamples=50).met
    none = results.check_threshold(positive_rate, outputs * np.nan, 0.1, seed=0)
    assert (none.met, none.share_met, none.num_diverged) == (False, 0.0, 20)


def test_copies_of_rows_are_drawn_together_and_the_floor_is_shown():
    outputs, copies = np.arange(50) < 10, np.arange(100) % 50
    options = {"seed": 0, "floor": 0.04}
    once = results.check_threshold(positive_rate, outputs, 0.3, **options)
    twice = results.check_threshold(positive_rate, outputs[copies], 0.3, rows=copies, **options)
    assert twice.upper_bound == pytest.approx(once.upper_bound, abs=0.025)
    assert once.floor == 0.04
    assert np.isnan(results.check_threshold(positive_rate, outputs, 0.3, seed=0).floor)


def test_a_constant_predictor_has_no_gap():
    labels, groups = balanced_rows(np.random.default_rng(0), 10)
    constant = results.constant_predictions(labels)
    assert np.array_equal(constant, np.zeros(40, int))
    assert metrics.demographic_parity_difference(labels, constant, groups, 2) == 0
    assert results.constant_predictions([0, 1], [1, 2]).tolist() == [1, 1]
    with pytest.raises(ValueError, match="labels"):
        results.constant_predictions([0, 2])


def test_the_floor_is_that_of_the_package():
    generator = np.random.default_rng(1)
    labels, groups = balanced_rows(generator, 8)
    predictions = generator.integers(0, 2, (3, labels.size))
    for name in ("demographic_parity", "equalized_odds"):
        found = results.gap_beside_floor(labels, predictions, groups, 2, seed=5, difference=name, num_samples=500)
        floors = [
            getattr(bx.noise_floor(jax.random.key(5), labels, one, groups, 2, num_samples=500), name)
            for one in predictions
        ]
        measured = [getattr(metrics, f"{name}_difference")(labels, one, groups, 2) for one in predictions]
        assert found.floor == pytest.approx(np.mean([floor.mean for floor in floors]), rel=1e-5)
        assert found.quantile == pytest.approx(np.mean([floor.quantile for floor in floors]), rel=1e-5)
        assert found.gap == pytest.approx(np.mean(measured), rel=1e-5)
        assert found.below == (found.gap < found.floor)


def test_a_repeated_row_counts_once_in_the_floor():
    generator = np.random.default_rng(2)
    labels, groups = balanced_rows(generator, 8)
    predictions, copies = generator.integers(0, 2, labels.size), np.tile(np.arange(labels.size), 4)
    options = {"seed": 0, "difference": "demographic_parity"}
    once = results.gap_beside_floor(labels, predictions, groups, 2, **options)
    repeated = labels[copies], predictions[copies], groups[copies], 2
    told, blind = (results.gap_beside_floor(*repeated, rows=rows, **options) for rows in (copies, None))
    assert told == pytest.approx(once)
    assert blind.floor < 0.6 * once.floor


def test_the_floor_of_balanced_accuracy_is_that_of_permuted_groups():
    generator = np.random.default_rng(3)
    labels, groups = balanced_rows(generator, 40)
    predictions = np.where(generator.uniform(size=labels.size) < 0.8, labels, 1 - labels)
    permuted = bx.permutation_floor(
        jax.random.key(0),
        lambda groups: jnp.ptp(metrics.group_balanced_accuracy(labels, predictions, groups, 2)),
        groups,
        labels,
    )
    right = [(predictions == labels)[labels == label].mean() for label in (1, 0)]
    floor = results.balanced_accuracy_gap_floor(
        [40, 40], [40, 40], true_positive_rate=right[0], true_negative_rate=right[1], seed=0
    )
    assert floor == pytest.approx(float(permuted.mean), rel=0.05)


def test_nine_rows_a_cell_show_a_gap_of_four_hundredths_at_parity():
    # Two groups of a test set with 36 rows, of which 98.3% are classified as labelled.
    floor = results.balanced_accuracy_gap_floor(
        [9, 9], [9, 9], true_positive_rate=0.983, true_negative_rate=0.983, seed=0
    )
    assert 0.02 < floor < 0.06


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: results.check_threshold(positive_rate, np.zeros(3), np.inf, seed=0), "threshold"),
        (lambda: results.gap_beside_floor([0], [0], [0], 1, seed=0, difference="parity"), "difference"),
        (lambda: results.gap_beside_floor([0], [[[0]]], [0], 1, seed=0), "outputs"),
        (lambda: results.balanced_accuracy_gap_floor([1], [1], true_positive_rate=1, true_negative_rate=1, seed=0),
         "two groups"),
        (lambda: results.balanced_accuracy_gap_floor([1, 0], [1, 1], true_positive_rate=1, true_negative_rate=1,
                                                     seed=0), "both labels"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
