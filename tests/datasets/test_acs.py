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
    assert prepared.notes[-1] == "dropped 17 persons whose sex, race and age have at most 16 rows together"
    with pytest.raises(ValueError, match="acs_travel_time: no rows are left without those whose sex, race and age"):
        prepare_people(PEOPLE, "acs_travel_time", "badr")


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
    assert not left & {"SEX", "FER", "ST", "AGEP"}
    assert {"RAC1P", "MAR", "PINCP"} <= left
    assert dataset.group_names == ("Female & WY & over 40", "Female & WY & up to 40")
    dataset = load_dataset("acs_income", variant="fairlab", **options)
    assert {name.partition("_")[0] for name in dataset.feature_names} == {
        "sex", "AGEP", "SCHL", "OCCP", "POBP", "RELP", "WKHP",
    }  # fmt: skip


def test_every_state_and_year_has_its_file_and_the_pinned_ones_are_the_default():
    files = dataset_info("acs_income").alternatives({"states": ("CA", "WY"), "year": (2014,)})
    assert [[file.path for file in form] for form in files] == [
        ["acs/2014_1-Year/csv_pca.zip", "acs/2014_1-Year/csv_pwy.zip"]
    ]
    assert files[0][0].url == "https://www2.census.gov/programs-surveys/acs/data/pums/2014/1-Year/csv_pca.zip"
    assert len(FIPS) == 52
    pinned = {state for state in FIPS if person_file(state, 2018).sha256}
    assert pinned == set(DEFAULT_STATES)
    assert not any(person_file(state, year).sha256 for state in FIPS for year in (2014, 2015, 2016, 2017))
    for entry in ENTRIES:
        defaults = {"states": DEFAULT_STATES, "year": (2018,)}
        assert entry.alternatives(defaults) == entry.files
        assert set(entry.facts) == set(entry.variants)
        assert all(set(flaw.kept_by) <= set(entry.variants) and flaw.kept_by for flaw in entry.flaws)


@pytest.mark.parametrize(("given", "states"), [("wy", ("WY",)), ("NM, WY", ("NM", "WY")), (["PR", "dc"], ("PR", "DC"))])
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
    ],
)
def test_bad_states_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        check_states(given)


@pytest.mark.parametrize("year", [2013, 2019, "18", True, 2018.5, "", (2018, 2013)])
def test_years_that_are_not_known_are_refused(year):
    with pytest.raises(ValueError, match=r"unknown year .*: there are 2014, 2015, 2016, 2017, 2018"):
        check_years(year)


@pytest.mark.parametrize(
    ("year", "error", "message"),
    [
        ([], ValueError, "at least one year"),
        ("2016, 2018,2016", ValueError, "one year twice"),
        ({2016, 2018}, TypeError, "a set has no order"),
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


WHOLE = archive({"psam_p56.csv": table([PERSON] * 500)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE[: len(WHOLE) // 2], r"csv_pwy\.zip is not a whole zip"),
        (WHOLE[:40] + b"\0" * 20 + WHOLE[60:], r"csv_pwy\.zip is not a whole zip"),
        (b"<!DOCTYPE html><html>Access denied</html>", r"csv_pwy\.zip is not a whole zip"),
        (b"", r"csv_pwy\.zip is not a whole zip"),
        (archive({}), r"csv_pwy\.zip has no file 'psam_p56.csv', but nothing"),
        (archive({"psam_p50.csv": "x"}), r"csv_pwy\.zip has no file 'psam_p56.csv', but 'psam_p50.csv'"),
        (archive({"../psam_p56.csv": table(PEOPLE)}), r"has no file 'psam_p56.csv', but '\.\./psam_p56.csv'"),
        (archive({"ss18pwy.csv": table(PEOPLE)}), r"has no file 'psam_p56.csv', but 'ss18pwy.csv'"),
        (archive({"psam_p56.csv": "x", "PSAM_P56.CSV": "x"}), r"has 2 files 'psam_p56.csv'"),
        (archive({"psam_p56.csv": ""}), r"psam_p56.csv in .*csv_pwy\.zip has no column 'AGEP', 'SCHL'"),
        (
            archive({"psam_p56.csv": table(PEOPLE, columns=[name for name in COLUMNS if name != "ESP"])}),
            r"psam_p56.csv in acs/2018_1-Year/csv_pwy\.zip has no column 'ESP'",
        ),
        (archive({"psam_p56.csv": table(PEOPLE, state="VT")}), r"should hold the persons of WY, ST = 56, .*ST = 50"),
        (archive({"psam_p56.csv": table(())}), r"csv_pwy\.zip has no row for acs_employment; leave the state out"),
        (archive({"psam_p56.csv": table(PEOPLE) + '1,"2'}), r"is not the table it should be .*EOF"),
    ],
)
def test_bad_archives_are_answered_by_what_is_wrong(content, message):
    with pytest.raises(ValueError, match=message):
        prepare(content)


@pytest.mark.parametrize(
    ("change", "problem", "variant", "message"),
    [
        ({"AGEP": "old"}, "acs_income", "default", r"psam_p56.csv in .*csv_pwy\.zip has 'old' in column 'AGEP', row 1"),
        ({"OCCP": "N.A.//"}, "acs_income", "folktables", r"has 'N.A.//' in column 'OCCP', row 1"),
        ({"PUMA": "NA"}, "acs_travel_time", "badr", r"has 'NA' in column 'PUMA', row 1"),
        ({"WKHP": "inf"}, "acs_income", "default", r"has no number in column 'WKHP', row 1"),
        ({"AGEP": ""}, "acs_employment", "default", r"has no number in column 'AGEP', row 1"),
        ({"SEX": ""}, "acs_employment", "folktables", r"has no number in column 'SEX', row 1"),
        ({"SEX": "3"}, "acs_mobility", "folktables", r"csv_pwy\.zip has 3 in column 'SEX', row 1, .* from 1 to 2"),
        ({"RAC1P": "0"}, "acs_income", "badr", r"has 0 in column 'RAC1P', row 1, where the codes go from 1 to 9"),
        ({"ESR": "7"}, "acs_employment", "folktables", r"has 7 in column 'ESR', row 1"),
        ({"PUBCOV": "1.5"}, "acs_public_coverage", "folktables", r"has 1.5 in column 'PUBCOV', row 1"),
        ({"RELP": "20"}, "acs_employment", "default", r"has 20 in column 'RELP', row 1, .* from 0 to 17"),
        ({"OCCP": "9"}, "acs_income", "default", r"has 9 in column 'OCCP', row 1, .* from 10 to 9920"),
    ],
)
def test_bad_values_are_answered_by_file_column_and_row(change, problem, variant, message):
    with pytest.raises(ValueError, match=message):
        prepare_people([PERSON, PERSON | change], problem, variant)


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
