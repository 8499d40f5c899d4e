"""Heritage Health Prize: does a member have a condition that the Charlson index counts?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.datasets.archives import find_member, read_member
from badrjax.datasets.delimited import one_of, read_csv, recode
from badrjax.datasets.entry import Attribute, Entry, Flaw, Option, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.health_features import (
    CONDITIONS,
    FOR_WOMEN,
    MOST_DRUGS,
    MOST_TESTS,
    Claims,
    capped,
    category_feature,
    charlson_label,
    claim_features,
    monthly_counts,
)
from badrjax.datasets.tables import (
    Categories,
    Column,
    encode_features,
    is_missing,
    number_column,
    take_rows,
    text_column,
)
from badrjax.extras import require

FILE = DataFile("health/HHP_release3.zip")
# The file that lists the members of each year, with the days in hospital of the year after it.
LISTS = {"Y1": "DaysInHospital_Y2.csv", "Y2": "DaysInHospital_Y3.csv", "Y3": "Target.csv"}
AGES = ("0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80+")
SEXES = {"M": "male", "F": "female"}
CLAIM_NUMBERS = ("MemberID", "ProviderID", "Vendor", "PCP")
CLAIM_TEXT = (
    "Year", "Specialty", "PlaceSvc", "PayDelay", "LengthOfStay", "DSFS", "PrimaryConditionGroup", "CharlsonIndex",
    "ProcedureGroup", "SupLOS",
)  # fmt: skip
# Averages of the milestone feature set that its database cut to whole numbers.
WHOLE_AVERAGES = ("PayDelay_ave", "LOS_ave", "dsfs_ave")
FROM_CONDITIONS = ("no_PrimaryConditionGroups", *(f"pcg{number}" for number in range(1, len(CONDITIONS) + 1)))


def read_raw(contents: Mapping[str, bytes], year: str) -> dict[str, dict[str, Column]]:
    """The tables of one year by file name.

    These are its list of members, `Members.csv`, and the rows of that year of `Claims.csv`, `DrugCount.csv` and
    `LabCount.csv`.

    Args:
        contents: bytes of the archive, by path.
        year: "Y1", "Y2" or "Y3".

    Raises:
        ValueError: for an archive without the files, or a file that is no such table.
    """
    archive = contents[FILE.path]
    listed = LISTS[year]
    return {
        listed: _table(archive, listed, ("MemberID", "ClaimsTruncated"), ()),
        "Members.csv": _table(archive, "Members.csv", ("MemberID",), ("AgeAtFirstClaim", "Sex")),
        "Claims.csv": _of_year(
            _table(archive, "Claims.csv", CLAIM_NUMBERS, CLAIM_TEXT, ("Year", "SupLOS")), "Claims.csv", year
        ),
    } | {
        file: _of_year(_table(archive, file, ("MemberID",), ("Year", count), ("Year", count)), file, year)
        for file, count in (("DrugCount.csv", "DrugCount"), ("LabCount.csv", "LabCount"))
    }


def prepare(contents: Mapping[str, bytes], *, variant: str, year: str) -> Prepared:
    """Heritage Health as the papers prepare it; see `ENTRY.variants`."""
    tables = read_raw(contents, year)
    listed = tables[LISTS[year]]
    members = _members(listed, LISTS[year])
    attributes = _attributes(listed, tables["Members.csv"])
    claims = _claims(tables["Claims.csv"], members)
    label, labelled, without_index = charlson_label(claims, "Claims.csv")
    known = ~np.any([is_missing(attribute.values) for attribute in attributes.values()], axis=0)
    rows = known & labelled
    if not rows.any():
        raise ValueError(
            f"{FILE.path} has no member of known age and sex with claims in {year} that have a Charlson index"
        )
    attributes = {name: column._replace(values=take_rows(column.values, rows)) for name, column in attributes.items()}
    table = {
        "ClaimsTruncated": number_column(listed, "ClaimsTruncated"),
        **claim_features(claims, "Claims.csv"),
        **_monthly(tables, members),
    }
    table = {name: column[rows] for name, column in table.items()}
    return Prepared(
        features=encode_features(_feature_columns(table, attributes, variant), order="table"),
        label=label[rows],
        label_name="largest Charlson index of the year",
        positive="above 0",
        attributes=attributes,
        notes=_notes(year, int((~known).sum()), int((known & ~labelled).sum()), without_index),
    )


def _table(
    archive: bytes, file: str, numbers: tuple[str, ...], text: tuple[str, ...], never_empty: tuple[str, ...] = ()
) -> dict[str, Column]:
    """Some columns of a file of the archive, which may be in a folder."""
    content = read_member(archive, find_member(archive, file, FILE.path), FILE.path)
    table = read_csv(content, file, numbers=numbers, text=text)
    for column in ("MemberID", *never_empty):
        empty = is_missing(table[column])
        if empty.any():
            raise ValueError(f"{file} has nothing in column {column!r}, row {np.argmax(empty)}; get the official file")
    return table


def _of_year(table: dict[str, Column], file: str, year: str) -> dict[str, Column]:
    years = one_of(text_column(table, "Year"), LISTS, "Year", file)
    rows = np.array([*(value == year for value in years.values), False])[years.codes]
    return {name: _take(column, rows) for name, column in table.items() if name != "Year"}


def _take(column: Column, rows: np.ndarray) -> Column:
    """Some rows of a column; unlike `take_rows` it sorts no text, of which there are millions of rows here."""
    return Categories(column.codes[rows], column.values) if isinstance(column, Categories) else column[rows]


def _members(table: Mapping[str, Column], file: str) -> np.ndarray:
    """The members that a file lists, each of them once."""
    members, times = np.unique(number_column(table, "MemberID"), return_counts=True)
    if (times > 1).any():
        raise ValueError(f"{file} lists member {members[np.argmax(times > 1)]:.0f} twice; get the official file")
    return number_column(table, "MemberID")


def _positions(table: Mapping[str, Column], members: np.ndarray) -> np.ndarray:
    """The position among `members` of each row's member, -1 for others."""
    positions: np.ndarray = (
        require("pandas", "reading this dataset").Index(members).get_indexer(number_column(table, "MemberID"))
    )
    return positions


