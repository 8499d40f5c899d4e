import gzip
import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import dataset_from_frame
from badrjax.datasets.own_files import dataset_from_file

CSV = b"y,s,f\n1,a,2.5\n0,b,3\n0,a,4\n1,b,-1\n"
COLUMNS = {"label": "y", "sensitive": "s"}


@pytest.fixture
def write(tmp_path):
    def writer(content, name="own.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return writer


def refusal(path, error=ValueError, **keywords):
    """The message of an error of `dataset_from_file` without the path, which it has to start with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as they may be for a user
        with pytest.raises(error) as caught:
            dataset_from_file(path, **{**COLUMNS, **keywords})
    assert type(caught.value) is error
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def check(dataset):
    assert dataset.feature_names == ("f", "s_a", "s_b")
    np.testing.assert_array_equal(dataset.x, [[2.5, 1, 0], [3, 0, 1], [4, 1, 0], [-1, 0, 1]])
    np.testing.assert_array_equal(dataset.y, [1, 0, 0, 1])
    assert dataset.group_names == ("a", "b")


def test_a_csv_file_becomes_a_dataset(write):
    path = write(CSV)
    dataset = dataset_from_file(path, **COLUMNS)
    check(dataset)
    assert (dataset.name, dataset.source) == ("own.csv", str(path))
    assert dataset.checksums == {str(path): hashlib.sha256(CSV).hexdigest()}


@pytest.mark.parametrize("name", ["own.csv", "OWN.CSV", "own.csv.gz", "own.CSV.GZ", "own.parquet", "own.Parquet"])
def test_every_kind_of_file_is_read(write, tmp_path, name):
    path = tmp_path / name
    if name.lower().endswith("parquet"):
        pd.read_csv(write(CSV, "plain.csv")).to_parquet(path)
    else:
        write(gzip.compress(CSV) if name.lower().endswith("gz") else CSV, name)
    check(dataset_from_file(str(path), **COLUMNS))


def test_a_mark_of_utf8_is_no_part_of_the_first_name(write):
    check(dataset_from_file(write(b"\xef\xbb\xbf" + CSV), **COLUMNS))
    check(dataset_from_file(write(b'\xef\xbb\xbf"y"' + CSV[1:]), **COLUMNS))


def test_the_home_directory_is_expanded(write, tmp_path, monkeypatch):
    path = write(CSV)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dataset_from_file("~/own.csv", **COLUMNS).source == str(path)
    with pytest.raises(ValueError, match=r"^~nobody-of-this-name/own.csv cannot be found"):
        dataset_from_file("~nobody-of-this-name/own.csv", **COLUMNS)


def test_a_part_of_a_partitioned_folder_has_only_its_own_columns(write, tmp_path):
    (tmp_path / "year=2020").mkdir()
    path = tmp_path / "year=2020" / "part.parquet"
    pd.read_csv(write(CSV)).to_parquet(path)
    check(dataset_from_file(path, **COLUMNS))


def test_a_late_text_makes_a_whole_column_text(write):
    groups = ["01", "02", "03", "04", "05"]
    rows = [f"{row % 2},{groups[row % 5]},{row}" for row in range(300_000)]
    path = write("\n".join(["y,s,f", *rows, "1,X1,7", "0,X1,8"]))
    dataset = dataset_from_file(path, **COLUMNS)
    assert dataset.group_names == ("01", "02", "03", "04", "05", "X1")
    np.testing.assert_array_equal(np.bincount(dataset.group), [60_000] * 5 + [2])


def test_warnings_about_mixed_types_are_errors(write, monkeypatch):
    def warns(*arguments, **keywords):
        warnings.warn("columns have mixed types", pd.errors.DtypeWarning, stacklevel=1)

    path = write(CSV)
    read_csv = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda *a, **k: read_csv(*a, **k) if k.get("nrows") else warns())
    assert "cannot be read as a table (columns have mixed types)" in refusal(path)


@pytest.mark.parametrize("position", [0, 12, -20, -6])
def test_a_damaged_gzip_file_is_refused(write, position):
    content = bytearray(gzip.compress(b"".join([CSV, *(b"%d,a,%d\n" % (i % 2, i * i) for i in range(500))])))
    content[position] ^= 0xFF
    assert "cannot be read as a table" in refusal(write(bytes(content), "own.csv.gz"))


def test_a_gzip_file_that_breaks_off_is_refused(write):
    assert "cannot be read as a table" in refusal(write(gzip.compress(CSV)[:-9], "own.csv.gz"))


def test_a_damaged_parquet_file_is_refused(write, tmp_path):
    pd.read_csv(write(CSV)).to_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    assert "cannot be read as a table" in refusal(write(content[:-20], "broken.parquet"))
    assert "cannot be read as a table" in refusal(write(CSV, "named.parquet"))


@pytest.mark.parametrize("name", ["folder", "folder.csv", "folder.parquet"])
def test_folders_are_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    assert "is a folder; give one file" in refusal(tmp_path / name)


def test_files_that_are_not_there_or_of_another_kind_are_refused(write, tmp_path):
    assert refusal(tmp_path / "no.csv", FileNotFoundError) == " is not there"
    assert "is neither .csv, .csv.gz nor .parquet" in refusal(write(CSV, "own.txt"))
    assert "cannot be read as a table" in refusal(write(b""))
    assert "cannot be read as a table" in refusal(write("y,s,f\n1,ä,2\n".encode("latin-1")))
    with pytest.raises(TypeError, match="path must be that of a file, got int"):
        dataset_from_file(3, **COLUMNS)


def test_a_file_that_may_not_be_read_is_refused(write, monkeypatch):
    path = write(CSV)

    def refuse(_):
        raise PermissionError("permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(path) == " cannot be read (permission denied)"


def test_repeated_columns_are_refused(write):
    assert "has column 'f' more than once; rename one" in refusal(write("y,s,f,f\n1,a,2,3\n0,b,3,4\n"))
    assert "has column 'f' more than once" in refusal(write('\ufeff"f",y,s,f\n1,1,a,2\n0,0,b,3\n'))
    check(dataset_from_file(write("\n" + CSV.decode()), **COLUMNS))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_named(write, separator):
    message = refusal(write(CSV.decode().replace(",", separator)))
    assert f"values should be separated by commas, not by {separator!r}" in message


@pytest.mark.parametrize("row", ["1,a,2,3,4", "1,a,2,3"])
@pytest.mark.parametrize("place", [0, 2])
def test_rows_longer_than_the_header_are_refused(write, row, place):
    lines = CSV.decode().splitlines()
    path = write("\n".join([lines[0], *([row] * 4 if place == 0 else [*lines[1:3], row])]))
    assert "cannot be read as a table" in refusal(path)


def numbers_but(*others, rows=20):
    texts = [*map(str, range(rows)), *others]
    return "\n".join(["y,s,f", *(f'{i % 2},{"ab"[i // 2 % 2]},"{text}"' for i, text in enumerate(texts))])


@pytest.mark.parametrize("other", ["NA", "?", "1,000", "nan", "n/a"])
def test_numbers_with_a_little_text_are_refused(write, other):
    message = refusal(write(numbers_but(other, "7", other)))
    assert f"has numbers in column 'f', but {other!r} in row 20 (2 rows have no number)" in message
    assert "clean the column" in message
    assert "dataset_from_frame" in message


def test_text_with_some_numbers_is_text(write):
    assert "f_NA" in dataset_from_file(write(numbers_but(*["NA"] * 3)), **COLUMNS).feature_names  # 20 of 23
    codes = numbers_but("X", rows=9)  # nine different numbers
    assert "f_X" in dataset_from_file(write(codes), **COLUMNS).feature_names
    with pytest.raises(ValueError, match="in column 'f', but 'X' in row 10"):
        dataset_from_file(write(numbers_but("X", rows=10)), **COLUMNS)


def test_missing_values_are_refused_by_their_column(write):
    assert ": column 'f' has missing values in 1 rows, first in row 20" in refusal(write(numbers_but("")))


@pytest.mark.parametrize("large", ["18446744073709551615", "123456789012345678901234567890"])
def test_integers_beyond_64_bits_are_numbers(write, large):
    dataset = dataset_from_file(write(f"y,s,f\n1,a,{large}\n0,b,-3\n"), **COLUMNS)
    assert dataset.feature_names == ("f", "s_a", "s_b")
    np.testing.assert_array_equal(dataset.x[:, 0], np.float32([float(large), -3]))


def test_numbers_too_large_for_float32_are_refused(write):
    assert ": column 'f' has 1e+300 in row 1, which is too large" in refusal(write("y,s,f\n1,a,2\n0,b,1e300\n"))
    assert "column 'f'" in refusal(write(numbers_but("9" * 400)))


def test_nul_characters_are_refused(write):
    assert " has NUL characters in column 'f'; remove them" in refusal(write(b"y,s,f\n1,a,x\0\n0,b,x\n"))
    assert " has NUL characters" in refusal(write(CSV.decode().encode("utf-16-le")))


@pytest.mark.parametrize("name", ["self", "frame", "path"])
def test_any_name_of_a_column_will_do(write, name):
    dataset = dataset_from_file(write(f"y,{name}\n1,a\n0,b\n"), label="y", sensitive=name)
    assert dataset.feature_names == (f"{name}_a", f"{name}_b")


@pytest.mark.parametrize("text", ["1", "1.0"])
def test_the_favourable_value_may_be_text(write, text):
    dataset = dataset_from_file(write(CSV), favourable=text, **COLUMNS)
    np.testing.assert_array_equal(dataset.y, [1, 0, 0, 1])
    truths = CSV.replace(b"\n1", b"\nTrue").replace(b"\n0", b"\nFalse")
    np.testing.assert_array_equal(dataset_from_file(write(truths), favourable="false", **COLUMNS).y, [0, 1, 1, 0])


def test_label_column_of_decimals_makes_targets(write):
    path = write("y,s,f\n3.0,a,1\n4.0,b,2\n5.0,a,3\n")
    np.testing.assert_array_equal(dataset_from_file(path, **COLUMNS).y, np.float32([3, 4, 5]))
    assert "3.0 for 3 in a file" in refusal(write("y,s,f\n3,a,1\n4,b,2\n5,a,3\n"))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"label": "z"}, ValueError, "unknown label column 'z'"),
        ({"label": 0}, ValueError, "unknown label column 0"),
        ({"label": ["y"]}, TypeError, "label must be the name of one column"),
        ({"sensitive": {"s"}}, TypeError, "a set has no order"),
        ({"sensitive": "y"}, ValueError, "must not name the label"),
        ({"favourable": "yes"}, ValueError, "favourable 'yes' does not occur in label 'y', which holds numbers"),
        ({"favourable": "7"}, ValueError, "favourable 7 does not occur in label 'y'"),
        ({"favourable": "nan"}, ValueError, "got the missing value nan"),
        ({"favourable": [1]}, TypeError, "favourable must be one value"),
    ],
)
def test_errors_of_the_frame_start_with_the_path(write, keywords, error, message):
    found = refusal(write(CSV), error, **keywords)
    assert found.startswith(": ")
    assert message in found


def test_header_without_rows_is_refused(write):
    assert refusal(write("y,s,f\n")) == ": frame has no rows"


def test_missing_libraries_are_answered_with_how_to_get_them(write, monkeypatch):
    path = write(CSV, "own.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'badrjax[data]'" in refusal(path, ModuleNotFoundError)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "reading it needs pandas: pip install 'badrjax[data]'" in refusal(path, ModuleNotFoundError)


def test_arrow_types_of_a_reader_make_the_same_dataset(write):
    frame = pd.read_csv(write(CSV), dtype_backend="pyarrow")
    check(dataset_from_frame(frame, **COLUMNS))
