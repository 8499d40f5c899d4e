import hashlib

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import load_dataset
from badrjax.datasets.assembly import Rules, assemble
from badrjax.datasets.default_credit import ENTRY, FILE, LABEL, NUMERIC, prepare

HEADER = ("ID", "LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", *NUMERIC[2:], LABEL)


def _row(number, sex="1", education="1", marriage="1", age="40", label="0", limit="1000"):
    later = ["0"] * (len(NUMERIC) - 3)
    return ",".join([str(number), limit, sex, education, marriage, age, *later, label])


ROWS = (
    _row(1, sex="2", education="2", marriage="2", age="25", label="1"),
    _row(2, sex="1", education="5", marriage="0", age="26"),
    _row(3, sex="2", education="0", marriage="3", limit="500"),
)


def _contents(*rows, header=HEADER):
    return {FILE.path: "\n".join([",".join(f'"{name}"' for name in header), *rows]).encode() + b"\n"}


def _assembled(contents, sensitive=("sex",), variant="default"):
    prepared = prepare(contents, variant=variant)
    return assemble(ENTRY, prepared, sensitive=sensitive, variant=variant, rules=Rules(), checksums={})


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / FILE.path)


@pytest.mark.parametrize("variant", ENTRY.variants)
def test_facts_are_what_is_loaded(real_data, variant):
    data = load_dataset("default_credit", variant=variant, data_home=real_data)
    assert (*data.x.shape, round(float(data.y.mean()), 4)) == ENTRY.facts[variant]


def test_counts_are_the_published_ones(real_data):
    data = load_dataset("default_credit", data_home=real_data)
    assert (data.y.size, data.y.sum(), data.favourable) == (30_000, 6_636, "1")
    assert data.group_names == ("female", "male")
    assert np.bincount(data.group).tolist() == [18_112, 11_888]


@pytest.mark.parametrize(
    ("attribute", "column", "names"),
    [
        ("education", "EDUCATION", {1: "graduate school", 2: "university", 3: "high school", 4: "others"}),
        ("marriage", "MARRIAGE", {1: "married", 2: "single", 3: "others"}),
    ],
)
def test_codes_have_their_documented_names(real_data, frame, attribute, column, names):
    data = load_dataset("default_credit", sensitive=attribute, data_home=real_data)
    expected = frame[column].map(names).fillna("undocumented")
    np.testing.assert_array_equal(np.array(data.group_names)[data.group], expected)


def test_nash_features_are_sorted_and_standardised(real_data, frame):
    data = load_dataset("default_credit", variant="nash", data_home=real_data)
    table = frame.drop(columns=LABEL).astype(float)
    table = table[sorted(table.columns)]
    assert data.feature_names == tuple(table.columns)
    np.testing.assert_allclose(data.x, (table - table.mean()) / table.std(ddof=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(data.y, frame[LABEL] == 0)
    assert data.favourable == "0"


def test_default_features_are_raw_numbers_and_named_categories(real_data, frame):
    data = load_dataset("default_credit", data_home=real_data)
    table = frame.drop(columns=[LABEL, "ID"]).assign(
        SEX=frame["SEX"].map({1: "male", 2: "female"}),
        EDUCATION=frame["EDUCATION"]
        .replace({5: 0, 6: 0})
        .map({0: "undocumented", 1: "graduate school", 2: "university", 3: "high school", 4: "others"}),
        MARRIAGE=frame["MARRIAGE"].map({0: "undocumented", 1: "married", 2: "single", 3: "others"}),
    )
    dummies = pd.get_dummies(table, dtype=float)
    dummies = dummies[sorted(dummies.columns)]
    assert data.feature_names == tuple(dummies.columns)
    np.testing.assert_array_equal(data.x, dummies.to_numpy(np.float32))


def test_official_split_is_balanced_in_blocks(real_data):
    data = load_dataset("default_credit", variant="nash", data_home=real_data)
    split = ENTRY.official_splits["default_credit_sex"]
    content = (real_data / split.file.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == split.file.sha256
    assert split.sensitive == data.sensitive == ("sex",)
    with np.load(real_data / split.file.path, allow_pickle=False) as index:
        cell = 2 * data.group + data.y
        assert np.bincount(cell[index["ind_test"]]).tolist() == [225] * 4
        np.testing.assert_array_equal(cell[index["val_idx"]], np.repeat(np.arange(4), 4))


def test_small_file_gives_named_groups_and_labels():
    data = _assembled(_contents(*ROWS))
    assert data.y.tolist() == [1, 0, 0]
    assert [data.group_names[i] for i in data.group] == ["female", "male", "female"]
    column = {name: data.x[:, i].tolist() for i, name in enumerate(data.feature_names)}
    assert column["EDUCATION_undocumented"] == [0, 1, 1]
    assert column["MARRIAGE_undocumented"] == [0, 1, 0]
    assert column["LIMIT_BAL"] == [1000, 1000, 500]
    assert "ID" not in column
    by_age = _assembled(_contents(*ROWS), sensitive=("age",))
    assert [by_age.group_names[i] for i in by_age.group] == ["up to 25", "over 25", "over 25"]


def test_small_file_keeps_the_flaws_in_the_nash_variant():
    prepared = prepare(_contents(*ROWS), variant="nash")
    assert prepared.label.tolist() == [False, True, True]
    column = {name: prepared.features.x[:, i].tolist() for i, name in enumerate(prepared.features.names)}
    assert column["ID"] == [1, 2, 3]
    assert column["EDUCATION"] == [2, 5, 0]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (_contents(*ROWS, header=[*HEADER[:-1], "default"]), "UCI_Credit_Card.csv: unknown column 'default.payment"),
        (_contents(*ROWS, _row(4, label="2")), "column 'default.payment.next.month' has the unknown category '2'"),
        (_contents(*ROWS, _row(4, label="")), "column 'default.payment.next.month' has the unknown category ''"),
        (_contents(*ROWS, _row(4, sex="3")), "column 'SEX' has the unknown category '3'"),
        (_contents(*ROWS, _row(4, education="7")), "column 'EDUCATION' has the unknown category '7'"),
        (_contents(*ROWS, _row(4, limit="a lot")), "has 'a lot' in column 'LIMIT_BAL', row 3"),
        (_contents(*ROWS, _row(4, age="")), "column 'AGE' has no number in row 3"),
        ({FILE.path: _contents(*ROWS)[FILE.path].replace(b",", b";")}, "unknown column 'ID'"),
        ({FILE.path: b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"}, "unknown column 'ID'"),
        ({FILE.path: b""}, "UCI_Credit_Card.csv is not the table it should be"),
    ],
    ids=["column", "label", "no label", "sex", "education", "number", "no age", "semicolons", "web page", "empty"],
)
@pytest.mark.parametrize("variant", ENTRY.variants)
def test_bad_file_is_refused(contents, message, variant):
    with pytest.raises(ValueError, match=message):
        prepare(contents, variant=variant)


def test_single_class_is_refused():
    with pytest.raises(ValueError, match="every row of default_credit has the label"):
        _assembled(_contents(*ROWS[1:]))


def test_absent_file_is_answered_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"UCI_Credit_Card\.csv.*at Kaggle.*an \.xls, which is not read"):
        load_dataset("default_credit", data_home=tmp_path)
