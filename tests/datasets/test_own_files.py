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


def contents(dataset):
    arrays = (dataset.x, dataset.y, dataset.group)
    return dataset.feature_names, dataset.group_names, *(np.asarray(array).tolist() for array in arrays)


CONTENTS = (
    ("f", "s_a", "s_b"),
    ("a", "b"),
    [[2.5, 1, 0], [3, 0, 1], [4, 1, 0], [-1, 0, 1]],
    [1, 0, 0, 1],
    [0, 1, 0, 1],
)


def test_a_csv_file_becomes_a_dataset(write):
    path = write(CSV)
    dataset = dataset_from_file(path, **COLUMNS)
    assert contents(dataset) == CONTENTS
    assert (dataset.name, dataset.source) == ("own.csv", str(path))
    assert dataset.checksums == {str(path): hashlib.sha256(CSV).hexdigest()}


@pytest.mark.parametrize("name", ["own.csv", "OWN.CSV", "own.csv.gz", "own.CSV.GZ", "own.parquet", "own.Parquet"])
def test_every_kind_of_file_is_read(write, tmp_path, name):
    path = tmp_path / name
    if name.lower().endswith("parquet"):
        pd.read_csv(write(CSV, "plain.csv")).to_parquet(path)
    else:
        write(gzip.compress(CSV) if name.lower().endswith("gz") else CSV, name)
    assert contents(dataset_from_file(str(path), **COLUMNS)) == CONTENTS


def test_a_mark_of_utf8_is_no_part_of_the_first_name(write):
    assert contents(dataset_from_file(write(b"\xef\xbb\xbf" + CSV), **COLUMNS)) == CONTENTS
    assert contents(dataset_from_file(write(b'\xef\xbb\xbf"y"' + CSV[1:]), **COLUMNS)) == CONTENTS


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
    assert contents(dataset_from_file(path, **COLUMNS)) == CONTENTS


def test_a_late_text_makes_a_whole_column_text(write):
    groups = ["01", "02", "03", "04", "05"]
    rows = [f"{row % 2},{groups[row % 5]},{row}" for row in range(300_000)]
    path = write("\n".join(["y,s,f", *rows, "1,X1,7", "0,X1,8"]))
    dataset = dataset_from_file(path, **COLUMNS)
    assert dataset.group_names == ("01", "02", "03", "04", "05", "X1")
    np.testing.assert_array_equal(np.bincount(dataset.group), [60_000] * 5 + [2])


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
    assert "cannot be read as a table (line 2: field larger" in refusal(write(f"y,s,f\n1,a,{'x' * 200_000}\n"))
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
    assert contents(dataset_from_file(write("\n" + CSV.decode()), **COLUMNS)) == CONTENTS


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_named(write, separator):
    message = refusal(write(CSV.decode().replace(",", separator)))
    assert f"values should be separated by commas, not by {separator!r}" in message


@pytest.mark.parametrize(
    ("content", "label"),
    [("a;b, c;d\n1;2;3\n", "a"), ("a;b, c;d\n1;2;3\n", "misspelt"), ("a;b, c\n1;2,5\n0;3,5\n", "a")],
)
def test_separators_are_named_beside_a_comma_in_the_header(write, content, label):
    message = refusal(write(content), label=label)
    assert "has columns ['a;b', ' c" in message
    assert "values should be separated by commas, not by ';'" in message


def test_a_separator_within_a_name_or_a_value_is_none(write):
    path = write("y,s,f;g\n1,a,2;3\n0,b,4;5\n")
    assert "f;g_2;3" in dataset_from_file(path, **COLUMNS).feature_names


@pytest.mark.parametrize("row", ["1,a,2,3,4", "1,a,2,3", "1,a"])
@pytest.mark.parametrize("place", [0, 2])
def test_rows_of_another_width_than_the_header_are_refused(write, row, place):
    lines = CSV.decode().splitlines()
    path = write("\n".join([lines[0], *([row] * 4 if place == 0 else [*lines[1:3], row])]))
    message = refusal(path)
    assert f": line {place + 2} has {row.count(',') + 1} values and the header 3" in message
    assert "a value with commas in it must stand in quotation marks" in message


def test_the_line_of_a_row_is_that_of_the_file(write):
    path = write('\n"y",s,f\n\n1,a,"x,\ny"\n  \n0,b\n')
    assert ": line 7 has 2 values and the header 3" in refusal(path)
    dataset = dataset_from_file(write('\n"y",s,f\n\n1,a,"x,\ny"\n  \n0,b,z\n'), **COLUMNS)
    assert dataset.feature_names == ("f_x,\ny", "f_z", "s_a", "s_b")


@pytest.mark.parametrize(("end", "mark"), [("\n", b""), ("\r\n", b""), ("\r", b""), ("\n", b"\xef\xbb\xbf")])
def test_text_in_another_encoding_is_refused_by_its_line(write, end, mark):
    content = mark + end.join(["y,s,f", "1,a,2", "0,ä,3", ""]).encode("latin-1")
    assert refusal(write(content)) == " is not UTF-8 text in line 3; save it as UTF-8"


