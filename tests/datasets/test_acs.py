"""The American Community Survey on small archives made here, in the formats of 2014 to 2018."""

import io
import zipfile

import numpy as np
import pytest

from badrjax.datasets import dataset_info, fetch_dataset, load_dataset, split
from badrjax.datasets.acs import ENTRIES
from badrjax.datasets.acs.states import DEFAULT_STATES, FIPS, check_states, check_years, person_file

# The columns of all five problems, among some that nobody asked for.
PERSON = {
    "RT": "P", "SERIALNO": "000000000042", "PUMA": "00300", "PWGTP": "00051", "AGEP": "30", "CIT": "1", "COW": "1",
    "DEAR": "2", "DEYE": "2", "DREM": "2", "FER": "", "GCL": "2", "JWMNP": "025", "JWTR": "01", "MAR": "1",
    "MIG": "1", "MIL": "4", "RELP": "00", "SCHL": "21", "SEX": "1", "WKHP": "40", "ANC": "1", "DIS": "2",
    "ESP": "", "ESR": "1", "NAICSP": "611M1 ", "NATIVITY": "1", "OCCP": "0230", "PINCP": "000060000", "POBP": "056",
    "POVPIP": "501", "POWPUMA": "00300", "PUBCOV": "2", "RAC1P": "1", "pwgtp1": "00012",
}  # fmt: skip
COLUMNS = ("ST", *PERSON)
WOMAN = PERSON | {
    "SEX": "2", "AGEP": "33", "PINCP": "20000", "COW": "6", "MAR": "5", "RAC1P": "7", "FER": "2", "JWMNP": "",
    "JWTR": "11", "POWPUMA": "     ", "POBP": "303", "OCCP": "9920", "MIG": "3", "PUBCOV": "1", "POVPIP": "",
}  # fmt: skip
CHILD = PERSON | {
    "AGEP": "01", "COW": "", "DREM": "", "GCL": "", "JWMNP": "", "JWTR": "", "MAR": "5", "MIL": "", "RELP": "02",
    "SCHL": "", "WKHP": "", "ESP": "1", "ESR": "", "OCCP": "", "PINCP": "", "POWPUMA": "", "MIG": "", "PUBCOV": "1",
}  # fmt: skip
PEOPLE = (PERSON, CHILD, WOMAN)


def table(people, state="WY", columns=COLUMNS):
    """The CSV file of some persons."""
    lines = [",".join({"ST": f"{FIPS[state]:02}", **person}[column] for column in columns) for person in people]
    return "\n".join([",".join(columns), *lines, ""])


