"""Broken and unusual archives of the American Community Survey, made here."""

import codecs

import numpy as np
import pytest

from tests.datasets.test_acs import COLUMNS, PEOPLE, PERSON, archive, prepare, prepare_people, table

PLACE = r"^psam_p56\.csv in acs/2018_1-Year/csv_pwy\.zip"


def persons(content):
    """The archive of Wyoming with this table."""
    return archive({"psam_p56.csv": content})


WHOLE = archive({"psam_p56.csv": table([PERSON] * 500)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE[: len(WHOLE) // 2], r"csv_pwy\.zip is not a whole zip"),
        (WHOLE[:40] + b"\0" * 20 + WHOLE[60:], r"csv_pwy\.zip is not a whole zip"),
        (b"<!DOCTYPE html><html>Access denied</html>", r"csv_pwy\.zip is not a whole zip"),
        (b"", r"csv_pwy\.zip is not a whole zip"),
        (archive({}), r"csv_pwy\.zip has no file 'psam_p56.csv' \(it is empty\)"),
        (archive({"psam_p50.csv": "x"}), r"csv_pwy\.zip has no file 'psam_p56.csv' \(it has psam_p50.csv\)"),
        (archive({"ss18pwy.csv": table(PEOPLE)}), r"has no file 'psam_p56.csv' \(it has ss18pwy.csv\)"),
        (archive({"psam_p56.csv": "x", "a/PSAM_P56.CSV": "x"}), r"has 2 file.? 'psam_p56.csv'"),
        (archive({"psam_p56.csv": ""}), r"psam_p56.csv in .*csv_pwy\.zip has no column 'AGEP', 'SCHL'"),
        (
            archive({"psam_p56.csv": table(PEOPLE, columns=[name for name in COLUMNS if name != "ESP"])}),
            r"psam_p56.csv in acs/2018_1-Year/csv_pwy\.zip has no column 'ESP'",
        ),
        (archive({"psam_p56.csv": table(PEOPLE, state="VT")}), r"should hold the persons of WY, ST = 56, .*ST = 50"),
        (archive({"psam_p56.csv": table(())}), r"csv_pwy\.zip has no row for acs_employment; leave the state out"),
        (persons(table([PERSON, PERSON | {"pwgtp1": '"2'}])[:-1]), rf"{PLACE} is not the table it should be .*EOF"),
        (persons(table(PEOPLE).encode() + b"\xff" * 4), rf"{PLACE} has 1 values in line 5, not 36 as its header"),
        (persons(table(PEOPLE).encode().replace(b",30,1,", b",\xff,1,")), rf"{PLACE} is not .* \('utf-8' codec"),
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
        ({"RAC1P": "0"}, "acs_income", "badr", r"has 0 in column 'RAC1P', row 1, where whole numbers go from 1 to 9"),
        ({"AGEP": "100"}, "acs_income", "default", r"has 100 in column 'AGEP', row 1, where whole .* from 0 to 99"),
        ({"AGEP": "-1"}, "acs_employment", "badr", r"csv_pwy\.zip has -1 in column 'AGEP', row 1"),
        ({"AGEP": "30.5"}, "acs_mobility", "folktables", r"csv_pwy\.zip has 30.5 in column 'AGEP', row 1"),
        ({"ESR": "7"}, "acs_employment", "folktables", r"has 7 in column 'ESR', row 1"),
        ({"PUBCOV": "1.5"}, "acs_public_coverage", "folktables", r"has 1.5 in column 'PUBCOV', row 1"),
        ({"RELP": "20"}, "acs_employment", "default", r"has 20 in column 'RELP', row 1, .* from 0 to 17"),
        ({"OCCP": "9"}, "acs_income", "default", r"has 9 in column 'OCCP', row 1, .* from 10 to 9920"),
    ],
)
def test_bad_values_are_answered_by_file_column_and_row(change, problem, variant, message):
    with pytest.raises(ValueError, match=message):
        prepare_people([PERSON, PERSON | change], problem, variant)


def without_end(content, values):
    """The table with so many values cut off the row before the last."""
    lines = content.splitlines()
    lines[-2] = lines[-2].rsplit(",", values)[0]
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without_end(table(PEOPLE), 1), "has 35 values in line 3, not 36 as its header"),
        (without_end(table(PEOPLE), 20), "has 16 values in line 3, not 36 as its header"),
        (table(PEOPLE)[:-60], "has 18 values in line 4, not 36 as its header"),
        (table(PEOPLE)[:-6], r"has no number in column 'pwgtp1', row 2"),
        (table([PERSON, PERSON | {"pwgtp1": "12,13"}]), "has 37 values in line 3, not 36 as its header"),
        (table(PEOPLE).replace("\n", ",1\n").replace(",1\n", "\n", 1), "has 37 values in line 2, not 36 as its header"),
        (table(PEOPLE).replace("\n", "\r")[:-20], "has 31 values in line 4"),
        (table(PEOPLE).replace("\n", ",\n"), r"has no number in column '', row 0"),
        (table(PEOPLE).replace("RT", "AGEP", 1), "has several columns 'AGEP'"),
    ],
    ids=["short", "much shorter", "cut", "cut at a comma", "long", "all long", "old Mac", "empty last", "twice"],
)
def test_rows_of_another_width_than_the_header_are_refused(content, message):
    with pytest.raises(ValueError, match=rf"{PLACE} ({message})"):
        prepare(persons(content))


def plain():
    return prepare(persons(table(PEOPLE))).features.x


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + table(PEOPLE).encode(),
        codecs.BOM_UTF8 + table(PEOPLE).replace("ST,RT", '"ST","RT"').encode(),
        table(PEOPLE).replace("AGEP,CIT", " AGEP , CIT", 1),
        table(PEOPLE).replace(",pwgtp1\n", ",pwgtp1  \n"),
        table(PEOPLE).replace("\n", "\r\n"),
        table(PEOPLE).replace("\n", "\r"),
        table(PEOPLE) + "\n\n",
        table(PEOPLE)[:-1],
    ],
    ids=["mark", "mark and quotes", "spaces", "space at the end", "Windows", "old Mac", "blank lines", "no last end"],
)
def test_header_and_line_ends_may_be_written_otherwise(content):
    np.testing.assert_array_equal(prepare(persons(content)).features.x, plain())


@pytest.mark.parametrize("name", ["csv_pwy/psam_p56.csv", "a/b/PSAM_P56.CSV", "../psam_p56.csv"])
def test_table_may_be_in_a_folder(name):
    content = archive({f"__MACOSX/{name}": "x", name: table(PEOPLE)})
    np.testing.assert_array_equal(prepare(content).features.x, plain())
