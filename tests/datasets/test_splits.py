import dataclasses
import shutil

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from badrjax.datasets import Dataset, load_dataset, split, take


def make(counts, order_seed=0):
    """A dataset with `counts[group][label]` rows in each cell, in random order."""
    cells = [(g, label) for g, row in enumerate(counts) for label, n in enumerate(row) for _ in range(n)]
    cells = np.random.default_rng(order_seed).permutation(np.array(cells, np.int32))
    return Dataset(
        x=np.ones((len(cells), 1), np.float32),
        y=cells[:, 1].copy(),
        group=cells[:, 0].copy(),
        feature_names=("one",),
        group_names=tuple(f"g{i}" for i in range(len(counts))),
        name="made",
        source="",
        licence="",
        sensitive=("g",),
    )


def assert_partition(splits, num_rows):
    parts = [set(part.tolist()) for part in splits]
    assert sum(map(len, parts)) == num_rows
    assert set.union(*parts) == set(range(num_rows))
    assert len(parts[0]) == splits.train.size
    assert len(parts[1]) == splits.validation.size
    assert all(part.dtype == np.int32 for part in splits)


counts = st.lists(st.tuples(st.integers(4, 40), st.integers(4, 40)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    counts=counts,
    seed=st.integers(0, 2**32),
    per_cell=st.integers(1, 3),
    percent=st.integers(5, 20),
    replacement=st.sampled_from(["always", "needed"]),
)
def test_balanced_split_is_balanced_laid_out_and_complete(counts, seed, per_cell, percent, replacement):
    dataset = make(counts, seed)
    num_cells, n = 2 * len(counts), dataset.y.size
    test_per_cell = percent * n // (100 * num_cells)
    assume(test_per_cell > 0)
    options = {"validation_per_cell": per_cell, "test_fraction": percent / 100, "replacement": replacement}
    splits = split(dataset, "balanced", seed, **options)
    assert_partition(splits, n)
    cells = 2 * dataset.group + dataset.y
    np.testing.assert_array_equal(cells[splits.validation], np.repeat(np.arange(num_cells), per_cell))
    np.testing.assert_array_equal(cells[splits.test], np.repeat(np.arange(num_cells), test_per_cell))
    assert (np.diff(splits.train) > 0).all()


def test_same_seed_same_split_other_seed_another():
    dataset = make([[50, 50], [50, 50]])
    for kind in ("balanced", "random"):
        first, again, other = split(dataset, kind, 1), split(dataset, kind, 1), split(dataset, kind, 2)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert not np.array_equal(first.validation, other.validation)


def test_replacement_where_needed_repeats_only_in_small_cells():
    dataset = make([[300, 300], [300, 8]])
    splits = split(dataset, validation_per_cell=3, test_fraction=0.1, replacement="needed")
    per_cell = int(0.1 * 908 / 4)
    cells = (2 * dataset.group + dataset.y)[splits.test]
    distinct = [np.unique(splits.test[cells == cell]).size for cell in range(4)]
    assert distinct[:3] == [per_cell] * 3
    assert distinct[3] <= 5


def test_tiny_cell_always_has_its_validation_rows():
    dataset = make([[400, 400], [400, 4]])
    for seed in range(20):
        splits = split(dataset, "balanced", seed)
        assert np.unique(splits.validation[-3:]).size == 3
        assert np.unique(splits.test[-9:]).size == 1


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([[50, 50], [50, 0]], {}, r"cell \(group 'g1', label 1\) has 0 rows"),
        ([[50, 3], [50, 50]], {}, r"cell \(group 'g0', label 1\) has 3 rows, too few for 3"),
        ([[50, 50], [50, 9]], {"validation_per_cell": 9}, r"label 1\) has 9 rows, too few for 9"),
        ([[50, 0], [50, 0]], {}, "at least two classes, and every label is 0"),
        ([[5, 5], [5, 5]], {}, "gives no row to each of 4 cells; take at least 0.2"),
        ([[50, 50], [50, 50]], {"test_fraction": 0.0}, "between 0 and 1"),
        ([[50, 50], [50, 50]], {"test_fraction": 1.0}, "between 0 and 1"),
        ([[50, 50], [50, 50]], {"validation_per_cell": 0}, "at least 1, got 0"),
        ([[50, 50], [50, 50]], {"replacement": "allways"}, "did you mean 'always'"),
        ([[4, 4], [4, 4]], {"test_fraction": 0.5}, "leave none to train on"),
        ([[50, 50], [50, 50]], {"test_fractions": 0.1}, "did you mean 'test_fraction'"),
        ([[50, 50], [50, 50]], {"fractions": (0.6, 0.2, 0.2)}, "unknown option of the balanced split"),
    ],
)
def test_impossible_balanced_splits_say_why(counts, options, message):
    with pytest.raises(ValueError, match=message):
        split(make(counts), "balanced", 0, **options)


def test_balanced_split_of_regression_targets_is_refused():
    dataset = make([[50, 50]])
    with pytest.raises(ValueError, match="regression targets"):
        split(dataclasses.replace(dataset, y=dataset.y.astype(np.float32)))


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (None, TypeError), (0.5, TypeError), (True, TypeError)])
@pytest.mark.parametrize("kind", ["balanced", "random"])
def test_seed_must_be_a_whole_number(kind, seed, error):
    with pytest.raises(error, match="seed must be a non-negative integer"):
        split(make([[50, 50], [50, 50]]), kind, seed)


