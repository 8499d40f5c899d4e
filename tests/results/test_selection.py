"""Three rules for the epoch side by side, and the interval where all seeds agree."""

import numpy as np
import pytest
from scipy import stats

from badrjax import results
from tests.results.cases import learning_curves


def test_each_rule_reads_its_epoch():
    values = np.tile([0.1, 0.2, 0.3], (6, 1)) + 0.001 * np.arange(6)[:, None]
    validation, test = np.zeros((2, 6, 3))
    validation[:, 0] = test[:, 1] = 1.0
    found = results.compare_selections(values, validation, test, seed=0)
    means = [interval.mean for interval in found]
    np.testing.assert_allclose(means, [0.3025, 0.1025, 0.2025, 0.1])
    assert found.optimism.half_width == pytest.approx(0, abs=1e-9)
    assert found.last == results.mean_interval(values[:, -1])


def test_epochs_chosen_on_test_rows_flatter_and_more_so_with_fewer_seeds():
    generator = np.random.default_rng(0)
    test, validation = learning_curves(generator, 60), learning_curves(generator, 60)
    few, many = (
        results.compare_selections(test, validation, test, seed=0, group_size=size, num_resamples=500)
        for size in (2, 30)
    )
    assert few.optimism.mean > many.optimism.mean > 0
    assert few.optimism.mean - few.optimism.half_width > 0
    assert few.validation == many.validation


def test_the_figure_selected_on_test_is_that_of_the_papers_groups():
    generator = np.random.default_rng(1)
    test = learning_curves(generator, 50)
    found = results.compare_selections(test, test, test, seed=0)
    cell = results.compare_cell(test, results.Printed(0.8), seed=0, epoch="group_mean", scores=test)
    assert found.test.mean == pytest.approx(cell.mean, abs=3e-4)


def test_diverged_seeds_are_counted_in_every_figure():
    values = learning_curves(np.random.default_rng(2), 8)
    values[3, 0] = np.nan
    found = results.compare_selections(values, np.ones_like(values), np.ones_like(values), seed=0)
    assert {(interval.num_finite, interval.num_diverged) for interval in found} == {(7, 1)}
    none = results.compare_selections(values * np.nan, values, values, seed=0)
    assert {interval.num_diverged for interval in none} == {8}


def test_both_kinds_of_intervals():
    values = learning_curves(np.random.default_rng(3), 5)
    student, paper = (results.compare_selections(values, values, values, seed=0, kind=k) for k in ("student", "paper"))
    ratio = stats.t.ppf(0.975, 4) / stats.norm.ppf(0.975) * np.sqrt(5 / 4)
    assert student.last.half_width == pytest.approx(ratio * paper.last.half_width)


def test_where_seeds_agree_the_rows_decide():
    bounds = results.seeds_or_rows(np.full(5, 30 / 36), num_rows=36)
    expected = stats.binomtest(30, 36).proportion_ci(method="wilson")
    assert bounds == (pytest.approx(30 / 36), expected.low, expected.high, "rows")
    assert results.seeds_or_rows(np.full(5, 1.0), num_rows=36).low < 0.95


def test_where_seeds_differ_they_decide():
    values = np.array([30, 31, 30, np.nan]) / 36
    bounds = results.seeds_or_rows(values, num_rows=36)
    interval = results.mean_interval(values)
    assert bounds.over == "seeds"
    assert bounds.high - bounds.mean == pytest.approx(interval.half_width)


def test_bad_arguments():
    curves = np.zeros((6, 3))
    with pytest.raises(ValueError, match="epochs"):
        results.compare_selections(curves[:, 0], curves[:, 0], curves[:, 0], seed=0)
    with pytest.raises(ValueError, match="group_size"):
        results.compare_selections(curves, curves, curves, seed=0, group_size=0)
    with pytest.raises(ValueError, match="shares"):
        results.seeds_or_rows([1.5, 1.5], num_rows=3)
    with pytest.raises(ValueError, match="num_rows"):
        results.seeds_or_rows([0.5, 0.5], num_rows=0)