@pytest.mark.parametrize(
    ("content", "column"),
    [
        (pd.DataFrame({"y": [0, 1], "s": ["a", "b"]}).to_csv(), "0"),
        ("y,s,f,\n1,a,2,\n0,b,3,\n", "3"),
        ("y,s, ,f\n1,a,2,3\n0,b,3,3\n", "2"),
        ("y,s,Unnamed: 0\n1,a,2\n0,b,3\n", "2 ('Unnamed: 0')"),
        (",y,s,\n0,1,a,1\n1,0,b,1\n", "0"),
    ],
)
def test_columns_without_a_name_are_refused(write, content, column):
    message = refusal(write(content))
    assert f"has no name for column {column}, which may be row numbers" in message
    assert "write it with index=False, or name the column" in message


def test_a_column_that_is_the_index_is_named(tmp_path):
    path = tmp_path / "own.parquet"
    pd.DataFrame({"y": [0, 1], "s": ["a", "b"], "f": [1, 2]}).set_index("s").to_parquet(path)
    assert ": sensitive column 's' is the index of the frame; make it a column with frame.reset_index()" in refusal(
        path
    )


def test_categories_of_numbers_come_back_from_parquet(tmp_path):
    frame = pd.DataFrame({"y": [5, 1, 1], "s": [10, 2, 2], "f": [3, 1, 2], "t": ["u", "v", "u"], "g": [1, 2, 3]})
    path = tmp_path / "own.parquet"
    ordered = pd.CategoricalDtype([10, 2], ordered=True)
    frame.astype({"y": "category", "s": ordered, "f": "category", "t": "category"}).to_parquet(path)
    dataset = dataset_from_file(path, favourable="5", **COLUMNS)
    assert dataset.feature_names == ("f_1", "f_2", "f_3", "g", "s_10", "s_2", "t_u", "t_v")
    np.testing.assert_array_equal(dataset.x[0], [0, 0, 1, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(dataset.y, [1, 0, 0])
    assert dataset.group_names == ("2", "10")  # Parquet keeps no order of them


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
    np.testing.assert_array_equal(dataset_from_file(path := write(CSV), favourable="FALSE", **COLUMNS).y, [0, 1, 1, 0])
    np.testing.assert_array_equal(dataset_from_file(path, favourable="0", **COLUMNS).y, [0, 1, 1, 0])


def test_a_truth_is_no_value_of_other_numbers(write):
    path = write(CSV.replace(b"\n0", b"\n2"))
    assert "favourable 'true' does not occur in label 'y', which has 1, 2" in refusal(path, favourable="true")


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_large_favourable_integers_are_exact(write, tmp_path, name):
    large = 2**53
    frame = pd.DataFrame({"y": [large, large + 1, large], "s": ["a", "b", "a"], "f": [1, 2, 3]})
    path = tmp_path / name
    frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    dataset = dataset_from_file(path, favourable=str(large + 1), **COLUMNS)
    np.testing.assert_array_equal(dataset.y, [0, 1, 0])
    assert dataset.favourable == str(large + 1)


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
        ({"favourable": "yes"}, ValueError, "favourable 'yes' does not occur in label 'y', which has 1, 0"),
        ({"favourable": "7"}, ValueError, "favourable 7 does not occur in label 'y'"),
        ({"favourable": "nan"}, ValueError, "got the missing value nan"),
        ({"favourable": [1]}, TypeError, "favourable must be one value"),
    ],
)
def test_errors_of_the_frame_start_with_the_path(write, keywords, error, message):
    found = refusal(write(CSV), error, **keywords)
    assert found.startswith(": ")
    assert message in found


@pytest.mark.parametrize("favourable", [None, "yes", "1"])
def test_header_without_rows_is_refused(write, tmp_path, favourable):
    assert refusal(write("y,s,f\n"), favourable=favourable) == " has no rows"
    path = tmp_path / "own.parquet"
    pd.DataFrame({"y": [1], "s": ["a"]}).iloc[:0].to_parquet(path)
    assert refusal(path, favourable=favourable) == " has no rows"


@pytest.mark.parametrize("favourable", [None, "yes", "1"])
@pytest.mark.parametrize("row", [",a,1\n", "1,a,1\n"])
def test_empty_labels_are_missing_ones(write, row, favourable):
    message = refusal(write(f"y,s,f\n{row},b,2\n"), favourable=favourable)
    assert ": column 'y' has missing values in" in message
    assert "drop the rows without a label" in message


def test_missing_libraries_are_answered_with_how_to_get_them(write, monkeypatch):
    path = write(CSV, "own.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'badrjax[data]'" in refusal(path, ModuleNotFoundError)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "reading it needs pandas: pip install 'badrjax[data]'" in refusal(path, ModuleNotFoundError)


def test_arrow_types_of_a_reader_make_the_same_dataset(write):
    frame = pd.read_csv(write(CSV), dtype_backend="pyarrow")
    assert contents(dataset_from_frame(frame, **COLUMNS)) == CONTENTS
