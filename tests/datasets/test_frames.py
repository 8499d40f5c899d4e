import datetime
import sys
from decimal import Decimal
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
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
        ({}, {"favourable": "Yes"}, ValueError, "favourable 'Yes' does not occur in label 'hired', which has 'yes'"),
        ({}, {"favourable": None}, ValueError, "say with favourable= which"),
        ({}, {"label": "job", "favourable": "a"}, ValueError, "'job' is not binary, it has 3 values"),
        (
            {},
            {"label": "age", "favourable": None},
            ValueError,
            r"'age' is not binary.* floats for regression: astype\(\{'age': float\}\) in a frame, 3.0 for 3 in a file",
        ),
        ({"hired": pd.Categorical([0.5, 1, 2, 0.5, 1, 2])}, {"favourable": None}, ValueError, "is not binary"),
        ({"hired": "yes"}, {}, ValueError, "single class, 'yes'"),
        ({"hired": 0.5}, {"favourable": None}, ValueError, "single class, 0.5"),
        ({"hired": [1, 2, 1, 2, 1, 2]}, {"favourable": None}, ValueError, "say with favourable="),
        ({"hired": ["yes", "no", None, "no", "no", "yes"]}, {}, ValueError, r"'hired' has missing values.*row 2"),
        ({"hired": [1, np.inf, 2, 3, 4, 5]}, {"favourable": None}, ValueError, "y has NaN or infinite .*row 1"),
        (
            {"hired": [1, 1e300, 2, 3, 4, 5]},
            {"favourable": None},
            ValueError,
            r"'hired' has 1e\+300 in row 1, which is too large for float32",
        ),
        ({"sex": ["M", None, "F", "M", "F", "M"]}, {}, ValueError, r"'sex' has missing values in 1 rows.*row 1"),
        ({"sex": [1.0, 2.0, np.nan, 1.0, 1.0, 1.0]}, {}, ValueError, r"'sex' has missing values.*row 2"),
        ({"age": [1, 2, 3, 4, 5, np.nan]}, {}, ValueError, r"'age' has missing values.*row 5; impute"),
        ({"age": [1, 2, 3, 4, 5, -np.inf]}, {}, ValueError, r"infinite values in column 'age' \(row 5\)"),
        ({"age": [1, 2, 3, 4, 5, 1e300]}, {}, ValueError, r"'age' has 1e\+300 in row 5, which is too large"),
        (
            {"age": pd.Series([1, 2, 3, 4, 5, 10**400], dtype=object)},
            {},
            ValueError,
            "'age' has a number that is too large for float32",
        ),
        ({"job": ["a", "b", None, "a", "b", "c"]}, {}, ValueError, r"'job' has missing values.*row 2"),
        ({"job": [1, "1", "a", "b", "c", "c"]}, {}, ValueError, "'job' has different values that read alike"),
        ({"sex_F": 1}, {}, ValueError, "second feature named 'sex_F'"),
    ],
)
def test_bad_frames_say_what_is_wrong(frame, columns, keywords, error, message):
    with pytest.raises(error, match=message):
        dataset_from_frame(frame.assign(**columns), **{**DEFAULTS, **keywords})


MOMENT = pd.Timestamp("2020-01-01")
NO_COLUMNS_OF_A_MODEL = {
    "datetime64": [MOMENT] * 6,
    "datetime.date": pd.Series([MOMENT.date()] * 6, dtype=object),
    "datetime.time": [datetime.time(1)] * 6,
    "Arrow date": pd.Series([MOMENT.date()] * 6, dtype=pd.ArrowDtype(pa.date32())),
    "timedelta": [pd.Timedelta(1, "h")] * 6,
    "Period": pd.period_range("2020-01", periods=6, freq="M"),
    "Period objects": pd.Series(pd.period_range("2020-01", periods=6, freq="M"), dtype=object),
    "Interval": pd.interval_range(0, 6),
    "Interval objects": pd.Series(pd.interval_range(0, 6), dtype=object),
    "complex": [1j] * 6,
}


@pytest.mark.parametrize("kind", NO_COLUMNS_OF_A_MODEL)
def test_dates_and_intervals_are_refused(frame, kind):
    changed = frame.assign(job=NO_COLUMNS_OF_A_MODEL[kind])
    with pytest.raises(TypeError, match=r"'job' of dtype .* cannot be a feature .*; turn it into numbers or text"):
        dataset_from_frame(changed, **DEFAULTS)
    with pytest.raises(TypeError, match=r"'job' of dtype .* cannot make groups .*; turn it into numbers or text"):
        dataset_from_frame(changed, label="hired", sensitive="job", favourable="yes")


