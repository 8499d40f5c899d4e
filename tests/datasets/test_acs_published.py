"""The American Community Survey on the published files of fourteen states, 2018."""

import functools

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import dataset_info, load_dataset
from badrjax.datasets.acs import reading, recipes
from badrjax.datasets.acs.codes import (
    AGES,
    CODES,
    MAY_BE_SUPPRESSED,
    OCCUPATIONS,
    SUPPRESSED,
    as_text,
    occupation_group,
)
from badrjax.datasets.acs.states import DEFAULT_STATES, FIPS

PROBLEMS = ("acs_income", "acs_employment", "acs_public_coverage", "acs_mobility", "acs_travel_time")
VARIANTS = [(name, variant) for name in PROBLEMS for variant in dataset_info(name).variants]

# Rows and share of y = 1, made with folktables 0.0.12; the problems in the order of PROBLEMS.
COUNTS = """
WY 3064 .3577 5740 .4653 1896 .1783 1018 .6473 2657 .1965
VT 3767 .3432 6436 .5047 2069 .3751 1118 .6950 3223 .3981
ND 4455 .3672 7876 .4929 2263 .2042 1560 .7000 3859 .2457
SD 4899 .2701 8986 .4762 2852 .2062 1630 .7337 4257 .2408
DE 4713 .3900 9123 .4549 2871 .3466 1582 .7712 4120 .4056
MT 5463 .2925 10336 .4554 3519 .3197 1673 .7035 4674 .2313
ME 7002 .3032 13275 .4568 4513 .3127 2106 .7198 6033 .3953
WV 8103 .2906 18066 .3899 7136 .4134 3087 .7431 7015 .3929
ID 8265 .2887 16711 .4288 5937 .2040 2978 .6887 7123 .2952
RI 5712 .4207 10489 .4799 3325 .3392 2085 .7482 5018 .4089
NH 7966 .3999 13780 .5081 4251 .2562 2551 .7244 6948 .4417
HI 7731 .3812 14400 .4534 4660 .2740 2733 .7863 6513 .4724
NM 8711 .2977 19247 .3935 7693 .4661 3443 .7499 7548 .3466
NE 10785 .3123 19451 .4940 6332 .1928 3565 .7052 9533 .2855
"""


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """The tables, which several variants share, are parsed once: that is nearly all of the time."""
    tables = {}

    def read_persons(archive, state, year, columns, where):
        key = state, year, tuple(columns), where
        if key not in tables:
            tables[key] = reading.read_persons(archive, state, year, columns, where)
        return tables[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "read_persons", read_persons)
        yield


@pytest.fixture(scope="module")
def load(real_data):
    """`load(name, variant)`, each combination made once."""

    @functools.cache
    def loaded(name, variant):
        return load_dataset(name, variant=variant, data_home=real_data, download=False)

    return loaded


@pytest.fixture(scope="module")
def persons(real_data):
    """The persons of the fourteen files as another program stacked them."""
    return pd.read_csv(real_data / "acs/acs2018_1yr_person_14states_folktables_cols.csv.gz")


@pytest.fixture(scope="module")
def dictionary(real_data):
    """The survey's dictionary: column, first code and meaning of each line."""
    lines = pd.read_csv(
        real_data / "acs/PUMS_Data_Dictionary_2018.csv", header=None, names=range(7), dtype=str, keep_default_na=False
    )
    return lines[lines[0] == "VAL"].drop_duplicates()[[1, 4, 6]].set_axis(["column", "code", "meaning"], axis=1)


def rows_of(persons, name):
    """The rows of a problem, written down a second time."""
    adult = (persons.AGEP > 16) & (persons.PINCP > 100) & (persons.WKHP > 0) & (persons.PWGTP >= 1)
    return persons[
        {
            "acs_income": adult,
            "acs_employment": persons.AGEP >= 0,
            "acs_public_coverage": (persons.AGEP < 65) & (persons.PINCP <= 30_000),
            "acs_mobility": persons.AGEP.between(19, 34),
            "acs_travel_time": (persons.AGEP > 16) & (persons.PWGTP >= 1) & (persons.ESR == 1),
        }[name]
    ]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_facts_are_what_is_loaded(load, name, variant):
    dataset, facts = load(name, variant), dataset_info(name).facts[variant]
    assert dataset.x.shape == (facts.rows, facts.features)
    assert round(float(dataset.y.mean()), 4) == facts.base_rate


