"""LSAC National Longitudinal Bar Passage Study: does a law student who began in 1991 pass the bar?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.delimited import one_of, read_csv
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, Option, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.tables import (
    Categories,
    Column,
    Features,
    Table,
    categories,
    encode_features,
    is_missing,
    number_column,
    text_column,
)

PASS, GRADES = "pass_bar", "zgpa"
SCHOOL_GRADES = ("zfygpa", GRADES, "decile1", "decile3")
NUMERIC = ("lsat", "ugpa", *SCHOOL_GRADES, "tier", "fulltime", "fam_inc", "DOB_yr", "age")
TEXT = ("gender", "race1", PASS)
# Read by the "badr" variant alone, which drops a row for a missing value in any column of the file.
OTHERS = (
    "decile1b", "sex", "race", "cluster", "grad", "bar1_yr", "bar2_yr", "parttime", "male", "race2",
)  # fmt: skip
KNOWN = {
    "gender": ("female", "male"),
    "race1": ("asian", "black", "hisp", "other", "white"),
    PASS: ("0", "1"),
}
DEFAULT_FEATURES = ("lsat", "ugpa", *SCHOOL_GRADES, "tier", "fulltime", "fam_inc", "age", "gender", "race1")
BADR_FEATURES = ("race1", "gender", "age", "fam_inc", "fulltime", GRADES, "ugpa")
FIRST_YEAR = 91  # the year the students began, as the file writes years

FILE = DataFile(
    "law_school/bar_pass_prediction.csv",
    "76ebfdb0427ce8db038d53fa5943180ac77096bffb8264f000ed21e9f0ec82f2",
    "https://storage.googleapis.com/lawschool_dataset/bar_pass_prediction.csv",
)


def prepare(contents: Mapping[str, bytes], *, variant: str, target: str | None) -> Prepared:
    """The study; see `ENTRY.variants` and `ENTRY.options`."""
    badr = variant == "badr"
    if badr and target == PASS:
        raise ValueError(f"variant 'badr' of law_school is the regression of {GRADES}; leave target out")
    target = target or (GRADES if badr else PASS)
    table = read_raw(contents[FILE.path], OTHERS if badr else ())
    kept = np.ones(len(table["lsat"]), bool)
    notes: tuple[str, ...] = ()
    if badr:
        kept = ~np.any([is_missing(column) for column in table.values()], axis=0)
        notes = (f"dropped {(~kept).sum():,} rows with a missing value in any column of the file",)
    elif target == GRADES:
        kept = ~is_missing(table[GRADES])
        notes = (f"dropped {(~kept).sum():,} rows without {GRADES}",)
    if not kept.any():
        raise ValueError(f"{FILE.path} has no row with all that is needed; get the official file")
    table = {name: _rows(column, kept) for name, column in table.items()}
    passed = target == PASS
    return Prepared(
        features=_badr_features(table) if badr else _default_features(table, target),
        label=text_column(table, PASS).text() == "1" if passed else number_column(table, GRADES),
        label_name=target,
        positive="1" if passed else "",
        attributes={
            "race": Attribute(table["race1"], ("race1",)),
            "gender": Attribute(table["gender"], ("gender",)),
        },
        notes=notes,
    )


def read_raw(content: bytes, others: tuple[str, ...] = ()) -> dict[str, Column]:
    """The columns that are used, and `others` as text, of every row.

    Raises:
        ValueError: for a missing column, an unknown category or a value that is no number.
    """
    table = read_csv(content, FILE.path, numbers=NUMERIC, text=(*TEXT, *others))
    # A missing label becomes an empty one, which is unknown.
    table[PASS] = categories(text_column(table, PASS).text())
    for name, known in KNOWN.items():
        one_of(text_column(table, name), known, name, FILE.path)
    return table


def _rows(column: Column, kept: np.ndarray) -> Column:
    """Some rows; a text that is left with no row stays a value, so the features do not depend on the rows."""
    return column._replace(codes=column.codes[kept]) if isinstance(column, Categories) else column[kept]


def _default_features(table: Table, target: str) -> Features:
    """What is known before the bar or, with the grades as target, before the first of them."""
    # The file's own age is the code of the year of the first bar examination less the year of birth.
    columns = {**table, "age": FIRST_YEAR - number_column(table, "DOB_yr")}
    hidden = SCHOOL_GRADES if target == GRADES else ()
    used = {name: columns[name] for name in DEFAULT_FEATURES if name not in hidden}
    return encode_features(used, missing="indicator")


def _badr_features(table: Table) -> Features:
    return encode_features({name: table[name] for name in BADR_FEATURES}, order="table")


def _target(value: str | None) -> str | None:
    if value not in (None, PASS, GRADES):
        raise unknown_name("value of target", str(value), (PASS, GRADES))
    return value


ENTRY = Entry(
    name="law_school",
    title="US law students who began in 1991; label: passed the bar, or grades at law school",
    prepare=prepare,
    variants={
        "default": (
            "every row; admission scores, law-school grades (unless they are the target), school tier, full or part "
            "time, family income, age in 1991, gender, race; raw numbers"
        ),
        "badr": (
            "regression of zgpa, which is a feature too; rows with a missing value in any column dropped; "
            "gender, race, age as coded, fam_inc, fulltime, zgpa, ugpa, but not lsat: 12 features"
        ),
    },
    sensitive={"race": "asian, black, hisp, other, white (race1)", "gender": "female, male"},
    source="LSAC National Longitudinal Bar Passage Study, https://storage.googleapis.com/lawschool_dataset/",
    licence="none stated",
    citation="Wightman, L. F. (1998). LSAC National Longitudinal Bar Passage Study. Law School Admission Council",
    files=((FILE,),),
    options={
        "target": Option(
            None,
            "pass_bar (default; passed the bar in the end) or zgpa (regression of the standardised law-school grade; "
            "always with variant 'badr')",
            check=_target,
        )
    },
    default_sensitive={"badr": ("gender", "race")},
    positive="passed the bar at the first or a later attempt (favourable); none for zgpa",
    flaws=(
        Flaw(
            "the target zgpa is a feature, while lsat is not",
            ("badr",),
            "has lsat among the features, and no grade of law school beside a target that is one",
        ),
        Flaw(
            "age is the code of the year of the first bar examination less the year of birth (such as 7 - 69), so it "
            "is negative and tells something of the outcome",
            ("badr",),
            "takes 91 less the year of birth",
        ),
        Flaw(
            "rows with a missing value are dropped, which fail the bar more often",
            ("badr",),
            "keeps them, with a 0/1 feature for each number that is missing somewhere",
        ),
        Flaw(
            "some years of birth are hardly right (10 to 20, for students above 70)",
            ("default", "badr"),
            "keeps them",
        ),
        Flaw("the table holds almost only graduates who sat the bar", ("default", "badr"), "cannot do otherwise"),
    ),
    facts={"default": Facts(22_391, 25, 0.9479), "badr": Facts(20_427, 12, None)},
)

ENTRIES = (ENTRY,)
