"""Other rows become the features that a dataset was made of, or a message says which value does not."""

import numpy as np
import pandas as pd
import pytest

from badrjax import dataset_from_frame
from badrjax.datasets import dataset_from_file
from badrjax.datasets.encodings import encode_file, encode_frame, encoding_of

FRAME = pd.DataFrame({
    "age": [30, 41, 52, 23], "job": ["cook", "clerk", "cook", "nurse"], "member": [True, False, True, True],
    "zip": ["02139", "10001", "02139", "94110"], "sex": ["F", "M", "M", "F"], "hired": [1, 0, 1, 0],
})  # fmt: skip


def made(**options):
    dataset = dataset_from_frame(FRAME, label="hired", sensitive="sex", **options)
    left_out = ["hired", "sex"] if options.get("drop_sensitive") else ["hired"]
    return dataset, encoding_of(FRAME, left_out)


@pytest.mark.parametrize("drop_sensitive", [False, True])
def test_the_same_rows_become_the_same_features(drop_sensitive):
    dataset, encoding = made(drop_sensitive=drop_sensitive)
    np.testing.assert_array_equal(encode_frame(FRAME, encoding), dataset.x)


def test_order_of_columns_and_further_columns_do_not_matter():
    dataset, encoding = made()
    other = FRAME[FRAME.columns[::-1]].assign(note="x")
    np.testing.assert_array_equal(encode_frame(other, encoding), dataset.x)


def test_some_rows_alone_are_encoded_as_among_all():
    dataset, encoding = made()
    # One job only, one zip only: categories are those of training all the same.
    np.testing.assert_array_equal(encode_frame(FRAME.iloc[[0, 2]], encoding), dataset.x[[0, 2]])


def test_a_file_is_read_by_what_the_model_knows_and_not_by_what_stands_in_it(tmp_path):
    FRAME.to_csv(tmp_path / "all.csv", index=False)
    dataset = dataset_from_file(tmp_path / "all.csv", label="hired", sensitive="sex")
    _, encoding = made()
    assert encoding.columns[3].kind == "text"  # a leading zero makes codes of it
    np.testing.assert_array_equal(encode_file(tmp_path / "all.csv", encoding), dataset.x)
    # Alone, 10001 would be a number.
    FRAME.drop(columns="hired").iloc[[1]].to_csv(tmp_path / "one.csv", index=False)
    np.testing.assert_array_equal(encode_file(tmp_path / "one.csv", encoding), dataset.x[[1]])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("job", "pilot", "column 'job' has 'pilot' in row 1, which the model was not trained with; it knows 'clerk'"),
        ("age", "old", "column 'age' has 'old' in row 1, where the model was trained with numbers"),
        ("age", 1e300, "not finite in float32"),
        ("age", float("nan"), "column 'age' has no value in row 1"),
    ],
)
def test_values_that_the_model_does_not_know_are_named(column, value, message):
    _, encoding = made()
    other = FRAME.astype({column: object})
    other.loc[1, column] = value
    with pytest.raises(ValueError, match=message):
        encode_frame(other, encoding)


def test_missing_columns_are_named():
    _, encoding = made()
    with pytest.raises(ValueError, match="missing: 'age', 'zip'"):
        encode_frame(FRAME.drop(columns=["age", "zip"]), encoding)


def test_a_value_that_no_training_row_had_is_not_known():
    encoding = encoding_of(FRAME, ["hired"], np.array([0, 1, 2]))  # the nurse is in row 3
    assert encoding.columns[1].unseen == ("nurse",)
    assert encode_frame(FRAME.iloc[:3], encoding).shape[1] == encode_frame(FRAME.iloc[:1], encoding).shape[1]
    with pytest.raises(
        ValueError, match="'nurse' in row 3, which the model was not trained with; it knows 'clerk', 'c"
    ):
        encode_frame(FRAME, encoding)
