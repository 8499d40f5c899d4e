"""What changes no metric of classes: padding, repetition, order, empty groups, lanes and tracing."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax import metrics
from tests.metrics.tables import NUMBERS, SKLEARN, N, arrays, assert_same, everything, expected_auc, tables


def test_no_rows_and_no_weight_are_undefined():
    none = np.zeros(0, int)
    results = everything(none, none, np.zeros(0, np.float32), (none, np.zeros(0, np.float32)), 2)
    zeros, floats = np.zeros(N, int), np.zeros(N, np.float32)
    padding = zeros, np.ones(N, int), floats, (zeros, floats)
    for result in (results, everything(*padding, 3)):
        counts = result["rates"]
        np.testing.assert_array_equal([counts.count, counts.num_positive, counts.num_negative], 0)
        result["rates"] = counts[3:]
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(result))


@settings(deadline=None, max_examples=25)
@given(tables(3), arrays(0, 1, 2, 3))
def test_a_weight_is_a_number_of_repetitions(table, times):
    *columns, (groups, _) = table
    padding = 3 * N - times.sum()
    # Padded to one length, for one compilation.
    labels, predictions, scores, groups_repeated, ones = (
        np.pad(np.repeat(column, times), (0, padding)) for column in (*columns, groups, np.ones(N, np.float32))
    )
    weighted = everything(*columns, (groups, times.astype(np.float32)), 3)
    assert_same(weighted, everything(labels, predictions, scores, (groups_repeated, ones), 3))


@NUMBERS
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_padding_is_not_looked_at(num_groups, data):
    labels, predictions, scores, (groups, weight) = table = data.draw(tables(num_groups))
    clean = everything(*table, num_groups)
    garbage = np.where(weight > 0, labels, -7), np.where(weight > 0, predictions, 99)
    scores = np.where(weight > 0, scores, np.float32(np.nan))
    for groups_of in (groups, np.where(weight > 0, groups, num_groups - 1)):
        dirty = everything(*garbage, scores, (groups_of, weight), num_groups)
        assert_same(clean, dirty, rtol=0, atol=1e-7)


def test_padding_is_not_looked_at_outside_tracing_either():
    # As many rows as in the test of lanes, whose operations outside jit these are.
    fill = lambda head, rest: np.array(head + [rest] * (N - len(head)))  # noqa: E731
    labels, predictions = fill([0, 1], -1), fill([0, 0], 10**9)
    scores, weight = fill([0.1, 0.9], np.nan).astype(np.float32), fill([1.0, 1.0], 0.0).astype(np.float32)
    assert metrics.accuracy(labels, predictions, weight) == 0.5
    assert metrics.balanced_accuracy(labels, predictions, weight) == 0.5
    assert metrics.f1(labels, predictions, weight, "macro") == pytest.approx(1 / 3)
    assert metrics.auc(labels, scores, weight) == 1


@settings(deadline=None, max_examples=20)
@given(tables(3), st.permutations(range(N)), st.permutations(range(3)))
def test_row_order_and_group_numbers_do_not_matter(table, order, names):
    order, names = np.array(order), np.array(names)
    *columns, (groups, weight) = table
    original = everything(*table, 3)
    moved = everything(*(column[order] for column in columns), (names[groups[order]], weight[order]), 3)
    renamed = jax.tree.map(lambda leaf: leaf[names] if np.ndim(leaf) else leaf, moved)
    assert_same(original, renamed)


@settings(deadline=None, max_examples=15)
@given(tables(3))
def test_empty_groups_change_nothing(table):
    *columns, (groups, weight) = table
    few = everything(*table, 3)
    many = everything(*columns, (groups + 8, weight), 20)
    assert_same(few, jax.tree.map(lambda leaf: leaf[8:11] if np.ndim(leaf) else leaf, many))
    empty = jax.tree.leaves(jax.tree.map(lambda leaf: leaf[11:] if np.ndim(leaf) else 0.0, many))
    assert all(np.nan_to_num(leaf, nan=0.0).max() == 0 for leaf in empty)


@pytest.mark.parametrize("num_groups", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_lanes_equal_a_loop_and_outside_jit(num_groups):
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 2, (2, 4, N))
    scores = random.normal(size=(4, N)).round(1).astype(np.float32)
    groups = random.integers(0, num_groups, (4, N))
    weight = random.integers(0, 3, (4, N)).astype(np.float32)
    labels[1], weight[2] = 1, 0
    lanes = jax.vmap(lambda *table: everything(*table, num_groups))(labels, predictions, scores, (groups, weight))
    for lane in range(4):
        table = labels[lane], predictions[lane], scores[lane], (groups[lane], weight[lane])
        alone = everything(*table, num_groups)
        assert_same(jax.tree.map(lambda leaf, i=lane: leaf[i], lanes), alone)
        if lane == 0 and num_groups == 3:
            assert_same(everything.__wrapped__(*table, num_groups), alone)


def test_float64_keeps_its_digits(x64):
    random = np.random.default_rng(3)
    labels, predictions = random.integers(0, 2, (2, 500))
    scores, weight = random.normal(size=500), random.uniform(0.1, 1, 500)
    groups = random.integers(0, 3, 500)
    ours = everything(labels, predictions, scores, (groups, weight), 3)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(ours))
    for name, theirs in SKLEARN.items():
        expected = theirs(labels, predictions, sample_weight=weight)
        np.testing.assert_allclose(ours[name], expected, rtol=1e-12)
    np.testing.assert_allclose(ours["auc"], expected_auc(labels, scores, weight), rtol=1e-12)
    # These differ in float64 only.
    near = np.array([1.0, 1.0 + 1e-12])
    assert metrics.auc(np.array([0, 1]), near) == 1
