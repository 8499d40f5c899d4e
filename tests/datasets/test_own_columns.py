"""How the columns of a CSV file become numbers or text, and which text columns are too large."""

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import dataset_from_file, dataset_from_frame

COLUMNS = {"label": "y", "sensitive": "s"}


@pytest.fixture
def read(tmp_path):
    def reader(text, **keywords):
        path = tmp_path / "own.csv"
        path.write_text(text, encoding="utf-8")
        return dataset_from_file(path, **{**COLUMNS, **keywords})

    return reader


def table(values):
    """A CSV file with a column `f` of these texts."""
    return "\n".join(["y,s,f", *(f'{i % 2},{"ab"[i // 2 % 2]},"{value}"' for i, value in enumerate(values))])


def numbers_but(*others, rows=20):
    return table([*map(str, range(rows)), *others])


def feature(dataset):
    return dataset.x[:, dataset.feature_names.index("f")]


@pytest.mark.parametrize("other", ["NA", "?", "1,000", "nan", "n/a", "low"])
def test_numbers_with_a_little_text_are_refused(read, other):
    with pytest.raises(ValueError, match=r"own.csv has numbers in column 'f', but .* \(2 rows have no num") as caught:
        read(numbers_but(other, "7", other))
    assert f"but {other!r} in row 20" in str(caught.value)
    assert "clean the column, or, to keep it as text" in str(caught.value)
    assert "dataset_from_frame" in str(caught.value)


MISSING = ["NA", "N/A", "nan", "NaN", "null", "None", "?", "-", "--", "#N/A", "missing", "MISSING", " na ", " "]


@pytest.mark.parametrize("missing", [*([text] for text in MISSING), MISSING])
def test_numbers_with_any_share_of_missing_values_are_refused(read, missing):
    with pytest.raises(ValueError, match=r"has numbers in column 'f', but .* in row 10 .*clean the column"):
        read(numbers_but(*(missing * 50)[: 50 + len(missing)], rows=10))


def test_text_with_some_numbers_is_text(read):
    assert "f_low" in read(numbers_but(*["low"] * 3)).feature_names  # 20 of 23 are numbers
    assert "f_low" in read(numbers_but(*["NA", "low"] * 3)).feature_names
    assert "f_NA" in read(numbers_but(*["NA"] * 30, rows=9)).feature_names  # nine different numbers
    assert "f_X" in read(numbers_but("X", rows=9)).feature_names
    with pytest.raises(ValueError, match="in column 'f', but 'X' in row 10"):
        read(numbers_but("X", rows=10))


DRESSED = [
    "1,234", "1,234,567.5", "12,34,567", "12,5", "12.5%", "12 %", "$12.74", "-$12.74", "$ 1,000", "12 €", "£3", "(18)",
    "($1,234.50)", "1\u00a0234", "12\u202f345,6", "1 234", "\u22123", "\u00a05", "1'234", "1\u2019234",
]  # fmt: skip


@pytest.mark.parametrize("text", DRESSED)
@pytest.mark.parametrize("others", [["5", "6.5", "-7"], ["NA", "-", "7"], []])
def test_numbers_that_are_not_written_plainly_are_refused(read, text, others):
    with pytest.raises(ValueError, match=r"that are not written plainly, such as .* clean the column") as caught:
        read(table([*others, text, text]))
    assert f"column 'f' that are not written plainly, such as {text!r} in row {len(others)}" in str(caught.value)


@pytest.mark.parametrize("text", ["1,2,3", "(020)", "$", "%", "12-15", "(a)", "2020-01-02", "10.0.0.1", "5 kg", "1;2"])
def test_other_signs_around_numbers_are_text(read, text):
    assert f"f_{text}" in read(table([text, "3", text])).feature_names


def test_one_real_text_keeps_the_column_text(read):
    assert "f_$5" in read(table(["$5", "none at all", "$6"])).feature_names


