"""Stratified, whole-unit, k-fold and domain splits, and the published ones of all datasets."""

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from badrjax.datasets import load_dataset, split
from badrjax.groups import encode_groups
from tests.datasets.test_splits import assert_partition, counts, make


def with_states(dataset, seed=0):
    states = np.random.default_rng(seed).choice(["SD", "VT", "WY"], dataset.y.size)
    return dataclasses.replace(dataset, domains={"state": encode_groups(states)})


def cells(dataset, rows):
    return np.bincount((2 * dataset.group + dataset.y)[rows], minlength=2 * dataset.num_groups)


@settings(max_examples=40, deadline=None)
@given(counts=counts, seed=st.integers(0, 2**32), parts=st.tuples(*[st.integers(1, 3)] * 3))
def test_stratified_split_gives_every_cell_its_share(counts, seed, parts):
    dataset = make(counts)
    fractions = tuple(np.array(parts) / sum(parts))
    whole = cells(dataset, np.arange(dataset.y.size))
    # A part of less than a row in every cell may get none, which is refused.
    assume(min(fractions) * whole.max() >= 1)
    splits = split(dataset, "stratified", seed, fractions=fractions)
    assert_partition(splits, dataset.y.size)
    for part, fraction in zip(splits, fractions, strict=True):
        assert (abs(cells(dataset, part) - fraction * whole) <= 1).all()


def test_fractions_that_leave_a_part_empty_in_every_cell_are_refused():
    with pytest.raises(ValueError, match="leave no train row in any cell; split at random"):
        split(make([[4, 4]]), "stratified", fractions=(1 / 7, 3 / 7, 3 / 7))


def test_small_cells_leave_rows_to_train_on():
    splits = split(make([[4, 4]]), "stratified", fractions=(0.2, 0.4, 0.4))
    assert [part.size for part in splits] == [2, 4, 2]


def test_stratified_split_of_a_regression_is_by_group():
    dataset = make([[30, 30], [10, 10]])
    dataset = dataclasses.replace(dataset, y=np.linspace(0, 1, 80, dtype=np.float32))
    splits = split(dataset, "stratified", fractions=(0.8, 0.1, 0.1))
    assert [np.bincount(dataset.group[part]).tolist() for part in splits] == [[48, 16], [6, 2], [6, 2]]


def test_stratified_split_keeps_single_rows_for_training():
    dataset = make([[40, 1]])
    splits = split(dataset, "stratified", fractions=(0.8, 0.1, 0.1))
    assert dataset.y[splits.train].sum() == 1


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("stratified", {"fractions": (0.98, 0.01, 0.01)}, "leave no validation row in any cell"),
        ("stratified", {"fractions": (0.5, 0.5)}, "three numbers"),
        ("kfold", {"num_folds": 1}, "num_folds must lie between 2 and 16, got 1"),
        ("kfold", {"num_folds": 2, "validation": True}, "between 3 and 16"),
        ("kfold", {"num_folds": 17}, "between 2 and 16, got 17"),
        ("kfold", {"fold": 5}, r"fold must lie in \[0, 5\), got 5"),
        ("kfold", {"whole": "county"}, "unknown domain of made 'county'"),
        ("random", {"whole": "stat"}, "unknown domain of made 'stat': did you mean 'state'"),
        ("domain", {"domain": "state"}, "name the values of state"),
        ("domain", {"domain": "state", "train": "XY"}, "unknown value of state 'XY'"),
        ("domain", {"domain": "state", "train": "SD", "test": ("VT", "SD")}, "state 'SD' is both"),
        ("domain", {"domain": "state", "train": ("SD", "VT", "WY")}, "no value of state is left for test"),
        ("domain", {"domain": "state", "test": []}, "no value of state is left for test"),
        ("domain", {"domain": "state", "train": "SD", "validation_fraction": 1.0}, r"must lie in \[0, 1\)"),
        ("domain", {"domain": "state", "train": "SD", "validation_fraction": "0.1"}, r"must lie in \[0, 1\)"),
        ("domain", {"domain": "state", "train": "SD", "validation_fraction": 0.01}, "leaves .* 0 for the validation"),
        ("domain", {"domain": "state", "train": "SD", "validation_fraction": 0.99}, "leaves 0 to train on"),
        ("random", {"fractions": ("a", 0, 0)}, "three numbers"),
        ("balanced", {"test_fraction": None}, "between 0 and 1"),
    ],
)
def test_impossible_splits_say_why(kind, options, message):
    with pytest.raises(ValueError, match=message):
        split(with_states(make([[8, 8]])), kind, **options)


def test_a_domain_split_needs_its_domain_and_whole_numbers_are_needed():
    with pytest.raises(TypeError, match="a domain split needs domain="):
        split(make([[8, 8]]), "domain", train="SD")
    with pytest.raises(TypeError, match="fold must be an integer"):
        split(make([[8, 8]]), "kfold", fold=0.5)
    with pytest.raises(TypeError, match="seed must be a non-negative integer"):
        split(make([[8, 8]]), "kfold", "one")