@pytest.mark.parametrize("name", PROBLEMS)
def test_rows_and_base_rate_of_each_state_are_those_of_folktables(load, name):
    dataset = load(name, "folktables")
    states = dataset.domains["state"]
    place = 1 + 2 * PROBLEMS.index(name)
    expected, found = {}, {}
    for line in COUNTS.strip().splitlines():
        state, *numbers = line.split()
        expected[state] = int(numbers[place - 1]), float(numbers[place])
    for number, state in enumerate(states.names):
        labels = dataset.y[states.ids == number]
        found[state] = labels.size, round(float(labels.mean()), 4)
    assert found == expected


@pytest.mark.parametrize("name", PROBLEMS)
def test_folktables_variant_has_the_codes_with_0_for_missing_in_the_order_of_the_files(load, persons, name):
    dataset, rows = load(name, "folktables"), rows_of(persons, name)
    np.testing.assert_array_equal(dataset.x, rows[list(dataset.feature_names)].fillna(0))
    states, starts = np.unique(dataset.domains["state"].ids, return_index=True)
    names = dataset.domains["state"].names
    assert tuple(names[states[place]] for place in np.argsort(starts)) == DEFAULT_STATES
    assert dataset.domains["year"].names == ("2018",)


@pytest.mark.parametrize("name", PROBLEMS)
def test_default_variant_has_a_feature_a_code(load, persons, name):
    dataset, rows = load(name, "default"), rows_of(persons, name)
    np.testing.assert_array_equal(dataset.y, load(name, "folktables").y)
    numbers = {"AGEP", "WKHP", "PINCP", "POVPIP", "JWMNP", "SCHL"}
    coded = set(load(name, "folktables").feature_names) - numbers - {"OCCP", "POBP", "PUMA", "POWPUMA", "ST"}
    expected = pd.get_dummies(rows[sorted(coded)].astype("Int64").astype(object), dtype=np.float32)
    for column in numbers & set(load(name, "folktables").feature_names):
        expected[column] = rows[column].fillna(0)
        if rows[column].isna().any():
            expected[f"{column}_missing"] = rows[column].isna()
    if "ST_NM" in dataset.feature_names:
        for state in DEFAULT_STATES:
            expected[f"ST_{state}"] = rows.ST.eq(FIPS[state])
    found = pd.DataFrame(dataset.x, columns=dataset.feature_names, copy=False)
    others = [column for column in found if column not in expected and not column.startswith(("OCCP", "POBP"))]
    # Codes that no person has, and ANC 8, which says nothing, have no feature or an empty one.
    expected = expected.drop(columns="ANC_8", errors="ignore")
    np.testing.assert_array_equal(found[expected.columns], expected.astype(np.float32))
    assert not found[others].to_numpy().any()
    assert not [column for column in found if "PUMA" in column]


def test_occupations_are_by_the_major_group_that_their_names_in_the_dictionary_begin_with(load, persons, dictionary):
    jobs = dictionary[dictionary.column == "OCCP"]
    group = {int(job.code): job.meaning[:3] for job in jobs.itertuples() if job.meaning[3:4] == "-"}
    # Two are published without the beginning of their neighbours.
    assert set(jobs.code) - {f"{code:04}" for code in group} == {"bbbb", "1555", "8000", "9920"}
    group |= {1555: "ENG", 8000: "PRD", 9920: "NONE"}
    found = occupation_group(np.array(list(group), np.float64))
    assert [found.values[code] for code in found.codes] == list(group.values())
    assert set(group.values()) == set(OCCUPATIONS.values())

    dataset = load("acs_income", "default")
    expected = rows_of(persons, "acs_income").OCCP.map(group)
    for name in OCCUPATIONS.values():
        np.testing.assert_array_equal(dataset.x[:, dataset.feature_names.index(f"OCCP_{name}")], expected == name)


