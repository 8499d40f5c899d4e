import hashlib

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import load_dataset
from badrjax.datasets.assembly import Rules, assemble
from badrjax.datasets.crime import COMMUNITIES_CRIME, FILE, US_CRIME
from badrjax.datasets.crime_columns import (
    COLUMNS,
    IDENTIFIERS,
    INCOMPLETE,
    POLICE,
    POLICE_DISGUISED,
    RACE_SHARES,
    TARGET,
)

LOADED = [(entry, variant) for entry in (US_CRIME, COMMUNITIES_CRIME) for variant in entry.variants]
IDS = [f"{entry.name}-{variant}" for entry, variant in LOADED]
SHARES = list(RACE_SHARES)


def _row(**values):
    usual = dict.fromkeys(COLUMNS, "0.5") | dict.fromkeys(INCOMPLETE, "?") | {"OtherPerCap": "0.3"}
    usual |= {"state": "8", "communityname": "Sometowncity", "fold": "1", "racepctblack": "0.06"}
    return ",".join((usual | values)[name] for name in COLUMNS)


ROWS = (
    _row(ViolentCrimesPerPop="0.7"),
    _row(ViolentCrimesPerPop="0.69", racepctblack="0.07", communityname="Othertowncity", OtherPerCap="?"),
    _row(state="53", racepctblack="0.9", **dict.fromkeys(INCOMPLETE, "0.2")),
)


def _contents(*rows):
    return {FILE.path: "\r\n".join(rows).encode() + b"\r\n"}


def _columns(features):
    return {name: features.x[:, i].tolist() for i, name in enumerate(features.names)}


@pytest.fixture(scope="module")
def frame(real_data):
    return pd.read_csv(real_data / FILE.path, names=list(COLUMNS), na_values="?", keep_default_na=False)


def test_names_are_those_of_the_published_description(real_data):
    lines = (real_data / "communities_crime" / "communities.names").read_text("latin-1").splitlines()
    assert tuple(line.split()[1] for line in lines if line.startswith("@attribute")) == COLUMNS


@pytest.mark.parametrize(("entry", "variant"), LOADED, ids=IDS)
def test_facts_are_what_is_loaded(real_data, entry, variant):
    data = load_dataset(entry.name, variant=variant, data_home=real_data)
    base_rate = None if data.y.dtype.kind == "f" else round(float(data.y.mean()), 4)
    assert (*data.x.shape, base_rate) == entry.facts[variant]


def test_counts_are_the_published_ones(real_data):
    data = load_dataset("us_crime", data_home=real_data)
    assert (data.y.size, data.y.sum(), data.favourable) == (1_994, 122, ">= 0.7")
    assert data.group_names == ("at most 6 % black", "over 6 % black")
    assert np.bincount(data.group).tolist() == [1_024, 970]


def test_columns_with_missing_values_are_the_listed_ones(frame):
    assert set(frame.columns[frame.isna().any()]) == set(INCOMPLETE)
    assert len(INCOMPLETE) == 25
    assert frame[list(POLICE)].isna().sum().unique().tolist() == [1_675]
    disguised = frame.loc[frame["PolicPerPop"].isna(), list(POLICE_DISGUISED)]
    assert (disguised == 0).all(axis=None)


@pytest.mark.parametrize("name", ["us_crime", "communities_crime"])
def test_default_features_are_the_raw_numbers_of_the_census(real_data, frame, name):
    data = load_dataset(name, data_home=real_data)
    table = frame.drop(columns=[*IDENTIFIERS, *POLICE, *POLICE_DISGUISED, TARGET])
    table = table.assign(OtherPerCap_missing=table["OtherPerCap"].isna().astype(float)).fillna(0.0)
    assert data.feature_names == tuple(sorted(table.columns))
    np.testing.assert_array_equal(data.x, table[sorted(table.columns)].to_numpy(np.float32))