def test_bins_are_categories(frame):
    bins = pd.cut(frame["age"], [0, 20, 60, 100])
    dataset = dataset_from_frame(frame.assign(age=bins), label="hired", sensitive="age", favourable="yes")
    assert dataset.group_names == ("(0, 20]", "(20, 60]", "(60, 100]")
    np.testing.assert_array_equal(dataset.group, [1, 0, 1, 2, 2, 0])
    assert {"age_(0, 20]", "age_(20, 60]"} < set(dataset.feature_names)
    unordered = frame.assign(age=bins.cat.as_unordered())
    again = dataset_from_frame(unordered, label="hired", sensitive="age", favourable="yes")
    assert set(again.group_names) == set(dataset.group_names)


NUMBERS = [1.5, 2.0, -3.0, 0.25, 7.0, 8.0]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([Decimal(str(value)) for value in NUMBERS]),
        pd.Series([Decimal(str(value)) for value in NUMBERS], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
        pd.Series(NUMBERS, dtype=object),
        pd.Series([1.5, 2, Fraction(-3), np.float32(0.25), Decimal(7), np.int8(8)], dtype=object),
        pd.Series(NUMBERS, dtype="double[pyarrow]"),
        pd.Series(NUMBERS, dtype="Float64"),
    ],
)
def test_numbers_of_every_kind_are_numbers(frame, values):
    dataset = dataset_from_frame(frame.assign(age=values), **DEFAULTS)
    np.testing.assert_array_equal(dataset.x[:, dataset.feature_names.index("age")], np.float32(NUMBERS))
    targets = dataset_from_frame(frame.assign(age=values), label="age", sensitive="sex")
    np.testing.assert_array_equal(targets.y, np.float32(NUMBERS))
    groups = dataset_from_frame(frame.assign(age=values), label="hired", sensitive="age", favourable="yes")
    assert groups.group_names == ("-3.0", "0.25", "1.5", "2.0", "7.0", "8.0")


@pytest.mark.parametrize("dtype", ["object", "bool", "boolean", "bool[pyarrow]"])
def test_booleans_of_every_kind_are_booleans(frame, dtype):
    changed = frame.astype({"old": dtype})
    dataset = dataset_from_frame(changed, label="hired", sensitive="old", favourable="yes")
    assert dataset.group_names == ("False", "True")
    np.testing.assert_array_equal(dataset.x[:, dataset.feature_names.index("old")], frame["old"])


def test_integers_beyond_64_bits_become_floats(frame):
    dataset = dataset_from_frame(frame.assign(age=[2**70, 1, 2, 3, 4, 5]), **DEFAULTS)
    assert dataset.x[0, dataset.feature_names.index("age")] == np.float32(2.0**70)


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_arrow_text_is_text(frame, text):
    plain = dataset_from_frame(frame, **DEFAULTS)
    kind = pd.ArrowDtype(text)
    changed = frame.astype({"job": str}).astype({"sex": kind, "job": kind, "hired": kind, "age": "int8[pyarrow]"})
    again = dataset_from_frame(changed, **DEFAULTS)
    assert again.feature_names == plain.feature_names
    assert again.group_names == plain.group_names
    np.testing.assert_array_equal(again.x, plain.x)
    np.testing.assert_array_equal(again.y, plain.y)


@pytest.mark.parametrize("column", ["sex", "job", "hired"])
@pytest.mark.parametrize("dtype", ["object", "string"])
def test_nul_characters_are_refused(frame, column, dtype):
    changed = frame.assign(**{column: ["a", "a\0", "a", "a", "a\0", "a"]}).astype({column: dtype})
    with pytest.raises(ValueError, match=f"'{column}' has text with NUL characters; remove them"):
        dataset_from_frame(changed, label="hired", sensitive="sex", favourable="yes" if column != "hired" else "a")