CODES = {
    "'007' has a leading zero": ["007", "07", "7"],
    "'-01' has a leading zero": ["-01", "1", "2"],
    "'02.5' has a leading zero": ["02.5", "1", "2"],
    "'18446744073709551616' does not fit in 64 bits": ["1", "18446744073709551616", "3"],
    f"'{'9' * 40}' does not fit in 64 bits": ["1", "9" * 400, "3.5"],
    "its integers do not fit in 64 bits": ["-1", "9223372036854775808", "3"],
    "'250.1' and '250.10' are the same number": ["250.1", "250.10", "3"],
    "'1' and '1.0' are the same number": ["1", "1.0", "2"],
    "'9007199254740992' and '9007199254740993' are the same number": ["9007199254740992", "9007199254740993", "1.5"],
    "'+5' and '5' are the same number": ["+5", "5", "6"],
}


@pytest.mark.parametrize("reason", CODES)
def test_codes_stay_text_as_in_parquet(read, tmp_path, reason):
    texts = CODES[reason]
    frame = pd.DataFrame({"y": [0, 1, 1] * 2, "s": list("abb") * 2, "f": texts * 2})
    frame.to_parquet(tmp_path / "own.parquet")
    for columns in (COLUMNS, {"label": "y", "sensitive": "f"}, {"label": "y", "sensitive": ["s", "f"]}):
        dataset = read(frame.to_csv(index=False), **columns)
        again = dataset_from_file(tmp_path / "own.parquet", **columns)
        assert {f"f_{text}" for text in texts} < set(dataset.feature_names)
        assert (dataset.feature_names, dataset.group_names) == (again.feature_names, again.group_names)
        np.testing.assert_array_equal(dataset.x, again.x)
        np.testing.assert_array_equal(dataset.group, again.group)
        assert dataset.notes == (f"column 'f' holds numbers and is taken as text: {reason}",)


def test_codes_may_be_labels(read):
    text = "y,s,f\n01,a,1\n1,b,2\n01,b,3\n"
    np.testing.assert_array_equal(read(text, favourable="01").y, [1, 0, 1])
    np.testing.assert_array_equal(read(text, favourable="1").y, [0, 1, 0])
    message = r"'y' is not binary.* \(column 'y' holds numbers and is taken as text: '3' and '3.0' are the same"
    with pytest.raises(ValueError, match=message):
        read("y,s,f\n3,a,1\n3.0,b,2\n4.5,b,3\n")


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["0", "-1", "10"], [0, -1, 10]),
        (["0.5", "-0.0", "0.0"], [0.5, 0, 0]),
        ([".5", "5.", "1E3"], [0.5, 5, 1000]),
        ([" 2", "2", "3 "], [2, 2, 3]),
        (["18446744073709551615", "9223372036854775808", "0"], [2.0**64, 2.0**63, 0]),
        (["-9223372036854775808", "1", "2"], [-(2.0**63), 1, 2]),
        (["1e+20", "123456789012345678901.5", "0"], [1e20, 123456789012345678901.5, 0]),
        (["TRUE", "false", "True"], [1, 0, 1]),
    ],
)
def test_plain_numbers_and_truths_are_numbers(read, texts, values):
    dataset = read(table(texts))
    np.testing.assert_array_equal(feature(dataset), np.float32(values))
    assert dataset.notes == ()


def test_truths_are_named_as_truths(read):
    dataset = read("y,s,f\nTRUE,true,1\nFALSE,False,2\n", favourable="false")
    assert dataset.group_names == ("False", "True")
    np.testing.assert_array_equal(dataset.y, [0, 1])


def test_numbers_of_a_file_are_exact(read):
    values = np.random.default_rng(0).normal(size=300) * 10.0 ** np.arange(-30, 30).repeat(5)
    frame = pd.DataFrame({"y": [0, 1] * 150, "s": list("aab") * 100, "f": values})
    np.testing.assert_array_equal(feature(read(frame.to_csv(index=False))), values.astype(np.float32))


