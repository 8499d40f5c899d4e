"""Extracts of the American Community Survey: made-up ones here, and the published ones where they are at hand."""

import numpy as np
import pandas as pd
import pytest

from badrjax.datasets import load_dataset
from badrjax.datasets.acs import ENTRIES
from badrjax.datasets.acs.extracts import EXTRACTS, check_extracts
from badrjax.datasets.acs.states import person_file

from . import test_acs
from .test_acs import WOMAN, archive, table

INCOME = next(entry for entry in ENTRIES if entry.name == "acs_income")
COLUMNS = ("AGEP", "SCHL", "MAR", "SEX", "RAC1P", "OCCP", "COW", "POBP", "RELP", "WKHP")
PERSON = test_acs.PERSON | {"POBP": "001"}  # born in none of the states here
FEATURES, LABELS = (file.path for file in EXTRACTS["CO"])


def lines(people, labels, columns=COLUMNS):
    """A table of features and label, numbers as folktables writes them."""
    rows = [
        ",".join([str(float(person[column])) for column in columns] + ([label] if label else []))
        for person, label in zip(people, labels, strict=True)
    ]
    return "\n".join([",".join([*columns, *(["PINCP"] if labels[0] else [])]), *rows, ""]).encode()


def prepare(contents, extracts, variant="default"):
    contents = {person_file("WY", 2018).path: archive({"psam_p56.csv": table((PERSON, WOMAN))}), **contents}
    return INCOME.prepare(contents, variant=variant, states=("WY",), year=(2018,), extracts=extracts)


@pytest.mark.parametrize("variant", INCOME.variants)
def test_a_person_is_the_same_row_from_an_extract(variant):
    one = prepare({EXTRACTS["UT"][0].path: lines((PERSON, WOMAN), ("True", "False"))}, ("UT",), variant)
    np.testing.assert_array_equal(one.features.x[2:], one.features.x[:2])
    np.testing.assert_array_equal(one.label, [True, False, True, False])
    assert one.domains["state"].text().tolist() == ["WY", "WY", "UT", "UT"]
    assert any("2 persons of UT are those of an extract" in note for note in one.notes)
    two_tables = {FEATURES: lines((PERSON, WOMAN), ("", "")), LABELS: b"PINCP\n1\n0\n"}
    two = prepare(two_tables, ("CO",), variant)
    np.testing.assert_array_equal(two.features.x, one.features.x)
    np.testing.assert_array_equal(two.label, one.label)


def test_birthplaces_are_told_by_the_state_of_the_extract():
    at_home = PERSON | {"POBP": "8"}
    found = prepare({FEATURES: lines((at_home,), ("",)), LABELS: b"PINCP\n1\n"}, ("CO",))
    assert found.features.x[2, found.features.names.index("POBP_same state")] == 1


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (lines((PERSON, WOMAN), ("", "")), b"PINCP\n1\n", "has 2 rows and .* 1; get both files anew"),
        (lines((PERSON,), ("",)), b"PINCP\nperhaps\n", "'perhaps' in column 'PINCP'"),
        (lines((PERSON,), ("",)), b'PINCP\n""\n', "no value in row 0 in column 'PINCP'"),
        (lines((PERSON,), ("",), COLUMNS[:-1]), b"PINCP\n1\n", "column 'WKHP'"),
        (lines((PERSON | {"RAC1P": "10"},), ("",)), b"PINCP\n1\n", "has 10 in column 'RAC1P', row 0"),
        (lines((PERSON,), ("",)).replace(b"1.0", b"one", 1), b"PINCP\n1\n", "'2one' in column 'SCHL'"),
    ],
)
def test_broken_extracts_are_refused(features, labels, message):
    with pytest.raises(ValueError, match=message):
        prepare({FEATURES: features, LABELS: labels}, ("CO",))


@pytest.mark.parametrize(
    ("given", "states"),
    [("", ()), ([], ()), (" ", ()), (iter([]), ()), ("co, ut", ("CO", "UT")), (["AZ"], ("AZ",)),
     (np.array(["CO", "AZ"]), ("CO", "AZ")), (iter(["UT"]), ("UT",))],
)  # fmt: skip
def test_extracts_are_named_like_states(given, states):
    assert check_extracts(given) == states


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extracts": "WY"}, "unknown state of extracts 'WY': known are AZ, CO, UT"),
        ({"extracts": "CO,CO"}, "extracts names CO twice"),
        ({"extracts": "CO,"}, "unknown state of extracts ''"),
        ({"extracts": "CO", "target": "income"}, "no dollars"),
        ({"extracts": "CO", "year": 2017}, "extracts are of 2018"),
        ({"extracts": "CO", "states": "WY,CO"}, "CO is among states and extracts"),
    ],
)
def test_extracts_of_what_there_is_not_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("acs_income", data_home=tmp_path, download=False, **options)


def test_only_incomes_have_extracts(tmp_path):
    with pytest.raises(ValueError, match="extracts"):
        load_dataset("acs_mobility", extracts="CO", data_home=tmp_path)


# Rows and share of y = 1 of each, made with folktables 0.0.12.
@pytest.mark.parametrize(
    ("state", "rows", "rate"), [("CO", 31306, 0.4144), ("AZ", 33277, 0.3396), ("UT", 16337, 0.3338)]
)
def test_published_extracts_have_the_documented_rows(real_data, state, rows, rate):
    found = load_dataset(
        "acs_income", states="WY", extracts=state, variant="folktables", data_home=real_data, download=False
    )
    of_extract = np.array(found.domains["state"].names)[found.domains["state"].ids] == state
    assert of_extract.sum() == rows
    assert round(float(found.y[of_extract].mean()), 4) == rate
    first = pd.read_csv(real_data / EXTRACTS[state][0].path, nrows=50)
    np.testing.assert_array_equal(found.x[of_extract][:50], first[list(found.feature_names)])
    assert set(found.checksums) >= {file.path for file in EXTRACTS[state]}


def test_seventeen_states_are_the_rows_that_were_counted(real_data):
    found = load_dataset("acs_income", extracts="CO,AZ,UT", data_home=real_data, download=False)
    assert found.y.size == 171_556
    assert found.x.shape[1] == 75