def test_birthplaces_are_the_same_state_elsewhere_in_the_country_or_abroad(load, persons, dictionary):
    places = dictionary[dictionary.column == "POBP"]
    home = set(places.code[places.meaning.str.contains("/")].astype(int))
    islands = {60, 66, 69, 72, 78}
    assert {int(code) for code in places.code if int(code) < 100} == home | islands
    dataset, rows = load("acs_income", "default"), rows_of(persons, "acs_income")
    names = ["POBP_same state", "POBP_elsewhere in US", "POBP_abroad"]
    same, inside = rows.POBP == rows.ST, rows.POBP.isin(home | islands)
    expected = np.stack([same, inside & ~same, ~inside], axis=1)
    np.testing.assert_array_equal(dataset.x[:, [dataset.feature_names.index(name) for name in names]], expected)


def test_numbers_of_states_and_lists_of_codes_are_those_of_the_dictionary(dictionary):
    states = dictionary[dictionary.column == "ST"]
    assert {place.meaning[-2:]: int(place.code) for place in states.itertuples()} == FIPS
    assert dictionary.code[dictionary.column == "AGEP"].tolist() == [str(AGES[0]), "1"]
    assert dictionary.meaning[dictionary.column == "AGEP"].iloc[-1].startswith(f"1 to {AGES[-1]} years")
    for column, codes in CODES.items():
        listed = dictionary.code[(dictionary.column == column) & ~dictionary.code.str.startswith("b")].astype(int)
        if column in ("OCCP", "POBP"):
            assert (listed.min(), listed.max()) == (codes[0], codes[-1])
        else:
            known = {*codes, SUPPRESSED} if column == "ANC" else {*codes}
            assert set(listed) == known, column
    assert set(MAY_BE_SUPPRESSED) < set(CODES)
    assert as_text(np.array([2.0, np.nan]), "SEX").text("none").tolist() == ["2", "none"]


@pytest.mark.parametrize("name", PROBLEMS)
def test_columns_dropped_with_the_age_are_those_that_whole_ages_leave_empty(load, persons, name):
    rows = rows_of(persons, name)
    features = [column for column in load(name, "folktables").feature_names if column != "AGEP"]
    answered = rows[features].notna().groupby(rows.AGEP).any()
    # Of the oldest ages there are too few persons to tell.
    partly = answered.columns[(answered.any() & ~answered.loc[:90].all())]
    assert set(partly) == set(dataset_info(name).sensitive["over_40"].partition("asked: ")[2].split(", ")) - {""}


@pytest.mark.parametrize("name", ["acs_income", "acs_employment"])
def test_badr_variant_has_the_rows_of_income_and_missing_values_minus_1(load, persons, name):
    dataset, rows = load(name, "badr"), rows_of(persons, "acs_income")
    np.testing.assert_array_equal(dataset.x, rows[list(load(name, "folktables").feature_names)].fillna(-1))
    np.testing.assert_array_equal(dataset.y, {"acs_income": rows.PINCP > 50_000, "acs_employment": rows.ESR == 1}[name])
    assert dataset.sensitive == ("sex", "race")
    assert (dataset.x == -1).any() == (name == "acs_employment")  # with an income, nothing of acs_income is missing


def test_badr_variant_of_travel_time_drops_small_cells(load, persons):
    dataset, rows = load("acs_travel_time", "badr"), rows_of(persons, "acs_travel_time")
    rows = rows[rows.groupby(["ST", "SEX", "RAC1P", "AGEP"]).SEX.transform("size") > 16]
    np.testing.assert_array_equal(dataset.x, rows[list(dataset.feature_names)].fillna(-1))
    np.testing.assert_array_equal(dataset.y, rows.JWMNP > 20)
    assert dataset.sensitive == ("sex", "race", "over_40")
    assert "dropped 12,927 persons" in dataset.notes[-1]
    over = dataset.attributes["over_40"]
    np.testing.assert_array_equal(np.array(over.names)[over.ids] == "over 40", rows.AGEP > 40)