def test_nash_features_are_sorted_standardised_dummies(real_data, frame):
    data = load_dataset("us_crime", variant="nash", data_home=real_data)
    table = frame.drop(columns=["racepctblack", TARGET]).dropna(axis=1).copy()
    table = table.assign(blackgt6pct=frame["racepctblack"] > 0.06)
    assert table.shape[1] == 102
    dummies = pd.get_dummies(table, dtype=float)
    dummies = dummies[sorted(dummies.columns)].astype(float)
    assert data.feature_names == tuple(dummies.columns)
    expected = (dummies - dummies.mean()) / dummies.std(ddof=0)
    np.testing.assert_allclose(data.x, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(data.y, frame[TARGET] < 0.7)
    assert data.favourable == "< 0.7"


@pytest.mark.parametrize(("name", "test_per_cell"), [("us_crime_blackgt6pct", 14), ("us_crime_new_blackgt6pct", 4)])
def test_official_splits_are_balanced_in_blocks(real_data, name, test_per_cell):
    data = load_dataset("us_crime", variant="nash", data_home=real_data)
    split = US_CRIME.official_splits[name]
    content = (real_data / split.file.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == split.file.sha256
    assert split.sensitive == data.sensitive == ("blackgt6pct",)
    with np.load(real_data / split.file.path, allow_pickle=False) as index:
        cell = 2 * data.group + data.y
        assert np.bincount(cell[index["ind_test"]]).tolist() == [test_per_cell] * 4
        np.testing.assert_array_equal(cell[index["val_idx"]], np.arange(4))


@pytest.mark.parametrize("name", ["us_crime", "communities_crime"])
def test_race_is_the_largest_share_and_state_a_domain(real_data, frame, name):
    data = load_dataset(name, sensitive="race", data_home=real_data)
    expected = frame[SHARES].idxmax(axis=1).map(RACE_SHARES)
    np.testing.assert_array_equal(np.array(data.group_names)[data.group], expected)
    state = data.domains["state"]
    np.testing.assert_array_equal(np.array(state.names)[state.ids], frame["state"].astype(str))


def test_badr_variant_is_every_row_of_the_complete_columns(real_data, frame):
    data = load_dataset("communities_crime", variant="badr", data_home=real_data)
    table = frame.drop(columns=[name for name in IDENTIFIERS if name in frame]).dropna(axis=1)
    np.testing.assert_array_equal(data.y, table.pop(TARGET).astype(np.float32))
    assert data.feature_names == tuple(sorted(table.columns))
    np.testing.assert_array_equal(data.x, table[sorted(table.columns)].to_numpy(np.float32))
    assert load_dataset("communities_crime", variant="badr", num_groups=2, data_home=real_data).num_groups == 2


def test_small_file_as_a_classification():
    prepared = US_CRIME.prepare(_contents(*ROWS), variant="default")
    assert prepared.label.tolist() == [True, False, False]
    assert prepared.attributes["blackgt6pct"].values.text().tolist() == [
        "at most 6 % black",
        "over 6 % black",
        "over 6 % black",
    ]
    assert prepared.attributes["race"].values.text().tolist() == ["white", "white", "black"]
    assert prepared.domains["state"].text().tolist() == ["8", "8", "53"]
    column = _columns(prepared.features)
    assert column["OtherPerCap"] == pytest.approx([0.3, 0, 0.2])
    assert column["OtherPerCap_missing"] == [0, 1, 0]
    assert not set(column) & {*IDENTIFIERS, *POLICE, *POLICE_DISGUISED, TARGET}


def test_small_file_keeps_the_flaws_in_the_nash_variant():
    prepared = US_CRIME.prepare(_contents(*ROWS), variant="nash")
    assert prepared.label.tolist() == [False, True, True]
    column = _columns(prepared.features)
    assert column["state"] == [8, 8, 53]
    assert column["communityname_Othertowncity"] == [0, 1, 0]
    assert column["blackgt6pct"] == [0, 1, 1]
    assert not set(column) & {*INCOMPLETE, "racepctblack", TARGET}


def test_small_file_as_a_regression():
    contents = _contents(*ROWS, _row(ViolentCrimesPerPop="0.1", **dict.fromkeys(INCOMPLETE, "0.4")))
    prepared = COMMUNITIES_CRIME.prepare(contents, variant="default")
    assert prepared.label.tolist() == [0.7, 0.69, 0.5, 0.1]
    complete = COMMUNITIES_CRIME.prepare(contents, variant="badr")
    assert complete.label.tolist() == prepared.label.tolist()
    assert not set(complete.features.names) & {*IDENTIFIERS, *INCOMPLETE, TARGET}
    assert set(SHARES) < set(complete.features.names)


def test_race_shares_can_be_left_out_of_the_features():
    prepared = US_CRIME.prepare(_contents(*ROWS), variant="default")
    rules = Rules(sensitive_features="drop")
    data = assemble(US_CRIME, prepared, sensitive=("race",), variant="default", rules=rules, checksums={})
    assert set(prepared.features.names) - set(data.feature_names) == set(SHARES)


def test_row_without_a_share_has_no_race():
    prepared = US_CRIME.prepare(_contents(*ROWS, _row(racePctHisp="?")), variant="default")
    data = assemble(US_CRIME, prepared, sensitive=("race",), variant="default", rules=Rules(), checksums={})
    assert data.y.size == 3
    assert data.notes == ("dropped 1 rows without race",)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (_contents(*(row.rsplit(",", 1)[0] for row in ROWS)), "has 127 values separated by ',' in line 1, not 128"),
        (_contents(*ROWS, ROWS[0].rsplit(",", 1)[0]), "has 127 values separated by ',' in line 4"),
        (_contents(*ROWS, ROWS[0] + ",1"), "has 129 values separated by ',' in line 4"),
        (_contents(*ROWS, _row(ViolentCrimesPerPop="?")), "column 'ViolentCrimesPerPop' has no rate in row 3"),
        (_contents(*ROWS, _row(racepctblack="few")), "has 'few' in column 'racepctblack', row 3"),
        ({FILE.path: _contents(*ROWS)[FILE.path].replace(b",", b";")}, "has 1 values separated by ',' in line 1"),
        (
            {FILE.path: b"<!DOCTYPE html>\n<html><body>Moved</body></html>\n"},
            "has 1 values separated by ',' in line 1",
        ),
        ({FILE.path: b""}, "has no rows"),
    ],
    ids=["narrow", "short row", "long row", "no rate", "number", "semicolons", "web page", "empty"],
)
@pytest.mark.parametrize(("entry", "variant"), LOADED, ids=IDS)
def test_bad_file_is_refused(contents, message, entry, variant):
    with pytest.raises(ValueError, match=message):
        entry.prepare(contents, variant=variant)


def test_single_class_is_refused():
    prepared = US_CRIME.prepare(_contents(*ROWS[1:]), variant="default")
    with pytest.raises(ValueError, match="every row of us_crime has the label ViolentCrimesPerPop = 0"):
        assemble(US_CRIME, prepared, sensitive=("blackgt6pct",), variant="default", rules=Rules(), checksums={})
