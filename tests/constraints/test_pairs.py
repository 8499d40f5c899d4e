"""Counts of cells, and the gaps of pairs of groups made of them."""

import chex
import fairlearn.metrics as fl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

import badrjax as bx
from badrjax import constraints as bc

N = 60
METRICS = {
    "demographic_parity": bx.metrics.demographic_parity_difference,
    "equal_opportunity": bx.metrics.equal_opportunity_difference,
    "predictive_equality": bx.metrics.predictive_equality_difference,
    "equalized_odds": bx.metrics.equalized_odds_difference,
}
COLUMNS = {"a": np.arange(N) % 2, "b": (np.arange(N) // 2) % 3}
LABELS = (np.arange(N) // 6) % 2
WANTED = [(metric, attributes, 0.2) for metric in METRICS for attributes in ("a", "b", ("a", "b"))]
CONSTRAINTS, CELLS = bx.fairness_constraints(WANTED, COLUMNS, LABELS)
C = CELLS.num_groups


@jax.jit
def gaps_of(probabilities, labels, weight):
    counts = bc.cell_counts(probabilities, labels, jnp.asarray(CELLS.ids), C, weight)
    gaps = bc.pair_gaps(CONSTRAINTS, counts)
    return bc.requirement_gaps(CONSTRAINTS, gaps), gaps, counts


def random_rows(seed):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 2, N), generator.integers(0, 2, N), generator.integers(0, 4, N).astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_requirement_gaps_are_the_metrics_of_the_coarser_groups(seed):
    predictions, labels, weight = random_rows(seed)
    found, _, _ = gaps_of(jnp.asarray(predictions, jnp.float32), jnp.asarray(labels), jnp.asarray(weight))
    for number, (metric, attributes, _) in enumerate(WANTED):
        groups = bx.encode_groups(*(COLUMNS[name] for name in attributes))
        expected = METRICS[metric](labels, predictions, groups.ids, groups.num_groups, weight)
        if metric == "equalized_odds":  # a pair takes what it can assess; the metric asks for both
            rates = bx.metrics.by_group(labels, predictions, groups.ids, groups.num_groups, weight)
            both = [np.asarray(rate) for rate in (rates.true_positive_rate, rates.false_positive_rate)]
            expected = np.nanmax([np.nanmax(rate) - np.nanmin(rate) for rate in both])
        np.testing.assert_allclose(found[number], expected, atol=2e-6)


def test_gaps_are_fairlearns():
    predictions, labels, _ = random_rows(3)
    found, _, _ = gaps_of(jnp.asarray(predictions, jnp.float32), jnp.asarray(labels), jnp.ones(N))
    by = {"a": COLUMNS["a"], "b": COLUMNS["b"], ("a", "b"): COLUMNS["a"] * 3 + COLUMNS["b"]}
    for number, (metric, attributes, _) in enumerate(WANTED):
        if metric in ("demographic_parity", "equalized_odds"):
            function = getattr(fl, f"{metric}_difference")
            expected = function(labels, predictions, sensitive_features=by[attributes])
            np.testing.assert_allclose(found[number], expected, atol=2e-6)


@pytest.mark.parametrize("average", ["binary", "macro", "weighted"])
def test_f1_is_scikit_learns(average):
    predictions, labels, weight = random_rows(4)
    counts = gaps_of(jnp.asarray(predictions, jnp.float32), jnp.asarray(labels), jnp.asarray(weight))[2]
    expected = sklearn.metrics.f1_score(labels, predictions, average=average, sample_weight=weight)
    np.testing.assert_allclose(bc.f1_of_counts(counts, average), expected, rtol=1e-6)


def test_f1_of_probabilities_is_soft_f1():
    probabilities = jnp.asarray(np.random.default_rng(0).random(N), jnp.float32)
    counts = gaps_of(probabilities, jnp.asarray(LABELS), jnp.ones(N))[2]
    as_scores = jnp.stack([1 - probabilities, probabilities], axis=1)
    for average in ("binary", "macro", "weighted"):
        expected = bx.soft_f1(as_scores, jnp.asarray(LABELS), average=average, mapping=lambda z: z)
        np.testing.assert_allclose(bc.f1_of_counts(counts, average), expected, rtol=1e-6)


def test_rows_without_weight_are_inert():
    predictions, labels, weight = random_rows(5)
    probabilities = jnp.where(weight == 0, jnp.nan, jnp.asarray(predictions, jnp.float32))
    spoilt = gaps_of(probabilities, jnp.where(weight == 0, 7, labels), jnp.asarray(weight))
    clean = gaps_of(jnp.asarray(predictions, jnp.float32), jnp.asarray(labels), jnp.asarray(weight))
    assert np.isfinite(clean[0]).all()
    chex.assert_trees_all_equal(spoilt, clean)


def test_gradients_agree_with_finite_differences(x64):
    generator = np.random.default_rng(6)
    probabilities, direction = jnp.asarray(generator.random(N)), jnp.asarray(generator.normal(size=N))
    mix = jnp.asarray(generator.random(CONSTRAINTS.left.shape[0]))

    @jax.jit
    def value(p):
        counts = bc.cell_counts(p, jnp.asarray(LABELS), jnp.asarray(CELLS.ids), C)
        return jnp.sum(mix * bc.pair_gaps(CONSTRAINTS, counts)) + bc.f1_of_counts(counts)

    step = 1e-6
    expected = (value(probabilities + step * direction) - value(probabilities - step * direction)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(value))(probabilities) @ direction, expected, rtol=1e-7)


def test_a_pair_that_cannot_be_compared_is_nan_with_derivative_zero():
    weight = jnp.asarray(CELLS.ids != 0, jnp.float32)
    probabilities = jnp.asarray(np.random.default_rng(0).random(N), jnp.float32)
    gaps = gaps_of(probabilities, jnp.asarray(LABELS), weight)[1]
    missing = CONSTRAINTS.group_names.index("a & b=0 & 0")
    touched = np.asarray(bc.owned_pairs(CONSTRAINTS, jnp.int32(missing)))
    np.testing.assert_array_equal(np.isnan(gaps), touched)
    gradient = jax.grad(lambda p: jnp.nansum(gaps_of(p, jnp.asarray(LABELS), weight)[1]))(probabilities)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[CELLS.ids == 0].any()


def test_group_violations_are_the_worst_of_the_pairs_that_contain_the_group():
    violations = jnp.asarray(np.random.default_rng(1).normal(size=CONSTRAINTS.left.shape[0]), jnp.float32)
    found = np.asarray(bc.group_violations(CONSTRAINTS, violations))
    for group in range(len(CONSTRAINTS.group_names)):
        mask = np.asarray(bc.owned_pairs(CONSTRAINTS, jnp.int32(group)))
        assert found[group] == np.asarray(violations)[mask].max()
    member = np.zeros(CONSTRAINTS.left.shape[0], int)
    for group in range(len(CONSTRAINTS.group_names)):
        member += np.asarray(bc.owned_pairs(CONSTRAINTS, jnp.int32(group)))
    assert (member == 2).all()  # each pair belongs to two learners


def test_reweighted_cells_of_a_batch_count_as_the_whole_data():
    """A batch that repeats some cells' rows, weighted back, has the rates and the F1 of the data."""
    predictions, labels, _ = random_rows(7)
    repeats = np.where(CELLS.ids == 2, 5, 1)
    take = np.repeat(np.arange(N), repeats)
    whole = bc.cell_counts(jnp.asarray(predictions, jnp.float32), labels, CELLS.ids, C)
    batch = bc.cell_counts(jnp.asarray(predictions[take], jnp.float32), labels[take], CELLS.ids[take], C)
    factors = bc.cell_factors(batch, jnp.asarray(np.bincount(CELLS.ids, minlength=C), jnp.float32))
    again = bc.cell_counts(
        jnp.asarray(predictions[take], jnp.float32), labels[take], CELLS.ids[take], C, factors[CELLS.ids[take]]
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), again, whole)
    assert abs(bc.f1_of_counts(batch) - bc.f1_of_counts(whole)) > 1e-3