def test_fairlab_variant_has_twenty_inputs_and_sixty_groups(load, persons):
    dataset, rows = load("acs_income", "fairlab"), rows_of(persons, "acs_income")
    rows = rows[rows.COW < 8]
    text = pd.DataFrame(
        {
            "sex": rows.SEX.map({1: "Male", 2: "Female"}),
            "job": pd.cut(rows.COW, [0, 2, 5, 7], labels=["Private", "Public", "Self"]),
            "race": pd.cut(rows.RAC1P, [0, 1, 2, 5, 6, 7, 9], labels=[*"WBIAPO"]).map(
                {"W": "White", "B": "Black", "I": "Indigenous", "A": "Asian", "P": "Indigenous", "O": "Other"}
            ),
            "marital": rows.MAR.map({1: "Married", 2: "Other", 3: "Divorced", 4: "Other", 5: "Never"}),
        }
    )
    text = text.astype(str)
    columns = ["AGEP", "SCHL", "OCCP", "POBP", "RELP", "WKHP"]
    expected = pd.concat([pd.get_dummies(text, dtype=np.float32), rows[columns]], axis=1)
    assert dataset.feature_names == tuple(expected.columns)
    expected[columns] = (rows[columns] - rows[columns].mean()) / rows[columns].std(ddof=0)
    np.testing.assert_allclose(dataset.x, expected, rtol=1e-4, atol=1e-5)
    assert (dataset.num_groups, dataset.sensitive) == (60, ("job", "race_5", "marital"))
    np.testing.assert_array_equal(
        np.array(dataset.group_names)[dataset.group],
        text.job + " & " + text.race + " & " + text.marital,
    )


def test_groups_of_all_attributes_of_income(real_data, persons):
    rows = rows_of(persons, "acs_income").query("COW < 8")
    names = ["sex", "race", "over_40", "state", "job", "race_5", "marital"]
    dataset = load_dataset("acs_income", variant="folktables", sensitive=names, data_home=real_data, download=False)
    assert dataset.y.size == len(rows)
    assert "dropped 383 rows without job" in dataset.notes
    found = {name: np.array(column.names)[column.ids] for name, column in dataset.attributes.items()}
    np.testing.assert_array_equal(found["sex"] == "Female", rows.SEX == 2)
    np.testing.assert_array_equal(found["state"] == "HI", rows.ST == 15)
    for column, name in (("RAC1P", "race"), ("RAC1P", "race_5"), ("COW", "job"), ("MAR", "marital")):
        pairs = pd.crosstab(rows[column].to_numpy(), found[name])
        assert (pairs.to_numpy() > 0).sum() == len(pairs), f"a code of {column} has several names"
    assert len(set(found["race"])) == 9
    white, pacific = found["race"] == "White", found["race"] == "Pacific Islander"
    assert (white.sum(), pacific.sum()) == ((rows.RAC1P == 1).sum(), (rows.RAC1P == 7).sum())
    assert (found["race_5"][pacific] == "Indigenous").all()


def test_income_in_dollars_is_a_regression(real_data, persons):
    dataset = load_dataset("acs_income", states="WY,VT", target="income", data_home=real_data, download=False)
    rows = rows_of(persons, "acs_income")
    rows = rows[rows.ST.isin([56, 50])]
    np.testing.assert_array_equal(dataset.y, rows.PINCP.astype(np.float32))
    assert (dataset.y.dtype, dataset.favourable, dataset.label_name) == (np.float32, "", "PINCP")


def test_rows_are_in_the_order_of_the_states_asked_for(real_data, load):
    dataset = load_dataset("acs_mobility", states=["VT", "WY"], variant="folktables", data_home=real_data)
    whole = load("acs_mobility", "folktables").x
    np.testing.assert_array_equal(dataset.x, np.concatenate([whole[1018 : 1018 + 1118], whole[:1018]]))
    assert list(dataset.checksums) == ["acs/2018_1-Year/csv_pvt.zip", "acs/2018_1-Year/csv_pwy.zip"]
