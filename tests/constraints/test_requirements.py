"""Requirements become pairs of groups, and groups without the rows are named."""

import itertools

import numpy as np
import pytest

import badrjax as bx


def attributes(*cardinalities, num_rows=4000, seed=0):
    generator = np.random.default_rng(seed)
    names = "abc"[: len(cardinalities)]
    return {
        name: np.array([f"{name}{value}" for value in generator.integers(0, k, num_rows)])
        for name, k in zip(names, cardinalities, strict=True)
    }


def labels(num_rows=4000, seed=1):
    return np.random.default_rng(seed).integers(0, 2, num_rows)


@pytest.mark.parametrize(
    ("cardinalities", "num_pairs"),
    [((3, 5, 4), 1770), ((2, 3, 3), 153), ((2, 4, 3), 276)],
    ids=["folk", "compas", "meps"],
)
def test_the_three_way_intersections_have_the_papers_numbers_of_pairs(cardinalities, num_pairs):
    columns = attributes(*cardinalities)
    constraints, cells = bx.fairness_constraints([("demographic_parity", tuple(columns), 0.2)], columns, labels())
    assert constraints.left.shape == (num_pairs,)
    assert cells.num_groups == constraints.membership.shape[1] == np.prod(cardinalities)


def test_a_group_is_the_union_of_the_cells_that_share_its_values():
    columns = attributes(2, 3, 3)
    wanted = bx.every_intersection("equalized_odds", tuple(columns), single=0.1, intersection=0.2)
    constraints, cells = bx.fairness_constraints(wanted, columns, labels())
    assert len(wanted) == len(constraints.requirement_names) == 7
    member = np.asarray(constraints.membership)
    for number, name in enumerate(constraints.group_names):
        names, values = (part.split(" & ") for part in name.split("="))
        expected = np.all([columns[a] == v for a, v in zip(names, values, strict=True)], axis=0)
        np.testing.assert_array_equal(member[number][cells.ids], expected)


def test_partitions_hold_each_cells_group_of_each_attribute_set():
    columns = attributes(2, 3)
    constraints, _ = bx.fairness_constraints(
        [("demographic_parity", "a", 0.1), ("equal_opportunity", ("b", "a"), 0.3)], columns, labels()
    )
    member, partitions = np.asarray(constraints.membership), np.asarray(constraints.partitions)
    assert partitions.shape == (2, 6)
    for row in partitions:
        for cell, group in enumerate(row):
            assert member[group, cell]
    np.testing.assert_allclose(constraints.thresholds, [0.1, 0.3], rtol=1e-6)
    assert np.bincount(np.asarray(constraints.requirement)).tolist() == [1, 15]


def test_every_pair_of_groups_of_a_requirement_occurs_once():
    columns = attributes(2, 3)
    constraints, _ = bx.fairness_constraints([("predictive_equality", "b", 0.1)], columns, labels())
    pairs = list(zip(np.asarray(constraints.left).tolist(), np.asarray(constraints.right).tolist(), strict=True))
    assert pairs == list(itertools.combinations(range(3), 2))
    np.testing.assert_array_equal(constraints.compares, [[False, False, True]] * 3)


def test_the_order_of_rows_changes_nothing_but_the_ids():
    columns, y = attributes(2, 3), labels()
    order = np.random.default_rng(5).permutation(len(y))
    wanted = [("equalized_odds", ("a", "b"), 0.2)]
    first, cells = bx.fairness_constraints(wanted, columns, y)
    second, shuffled = bx.fairness_constraints(wanted, {k: v[order] for k, v in columns.items()}, y[order])
    assert first.names == second.names
    np.testing.assert_array_equal(cells.ids[order], shuffled.ids)


def small_case():
    """Group a1 has one row labelled 1, a2 none; a0 has many of both."""
    a = np.repeat(["a0", "a1", "a2"], [40, 10, 5])
    y = np.concatenate([np.arange(40) % 2, [1] + [0] * 9, [0] * 5])
    return {"a": a}, y


def test_groups_without_the_rows_are_named_with_their_counts():
    columns, y = small_case()
    with pytest.raises(ValueError, match=r"groups of a with fewer than 1 training rows.*a2 \(5 rows labelled 0, 0"):
        bx.fairness_constraints([("equal_opportunity", "a", 0.1)], columns, y)
    bx.fairness_constraints([("demographic_parity", "a", 0.1)], columns, y)  # which needs rows of no label
    bx.fairness_constraints([("predictive_equality", "a", 0.1)], columns, y)
    with pytest.raises(ValueError, match=r"fewer than 2 .* a1 \(9 rows labelled 0, 1 labelled 1\); a2"):
        bx.fairness_constraints([("equalized_odds", "a", 0.1)], columns, y, minimum_count=2)