def test_validation_per_cell_must_be_a_whole_number():
    with pytest.raises(TypeError, match="validation_per_cell must be an integer"):
        split(make([[50, 50], [50, 50]]), validation_per_cell=1.5)


@settings(max_examples=60, deadline=None)
@given(counts=counts, seed=st.integers(0, 2**32), parts=st.tuples(*[st.integers(1, 3)] * 3))
def test_random_split_is_a_partition_of_the_asked_sizes(counts, seed, parts):
    dataset = make(counts)
    fractions = tuple(np.array(parts) / sum(parts))
    splits = split(dataset, "random", seed, fractions=fractions)
    n = dataset.y.size
    assert_partition(splits, n)
    assert np.unique(splits.test).size == splits.test.size
    assert all(abs(part.size - f * n) <= 1 for part, f in zip(splits, fractions, strict=True))


def test_random_split_is_60_20_20_unless_told():
    assert [part.size for part in split(make([[50, 50]]), "random")] == [60, 20, 20]
    assert [part.size for part in split(make([[50, 50]]), "random", fractions=(0.8, 0, 0.2))] == [80, 0, 20]


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.6, 0.2), "three numbers"),
        ((0.6, 0.2, 0.3), "sum 1"),
        ((1.2, -0.2, 0), "three numbers >= 0"),
        ((0.6, 0.4, float("nan")), "three numbers >= 0"),
        ((0.99, 0.005, 0.005), "leave no validation row of 16"),
        ((0, 0.5, 0.5), "leave no train row of 16"),
    ],
)
def test_impossible_random_splits_say_why(fractions, message):
    with pytest.raises(ValueError, match=message):
        split(make([[8, 8]]), "random", fractions=fractions)


def test_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown kind of split 'balance': did you mean 'balanced'"):
        split(make([[8, 8]]), "balance")


# The protocol on Adult, and the published splits. Sizes: the paper's Table 2.

SIZES = {"sex": (47_410, 12, 1_464, 1_420), "race": (47_638, 30, 1_460, 1_174)}


@pytest.mark.parametrize("sensitive", SIZES)
def test_balanced_split_of_adult_is_like_the_published_one(sensitive):
    splits = split(load_dataset("adult", sensitive=sensitive))
    train, validation, test, distinct = SIZES[sensitive]
    assert (splits.validation.size, splits.test.size) == (validation, test)
    # Draws with replacement repeat by chance: the numbers of distinct rows agree to within that.
    assert abs(np.unique(splits.test).size - distinct) < 40
    assert abs(splits.train.size - train) < 40


@pytest.mark.parametrize("sensitive", SIZES)
def test_official_split_is_balanced(real_data, sensitive):
    dataset = load_dataset("adult", sensitive=sensitive)
    splits = split(dataset, "official", data_home=real_data)
    train, validation, test, distinct = SIZES[sensitive]
    assert_partition(splits, 48_842)
    assert [part.size for part in splits] == [train, validation, test]
    assert np.unique(splits.test).size == distinct
    cells = 2 * dataset.group + dataset.y
    assert set(np.bincount(cells[splits.test]).tolist()) == {test // (2 * dataset.num_groups)}
    assert set(np.bincount(cells[splits.validation]).tolist()) == {3}


def test_official_split_keeps_the_published_order(real_data, monkeypatch):
    monkeypatch.setenv("BADRJAX_DATA", str(real_data))
    dataset = load_dataset("adult")
    assert dataset.variant == "default"
    splits = split(dataset, "official")
    with np.load(real_data / "nash_splits" / "adult_sex.npz") as arrays:
        for part, key in zip(splits, ("ind_train", "val_idx", "ind_test"), strict=True):
            np.testing.assert_array_equal(part, arrays[key])
    names = [dataset.group_names[i] for i in dataset.group[splits.validation]]
    assert names == ["Male"] * 6 + ["Female"] * 6
    np.testing.assert_array_equal(dataset.y[splits.validation], [0, 0, 0, 1, 1, 1] * 2)


@pytest.mark.parametrize("change", ["rows turned", "rows dropped"])
def test_official_split_refuses_other_rows(real_data, adult, change):
    rows = np.arange(48_842)[::-1] if change == "rows turned" else np.arange(48_000)
    dataset = take(adult, rows)
    with pytest.raises(ValueError, match="load it with load_dataset"):
        split(dataset, "official", data_home=real_data)


def test_official_split_refuses_an_altered_file(real_data, adult, tmp_path):
    shutil.copytree(real_data / "nash_splits", tmp_path / "nash_splits")
    path = tmp_path / "nash_splits" / "adult_sex.npz"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"adult_sex\.npz is not the published data"):
        split(adult, "official", data_home=tmp_path)


def test_official_split_without_its_file_says_where_to_get_it(adult, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nash_splits/adult_sex\.npz.*Nash-Meta-Learning"):
        split(adult, "official", data_home=tmp_path, download=False)


def test_official_split_exists_only_for_published_settings():
    with pytest.raises(ValueError, match="'made' by g; there is adult by sex, adult by race, bank by age"):
        split(make([[8, 8]]), "official")
    both = load_dataset("adult", sensitive=("sex", "race"))
    with pytest.raises(ValueError, match="'adult' by sex and race"):
        split(both, "official")
