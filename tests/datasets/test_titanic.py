import hashlib
import sys

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import load_dataset
from badrjax.datasets.assembly import Rules, assemble
from badrjax.datasets.titanic import CSV, ENTRY, XLS, prepare, read_raw

HEADER = "pclass,survived,name,sex,age,sibsp,parch,ticket,fare,cabin,embarked,boat,body,home.dest"
ROWS = (
    '1,1,"Doe, Miss. Jane",female,30,0,1,111,50.5,A1,S,2,,"Nowhere, NW"',
    '3,0,"Roe, Mr. Rick",male,,1,0,A/5 22,,,Q,,17,',
    '2,0,"Poe, Mr. Ned",male,0.5,0,2,333,13,,,,,"Elsewhere"',
)


def _contents(*rows, header=HEADER):
    return {CSV.path: "\n".join([header, *rows]).encode() + b"\n"}


def _columns(contents, variant):
    features = prepare(contents, variant=variant).features
    return {name: features.x[:, i].tolist() for i, name in enumerate(features.names)}


@pytest.fixture
def csv_home(real_data, tmp_path):
    """Only the CSV, so that no test depends on which form is preferred."""
    (tmp_path / "titanic").mkdir()
    (tmp_path / CSV.path).write_bytes((real_data / CSV.path).read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / CSV.path, dtype={"ticket": str, "boat": str})


@pytest.mark.parametrize("variant", ENTRY.variants)
def test_facts_are_what_is_loaded(csv_home, variant):
    data = load_dataset("titanic", variant=variant, data_home=csv_home)
    assert (*data.x.shape, round(float(data.y.mean()), 4)) == ENTRY.facts[variant]


def test_counts_are_the_published_ones(csv_home, frame):
    data = load_dataset("titanic", data_home=csv_home)
    assert (data.y.size, data.y.sum()) == (1_309, 500)
    assert data.group_names == ("female", "male")
    assert np.bincount(data.group).tolist() == [466, 843]
    by_class = load_dataset("titanic", sensitive="pclass", data_home=csv_home)
    np.testing.assert_array_equal(np.array(by_class.group_names)[by_class.group], frame["pclass"].astype(str))


