"""A printed mean against many seeds: closed forms, size, power and invariances."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from badrjax.results import Printed, compare_cell
from badrjax.results.cells import two_sided_tail
from tests.results.cases import best_epoch_mean, learning_curves

SIMULATIONS = 1500


def p_values(draw, simulations=SIMULATIONS):
    """p-values of many cells, `draw()` giving one."""
    return np.array([draw() for _ in range(simulations)])


def plain(generator, shift=0.0, decimals=3):
    ours, theirs = generator.normal(size=50), generator.normal(size=5) + shift
    printed = Printed(round(0.8 + 0.02 * theirs.mean(), decimals), decimals)
    return compare_cell(0.8 + 0.02 * ours, printed, seed=0).p_value


def selected(generator):
    ours, theirs = learning_curves(generator, 50), learning_curves(generator, 5)
    printed = Printed(round(best_epoch_mean(theirs, theirs), 3))
    return compare_cell(ours, printed, seed=0, epoch="group_mean", scores=ours).p_value


def test_identical_processes_differ_in_a_twentieth_of_cells():
    generator = np.random.default_rng(0)
    p = p_values(lambda: plain(generator))
    # 5.7% by 40000 cells: the quantiles of resamples are those of a normal, not of a Student distribution.
    assert 0.04 < np.mean(p <= 0.05) < 0.07
    assert np.mean(p <= 0.01) < 0.022


@pytest.mark.slow
def test_the_same_holds_where_the_epoch_is_selected():
    generator = np.random.default_rng(1)
    p = p_values(lambda: selected(generator), 600)
    assert 0.02 < np.mean(p <= 0.05) < 0.06


def test_the_same_holds_for_skewed_values():
    generator = np.random.default_rng(2)
    draw = lambda n: 0.02 * generator.gamma(2, size=n)  # noqa: E731
    p = p_values(lambda: compare_cell(draw(50), Printed(round(draw(5).mean(), 3)), seed=0).p_value)
    assert 0.03 < np.mean(p <= 0.05) < 0.07


def test_a_paper_that_selects_an_epoch_is_not_compared_with_the_last():
    generator = np.random.default_rng(3)
    last = []
    for _ in range(300):
        ours, theirs = learning_curves(generator, 50), learning_curves(generator, 5)
        last.append(compare_cell(ours, Printed(best_epoch_mean(theirs, theirs), 6), seed=0).p_value)
    assert np.mean(np.array(last) <= 0.05) > 0.08


def test_shifts_of_standard_deviations_are_found():
    generator = np.random.default_rng(4)
    assert np.mean(p_values(lambda: plain(generator, shift=2.0)) <= 0.05) > 0.97
    assert 0.4 < np.mean(p_values(lambda: plain(generator, shift=1.0)) <= 0.05) < 0.65


def test_the_naive_rule_calls_identical_processes_different_far_more_often():
    # The paper's mean in our interval, or ours in theirs, with five seeds each and their 1.96 sd(ddof 0) / sqrt(5).
    ours, theirs = np.random.default_rng(5).normal(size=(2, 50000, 5))
    half_widths = [1.96 * x.std(axis=1) / np.sqrt(5) for x in (ours, theirs)]
    apart = ours.mean(axis=1) - theirs.mean(axis=1)
    assert 0.10 < np.mean(np.abs(apart) > np.maximum(*half_widths)) < 0.20
    # And it passes a shift of a whole standard deviation about half the time.
    assert 0.35 < np.mean(np.abs(apart + 1) <= np.maximum(*half_widths)) < 0.55


def test_the_prediction_interval_is_that_of_normal_theory():
    values = np.random.default_rng(6).normal(size=60)
    cell = compare_cell(values, Printed(0.0, 6, num_seeds=4), seed=1, num_resamples=40000)
    half_width = stats.norm.ppf(0.975) * values.std(ddof=1) * np.sqrt(1 / 4 + 1 / 60)
    assert cell.half_width == pytest.approx(half_width, rel=0.02)
    assert cell.mean == pytest.approx(values.mean())
    assert cell.difference == pytest.approx(values.mean())
    assert (cell.low + cell.high) / 2 == pytest.approx(values.mean(), abs=0.05)


def test_the_prediction_interval_covers_the_mean_of_other_seeds():
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(SIMULATIONS):
        cell = compare_cell(generator.normal(size=50), Printed(generator.normal(size=5).mean(), 6), seed=0)
        inside += cell.low <= cell.printed.mean <= cell.high
    assert 0.93 < inside / SIMULATIONS < 0.965


def test_the_tail_is_counted_and_continued_beyond_all_draws():
    drawn = np.random.default_rng(8).normal(size=2000)
    for z in (0.5, 1.5, 2.5):
        assert two_sided_tail(drawn, z, 0.0) == pytest.approx(2 * stats.norm.sf(z), rel=0.25)
    # Cautious, for the normal tail falls faster than an exponential one; yet small enough for a table of 168 cells.
    for z in (4.5, 6.0):
        assert 2 * stats.norm.sf(z) < two_sided_tail(drawn, z, 0.0) < 0.05 / 168


def test_the_tail_of_an_exponential_is_continued_nearly_as_it_is():
    drawn = np.random.default_rng(9).exponential(size=20000)
    assert np.log(two_sided_tail(drawn, 15.0, 0.0)) == pytest.approx(np.log(2) - 15.0, abs=1.0)


def test_no_single_set_of_groups_errs_for_all_cells():
    generator = np.random.default_rng(14)
    draw = lambda: compare_cell(generator.normal(size=100), Printed(generator.normal(size=5).mean(), 6), seed=0)  # noqa: E731
    p = p_values(lambda: draw().p_value, 3000)
    assert 0.04 < np.mean(p <= 0.05) < 0.064
    assert np.mean(p <= 0.01) < 0.019


def test_seeds_that_all_agree_match_what_rounds_to_them_and_nothing_else():
    values = np.full(50, 0.98349)
    cell = compare_cell(values, Printed(0.983, 3), seed=0)
    assert (cell.p_value, cell.half_width) == (1.0, pytest.approx(0, abs=1e-12))
    assert compare_cell(values, Printed(0.984, 3), seed=0).p_value == 0.0


def test_outer_groups_that_tie_do_not_make_a_number_impossible():
    values = np.full(50, 0.98)
    values[0] = 0.9  # no group of five holds it twice
    p_value = compare_cell(values, Printed(0.948, 3), seed=0).p_value
    assert 0 < p_value < 0.001


def test_rounding_counts():
    values = 0.8 + 0.001 * np.random.default_rng(10).normal(size=50)
    rough, fine = (compare_cell(values, Printed(0.81, decimals), seed=0).p_value for decimals in (1, 4))
    assert rough == 1.0
    assert fine < 1e-3


def test_the_epoch_is_that_of_the_paper():
    values, scores = np.zeros((50, 3)), np.zeros((50, 3))
    values[:] = [0.1, 0.2, 0.3]
    scores[:, 1] = 1.0
    for epoch, expected in (("group_mean", 0.2), ("per_seed", 0.2)):
        cell = compare_cell(values, Printed(0.2), seed=0, epoch=epoch, scores=scores)
        assert cell.mean == pytest.approx(expected)
    assert compare_cell(values, Printed(0.2), seed=0).mean == pytest.approx(0.3)
    # Epochs that tie: the first.
    tied = np.tile([1 / 36, 5 / 36, 5 / 36], (50, 1))
    assert compare_cell(values, Printed(0.2), seed=0, epoch="group_mean", scores=tied).mean == pytest.approx(0.2)


def test_diverged_seeds_are_counted():
    values = np.random.default_rng(11).normal(size=60)
    whole = compare_cell(values[:55], Printed(0.1), seed=0)
    values[55:] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    cell = compare_cell(values, Printed(0.1), seed=0)
    assert (cell.num_seeds, cell.num_diverged) == (60, 5)
    assert cell.p_value == whole.p_value
    few = compare_cell(np.where(np.arange(60) < 9, values, np.nan), Printed(0.1), seed=0)
    assert np.isnan([few.p_value, few.low, few.high, few.half_width]).all()
    assert (few.mean, few.num_diverged) == (pytest.approx(values[:9].mean()), 51)
    assert np.isnan(compare_cell(np.full(50, np.nan), Printed(0.1), seed=0).mean)


def test_a_seed_that_diverges_on_the_way_matters_only_where_an_epoch_is_selected():
    values = np.random.default_rng(12).normal(size=(50, 4))
    values[0, 1] = np.nan
    assert compare_cell(values, Printed(0.1), seed=0).num_diverged == 0
    assert compare_cell(values, Printed(0.1), seed=0, epoch="per_seed", scores=values).num_diverged == 1


@hypothesis.given(st.integers(0, 2**31), st.sampled_from(["last", "group_mean", "per_seed"]))
@hypothesis.settings(max_examples=25, deadline=None)
def test_the_order_of_seeds_changes_nothing(seed, epoch):
    generator = np.random.default_rng(seed)
    values, scores = generator.integers(0, 9, size=(2, 50, 3)) / 36
    order = generator.permutation(50)
    arrays = (values, scores), (values[order], scores[order])
    first, second = (
        compare_cell(v, Printed(0.1), seed=0, epoch=epoch, scores=None if epoch == "last" else s) for v, s in arrays
    )
    np.testing.assert_allclose(first[1:], second[1:], rtol=1e-12)


@hypothesis.given(st.integers(0, 2**31), st.lists(st.floats(0, 30), min_size=2, max_size=12))
@hypothesis.settings(max_examples=50, deadline=None)
def test_p_values_fall_with_the_distance(seed, distances):
    values = np.random.default_rng(seed).standard_t(4, size=50)
    centre = compare_cell(values, Printed(0.0, 6), seed=0)
    # From the ends of the interval, for the least suspicious mean is the median of the groups and not their mean.
    for start, side in ((centre.low, -1), (centre.high, 1)):
        p = [compare_cell(values, Printed(start + side * d, 6), seed=0).p_value for d in sorted(distances)]
        assert np.all(np.diff(p) <= 0)


def test_the_seed_decides_the_draws():
    values = np.random.default_rng(13).normal(size=50)
    cells = [compare_cell(values, Printed(0.5), seed=seed) for seed in (0, 0, 1)]
    assert cells[0] == cells[1] != cells[2]


@pytest.mark.parametrize(
    ("values", "printed", "options", "message"),
    [
        (np.zeros(49), Printed(0.1), {}, "at least 50 seeds"),
        (np.zeros(9), Printed(0.1), {"min_seeds": 1}, "at least 10 seeds"),
        (np.zeros((2, 50, 3)), Printed(0.1), {}, "values must be"),
        (np.zeros(50), Printed(0.1), {"epoch": "best"}, "epoch must be one of"),
        (np.zeros((50, 3)), Printed(0.1), {"epoch": "per_seed"}, "takes scores"),
        (np.zeros((50, 3)), Printed(0.1), {"scores": np.zeros((50, 3))}, "takes none"),
        (np.zeros((50, 3)), Printed(0.1), {"epoch": "per_seed", "scores": np.zeros((50, 2))}, "shapes"),
        (np.zeros(50), Printed(np.nan), {}, "finite"),
        (np.zeros(50), Printed(0.1, -1), {}, "decimals"),
        (np.zeros(50), Printed(0.1, 3, 0), {}, "num_seeds"),
        (np.zeros(50), Printed(0.1), {"num_resamples": 0}, "num_resamples"),
        (np.zeros(50), Printed(0.1), {"seed": -1}, "seed"),
    ],
)
def test_bad_arguments(values, printed, options, message):
    with pytest.raises(ValueError, match=message):
        compare_cell(values, printed, **{"seed": 0, **options})


@pytest.mark.parametrize("seed", [True, 0.5, "0"])
def test_seeds_are_whole_numbers(seed):
    with pytest.raises(TypeError):
        compare_cell(np.zeros(50), Printed(0.1), seed=seed)