def test_lanes_equal_a_loop():
    stacked = [jnp.asarray(np.stack(leaves)) for leaves in zip(*(random_rows(s) for s in range(4)), strict=True)]
    lanes = jax.vmap(gaps_of)(stacked[0].astype(jnp.float32), stacked[1], stacked[2])
    for lane in range(4):
        alone = gaps_of(stacked[0][lane].astype(jnp.float32), stacked[1][lane], stacked[2][lane])
        jax.tree.map(lambda a, b, lane=lane: np.testing.assert_allclose(a[lane], b, rtol=1e-6), lanes, alone)


def test_the_report_names_the_groups_that_are_furthest_apart():
    predictions, labels, _ = random_rows(8)
    weight = jnp.asarray(CELLS.ids != 0, jnp.float32)
    _, gaps, counts = gaps_of(jnp.asarray(predictions, jnp.float32), jnp.asarray(labels), weight)
    for number, check in enumerate(bc.check_requirements(CONSTRAINTS, counts)):
        mine = np.asarray(CONSTRAINTS.requirement) == number
        assert check.num_pairs == mine.sum()
        assert check.num_missing == np.isnan(np.asarray(gaps)[mine]).sum()
        assert check.gap == np.nanmax(np.asarray(gaps)[mine])
        assert check.satisfied == (check.gap <= check.threshold)
        left, right = (CONSTRAINTS.group_names.index(name) for name in check.groups)
        (pair,) = np.flatnonzero(mine & (CONSTRAINTS.left == left) & (CONSTRAINTS.right == right))
        assert gaps[pair] == check.gap
    empty = bc.CellCounts(jnp.zeros((2, C)), jnp.zeros((2, C)))
    assert not any(check.satisfied or check.groups for check in bc.check_requirements(CONSTRAINTS, empty))
    with pytest.raises(ValueError, match="outside of jit"):
        jax.jit(lambda counts: bc.check_requirements(CONSTRAINTS, counts))(empty)
    with pytest.raises(ValueError, match="must be of 6 cells"):
        bc.check_requirements(CONSTRAINTS, bc.CellCounts(jnp.zeros((2, 3)), jnp.zeros((2, 3))))


@pytest.mark.parametrize("score", ["squared", "linear"])
def test_scores_are_performance_less_what_is_violated(score):
    performance = jnp.array([0.8, 0.6, jnp.nan])
    violations = jnp.array([[0.1, -0.2, jnp.nan], [-0.1, -0.1, 0.0], [0.0, 0.0, 0.0]])
    found = jax.jit(lambda p, v: bc.penalised_score(p, v, score))(performance, violations)
    expected = [0.4 - 0.5 * 0.01, 0.3] if score == "squared" else [0.8 - 10 * 0.1, 0.6]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-6, atol=1e-7)
    assert found[2] == -jnp.inf