def test_nash_features_are_sorted_standardised_dummies_with_zeros_for_missing(csv_home, frame):
    data = load_dataset("titanic", variant="nash", data_home=csv_home)
    text = ["sex", "ticket", "cabin", "embarked", "boat", "home.dest"]
    table = frame.drop(columns=["survived", "name"])
    table[text] = table[text].astype(object)
    dummies = pd.get_dummies(table.fillna(0), columns=text, dtype=float)
    dummies = dummies[sorted(dummies.columns)]
    assert data.feature_names == tuple(dummies.columns)
    expected = (dummies - dummies.mean()) / dummies.std(ddof=0)
    np.testing.assert_allclose(data.x, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(data.y, frame["survived"])


def test_default_features_leak_nothing_and_mark_what_is_missing(csv_home, frame):
    data = load_dataset("titanic", data_home=csv_home)
    table = frame[["pclass", "sex", "age", "sibsp", "parch", "fare", "embarked"]].astype({"pclass": str})
    table = table.assign(age_missing=frame["age"].isna(), fare_missing=frame["fare"].isna())
    dummies = pd.get_dummies(table.fillna({"age": 0, "fare": 0}), columns=["pclass", "sex", "embarked"], dtype=float)
    dummies = dummies[sorted(dummies.columns)].astype(np.float32)
    assert data.feature_names == tuple(dummies.columns)
    np.testing.assert_array_equal(data.x, dummies)


def test_official_split_is_balanced_in_blocks(real_data, csv_home):
    data = load_dataset("titanic", variant="nash", data_home=csv_home)
    split = ENTRY.official_splits["titanic_sex"]
    content = (real_data / split.file.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == split.file.sha256
    assert split.sensitive == data.sensitive == ("sex",)
    with np.load(real_data / split.file.path, allow_pickle=False) as index:
        cell = 2 * data.group + data.y
        assert np.bincount(cell[index["ind_test"]]).tolist() == [9] * 4
        np.testing.assert_array_equal(cell[index["val_idx"]], np.arange(4))


@pytest.mark.parametrize("variant", ENTRY.variants)
def test_official_sheet_gives_the_same_dataset_as_the_csv(real_data, variant):
    pytest.importorskip("xlrd")
    from_csv, from_xls = (
        prepare({file.path: (real_data / file.path).read_bytes()}, variant=variant) for file in (CSV, XLS)
    )
    assert from_csv.features.names == from_xls.features.names
    np.testing.assert_array_equal(from_csv.features.x, from_xls.features.x)
    np.testing.assert_array_equal(from_csv.label, from_xls.label)
    for name, attribute in from_csv.attributes.items():
        np.testing.assert_array_equal(attribute.values.text(), from_xls.attributes[name].values.text())


def test_sheet_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xlrd", None)
    with pytest.raises(ModuleNotFoundError, match=r"titanic3\.xls needs xlrd: pip install 'badrjax\[data\]'"):
        prepare({XLS.path: b""}, variant="default")


@pytest.mark.parametrize(
    "content", [b"", b"<html></html>\n", b"pclass,survived\n1,1\n", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)]
)
def test_file_that_is_no_sheet_is_refused(content):
    pytest.importorskip("xlrd")
    with pytest.raises(ValueError, match=r"titanic3\.xls is not the table it should be"):
        prepare({XLS.path: content}, variant="default")


def test_small_file_in_the_default_variant():
    column = _columns(_contents(*ROWS), "default")
    assert column["age"] == [30, 0, 0.5]
    assert column["age_missing"] == [0, 1, 0]
    assert (column["fare"], column["fare_missing"]) == ([50.5, 0, 13], [0, 1, 0])
    assert (column["embarked_Q"], column["embarked_S"]) == ([0, 1, 0], [1, 0, 0])
    assert column["pclass_3"] == [0, 1, 0]
    assert not {name.split("_")[0] for name in column} & {"name", "ticket", "cabin", "boat", "body", "home.dest"}


def test_small_file_keeps_the_flaws_in_the_nash_variant():
    column = _columns(_contents(*ROWS), "nash")
    assert column["pclass"] == [1, 3, 2]
    assert column["age"] == [30, 0, 0.5]
    assert (column["boat_0"], column["boat_2"], column["body"]) == ([0, 1, 1], [1, 0, 0], [0, 17, 0])
    assert column["embarked_0"] == [0, 0, 1]
    assert {"ticket_111", "ticket_A/5 22", "cabin_A1", "home.dest_Nowhere, NW"} <= set(column)
    assert not any(name.endswith("_missing") or name.startswith("name") for name in column)


def test_tickets_and_boats_stay_text():
    table = read_raw(_contents(*ROWS))
    assert table["ticket"].text().tolist() == ["111", "A/5 22", "333"]
    assert table["boat"].text(missing="none").tolist() == ["2", "none", "none"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (_contents(*ROWS, header=HEADER.replace("fare", "price")), "titanic3.csv: unknown column 'fare'"),
        (_contents(*ROWS, ROWS[0].replace("1,1,", "1,yes,")), "column 'survived' has the unknown category 'yes'"),
        (_contents(*ROWS, ROWS[0].replace("1,1,", "1,,")), "column 'survived' has the unknown category ''"),
        (_contents(*ROWS, ROWS[0].replace("female", "f")), "column 'sex' has the unknown category 'f'"),
        (_contents(*ROWS, ROWS[0].replace("1,1,", "4,1,")), "column 'pclass' has the unknown category '4'"),
        (_contents(*ROWS, ROWS[0].replace(",30,", ",old,")), "has 'old' in column 'age', row 3"),
        ({CSV.path: _contents(*ROWS)[CSV.path].replace(b",", b";")}, "unknown column 'age'"),
        ({CSV.path: b"<!DOCTYPE html>\n<html><body>Moved</body></html>\n"}, "unknown column 'age'"),
    ],
    ids=["column", "label", "no label", "sex", "class", "number", "semicolons", "web page"],
)
@pytest.mark.parametrize("variant", ENTRY.variants)
def test_bad_file_is_refused(contents, message, variant):
    with pytest.raises(ValueError, match=message):
        prepare(contents, variant=variant)


def test_single_class_is_refused():
    prepared = prepare(_contents(*ROWS[1:]), variant="default")
    with pytest.raises(ValueError, match="every row of titanic has the label survived = 0"):
        assemble(ENTRY, prepared, sensitive=("pclass",), variant="default", rules=Rules(), checksums={})