def archive(members):
    """A zip file of members by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
    return buffer.getvalue()


def prepare(content, problem="acs_employment", variant="folktables", state="WY", year=2018, **options):
    """The recipe on one archive."""
    entry = next(entry for entry in ENTRIES if entry.name == problem)
    contents = {person_file(state, year).path: content}
    return entry.prepare(contents, variant=variant, states=(state,), year=(year,), **options)


def prepare_people(people, problem="acs_employment", variant="folktables", **options):
    return prepare(archive({"psam_p56.csv": table(people)}), problem, variant, **options)


def column(prepared, name):
    return prepared.features.x[:, prepared.features.names.index(name)]


@pytest.mark.parametrize(
    ("year", "state", "member"),
    [
        (2014, "CA", "ss14pca.csv"),
        (2015, "PR", "ss15ppr.csv"),
        (2016, "WY", "SS16PWY.CSV"),
        (2017, "DC", "psam_p11.csv"),
        (2018, "AL", "PSAM_P01.csv"),
    ],
)
def test_table_is_found_by_the_name_of_its_year_and_read_alike(tmp_path, year, state, member):
    content = archive({"ACS_PUMS_README.pdf": "not a table", member: table(PEOPLE, state)})
    # 2018 of Alabama has no pinned checksum either, so that a made-up file may stand in its place.
    place = tmp_path / f"acs/{year}_1-Year/csv_p{state.lower()}.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    dataset = load_dataset(
        "acs_travel_time", states=state.lower(), year=str(year), variant="folktables", data_home=tmp_path
    )
    assert dataset.feature_names[9:11] == ("PUMA", "ST")
    # The early files pad with spaces; a field of spaces is empty.
    expected = [[300, FIPS[state], 1, 230, 1, 300, 501], [300, FIPS[state], 1, 9920, 11, 0, 0]]
    np.testing.assert_array_equal(dataset.x[:, 9:], expected)
    np.testing.assert_array_equal(dataset.y, [1, 0])
    assert (dataset.domains["year"].names, dataset.domains["state"].names) == ((str(year),), (state,))
    assert dataset.notes == ("kept 2 of 3 persons, those with AGEP > 16, PWGTP >= 1, ESR = 1",)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_default_features_do_not_depend_on_the_rows(entry):
    poor = PERSON | {"PINCP": "20000"}
    names = [prepare_people(people, entry.name, "default").features.names for people in ((poor, WOMAN), (poor,))]
    assert names[0] == names[1]
    # Of the states, only those asked for have a feature.
    fewer_states = len(DEFAULT_STATES) - 1 if "ST_WY" in names[0] else 0
    assert len(names[0]) == entry.facts["default"].features - fewer_states


def test_default_says_what_is_missing():
    prepared = prepare_people(PEOPLE, variant="default")
    np.testing.assert_array_equal(column(prepared, "SCHL"), [21, 0, 21])
    np.testing.assert_array_equal(column(prepared, "SCHL_missing"), [0, 1, 0])
    np.testing.assert_array_equal(column(prepared, "MAR_5"), [0, 1, 1])
    for name in ("MIL", "MIG", "DREM"):
        codes = [position for position, origin in enumerate(prepared.features.columns) if origin == name]
        np.testing.assert_array_equal(prepared.features.x[:, codes].sum(axis=1), [1, 0, 1])
    assert prepared.features.columns[prepared.features.names.index("SCHL_missing")] == "SCHL"


def test_default_groups_occupations_and_birthplaces():
    prepared = prepare_people([PERSON, WOMAN, PERSON | {"POBP": "072", "OCCP": "9800"}], "acs_income", "default")
    for name, expected in {
        "OCCP_MGR": [1, 0, 0], "OCCP_NONE": [0, 1, 0], "OCCP_MIL": [0, 0, 1],
        "POBP_same state": [1, 0, 0], "POBP_abroad": [0, 1, 0], "POBP_elsewhere in US": [0, 0, 1],
    }.items():  # fmt: skip
        np.testing.assert_array_equal(column(prepared, name), expected)
    assert {"OCCP", "POBP"} <= set(prepared.features.columns)
    assert not {"OCCP", "POBP"} & set(prepared.features.names)


def test_withheld_answers_are_missing_ones():
    prepared = prepare_people([PERSON | {"ANC": "8"}, PERSON], variant="default")
    np.testing.assert_array_equal(column(prepared, "ANC_1"), [0, 1])
    assert [name for name in prepared.features.names if name.startswith("ANC")] == ["ANC_1", "ANC_2", "ANC_3", "ANC_4"]
    np.testing.assert_array_equal(column(prepare_people([PERSON | {"ANC": "8"}]), "ANC"), [8])


def test_badr_variant_writes_minus_1_and_filters_by_work():
    prepared = prepare_people([PERSON, CHILD, WOMAN | {"MIL": ""}], variant="badr")
    np.testing.assert_array_equal(column(prepared, "MIL"), [4, -1])
    assert "kept 2 of 3 persons, those with AGEP > 16, PINCP > 100, WKHP > 0, PWGTP >= 1" in prepared.notes


def test_badr_variant_of_travel_time_keeps_cells_of_17_rows():
    people = [PERSON] * 17 + [WOMAN] * 16 + [PERSON | {"AGEP": "31"}]
    prepared = prepare_people(people, "acs_travel_time", "badr")
    np.testing.assert_array_equal(column(prepared, "AGEP"), [30] * 17)
    rule = "whose sex, race and age have at most 16 rows together in their state and year"
    assert prepared.notes[-1] == f"dropped 17 persons {rule}"
    assert prepared.notes[0].startswith("kept 34 of 34 persons")
    with pytest.raises(ValueError, match=rf"csv_pwy\.zip has no row for acs_travel_time without those {rule}"):
        prepare_people(PEOPLE, "acs_travel_time", "badr")


def test_badr_variant_of_travel_time_counts_cells_state_by_state_and_year_by_year():
    entry = next(entry for entry in ENTRIES if entry.name == "acs_travel_time")
    # Persons of 31 years are too few in each part, though there are 36 in all; so are women, but in one part.
    parts = {("VT", 2017): (9, 17), ("VT", 2018): (9, 16), ("WY", 2017): (9, 1), ("WY", 2018): (9, 0)}
    contents = {}
    for (state, year), (of_31, women) in parts.items():
        people = [PERSON] * 17 + [PERSON | {"AGEP": "31"}] * of_31 + [WOMAN] * women
        member = f"psam_p{FIPS[state]}.csv"
        contents[person_file(state, year).path] = archive({member: table(people, state)})
    prepared = entry.prepare(contents, variant="badr", states=("VT", "WY"), year=(2017, 2018))
    np.testing.assert_array_equal(column(prepared, "AGEP"), [30] * 17 + [33] * 17 + [30] * 17 * 3)
    assert prepared.notes[-1].startswith("dropped 53 persons whose sex, race and age")


def test_fairlab_variant_leaves_out_who_works_without_pay():
    people = [PERSON, WOMAN, PERSON | {"COW": "8"}, PERSON | {"COW": "4", "RAC1P": "9", "MAR": "2"}]
    prepared = prepare_people(people, "acs_income", "fairlab")
    names = ("job_Private", "job_Self", "job_Public", "race_Indigenous", "race_Other", "marital_Never", "marital_Other")
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_array_equal([column(prepared, name) for name in names], expected)
    assert prepared.notes[-1].startswith("dropped 1 persons that work without pay")
    # In the other variants such a person is there, without a job.
    job = prepare_people(people, "acs_income").attributes["job"].values
    assert job.text("none").tolist() == ["Private", "Self", "none", "Public"]


def test_sensitive_features_can_be_left_out(tmp_path):
    place = tmp_path / "acs/2017_1-Year/csv_pwy.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(archive({"psam_p56.csv": table([*PEOPLE, WOMAN | {"PUBCOV": "2", "AGEP": "41"}])}))
    options = {"states": ["WY"], "year": 2017, "data_home": tmp_path, "sensitive_features": "drop"}
    dataset = load_dataset("acs_public_coverage", sensitive=["sex", "state", "over_40"], **options)
    left = {name.partition("_")[0] for name in dataset.feature_names}
    assert not left & {"SEX", "FER", "ST", "AGEP", "ESP", "ESR", "MIL"}
    assert {"RAC1P", "MAR", "PINCP", "SCHL", "DREM", "MIG"} <= left
    assert dataset.group_names == ("Female & WY & over 40", "Female & WY & up to 40")
    dataset = load_dataset("acs_income", variant="fairlab", **options)
    assert {name.partition("_")[0] for name in dataset.feature_names} == {
        "sex", "AGEP", "SCHL", "OCCP", "POBP", "WKHP",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("problem", "told_by"),
    [
        ("acs_income", set()),
        ("acs_employment", {"DREM", "ESP", "MIG", "MIL", "SCHL"}),
        ("acs_travel_time", {"ESP"}),
        ("acs_public_coverage", {"ESP", "ESR", "FER", "MIL"}),
        ("acs_mobility", {"GCL"}),
    ],
)
def test_columns_that_only_some_ages_answer_go_with_the_age_and_are_named(problem, told_by):
    poor = PERSON | {"PINCP": "20000"}
    attribute = prepare_people([poor], problem, "default").attributes["over_40"]
    assert set(attribute.columns) == {"AGEP", *told_by}
    text = dataset_info(problem).sensitive["over_40"]
    assert text.partition("asked: ")[2] == ", ".join(sorted(told_by))


def test_every_state_and_year_has_its_file_and_the_pinned_ones_are_the_default():
    files = dataset_info("acs_income").alternatives(
        {"states": ("CA", "WY"), "year": (2014,), "target": "income", "extracts": ()}
    )
    assert [[file.path for file in form] for form in files] == [
        ["acs/2014_1-Year/csv_pca.zip", "acs/2014_1-Year/csv_pwy.zip"]
    ]
    assert files[0][0].url == "https://www2.census.gov/programs-surveys/acs/data/pums/2014/1-Year/csv_pca.zip"
    assert len(FIPS) == 52
    pinned = {state for state in FIPS if person_file(state, 2018).sha256}
    assert pinned == set(DEFAULT_STATES)
    assert not any(person_file(state, year).sha256 for state in FIPS for year in (2014, 2015, 2016, 2017))
    for entry in ENTRIES:
        defaults = {name: option.default for name, option in entry.options.items()} | {"year": (2018,)}
        assert entry.alternatives(defaults) == entry.files
        assert set(entry.facts) == set(entry.variants)
        assert all(set(flaw.kept_by) <= set(entry.variants) and flaw.kept_by for flaw in entry.flaws)


@pytest.mark.parametrize(
    ("given", "states"),
    [
        ("wy", ("WY",)),
        ("NM, WY", ("NM", "WY")),
        (["PR", "dc"], ("PR", "DC")),
        (iter(["NM", "WY"]), ("NM", "WY")),
    ],
)
def test_states_are_taken_as_code_list_or_text(given, states):
    assert check_states(given) == states


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("WX", ValueError, "unknown state 'WX'"),
        ("Wyoming", ValueError, "unknown state 'WYOMING'"),
        ("WY,VT,wy", ValueError, "states names WY twice"),
        ("WY,", ValueError, "unknown state ''"),
        ([], ValueError, "at least one state"),
        ({"WY", "VT"}, TypeError, "a set has no order"),
        ([56], TypeError, "postal codes such as 'WY', got 56"),
        (56, TypeError, "states must be a postal code such as 'WY', or a list of them, got 56"),
    ],
)
def test_bad_states_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        check_states(given)


@pytest.mark.parametrize("year", [2014, "2014", 2014.0, np.int64(2014), np.float32(2014), np.array(2014), [2014.0]])
def test_one_year_is_taken_in_any_form(year):
    assert check_years(year) == (2014,)


@pytest.mark.parametrize("years", ["2018, 2014", [2018, "2014"], np.array([2018, 2014]), iter([2018, 2014.0])])
def test_several_years_are_taken_as_text_list_array_or_generator(years):
    assert check_years(years) == (2018, 2014)


def test_no_states_and_no_year_are_the_default(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"needs acs/2018_1-Year/csv_pwy\.zip, .*csv_pne\.zip, not to be found"):
        load_dataset("acs_income", states=None, year=None, data_home=tmp_path, download=False)


@pytest.mark.parametrize("year", [2013, 2019, "18", True, 2018.5, "", (2018, 2013)])
def test_years_that_are_not_known_are_refused(year):
    with pytest.raises(ValueError, match=r"unknown year .*: there are 2014, 2015, 2016, 2017, 2018"):
        check_years(year)


@pytest.mark.parametrize(
    ("year", "error", "message"),
    [
        ([], ValueError, "at least one year"),
        ("2016, 2018,2016", ValueError, "one year twice"),
        ([2016, 2016.0], ValueError, "one year twice, 2016, 2016"),
        ({2016, 2018}, TypeError, "a set has no order"),
        (object, TypeError, "year must be a year such as 2018, or a list of them, got <class"),
    ],
)
def test_bad_lists_of_years_are_refused(year, error, message):
    with pytest.raises(error, match=message):
        check_years(year)


def test_several_years_are_read_one_after_another(tmp_path):
    for year, member in ((2014, "ss14pca.csv"), (2017, "psam_p06.csv")):
        place = tmp_path / f"acs/{year}_1-Year/csv_pca.zip"
        place.parent.mkdir(parents=True)
        place.write_bytes(archive({member: table(PEOPLE[: 1 + (year == 2014) * 2], "CA")}))
    dataset = load_dataset("acs_employment", states="CA", year=(2017, 2014), data_home=tmp_path)
    years = dataset.domains["year"]
    assert [years.names[i] for i in years.ids] == ["2017", "2014", "2014", "2014"]
    parts = split(dataset, "domain", domain="year", train="2014", test="2017")
    assert (parts.train.tolist(), parts.test.tolist()) == ([1, 2, 3], [0])


def test_bad_options_are_answered_by_load_dataset(tmp_path):
    with pytest.raises(ValueError, match="unknown state 'XX'"):
        load_dataset("acs_income", states="XX", data_home=tmp_path)
    with pytest.raises(ValueError, match="unknown option of acs_income 'state': did you mean 'states'"):
        load_dataset("acs_income", state="WY", data_home=tmp_path)
    with pytest.raises(ValueError, match="unknown option of acs_mobility 'target'"):
        load_dataset("acs_mobility", target="income", data_home=tmp_path)
    with pytest.raises(ValueError, match="unknown value of target 'incme': did you mean 'income'"):
        load_dataset("acs_income", target="incme", data_home=tmp_path)


def test_pinned_file_with_other_content_and_missing_file_are_refused(tmp_path):
    place = tmp_path / "acs/2018_1-Year/csv_pwy.zip"
    with pytest.raises(FileNotFoundError, match=r"acs_income needs acs/2018_1-Year/csv_pwy\.zip"):
        load_dataset("acs_income", states="WY", data_home=tmp_path, download=False)
    place.parent.mkdir(parents=True)
    place.write_bytes(archive({"psam_p56.csv": table(PEOPLE)}))
    with pytest.raises(ValueError, match=r"csv_pwy\.zip is not the published data"):
        load_dataset("acs_income", states="WY", data_home=tmp_path)


def test_unpinned_file_is_not_downloaded_unasked(tmp_path):
    with pytest.raises(ValueError, match=r"no SHA-256 is published for acs/2014_1-Year/csv_pca\.zip.*census\.gov"):
        fetch_dataset("acs_income", states="CA", year=2014, data_home=tmp_path)


@pytest.mark.parametrize("problem", [entry.name for entry in ENTRIES if entry.name != "acs_employment"])
def test_state_without_a_row_of_the_problem_is_an_error(problem):
    with pytest.raises(ValueError, match=rf"csv_pwy\.zip has no row for {problem} that meets AGEP . \d\d and "):
        prepare_people([CHILD], problem)


def test_single_class_is_refused(tmp_path):
    place = tmp_path / "acs/2017_1-Year/csv_pwy.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(archive({"psam_p56.csv": table([PERSON, PERSON])}))
    with pytest.raises(ValueError, match="every row of acs_income has the label PINCP"):
        load_dataset("acs_income", states="WY", year=2017, data_home=tmp_path)