def _attributes(listed: Mapping[str, Column], persons: Mapping[str, Column]) -> dict[str, Attribute]:
    """Age and sex of the listed members, missing for those that `Members.csv` does not have."""
    row = _positions(listed, _members(persons, "Members.csv"))
    ages = one_of(text_column(persons, "AgeAtFirstClaim"), AGES, "AgeAtFirstClaim", "Members.csv")
    sexes = recode(text_column(persons, "Sex"), SEXES, "Sex", "Members.csv")
    women = tuple(category_feature(column, value) for column, value in FOR_WOMEN)
    return {
        name: Attribute(Categories(np.append(column.codes, -1)[row], column.values), (name, *told_by))
        for name, column, told_by in (("age", ages, ()), ("sex", sexes, women))
    }


def _claims(table: Mapping[str, Column], members: np.ndarray) -> Claims:
    position = _positions(table, members)
    columns = {name: _take(column, position >= 0) for name, column in table.items()}
    return Claims(position[position >= 0], columns, len(members))


def _monthly(tables: Mapping[str, dict[str, Column]], members: np.ndarray) -> dict[str, np.ndarray]:
    """Drugs and tests a month, and flags of members without any."""
    features: dict[str, np.ndarray] = {}
    for column, name, most in (("DrugCount", "drug", MOST_DRUGS), ("LabCount", "lab", MOST_TESTS)):
        table, file = tables[f"{column}.csv"], f"{column}.csv"
        position = _positions(table, members)
        count = capped(text_column(table, column), most, column, file)
        features |= monthly_counts(position[position >= 0], count[position >= 0], len(members), name)
    return features | {f"{name}Null": features[f"{name}count_months"] == 0 for name in ("lab", "drug")}


def _feature_columns(
    table: Mapping[str, np.ndarray], attributes: Mapping[str, Attribute], variant: str
) -> dict[str, Column]:
    if variant == "default":
        # The Charlson index is made of diagnoses, which the condition groups are made of, too.
        kept = {name: column for name, column in table.items() if name not in FROM_CONDITIONS}
        return kept | {name: attribute.values for name, attribute in attributes.items()}
    known = {name: attribute.values for name, attribute in attributes.items()}
    age, sex = text_column(known, "age"), text_column(known, "sex")
    nowhere = np.zeros(age.codes.shape)
    whole = {name: np.floor(table[name]) for name in WHOLE_AVERAGES}
    return {
        "age_MISS": nowhere,
        "sexMISS": nowhere,
        **table,
        **whole,
        "age": np.array([AGES.index(value) for value in age.values], np.float64)[age.codes],
        "sex": (sex.text() == "female").astype(np.float64),
    }


def _notes(year: str, unknown: int, unlabelled: int, without_index: int) -> tuple[str, ...]:
    notes = [f"year {year}"]
    if unknown:
        notes.append(f"dropped {unknown:,} members of unknown age or sex")
    if unlabelled:
        notes.append(f"dropped {unlabelled:,} members without a Charlson index in {year}, whose label is unknown")
    if without_index:
        notes.append(f"{without_index:,} claims of listed members have no Charlson index and take no part in the label")
    return tuple(notes)


ENTRY = Entry(
    name="health",
    title="members of a US health plan in one year; label: a Charlson comorbidity index above 0",
    prepare=prepare,
    variants={
        "default": "members of known age and sex with claims; counts and statistics of their claims, drugs and tests; "
        "nothing made of the condition groups; raw numbers",
        "fairbinn": "as the default, with the condition groups, whole-number averages, age 0 to 8 and sex 0/1: 125 "
        "features",
    },
    sensitive={
        "age": "nine decades, 0-9 to 80+, at the first claim",
        "sex": "female, male; sensitive_features='drop' leaves out, too, the counts of claims that are women's: "
        + ", ".join(f"{category_feature(column, value)} ({value})" for column, value in FOR_WOMEN),
    },
    source="Heritage Health Prize, https://www.kaggle.com/c/hhp",
    licence="rules of the competition: no redistribution",
    citation="Heritage Provider Network (2011). Heritage Health Prize, release 3. Kaggle.",
    files=((FILE,),),
    options={"year": Option("Y3", "year of the claims: Y1, Y2 or Y3", tuple(LISTS))},
    positive="a condition that the Charlson index counts (favourable where the label decides who is offered care)",
    flaws=(
        Flaw(
            "counts of condition groups are features, and the Charlson index is made of the same diagnoses",
            ("fairbinn",),
            "leaves them and the number of distinct groups out",
        ),
        Flaw(
            "averages of delay, stay and month are cut to whole numbers, as the database of the feature set did",
            ("fairbinn",),
            "keeps the fractions",
        ),
        Flaw("two features are 0 in every row (age and sex missing)", ("fairbinn",), "leaves them out"),
        Flaw(
            "the features are of the year of the label: a description of the year, no forecast",
            ("default", "fairbinn"),
            "does the same",
        ),
    ),
    obtain="register at Kaggle, accept the rules of the competition Heritage Health Prize "
    "(https://www.kaggle.com/c/hhp), download HHP_release3.zip and put it at health/HHP_release3.zip below a data "
    "directory",
)

ENTRIES = (ENTRY,)