@pytest.mark.parametrize("column", ["sex", "job", "hired"])
@pytest.mark.parametrize(
    "values",
    [
        pd.Series([[1], [2], [1], [2], [1], [2]]),
        pd.Series([[1], [2], [1], [2], [1], [2]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        pd.Series([{"a": 1}, {"a": 2}] * 3, dtype=pd.ArrowDtype(pa.struct([("a", pa.int64())]))),
        pd.Series([np.zeros(2)] * 6),
    ],
)
def test_lists_are_refused(frame, column, values):
    with pytest.raises(TypeError, match=f"'{column}' holds lists or the like .*; make columns of numbers or text"):
        dataset_from_frame(frame.assign(**{column: values}), **DEFAULTS)


@pytest.mark.parametrize("kind", [pd.Index, np.array, pd.Series, tuple])
def test_names_may_come_in_an_array(frame, kind):
    dataset = dataset_from_frame(frame, label="hired", sensitive=kind(["sex", "old"]), favourable="yes")
    assert dataset.sensitive == ("sex", "old")
    assert dataset.group_names == ("F & False", "F & True", "M & False", "M & True")


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"label": ["hired"]}, TypeError, r"label must be the name of one column, got \['hired'\]"),
        ({"label": np.array(["hired"])}, TypeError, "label must be the name of one column"),
        ({"sensitive": [["sex"]]}, TypeError, r"sensitive must be a name or a list of names, and holds \['sex'\]"),
        ({"sensitive": {"sex": 1}}, TypeError, "sensitive must be a name or a list of names, got dict"),
        ({"sensitive": {"sex"}}, TypeError, "a set has no order"),
        ({"favourable": np.array(["yes"])}, TypeError, "favourable must be one value of the label, got ndarray"),
        ({"favourable": ["yes"]}, TypeError, "favourable must be one value of the label, got list"),
        ({"favourable": pd.NA}, ValueError, "favourable must be a value of the label, got the missing value <NA>"),
        ({"favourable": float("nan")}, ValueError, "got the missing value nan"),
    ],
)
def test_bad_arguments_say_what_is_wrong(frame, keywords, error, message):
    with pytest.raises(error, match=message):
        dataset_from_frame(frame, **{**DEFAULTS, **keywords})


def test_columns_may_be_named_by_numbers():
    frame = pd.DataFrame([[0, "a", 5.0], [1, "b", 6.0], [1, "a", 7.0]])
    dataset = dataset_from_frame(frame, label=0, sensitive=[1])
    assert (dataset.label_name, dataset.sensitive) == ("0", ("1",))
    assert dataset.feature_names == ("1_a", "1_b", "2")
    np.testing.assert_array_equal(dataset.y, [0, 1, 1])
    with pytest.raises(ValueError, match="unknown label column '0': names of columns are numbers here; give 0"):
        dataset_from_frame(frame, label="0", sensitive=1)
    with pytest.raises(ValueError, match="unknown sensitive column 1: names of columns are text here; give '1'"):
        dataset_from_frame(frame.rename(columns=str), label="0", sensitive=1)


def test_column_names_of_several_levels_are_refused(frame):
    with pytest.raises(ValueError, match="names of several levels"):
        dataset_from_frame(pd.concat({"a": frame}, axis=1), label=("a", "hired"), sensitive="a")


def test_ordered_groups_keep_the_order_of_their_categories(frame):
    order = pd.CategoricalDtype(["c", "unused", "a", "b"], ordered=True)
    dataset = dataset_from_frame(frame.astype({"job": order}), label="hired", sensitive="job", favourable="yes")
    assert dataset.group_names == ("c", "a", "b")
    np.testing.assert_array_equal(dataset.group, [2, 1, 0, 1, 2, 1])
    both = dataset_from_frame(frame.astype({"job": order}), label="hired", sensitive=["job", "sex"], favourable="yes")
    assert both.group_names == ("c & F", "a & F", "a & M", "b & F", "b & M")
    assert both.attributes["job"].names == ("c", "a", "b")
    np.testing.assert_array_equal(both.group, [4, 1, 0, 2, 3, 2])


@pytest.mark.parametrize(
    ("dtype", "names"),
    [("category", ("2", "10")), (pd.CategoricalDtype([10, 2], ordered=True), ("10", "2")), ("object", ("2", "10"))],
)
def test_groups_of_categories_that_are_numbers_are_numbered_by_them(frame, dtype, names):
    changed = frame.assign(sex=[10, 2, 2, 10, 2, 10]).astype({"sex": dtype})
    dataset = dataset_from_frame(changed, **DEFAULTS)
    assert dataset.group_names == names
    np.testing.assert_array_equal(np.array(names)[dataset.group], ["10", "2", "2", "10", "2", "10"])


def test_equal_values_that_read_differently_are_refused(frame):
    with pytest.raises(ValueError, match="'job' has different values that read alike, or equal ones that do not"):
        dataset_from_frame(frame.assign(job=[1, 1.0, "a", "b", "c", "c"]), **DEFAULTS)


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
