"""UCI Communities and Crime: violent crime in communities of the USA, as a class (us_crime) and as a rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from badrjax.datasets.crime_columns import (
    COLUMNS,
    IDENTIFIERS,
    INCOMPLETE,
    POLICE,
    POLICE_DISGUISED,
    RACE_SHARES,
    TARGET,
)
from badrjax.datasets.dataset import standardise
from badrjax.datasets.delimited import read_csv
from badrjax.datasets.entry import Attribute, Entry, Facts, Flaw, OfficialSplit, Prepared
from badrjax.datasets.sources import nash_split, uci
from badrjax.datasets.tables import (
    Categories,
    Column,
    Table,
    categories,
    encode_features,
    is_missing,
    number_column,
    text_column,
)

# Rates and shares are the file's own, each column scaled to 0..1 for itself.
HIGH_RATE = 0.7
BLACK_SHARE = 0.06
TEXT = ("state", "communityname")

FILE = uci(
    "communities_crime/communities.data",
    "09e0b5c07eae24c1efab19b2edee05e160e7f5743b6f31e31eec3d73624da2ea",
    remote="communities/communities.data",
)


def read_raw(contents: Mapping[str, bytes]) -> dict[str, Column]:
    """The raw table in the order of the file's columns; "?" is a missing value.

    Raises:
        ValueError: for rows of another width, values that are no numbers, or a community without a rate.
    """
    content = contents[FILE.path]
    numbers = [name for name in COLUMNS if name not in TEXT]
    table = read_csv(content, FILE.path, numbers=numbers, text=TEXT, missing=("?",), names=list(COLUMNS))
    absent = is_missing(table[TARGET])
    if absent.any():
        raise ValueError(f"{FILE.path}: column {TARGET!r} has no rate in row {absent.argmax()}; get the official file")
    return {name: table[name] for name in COLUMNS}


def prepare_us_crime(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """Communities and Crime as a classification; see `US_CRIME.variants`."""
    table = read_raw(contents)
    nash = variant == "nash"
    high = number_column(table, TARGET) >= HIGH_RATE
    return Prepared(
        features=encode_features(_nash_columns(table) if nash else _columns(table), missing="indicator"),
        label=~high if nash else high,
        label_name=TARGET,
        positive=f"< {HIGH_RATE}" if nash else f">= {HIGH_RATE}",
        attributes=_attributes(table),
        domains={"state": table["state"]},
        scale=standardise if nash else None,
    )


def prepare_communities_crime(contents: Mapping[str, bytes], *, variant: str) -> Prepared:
    """Communities and Crime as a regression; see `COMMUNITIES_CRIME.variants`."""
    table = read_raw(contents)
    columns = _complete_columns(table) if variant == "badr" else _columns(table)
    return Prepared(
        features=encode_features(columns, missing="indicator"),
        label=number_column(table, TARGET),
        label_name=TARGET,
        positive="",
        attributes=_attributes(table),
        domains={"state": table["state"]},
    )


def _attributes(table: Table) -> dict[str, Attribute]:
    shares = np.stack([number_column(table, name) for name in RACE_SHARES], axis=1)
    largest = np.array(tuple(RACE_SHARES.values()))[shares.argmax(axis=1)]
    share = number_column(table, "racepctblack")
    black = np.where(share > BLACK_SHARE, "over 6 % black", "at most 6 % black")
    return {
        "blackgt6pct": Attribute(_where(~np.isnan(share), black), ("racepctblack", "blackgt6pct")),
        "race": Attribute(_where(~np.isnan(shares).any(axis=1), largest), (*RACE_SHARES, "blackgt6pct")),
    }


def _where(present: np.ndarray, names: np.ndarray) -> Categories:
    return categories(np.where(present, names, ""), missing=("",))


def _columns(table: Table) -> dict[str, Column]:
    left_out = {*IDENTIFIERS, *POLICE, *POLICE_DISGUISED, TARGET}
    return {name: column for name, column in table.items() if name not in left_out}


def _nash_columns(table: Table) -> dict[str, Column]:
    left_out = {*INCOMPLETE, "racepctblack", TARGET}
    columns = {name: column for name, column in table.items() if name not in left_out}
    columns["state"] = text_column(table, "state").text(missing="nan").astype(np.float64)
    return columns | {"blackgt6pct": number_column(table, "racepctblack") > BLACK_SHARE}


def _complete_columns(table: Table) -> dict[str, Column]:
    left_out = {*IDENTIFIERS, *INCOMPLETE, TARGET}
    return {name: column for name, column in table.items() if name not in left_out}


_DEFAULT = (
    "every row; names and numbers of places left out, and the 23 columns of the police survey, which 84 % of the "
    "communities did not answer; race shares kept (sensitive_features='drop' leaves them out); raw numbers"
)
_SENSITIVE = {
    "blackgt6pct": "at most 6 % black, over 6 % black: racepctblack above 0.06",
    "race": "asian, black, hispanic, white: the largest of the four shares, which are scaled one by one, so not the "
    "largest part of the people",
}
_SOURCE = "UCI Machine Learning Repository, https://archive.ics.uci.edu/dataset/183/communities+and+crime"
_CITATION = "Redmond, M. (2002). Communities and Crime. UCI Machine Learning Repository. doi:10.24432/C53W3X"

US_CRIME = Entry(
    name="us_crime",
    title="communities of the USA, 1990-1995; label: high rate of violent crime",
    prepare=prepare_us_crime,
    variants={
        "default": _DEFAULT,
        "nash": "y = 1 for a rate below 0.7; state, fold and the name of the community as features, racepctblack as "
        "a 0/1 one, columns with missing values left out; standardised over all rows: 1,929 features",
    },
    sensitive=_SENSITIVE,
    source=_SOURCE,
    licence="CC BY 4.0",
    citation=_CITATION,
    files=((FILE,),),
    positive="violent crimes per head of 0.7 or more on the file's scale from 0 to 1 (unfavourable)",
    flaws=(
        Flaw("each name of a community is a feature, nearly all of a single row", ("nash",), "leaves names out"),
        Flaw("the number of the state and that of the fold are features", ("nash",), "leaves them out"),
        Flaw(
            "LemasPctOfficDrugUn, of the police survey, is 0 for every community that did not answer",
            ("nash",),
            "leaves it out with the rest of the survey",
        ),
        Flaw("y = 1 means a low rate, against the usual reading", ("nash",), "y = 1 for a high rate"),
        Flaw("scaling looks at validation and test rows", ("nash",), "leaves numbers raw"),
    ),
    facts={"default": Facts(1_994, 100, 0.0612), "nash": Facts(1_994, 1_929, 0.9388)},
    official_splits={
        "us_crime_blackgt6pct": OfficialSplit(
            ("blackgt6pct",),
            nash_split(
                "us_crime_blackgt6pct",
                "us_crime/blackgt6pct",
                "51ee02413e525920b5de26026f662796d66b728dbb5f7ae21280f5da84b37e4a",
            ),
        ),
        "us_crime_new_blackgt6pct": OfficialSplit(
            ("blackgt6pct",),
            nash_split(
                "us_crime_new_blackgt6pct",
                "us_crime_new/blackgt6pct",
                "4c8825620a9347b8c2d1cae51a9c6dfb195f634ec1a78ab7364bf5c63f45722d",
            ),
        ),
    },
)

COMMUNITIES_CRIME = Entry(
    name="communities_crime",
    title="communities of the USA, 1990-1995; target: rate of violent crime, scaled to 0..1",
    prepare=prepare_communities_crime,
    variants={
        "default": _DEFAULT,
        "badr": "columns with a missing value left out, names and numbers of places too; raw numbers (the paper "
        "scales by the training rows)",
    },
    sensitive={"race": _SENSITIVE["race"], "blackgt6pct": _SENSITIVE["blackgt6pct"]},
    source=_SOURCE,
    licence="CC BY 4.0",
    citation=_CITATION,
    files=((FILE,),),
    flaws=(
        Flaw(
            "LemasPctOfficDrugUn, of the police survey, is 0 for every community that did not answer",
            ("badr",),
            "leaves it out with the rest of the survey",
        ),
        Flaw(
            "what the paper does with missing values is inferred: a ridge model with equal weights of two groups has a "
            "test error of 0.14 on these columns, and the paper's records say 0.18",
            ("badr",),
            "is our own choice",
        ),
    ),
    facts={"default": Facts(1_994, 100, None), "badr": Facts(1_994, 99, None)},
)

ENTRIES = (US_CRIME, COMMUNITIES_CRIME)
