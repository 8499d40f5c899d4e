"""ProPublica's COMPAS data: is a defendant of Broward County charged with a new crime within two years?"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from badrjax.datasets.dataset import standardise_numbers
from badrjax.datasets.delimited import one_of, read_csv, recode
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.tables import (
    Column,
    Table,
    categories,
    encode_features,
    number_column,
    take_rows,
    text_column,
)

# No other column is read, so that names, birth dates and case numbers reach no table. The file has
# priors_count and decile_score twice, equal in every row; the first of each is what is read.
JUVENILE = ("juv_fel_count", "juv_misd_count", "juv_other_count")
LABEL = "two_year_recid"
NUMERIC = ("age", "priors_count", *JUVENILE, "days_b_screening_arrest", "c_days_from_compas", "is_recid")
TEXT = ("sex", "race", "age_cat", "c_charge_degree", "decile_score", "c_jail_in", "c_jail_out", LABEL)
KNOWN = {
    "sex": ("Female", "Male"),
    "race": ("African-American", "Asian", "Caucasian", "Hispanic", "Native American", "Other"),
    "age_cat": ("25 - 45", "Greater than 45", "Less than 25"),
    "c_charge_degree": ("F", "M", "O"),
    "decile_score": tuple(map(str, range(-1, 11))),
    LABEL: ("0", "1"),
}
SCORES = ("High", "Low", "Medium")
MISSING = "N/A"
ORDINARY_TRAFFIC = "O"
MOST_DAYS = 30  # between arrest and screening, beyond which the charge may not be the one that was screened

DEFAULT_FEATURES = ("age", "priors_count", *JUVENILE, "sex", "race", "c_charge_degree")
FAIRLAB_NUMBERS = (
    "age", "priors_count", "days_b_screening_arrest", "length_of_stay", *JUVENILE, "c_days_from_compas",
)  # fmt: skip
FAIRLAB_TEXT = ("c_charge_degree", "age_cat", "score_text", "decile_score", "sex", "race")
THREE_RACES = {race: race if race in ("African-American", "Caucasian") else "Other" for race in KNOWN["race"]}

_URL = "https://raw.githubusercontent.com/propublica/compas-analysis/master/"


class Source(NamedTuple):
    """One of the two published tables.

    Attributes:
        file: where it is.
        score_text: its column of the risk in words.
    """

    file: DataFile
    score_text: str


GENERAL = Source(
    DataFile(
        "compas/compas-scores-two-years.csv",
        "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d",
        _URL + "compas-scores-two-years.csv",
    ),
    "score_text",
)
VIOLENT = Source(
    DataFile(
        "compas/compas-scores-two-years-violent.csv",
        "918e218ba181d4db8a7266977d23ca7a5ecf1bc7d5defd7b2f27bf3cbd9763e3",
        _URL + "compas-scores-two-years-violent.csv",
    ),
    "v_score_text",
)


def read_raw(content: bytes, source: Source) -> dict[str, Column]:
    """The columns that are used, of every row; none of them names a person.

    Raises:
        ValueError: for a missing column, an unknown category or a value that is no number.
    """
    where = source.file.path
    text = (*TEXT, source.score_text)
    used = {*NUMERIC, *text}
    table = read_csv(
        content, where, numbers=NUMERIC, text=text, missing=(MISSING,), usecols=lambda column: column in used
    )
    # A missing label becomes an empty one, which is unknown.
    table[LABEL] = categories(text_column(table, LABEL).text())
    for name, known in (KNOWN | {source.score_text: SCORES}).items():
        one_of(text_column(table, name), known, name, where)
    return table


def prepare(contents: Mapping[str, bytes], *, variant: str, source: Source) -> Prepared:
    """One of the two tables, with the rows that ProPublica analysed; see the entries' `variants`."""
    where = source.file.path
    table = read_raw(contents[where], source)
    kept = _analysed(table, source)
    if not kept.any():
        raise ValueError(f"{where} has no row that ProPublica's filter keeps; get the official file")
    table = {name: take_rows(column, kept) for name, column in table.items()}
    fairlab = variant == "fairlab"
    three_races = recode(text_column(table, "race"), THREE_RACES, "race", where)
    return Prepared(
        # None of the numbers is missing here; with "refuse" the 34 inputs of FairLAB could be no other 34.
        features=encode_features(
            _fairlab_columns(table, where) if fairlab else {name: table[name] for name in DEFAULT_FEATURES},
            missing="refuse" if fairlab else "indicator",
        ),
        label=text_column(table, LABEL).text() == "1",
        label_name=LABEL,
        positive="1",
        attributes={
            "race": Attribute(table["race"], ("race",)),
            "sex": Attribute(table["sex"], ("sex",)),
            "race_3": Attribute(three_races, ("race",)),
            "age_cat": Attribute(table["age_cat"], ("age", "age_cat")),
        },
        scale=functools.partial(standardise_numbers, names=FAIRLAB_NUMBERS) if fairlab else None,
        notes=(f"dropped {(~kept).sum():,} rows that ProPublica's filter leaves out",),
    )