def test_only_training_rows_are_counted():
    columns, y = small_case()
    rows = np.flatnonzero(columns["a"] != "a1")
    with pytest.raises(ValueError, match="a1 \\(0 rows labelled 0, 0 labelled 1\\)"):
        bx.fairness_constraints([("demographic_parity", "a", 0.1)], columns, y, rows=rows)


def test_small_groups_are_dropped_or_merged():
    columns, y = small_case()
    wanted = [("equal_opportunity", "a", 0.1)]
    columns["a"] = np.concatenate([columns["a"], np.repeat("a3", 20)])
    y = np.concatenate([y, np.ones(20, int)])
    dropped, _ = bx.fairness_constraints(wanted, columns, y, minimum_count=2, small="drop")
    assert dropped.group_names == ("a=a0", "a=a3")
    assert np.asarray(dropped.partitions).tolist() == [[0, -1, -1, 1]]
    merged, _ = bx.fairness_constraints(wanted, columns, y, small="merge")
    assert merged.group_names == ("a=a0", "a=a1 + a2", "a=a3")
    assert np.asarray(merged.membership)[1].tolist() == [False, True, True, False]
    more, _ = bx.fairness_constraints(wanted, columns, y, minimum_count=20, small="merge")
    assert [name.count("+") for name in more.group_names] == [2, 0] or len(more.group_names) == 2


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([], "at least one"),
        ([("demographic_parity", "a")], "a requirement is"),
        ([("parity", "a", 0.1)], "unknown metric 'parity'"),
        ([("demographic_parity", "d", 0.1)], "unknown attribute 'd'"),
        ([("demographic_parity", ("a", "a"), 0.1)], "distinct attributes"),
        ([("demographic_parity", "a", 1.1)], r"threshold of demographic_parity of a must lie in \[0, 1\]"),
        ([("demographic_parity", "a", float("nan"))], "must lie in"),
        ([("demographic_parity", ("a", "b"), 0.1), ("demographic_parity", ("b", "a"), 0.3)], "required twice"),
    ],
)
def test_wrong_requirements_are_named(wanted, message):
    with pytest.raises((ValueError, TypeError), match=message):
        bx.fairness_constraints(wanted, attributes(2, 3), labels())


def test_wrong_columns_and_options_are_named():
    wanted = [("demographic_parity", "a", 0.1)]
    with pytest.raises(ValueError, match="labels have shape"):
        bx.fairness_constraints(wanted, attributes(2), labels(7))
    with pytest.raises(ValueError, match="classes 0 and 1"):
        bx.fairness_constraints(wanted, attributes(2), labels() + 1)
    with pytest.raises(ValueError, match="unknown small"):
        bx.fairness_constraints(wanted, attributes(2), labels(), small="ignore")
    with pytest.raises(ValueError, match="minimum_count"):
        bx.fairness_constraints(wanted, attributes(2), labels(), minimum_count=0)
    with pytest.raises(ValueError, match="a gap needs two"):
        bx.fairness_constraints(wanted, {"a": np.zeros(4000)}, labels())
    for rows in ([0, 1, 0, 1], [-1, 2], [4000], np.array([]), np.ones(4000, bool)):
        with pytest.raises(ValueError, match="rows must be"):
            bx.fairness_constraints(wanted, attributes(2), labels(), rows=rows)
    with pytest.raises(ValueError, match="must lie in"):
        bx.fairness_constraints([("demographic_parity", "a", ".1")], attributes(2), labels())


def test_cells_can_be_finer_than_the_requirements_need():
    columns = attributes(2, 3)
    for finer in ("b", ["a", "b"]):
        constraints, cells = bx.fairness_constraints(
            [("demographic_parity", "a", 0.1)], columns, labels(), cells_of=finer
        )
        assert cells.num_groups == 6
        assert constraints.membership.shape == (2, 6)
    with pytest.raises(ValueError, match="unknown attribute 'z'"):
        bx.fairness_constraints([("demographic_parity", "a", 0.1)], columns, labels(), cells_of=["z"])
