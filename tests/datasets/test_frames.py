import sys

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from badrjax.datasets import dataset_from_frame, load_dataset, split, to_batch
from badrjax.datasets.adult import BUNDLE, NUMERIC
from badrjax.datasets.files import read_bundled
from badrjax.datasets.packing import unpack_table


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "sex": ["M", "F", "F", "M", "F", "M"],
            "old": [True, False, False, True, True, False],
            "age": [30, 20, 25, 61, 70, 18],
            "job": pd.Categorical(["b", "a", "c", "a", "b", "a"]),
            "hired": ["yes", "no", "yes", "no", "no", "yes"],
        }
    )


def test_columns_become_named_features(frame):
    dataset = dataset_from_frame(frame, label="hired", sensitive="sex", favourable="yes", name="jobs")
    assert dataset.feature_names == ("age", "job_a", "job_b", "job_c", "old", "sex_F", "sex_M")
    assert dataset.x.dtype == np.float32
    np.testing.assert_array_equal(dataset.x[0], [30, 0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(dataset.y, [1, 0, 1, 0, 0, 1])
    assert dataset.group_names == ("F", "M")
    np.testing.assert_array_equal(dataset.group, [1, 0, 0, 1, 0, 1])
    assert (dataset.name, dataset.label_name, dataset.favourable) == ("jobs", "hired", "yes")
    assert dataset.sensitive == ("sex",)


def test_the_other_value_may_be_favourable(frame):
    yes, no = (dataset_from_frame(frame, label="hired", sensitive="sex", favourable=value) for value in ("yes", "no"))
    np.testing.assert_array_equal(yes.y, 1 - no.y)


def test_several_attributes_make_intersections(frame):
    dataset = dataset_from_frame(frame, label="hired", sensitive=["sex", "old"], favourable="yes")
    assert dataset.group_names == ("F & False", "F & True", "M & False", "M & True")
    np.testing.assert_array_equal(dataset.group, [3, 0, 0, 3, 1, 2])


def test_sensitive_columns_can_be_dropped(frame):
    dataset = dataset_from_frame(frame, label="hired", sensitive=["sex", "old"], favourable="yes", drop_sensitive=True)
    assert dataset.feature_names == ("age", "job_a", "job_b", "job_c")


@pytest.mark.parametrize(
    "values", [[0, 1, 1, 0, 0, 1], [0.0, 1.0, 1.0, 0.0, 0.0, 1.0], [False, True, True, False, False, True]]
)
def test_zero_and_one_need_no_favourable(frame, values):
    frame["hired"] = values
    dataset = dataset_from_frame(frame, label="hired", sensitive="sex")
    assert dataset.y.dtype == np.int32
    np.testing.assert_array_equal(dataset.y, [0, 1, 1, 0, 0, 1])


def test_float_label_makes_regression_targets(frame):
    frame["hired"] = [0.5, 1.0, -2.0, 3.0, 0.0, 1.0]
    dataset = dataset_from_frame(frame, label="hired", sensitive="sex")
    assert dataset.y.dtype == np.float32
    assert dataset.favourable == ""
    np.testing.assert_array_equal(dataset.y, np.float32(frame["hired"]))


def test_numeric_groups_are_numbered_by_value(frame):
    frame["sex"] = [10, 2, 2, 10, 2, 10]
    for dtype in ("int64", "Int64"):
        dataset = dataset_from_frame(frame.astype({"sex": dtype}), label="hired", sensitive="sex", favourable="yes")
        assert dataset.group_names == ("2", "10")
        np.testing.assert_array_equal(dataset.group, [1, 0, 0, 1, 0, 1])


def test_nullable_and_string_dtypes_are_as_good(frame):
    plain = dataset_from_frame(frame, label="hired", sensitive="sex", favourable="yes")
    again = dataset_from_frame(frame.convert_dtypes(), label="hired", sensitive="sex", favourable="yes")
    assert again.feature_names == plain.feature_names
    np.testing.assert_array_equal(again.x, plain.x)
    np.testing.assert_array_equal(again.y, plain.y)


def test_index_of_the_frame_plays_no_part(frame):
    plain = dataset_from_frame(frame, label="hired", sensitive="sex", favourable="yes")
    frame.index = [7, 7, 3, 1, 0, 9]
    again = dataset_from_frame(frame, label="hired", sensitive="sex", favourable="yes")
    np.testing.assert_array_equal(again.x, plain.x)
    np.testing.assert_array_equal(again.group, plain.group)


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(6)))
def test_order_of_rows_changes_only_the_order(order):
    frame = pd.DataFrame({"s": list("abcabc"), "v": np.arange(6.0), "y": [0, 1, 0, 1, 1, 0]})
    plain = dataset_from_frame(frame, label="y", sensitive="s")
    moved = dataset_from_frame(frame.iloc[list(order)], label="y", sensitive="s")
    np.testing.assert_array_equal(moved.x, plain.x[list(order)])
    np.testing.assert_array_equal(moved.group, plain.group[list(order)])
    assert moved.group_names == plain.group_names


def test_frame_of_adult_is_adult():
    table = unpack_table(read_bundled(BUNDLE, ""))
    texts = {name: column.text("?") for name, column in table.items() if name not in NUMERIC}
    frame = pd.DataFrame({name: texts.get(name, column) for name, column in table.items()})
    adult = load_dataset("adult", variant="nash", standardise="none", sensitive="race")
    dataset = dataset_from_frame(frame, label="income", sensitive="race", favourable=">50K")
    known = [name for name in dataset.feature_names if not name.endswith("_?")]
    assert tuple(known) == adult.feature_names
    np.testing.assert_array_equal(dataset.x[:, [dataset.feature_names.index(name) for name in known]], adult.x)
    np.testing.assert_array_equal(dataset.y, adult.y)
    np.testing.assert_array_equal(dataset.group, adult.group)


