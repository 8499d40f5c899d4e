"""Designs: grids, samples and crossings as tables of trials."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from badrjax.sweeps.designs import choice, cross, grid, integers, log_uniform, sample, uniform
from badrjax.sweeps.trials import as_columns


def rows_of(design):
    return list(zip(*(column.tolist() for column in design.values()), strict=True))


values = st.lists(st.integers(-5, 5), min_size=1, max_size=4, unique=True)


@given(values, values, values)
def test_a_grid_is_the_product_in_order(a, b, c):
    assert rows_of(grid(a=a, b=b, c=c)) == list(itertools.product(a, b, c))


def test_a_grid_takes_ranges_arrays_and_single_values():
    design = grid(method="nash", rate=np.float32([0.1, 0.2]), wide=True, seed=range(2))
    assert list(design) == ["method", "rate", "wide", "seed"]
    assert rows_of(design)[1] == ("nash", np.float32(0.1), True, 1)
    assert [column.dtype.kind for column in design.values()] == ["U", "f", "b", "i"]
    assert design["rate"].dtype == np.float32


@given(values, values)
def test_crossing_a_grid_is_a_larger_grid(a, seeds):
    crossed, whole = cross(grid(a=a, b=["x", "yy"]), seed=seeds), grid(a=a, b=["x", "yy"], seed=seeds)
    assert list(crossed) == list(whole)
    assert rows_of(crossed) == rows_of(whole)


def test_crossing_a_frame_gives_each_row_each_seed():
    frame = pd.DataFrame({"rate": [0.1, 0.2, 0.3], "method": ["a", "b", "a"]})
    design = cross(frame, seed=range(5))
    assert as_columns(design)["seed"].dtype == np.uint32
    counted = pd.DataFrame(design).groupby(["rate", "method"]).seed.agg(list)
    assert counted.tolist() == [list(range(5))] * 3
    by_two = cross(frame, size=[1, 2], seed=range(2))
    assert rows_of(by_two)[:4] == [(0.1, "a", 1, 0), (0.1, "a", 1, 1), (0.1, "a", 2, 0), (0.1, "a", 2, 1)]


RANGES = {"a": uniform(-1, 3), "b": log_uniform(1e-4, 1.0), "c": integers(2, 7), "d": choice(["x", "y", "zz"])}


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_a_larger_sample_begins_with_the_smaller(method):
    small, large = (sample(num, seed=3, method=method, **RANGES) for num in (11, 70))
    assert rows_of(small) == rows_of(large)[:11]
    assert rows_of(small) == rows_of(sample(11, seed=3, method=method, **RANGES))
    assert rows_of(small) != rows_of(sample(11, seed=4, method=method, **RANGES))
    assert list(small) == list(RANGES)


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_samples_follow_their_distributions(method):
    design = sample(4096, seed=0, method=method, **RANGES)
    assert stats.kstest(design["a"], stats.uniform(-1, 4).cdf).pvalue > 1e-3
    assert stats.kstest(design["b"], stats.loguniform(1e-4, 1).cdf).pvalue > 1e-3
    for column, support in (("c", [2, 3, 4, 5, 6]), ("d", ["x", "y", "zz"])):
        found, counts = np.unique(design[column], return_counts=True)
        assert found.tolist() == support
        assert stats.chisquare(counts).pvalue > 1e-3


def test_sobol_points_are_balanced():
    # One point in each of n equal parts: what sets them apart from random ones.
    design = sample(64, seed=1, method="sobol", a=uniform(0, 1), b=uniform(0, 1))
    for column in design.values():
        assert sorted(np.floor(column * 64).astype(int)) == list(range(64))
    assert len(np.unique(np.floor(sample(64, seed=1, a=uniform(0, 1))["a"] * 64))) < 64


finite = st.floats(allow_nan=False, allow_infinity=False)
LARGEST = 1 - 2**-53  # of the numbers below 1


@given(finite, finite)
@example(-1.7e308, 1.7e308)
def test_uniform_samples_stay_within_bounds(one, other):
    low, high = sorted((one, other))
    if low < high:
        at = uniform(low, high).at(np.array([0.0, 0.3, LARGEST]))
        assert ((at >= low) & (at <= high)).all()


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_log_uniform_samples_stay_within_bounds(one, other):
    low, high = sorted((one, other))
    if low < high:
        at = log_uniform(low, high).at(np.array([0.0, 0.5, LARGEST]))
        assert ((at >= low) & (at <= high)).all()
        np.testing.assert_allclose(at[1], np.sqrt(low) * np.sqrt(high), rtol=1e-10)


@given(st.integers(-(2**53), 2**53), st.integers(-(2**53), 2**53))
@example(-(2**53), 2**53 - 1)
def test_whole_numbers_stay_within_bounds(one, other):
    low, high = sorted((one, other))
    if low < high:
        first, last = integers(low, high).at(np.array([0.0, LARGEST])).tolist()
        assert first == low
        assert low <= last < high


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 99), st.sampled_from(["random", "sobol"]))
def test_sampled_rows_are_different(num, seed, method):
    drawn = rows_of(sample(num, seed=seed, method=method, a=integers(0, 3), b=choice([1, 2, 3, 4])))
    assert len(set(drawn)) == num
    assert drawn == rows_of(sample(12, seed=seed, method=method, a=integers(0, 3), b=choice([1, 2, 3, 4])))[:num]
    assert set(drawn) <= set(itertools.product(range(3), [1, 2, 3, 4]))


def test_more_rows_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="1024 draws gave 12 different rows"):
        sample(13, seed=0, a=integers(0, 3), b=choice([1, 2, 3, 4]))


def test_a_value_listed_twice_is_twice_as_likely():
    drawn = sample(3000, seed=0, a=choice(["x", "x", "y"]), b=uniform(0, 1))["a"]
    assert stats.binomtest(int((drawn == "x").sum()), 3000, 2 / 3).pvalue > 1e-3


def test_large_whole_numbers_are_drawn_as_seeds():
    drawn = sample(100, seed=0, trial_seed=integers(0, 2**32))["trial_seed"]
    assert drawn.dtype == np.int64
    assert drawn.min() >= 0
    assert drawn.max() < 2**32
    assert drawn.max() > 2**31


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: grid(), ValueError, "at least one column"),
        (lambda: grid(a=[]), ValueError, "column 'a' has no values"),
        (lambda: grid(a=[1.0, np.nan]), ValueError, "NaN in place 1"),
        (lambda: grid(a=[1, 2, 1]), ValueError, "column 'a' has 1 2 times"),
        (lambda: grid(a=["x", 1]), TypeError, "numbers and text"),
        (lambda: grid(a=[True, 2]), TypeError, "booleans and numbers"),
        (lambda: grid(a=None), TypeError, "got None"),
        (lambda: grid(a={1, 2}), TypeError, "without an order"),
        (lambda: grid(a=[[1, 2], [3, 4]]), TypeError, "numbers, booleans or text"),
        (lambda: grid(a=np.ones((2, 2))), ValueError, r"shape \(2, 2\)"),
        (lambda: grid(a=[2**70]), ValueError, "64 bits"),
        (lambda: grid(a=[2**63, -1]), ValueError, "64 bits"),
        (lambda: grid(**{"a-b": [1]}), ValueError, "'a-b' cannot be the name"),
        (lambda: cross(grid(a=[1]), a=[2]), ValueError, "column 'a' already"),
        (lambda: cross([1, 2], a=[2]), TypeError, "got list"),
        (lambda: cross({}, a=[2]), ValueError, "no columns"),
        (lambda: cross({"a": [1, 2], "b": [1]}, c=[2]), ValueError, "a has 2, b has 1"),
        (lambda: cross(pd.DataFrame({"a": []}), c=[2]), ValueError, "'a' has no values"),
        (lambda: uniform(1, 1), ValueError, "low < high"),
        (lambda: uniform(0, np.inf), ValueError, "high of uniform must be finite"),
        (lambda: uniform(np.nan, 1), ValueError, "low of uniform must be finite"),
        (lambda: uniform("0", 1), TypeError, "must be a number"),
        (lambda: log_uniform(0, 1), ValueError, "low > 0"),
        (lambda: integers(3, 3), ValueError, "low < high"),
        (lambda: integers(0, 3.0), TypeError, "high of integers must be a whole number"),
        (lambda: integers(0, 2**54), ValueError, r"2\*\*53"),
        (lambda: choice([]), ValueError, "choice has no values"),
        (lambda: sample(4, seed=0), ValueError, "at least one range"),
        (lambda: sample(0, seed=0, a=uniform(0, 1)), ValueError, "num must be at least 1"),
        (lambda: sample(2.0, seed=0, a=uniform(0, 1)), TypeError, "num must be a whole number"),
        (lambda: sample(2, seed=-1, a=uniform(0, 1)), ValueError, "seed at least 0"),
        (lambda: sample(2, seed=0, method="halton", a=uniform(0, 1)), ValueError, "'random' or 'sobol'"),
        (lambda: sample(2, seed=integers(0, 9), a=uniform(0, 1)), TypeError, r"cross\(design, seed="),
        (lambda: sample(2, seed=0, method=choice(["x"])), TypeError, r"cross\(design, method="),
        (lambda: sample(2, seed=0, a=0.5), TypeError, "a must be a range"),
        (lambda: sample(2, seed=0, **{"a b": uniform(0, 1)}), ValueError, "'a b' cannot be the name"),
    ],
)
def test_bad_designs_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_crossed_sample_is_a_table_of_trials():
    design = cross(sample(8, seed=0, method="sobol", rate=log_uniform(1e-3, 1)), method=["a", "b"], seed=range(3))
    columns = as_columns(design)
    frame = as_columns(pd.DataFrame(design))
    assert {name: column.tolist() for name, column in columns.items()} == {
        name: column.tolist() for name, column in frame.items()
    }
    assert len(columns["seed"]) == 48


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_rows_differ_in_the_precision_of_the_run(method):
    drawn = sample(2000, seed=1, method=method, rate=log_uniform(0.01, 0.1))["rate"]
    assert len(set(drawn.astype(np.float32).tolist())) == 2000
    with pytest.raises(ValueError, match="different rows"):
        sample(2, seed=0, method=method, rate=log_uniform(1e-300, 1e-290))
