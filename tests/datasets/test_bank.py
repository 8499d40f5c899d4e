import hashlib

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import load_dataset
from badrjax.datasets.assembly import Rules, assemble
from badrjax.datasets.bank import ENTRY, FILE, prepare

HEADER = (
    "age;job;marital;education;default;balance;housing;loan;contact;day;month;duration;campaign;pdays;previous;"
    "poutcome;y"
)
ROWS = (
    '25;"student";"single";"tertiary";"no";-40;"no";"no";"cellular";3;"may";100;1;-1;0;"unknown";"yes"',
    '26;"retired";"married";"primary";"no";900;"yes";"no";"telephone";9;"jun";200;2;12;3;"failure";"no"',
    '70;"unknown";"divorced";"unknown";"yes";5;"no";"yes";"unknown";30;"may";50;4;0;1;"other";"no"',
)


def _contents(*rows, header=HEADER):
    quoted = ";".join(f'"{name}"' for name in header.split(";"))
    return {FILE.path: "\n".join([quoted, *rows]).encode() + b"\n"}


def _assembled(contents, variant="default", sensitive=("age",)):
    prepared = prepare(contents, variant=variant)
    return assemble(ENTRY, prepared, sensitive=sensitive, variant=variant, rules=Rules(), checksums={})


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / FILE.path, sep=";", keep_default_na=False)


@pytest.mark.parametrize("variant", ENTRY.variants)
def test_facts_are_what_is_loaded(real_data, variant):
    data = load_dataset("bank", variant=variant, data_home=real_data)
    facts = ENTRY.facts[variant]
    assert (*data.x.shape, round(float(data.y.mean()), 4)) == facts
    assert data.variant == variant


def test_counts_are_the_published_ones(real_data):
    data = load_dataset("bank", data_home=real_data)
    assert data.y.sum() == 5_289
    assert (data.y.size, data.favourable) == (45_211, "yes")
    assert dict(zip(data.group_names, np.bincount(data.group).tolist(), strict=True)) == {
        "over 25": 43_875,
        "up to 25": 1_336,
    }


def test_marital_states_make_groups(real_data, frame):
    data = load_dataset("bank", sensitive="marital", data_home=real_data)
    np.testing.assert_array_equal(np.array(data.group_names)[data.group], frame["marital"])


def test_nash_features_are_sorted_standardised_dummies(real_data, frame):
    data = load_dataset("bank", variant="nash", data_home=real_data)
    dummies = pd.get_dummies(frame.drop(columns="y"), dtype=float)
    dummies = dummies[sorted(dummies.columns)]
    assert data.feature_names == tuple(dummies.columns)
    expected = (dummies - dummies.mean()) / dummies.std(ddof=0)
    np.testing.assert_allclose(data.x, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(data.y, frame["y"] == "no")
    assert data.favourable == "no"


def test_default_features_are_raw_without_duration_and_with_unknown_days_marked(real_data, frame):
    data = load_dataset("bank", data_home=real_data)
    dummies = pd.get_dummies(frame.drop(columns=["y", "duration"]), dtype=float)
    never = dummies["pdays"] == -1
    dummies = dummies.assign(pdays=dummies["pdays"].where(~never, 0), pdays_missing=never.astype(float))
    dummies = dummies[sorted(dummies.columns)]
    assert data.feature_names == tuple(dummies.columns)
    np.testing.assert_array_equal(data.x, dummies.to_numpy(np.float32))
    np.testing.assert_array_equal(data.y, frame["y"] == "yes")


def test_official_split_is_balanced_in_blocks(real_data):
    data = load_dataset("bank", variant="nash", data_home=real_data)
    split = ENTRY.official_splits["bank_age"]
    content = (real_data / split.file.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == split.file.sha256
    assert split.sensitive == data.sensitive == ("age",)
    with np.load(real_data / split.file.path, allow_pickle=False) as index:
        cell = 2 * data.group + data.y
        assert np.bincount(cell[index["ind_test"]]).tolist() == [339] * 4
        np.testing.assert_array_equal(cell[index["val_idx"]], np.repeat(np.arange(4), 3))


def test_small_file_gives_groups_labels_and_indicator():
    data = _assembled(_contents(*ROWS))
    assert data.y.tolist() == [1, 0, 0]
    assert data.group_names == ("over 25", "up to 25")
    assert data.group.tolist() == [1, 0, 0]  # 25 itself is still "up to 25"
    column = {name: data.x[:, i].tolist() for i, name in enumerate(data.feature_names)}
    assert (column["pdays"], column["pdays_missing"]) == ([0, 12, 0], [1, 0, 0])
    assert column["balance"] == [-40, 900, 5]
    assert column["education_unknown"] == [0, 0, 1]
    assert "duration" not in column


def test_small_file_keeps_the_flaws_in_the_nash_variant():
    prepared = prepare(_contents(*ROWS), variant="nash")
    assert prepared.label.tolist() == [False, True, True]
    position = {name: i for i, name in enumerate(prepared.features.names)}
    assert prepared.features.x[:, position["pdays"]].tolist() == [-1, 12, 0]
    assert prepared.features.x[:, position["duration"]].tolist() == [100, 200, 50]


def test_chosen_attribute_can_be_left_out_of_the_features():
    prepared = prepare(_contents(*ROWS), variant="default")
    rules = Rules(sensitive_features="drop")
    data = assemble(ENTRY, prepared, sensitive=("age", "marital"), variant="default", rules=rules, checksums={})
    assert not any(name == "age" or name.startswith("marital") for name in data.feature_names)
    assert "job_student" in data.feature_names


def test_row_without_age_has_no_age_group():
    data = _assembled(_contents(*ROWS, ROWS[0].replace("25;", ";", 1)))
    assert data.y.size == 3
    assert data.notes == ("dropped 1 rows without age",)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (_contents(*ROWS, header=HEADER.replace(";day;", ";dya;")), "bank-full.csv: unknown column 'day'"),
        (_contents(*ROWS[1:], ROWS[0].replace('"yes"', '"maybe"')), "column 'y' has the unknown category 'maybe'"),
        (_contents(*ROWS, ROWS[0].replace('"yes"', "")), "column 'y' has no value in row 3"),
        (_contents(*ROWS, ROWS[0].replace("single", "widow")), "column 'marital' has the unknown category 'widow'"),
        (_contents(*ROWS, ROWS[0].replace("-40", "n/a")), "has 'n/a' in column 'balance', row 3"),
        ({FILE.path: _contents(*ROWS)[FILE.path].replace(b";", b",")}, "unknown column 'age'"),
        ({FILE.path: b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n"}, "unknown column 'age'"),
        ({FILE.path: b""}, "bank-full.csv is not the table it should be"),
    ],
    ids=["column", "label", "no label", "marital", "number", "commas", "web page", "empty"],
)
@pytest.mark.parametrize("variant", ENTRY.variants)
def test_bad_file_is_refused(contents, message, variant):
    with pytest.raises(ValueError, match=message):
        prepare(contents, variant=variant)


def test_single_class_is_refused():
    with pytest.raises(ValueError, match="every row of bank has the label y = 0"):
        _assembled(_contents(*ROWS[1:]))