def test_missing_values_and_numbers_too_large_are_refused_by_their_column(read):
    with pytest.raises(ValueError, match=": column 'f' has missing values in 1 rows, first in row 20"):
        read(numbers_but(""))
    with pytest.raises(ValueError, match=r": column 'f' has 1e\+300 in row 1, which is too large"):
        read("y,s,f\n1,a,2\n0,b,1e300\n")
    with pytest.raises(ValueError, match="infinite values in column 'f'"):
        read("y,s,f\n1,a,2\n0,b,inf\n")


def many(rows, distinct):
    ids = [f"id {row % distinct}" for row in range(rows)]
    return pd.DataFrame({"y": np.arange(rows) % 2, "s": ["a", "b", "b", "a"] * (rows // 4), "customer_id": ids})


@pytest.mark.parametrize("kind", [object, "str", "category"])
def test_texts_that_are_different_in_most_rows_are_refused(kind):
    message = "column 'customer_id' has 40,000 different texts in 40,000 rows; drop it, or group its values"
    with pytest.raises(ValueError, match=message):
        dataset_from_frame(many(40_000, 40_000).astype({"customer_id": kind}), **COLUMNS)


def test_the_limits_of_different_texts():
    assert dataset_from_frame(many(1000, 1000), **COLUMNS).x.shape == (1000, 1002)
    assert dataset_from_frame(many(2400, 1200), **COLUMNS).x.shape == (2400, 1202)
    with pytest.raises(ValueError, match="1,201 different texts in 2,400 rows"):
        dataset_from_frame(many(2400, 1201), **COLUMNS)


def test_texts_of_a_file_that_are_different_in_most_rows_are_refused(read):
    codes = [f"0{row}" for row in range(2000)]
    message = r"own.csv: column 'f' has 2,000 different texts .* \(column 'f' holds numbers .*'00' has a leading zero"
    with pytest.raises(ValueError, match=message):
        read(table(codes))


def test_texts_that_make_too_large_a_table_are_refused():
    frame = many(600_000, 900)
    with pytest.raises(ValueError, match=r"'customer_id' has 900 different texts in 600,000 rows, and all .* 2.0 GiB"):
        dataset_from_frame(frame, **COLUMNS)


def test_texts_that_are_all_different_are_noted():
    (note,) = dataset_from_frame(many(40, 40), **COLUMNS).notes
    assert "every row of text column 'customer_id' is different" in note
    assert "drop it, or group its values" in note
    assert dataset_from_frame(many(40, 39), **COLUMNS).notes == ()
    assert dataset_from_frame(many(40, 40)[["y", "s"]], **COLUMNS).notes == ()


def test_one_long_text_does_not_widen_the_others():
    frame = many(4000, 3)
    frame.loc[7, "customer_id"] = "x" * 10_000_000  # 160 GB in an array of fixed width
    dataset = dataset_from_frame(frame, label="y", sensitive="customer_id")
    assert dataset.group[7] == dataset.num_groups - 1
    assert dataset.x.shape == (4000, 6)


@pytest.mark.parametrize("name", [None, float("nan"), "", " ", "Unnamed: 0", "Unnamed: 12"])
def test_columns_of_a_frame_without_a_name_are_refused(name):
    frame = many(8, 2)
    frame.columns = ["y", "s", name]
    with pytest.raises(ValueError, match=r"frame has no name for column 2.* write it with index=False, or name"):
        dataset_from_frame(frame, **COLUMNS)


def test_an_index_that_is_wanted_is_named():
    frame = many(8, 2).set_index("s")
    with pytest.raises(ValueError, match=r"sensitive column 's' is the index of the frame; .*reset_index"):
        dataset_from_frame(frame, **COLUMNS)
    with pytest.raises(ValueError, match=r"label column 's' is the index of the frame; .*reset_index"):
        dataset_from_frame(frame, label="s", sensitive="y")