@settings(max_examples=40, deadline=None)
@given(counts=counts, seed=st.integers(0, 2**32), num_folds=st.integers(2, 6), validation=st.booleans())
def test_folds_test_each_row_once_and_share_out_every_cell(counts, seed, num_folds, validation):
    dataset = make(counts)
    num_folds = max(num_folds, 3 if validation else 2)
    options = {"num_folds": num_folds, "validation": validation}
    folds = [split(dataset, "kfold", seed, fold=fold, **options) for fold in range(num_folds)]
    for splits in folds:
        assert_partition(splits, dataset.y.size)
    tested = np.sort(np.concatenate([splits.test for splits in folds]))
    np.testing.assert_array_equal(tested, np.arange(dataset.y.size))
    if validation:
        np.testing.assert_array_equal(folds[0].validation, folds[1].test)
        np.testing.assert_array_equal(folds[-1].validation, folds[0].test)
    else:
        assert folds[0].validation.size == 0
    sizes = [splits.test.size for splits in folds]
    assert max(sizes) - min(sizes) <= 1
    in_cells = np.array([cells(dataset, splits.test) for splits in folds])
    assert (np.ptp(in_cells, axis=0) <= 1).all()


@pytest.mark.parametrize(("kind", "options"), [("random", {}), ("kfold", {"num_folds": 3, "validation": True})])
def test_rows_of_one_value_stay_together(kind, options):
    subject = np.random.default_rng(0).integers(0, 20, 200).astype(str)
    dataset = dataclasses.replace(make([[50, 50], [50, 50]]), domains={"subject": encode_groups(subject)})
    splits = split(dataset, kind, 3, whole="subject", **options)
    assert_partition(splits, 200)
    values = [set(subject[part]) for part in splits]
    assert sum(map(len, values)) == len(set(subject))


def test_domain_split_trains_on_one_state_and_tests_on_others():
    dataset = with_states(make([[40, 40], [40, 40]]))
    state = np.array(dataset.domains["state"].names)[dataset.domains["state"].ids]
    splits = split(dataset, "domain", domain="state", train="SD")
    np.testing.assert_array_equal(splits.train, np.flatnonzero(state == "SD"))
    np.testing.assert_array_equal(splits.test, np.flatnonzero(state != "SD"))
    assert splits.validation.size == 0
    one = split(dataset, "domain", domain="state", test=["WY"], train=["VT"], validation_fraction=0.25)
    np.testing.assert_array_equal(one.test, np.flatnonzero(state == "WY"))
    np.testing.assert_array_equal(np.sort(np.concatenate(one[:2])), np.flatnonzero(state == "VT"))
    assert one.validation.size == round(0.25 * (state == "VT").sum())
    others = split(dataset, "domain", 1, domain="state", test="WY")
    np.testing.assert_array_equal(others.train, np.flatnonzero(state != "WY"))


def test_values_of_a_domain_may_be_numbers_or_an_array():
    years = np.array([2016, 2018] * 8)
    dataset = dataclasses.replace(make([[8, 8]]), domains={"year": encode_groups(years)})
    for asked in (2016, [2016], np.array([2016]), "2016"):
        splits = split(dataset, "domain", domain="year", train=asked)
        np.testing.assert_array_equal(splits.train, np.flatnonzero(years == 2016))


def test_a_sensitive_attribute_is_a_domain_too(adult):
    splits = split(adult, "domain", domain="sex", train="Male")
    assert set(adult.group[splits.test].tolist()) == {adult.group_names.index("Female")}


OFFICIAL = [
    ("adult", "sex", 105, 366, 3),
    ("adult", "race", 105, 146, 3),
    ("bank", "age", 51, 339, 3),
    ("default_credit", "sex", 24, 225, 4),
    ("us_crime", "blackgt6pct", 1_929, 14, 1),
    ("titanic", "sex", 1_526, 9, 1),
    ("student_por", "sex", 58, 16, 2),
]


@pytest.mark.parametrize(("name", "sensitive", "features", "test_rows", "validation_rows"), OFFICIAL)
def test_official_splits_are_exactly_balanced(real_data, name, sensitive, features, test_rows, validation_rows):
    dataset = load_dataset(name, sensitive=sensitive, variant="nash", data_home=real_data)
    assert dataset.x.shape[1] == features
    splits = split(dataset, "official", data_home=real_data)
    assert (cells(dataset, splits.test) == test_rows).all()
    assert (cells(dataset, splits.validation) == validation_rows).all()
    assert np.unique(np.concatenate(splits)).size == dataset.y.size


@pytest.mark.parametrize("name", ["bank", "default_credit", "us_crime"])
def test_official_splits_fit_the_default_variant_with_its_turned_labels(real_data, name):
    sensitive = {"us_crime": "blackgt6pct", "bank": "age", "default_credit": "sex"}[name]
    paper, default = (
        load_dataset(name, sensitive=sensitive, variant=variant, data_home=real_data) for variant in ("nash", "default")
    )
    np.testing.assert_array_equal(paper.y, 1 - default.y)
    for mine, theirs in zip(
        *(split(dataset, "official", data_home=real_data) for dataset in (default, paper)), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_the_second_split_of_us_crime_is_asked_for_by_name(real_data):
    dataset = load_dataset("us_crime", sensitive="blackgt6pct", variant="nash", data_home=real_data)
    splits = split(dataset, "official", name="us_crime_new_blackgt6pct", data_home=real_data)
    assert (cells(dataset, splits.test) == 4).all()
    with pytest.raises(ValueError, match="unknown official split of us_crime 'us_crime_newer'"):
        split(dataset, "official", name="us_crime_newer", data_home=real_data)