def test_the_dataset_can_be_split_and_put_on_the_device(frame):
    dataset = dataset_from_frame(
        pd.concat([frame] * 20, ignore_index=True), label="hired", sensitive="sex", favourable="yes"
    )
    splits = split(dataset, "balanced", 0, validation_per_cell=2, test_fraction=0.1)
    batch = to_batch(dataset, splits.validation)
    np.testing.assert_array_equal(batch.group, [0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(batch.y, [0, 0, 1, 1] * 2)


DEFAULTS = {"label": "hired", "sensitive": "sex", "favourable": "yes"}


@pytest.mark.parametrize(
    ("columns", "keywords", "error", "message"),
    [
        ({}, {"label": "hierd"}, ValueError, "unknown label column 'hierd': did you mean 'hired'"),
        ({}, {"sensitive": "seks"}, ValueError, "unknown sensitive column 'seks': did you mean 'sex'"),
        ({}, {"sensitive": ["sex", "odl"]}, ValueError, "unknown sensitive column 'odl': did you mean 'old'"),
        ({}, {"sensitive": []}, ValueError, "at least one attribute"),
        ({}, {"sensitive": ["sex", "sex"]}, ValueError, "none twice"),
        ({}, {"sensitive": "hired"}, ValueError, "must not name the label"),
        (
            {},
            {"favourable": "Yes"},
            ValueError,
            "favourable 'Yes' does not occur in label 'hired', which has 'yes'",
        ),
        ({}, {"favourable": None}, ValueError, "say with favourable= which"),
        ({}, {"label": "job", "favourable": "a"}, ValueError, "'job' is not binary, it has 3 values"),
        (
            {},
            {"label": "age", "favourable": None},
            ValueError,
            r"'age' is not binary.* floats for regression",
        ),
        ({"hired": "yes"}, {}, ValueError, "single class, 'yes'"),
        ({"hired": 0.5}, {"favourable": None}, ValueError, "single class, 0.5"),
        ({"hired": [1, 2, 1, 2, 1, 2]}, {"favourable": None}, ValueError, "say with favourable="),
        (
            {"hired": ["yes", "no", None, "no", "no", "yes"]},
            {},
            ValueError,
            r"'hired' has missing values.*row 2",
        ),
        (
            {"hired": [1, np.inf, 2, 3, 4, 5]},
            {"favourable": None},
            ValueError,
            "y has NaN or infinite .*row 1",
        ),
        (
            {"hired": [1, 1e300, 2, 3, 4, 5]},
            {"favourable": None},
            ValueError,
            "y has NaN or infinite .*row 1",
        ),
        (
            {"sex": ["M", None, "F", "M", "F", "M"]},
            {},
            ValueError,
            r"'sex' has missing values in 1 rows.*row 1",
        ),
        ({"sex": [1.0, 2.0, np.nan, 1.0, 1.0, 1.0]}, {}, ValueError, r"'sex' has missing values.*row 2"),
        ({"age": [1, 2, 3, 4, 5, np.nan]}, {}, ValueError, r"'age' has missing values.*row 5; impute"),
        ({"age": [1, 2, 3, 4, 5, -np.inf]}, {}, ValueError, r"infinite values in column 'age' \(row 5\)"),
        ({"age": [1, 2, 3, 4, 5, 1e300]}, {}, ValueError, r"infinite values in column 'age' \(row 5\)"),
        ({"job": ["a", "b", None, "a", "b", "c"]}, {}, ValueError, r"'job' has missing values.*row 2"),
        (
            {"job": pd.Timestamp("2020-01-01")},
            {},
            TypeError,
            "'job' of dtype datetime64.* cannot be a feature",
        ),
        ({"job": [1, "1", "a", "b", "c", "c"]}, {}, ValueError, "'job' has different values that read alike"),
        ({"sex_F": 1}, {}, ValueError, "second feature named 'sex_F'"),
    ],
)
def test_bad_frames_say_what_is_wrong(frame, columns, keywords, error, message):
    with pytest.raises(error, match=message):
        dataset_from_frame(frame.assign(**columns), **{**DEFAULTS, **keywords})


def test_frame_without_rows_or_features_is_refused(frame):
    with pytest.raises(ValueError, match="frame has no rows"):
        dataset_from_frame(frame.iloc[:0], **DEFAULTS)
    with pytest.raises(ValueError, match="no columns are left"):
        dataset_from_frame(frame[["sex", "hired"]], drop_sensitive=True, **DEFAULTS)


def test_repeated_columns_are_refused(frame):
    with pytest.raises(ValueError, match="column 'age' more than once"):
        dataset_from_frame(pd.concat([frame, frame[["age"]]], axis=1), **DEFAULTS)


def test_other_tables_are_refused(frame):
    with pytest.raises(TypeError, match="frame must be a pandas DataFrame, got dict"):
        dataset_from_frame(frame.to_dict(), **DEFAULTS)


def test_missing_pandas_is_answered_with_how_to_get_it(frame, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'badrjax\[data\]'"):
        dataset_from_frame(frame, **DEFAULTS)