def _analysed(table: Table, source: Source) -> Bool[np.ndarray, "n"]:
    """ProPublica's filter: the charge fits the screening, the case and the score are known, no traffic offence."""
    days = np.abs(number_column(table, "days_b_screening_arrest"))
    near = days <= MOST_DAYS  # not so where the number is missing
    known = number_column(table, "is_recid") != -1
    charge = text_column(table, "c_charge_degree").text() != ORDINARY_TRAFFIC
    return near & known & charge & (text_column(table, source.score_text).codes >= 0)


def _fairlab_columns(table: Table, where: str) -> dict[str, Column]:
    days_in_jail = _dates(table, "c_jail_out", where) - _dates(table, "c_jail_in", where)
    columns = {**table, "length_of_stay": days_in_jail}
    return {name: columns[name] for name in (*FAIRLAB_NUMBERS, *FAIRLAB_TEXT)}


def _dates(table: Table, name: str, where: str) -> Shaped[np.ndarray, "n"]:
    """Calendar days of a column of dates with times; the time of day is cut off, not rounded."""
    column = text_column(table, name)
    days = []
    for value in column.values:
        try:
            days.append(datetime.date.fromisoformat(value[:10]).toordinal())
        except ValueError as error:
            raise ValueError(f"{where} has {value!r} in column {name!r}, where a date should be") from error
    return np.array([*days, np.nan])[column.codes]


_DEFAULT = (
    "ProPublica's filter; age, sex, race, charge degree, prior and juvenile counts, without the COMPAS scores; raw "
    "numbers"
)
_CUTOFF = (
    "defendants screened after 1 April 2014 are in the table only if they reoffended, for the two "
    "years of the others were not over; so the base rate is too high (Barenstein 2019, arXiv 1906.04711)"
)
_AGE = (
    "age and age_cat are those of April 2016, one to four years after the screening: all are older here than they were "
    "then, and about one in six is in another class of ages"
)
_SELECTION = (
    "defendants with a new charge within two years that was not violent are not in the table, a selection by what "
    "happened after the screening, so the other rows are no sample of those without a new violent charge"
)

ENTRY = Entry(
    name="compas",
    title="defendants of Broward County, Florida, 2013-2014; label: charged with a new crime within two years",
    prepare=functools.partial(prepare, source=GENERAL),
    variants={
        "default": _DEFAULT,
        "fairlab": (
            "the same rows; COMPAS scores and days in jail (the difference of two dates) among the features, numbers "
            "standardised over all rows: 34 inputs"
        ),
    },
    sensitive={
        "race": "six values",
        "sex": "Female, Male",
        "race_3": "African-American, Caucasian, Other",
        "age_cat": "Less than 25, 25 - 45, Greater than 45",
    },
    source="ProPublica, https://github.com/propublica/compas-analysis",
    licence="none stated",
    citation=(
        "Larson, J., Mattu, S., Kirchner, L. and Angwin, J. (2016). How We Analyzed the COMPAS Recidivism "
        "Algorithm. ProPublica, 23 May 2016"
    ),
    files=((GENERAL.file,),),
    default_sensitive={"fairlab": ("sex", "race_3", "age_cat")},
    positive="new charge within two years (unfavourable)",
    flaws=(
        Flaw("the COMPAS scores, whose fairness is in question, are features", ("fairlab",), "leaves them out"),
        Flaw(
            "length_of_stay ends after the screening, so it is not known when the decision is made",
            ("fairlab",),
            "leaves it out",
        ),
        Flaw("scaling looks at validation and test rows", ("fairlab",), "leaves numbers raw"),
        Flaw(_CUTOFF, ("default", "fairlab"), "keeps ProPublica's rows, as the papers do"),
        Flaw(_AGE, ("default", "fairlab"), "keeps the file's age: dates of birth are not read"),
    ),
    facts={"default": Facts(6_172, 15, 0.4551), "fairlab": Facts(6_172, 34, 0.4551)},
)

ENTRY_VIOLENT = dataclasses.replace(
    ENTRY,
    name="compas_violent",
    title="defendants of Broward County, Florida, 2013-2014; label: charged with a violent crime within two years",
    prepare=functools.partial(prepare, source=VIOLENT),
    variants={"default": _DEFAULT},
    files=((VIOLENT.file,),),
    default_sensitive={},
    positive="new violent charge within two years (unfavourable)",
    flaws=(
        Flaw(_SELECTION, ("default",), "keeps ProPublica's rows"),
        Flaw(_CUTOFF, ("default",), "keeps ProPublica's rows"),
        Flaw(_AGE, ("default",), "keeps the file's age: dates of birth are not read"),
    ),
    facts={"default": Facts(4_020, 15, 0.1622)},
)

ENTRIES = (ENTRY, ENTRY_VIOLENT)
