import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from badrjax.datasets import Dataset, drop_small_groups, load_dataset, merge_small_groups, take
from badrjax.groups import Groups


def make(counts, seed=0):
    """A dataset with so many rows of each group, shuffled, whose single feature numbers the rows."""
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    names = tuple(f"g{i}" for i in range(len(counts)))
    return Dataset(
        x=np.arange(len(group), dtype=np.float32)[:, None],
        y=np.zeros(len(group), np.int32),
        group=group,
        feature_names=("row",),
        group_names=names,
        name="made",
        source="",
        licence="",
        attributes={"g": Groups(group, names, len(counts))},
        domains={"d": Groups(group, names, len(counts))},
    )


def sizes(dataset):
    return dict(zip(dataset.group_names, np.bincount(dataset.group).tolist(), strict=True))


def test_the_two_smallest_are_merged_until_so_many_are_left():
    dataset = make([50, 3, 20, 4, 6])
    assert sizes(merge_small_groups(dataset, 4)) == {"g0": 50, "g1 + g3": 7, "g2": 20, "g4": 6}
    assert sizes(merge_small_groups(dataset, 3)) == {"g0": 50, "g1 + g3 + g4": 13, "g2": 20}
    merged = merge_small_groups(dataset, 2)
    assert sizes(merged) == {"g0": 50, "g1 + g2 + g3 + g4": 33}
    assert merged.notes == ("merged the smallest groups: g1 + g2 + g3 + g4 (33 rows)",)
    assert sizes(merge_small_groups(dataset, 1)) == {"g0 + g1 + g2 + g3 + g4": 83}


def test_equal_sizes_go_by_the_order_of_the_groups():
    assert sizes(merge_small_groups(make([5, 5, 5, 5]), 3)) == {"g0 + g1": 10, "g2": 5, "g3": 5}


def test_merging_keeps_rows_and_single_attributes():
    dataset = make([9, 2, 3])
    merged = merge_small_groups(dataset, 2)
    np.testing.assert_array_equal(merged.x, dataset.x)
    np.testing.assert_array_equal(merged.attributes["g"].ids, dataset.group)
    np.testing.assert_array_equal(merged.group == 1, dataset.group > 0)


def test_nothing_to_merge_or_drop_is_no_change():
    dataset = make([4, 5])
    assert merge_small_groups(dataset, 2) is dataset
    assert drop_small_groups(dataset, 4) is dataset


def test_rows_of_small_groups_are_dropped_and_named():
    dataset = make([9, 2, 5, 3])
    kept = drop_small_groups(dataset, 4)
    assert sizes(kept) == {"g0": 9, "g2": 5}
    assert kept.notes == ("dropped the rows of 'g1' (2), 'g3' (3)",)
    np.testing.assert_array_equal(kept.x[:, 0], np.flatnonzero(np.isin(dataset.group, [0, 2])))
    assert kept.attributes["g"].names == kept.domains["d"].names == ("g0", "g2")
    assert drop_small_groups(dataset, 2) is dataset


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=8), data=st.data())
def test_merging_is_a_coarser_grouping_of_all_rows(counts, data):
    dataset = make(counts)
    num_groups = data.draw(st.integers(1, len(counts)))
    merged = merge_small_groups(dataset, num_groups)
    assert merged.num_groups == num_groups
    assert sum(sizes(merged).values()) == sum(counts)
    pairs = {(int(old), int(new)) for old, new in zip(dataset.group, merged.group, strict=True)}
    assert len(pairs) == len(counts)
    for old, new in pairs:
        assert f"g{old}" in merged.group_names[new].split(" + ")
    # A group that was left alone is at least as large as any that was merged away.
    alone = [counts[old] for old, new in pairs if merged.group_names[new] == f"g{old}"]
    together = [counts[old] for old, new in pairs if merged.group_names[new] != f"g{old}"]
    assert not alone or not together or max(together) <= sum(together)
    if alone and together:
        assert min(alone) >= sorted(counts)[1]


@pytest.mark.parametrize(
    ("rule", "number", "error", "message"),
    [
        (merge_small_groups, 3, ValueError, "num_groups 3 is more than the 2 groups there are"),
        (merge_small_groups, 0, ValueError, "num_groups must be at least 1"),
        (merge_small_groups, 1.0, TypeError, "num_groups must be an integer"),
        (merge_small_groups, True, TypeError, "num_groups must be an integer"),
        (drop_small_groups, 10, ValueError, "min_rows 10 leaves no group: the largest, 'g1', has 5 rows"),
        (drop_small_groups, 0, ValueError, "min_rows must be at least 1"),
        (drop_small_groups, "3", TypeError, "min_rows must be an integer"),
    ],
)
def test_bad_numbers_are_refused(rule, number, error, message):
    with pytest.raises(error, match=message):
        rule(make([4, 5]), number)


def test_dropping_may_not_leave_a_single_class():
    dataset = dataclasses.replace(make([5, 1]), y=(make([5, 1]).group == 1).astype(np.int32))
    with pytest.raises(ValueError, match="single class, y = 0"):
        drop_small_groups(dataset, 2)


def test_load_dataset_drops_before_it_merges():
    dataset = load_dataset("adult", sensitive=("sex", "race"), min_group_rows=200, num_groups=3)
    assert dataset.num_groups == 3
    assert dataset.y.size == 48_842 - 185 - 155
    assert [note.split()[0] for note in dataset.notes] == ["dropped", "merged"]
    assert set(dataset.attributes) == {"sex", "race"}
    # Both dropped groups are women's; their races are still there among the men.
    assert dataset.attributes["race"].num_groups == 5


def test_take_renumbers_what_is_left():
    dataset = make([3, 4, 2])
    rows = np.flatnonzero(dataset.group != 1)[::-1]
    taken = take(dataset, np.concatenate([rows, rows[:1]]))
    assert taken.group_names == ("g0", "g2")
    np.testing.assert_array_equal(taken.group, (dataset.group[[*rows, rows[0]]] == 2).astype(np.int32))
    np.testing.assert_array_equal(taken.x[:, 0], [*rows, rows[0]])
    assert taken.domains["d"].names == ("g0", "g2")
    with pytest.raises(ValueError, match="at least one row"):
        take(dataset, np.array([], np.int32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_shape": (2, 2)}, r"feature_shape \(2, 2\) does not hold the 1 columns"),
        ({"attributes": {"g": Groups(np.zeros(3, np.int32), ("a",), 1)}}, r"attributes\['g'\] has 3"),
        ({"domains": {"d": Groups(np.full(9, 2, np.int32), ("a",), 1)}}, r"domains\['d'\].*id 2"),
    ],
)
def test_attributes_and_domains_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make([4, 5]), **changes)
