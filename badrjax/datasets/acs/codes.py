"""What the survey's codes mean, after its dictionary of 2018."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from badrjax.datasets.acs.problems import Numbers
from badrjax.datasets.tables import Categories

CODES = {
    "CIT": range(1, 6), "COW": range(1, 10), "MAR": range(1, 6), "RELP": range(18), "SEX": range(1, 3),
    "RAC1P": range(1, 10), "DIS": range(1, 3), "ESP": range(1, 9), "MIG": range(1, 4), "MIL": range(1, 5),
    "ANC": range(1, 5), "NATIVITY": range(1, 3), "DEAR": range(1, 3), "DEYE": range(1, 3), "DREM": range(1, 3),
    "ESR": range(1, 7), "FER": range(1, 3), "GCL": range(1, 3), "JWTR": range(1, 13), "PUBCOV": range(1, 3),
    "POBP": range(1, 555), "OCCP": range(10, 9_921),
}  # fmt: skip
"""Codes of each column; of the two long lists, only the first and the last are known here."""
AGES = range(100)
"""Whole years; in each state the oldest persons have their mean age, which is below 100, too."""

# The Bureau withholds some answers in some areas and writes 8 there: in 2018 to ancestry and to questions on the
# past 12 months (marriages), to which births belong. Such an answer is as good as missing.
SUPPRESSED = 8
MAY_BE_SUPPRESSED = ("ANC", "FER")

SEXES = {1: "Male", 2: "Female"}
RACES = {
    1: "White", 2: "Black", 3: "American Indian", 4: "Alaska Native", 5: "American Indian or Alaska Native",
    6: "Asian", 7: "Pacific Islander", 8: "Other", 9: "Two or more",
}  # fmt: skip

# The coarse values of the FairLAB paper. Its text names the values and not the codes, so these are inferred: who
# works without pay (8) or is long unemployed (9) has no job among its three, and a native of the Pacific
# Islands (7) is counted as Indigenous.
JOBS = {1: "Private", 2: "Private", 3: "Public", 4: "Public", 5: "Public", 6: "Self", 7: "Self"}
FIVE_RACES = {
    1: "White", 2: "Black", 3: "Indigenous", 4: "Indigenous", 5: "Indigenous", 6: "Asian", 7: "Indigenous",
    8: "Other", 9: "Other",
}  # fmt: skip
MARITAL = {1: "Married", 2: "Other", 3: "Divorced", 4: "Other", 5: "Never"}

# First code of each major group of occupations. All start at a hundred in the lists of 2010 (to 2017) and 2018.
OCCUPATIONS = {
    10: "MGR", 500: "BUS", 800: "FIN", 1000: "CMM", 1300: "ENG", 1600: "SCI", 2000: "CMS", 2100: "LGL", 2200: "EDU",
    2600: "ENT", 3000: "MED", 3600: "HLS", 3700: "PRT", 4000: "EAT", 4200: "CLN", 4300: "PRS", 4700: "SAL",
    5000: "OFF", 6000: "FFF", 6200: "CON", 6800: "EXT", 7000: "RPR", 7700: "PRD", 9000: "TRN", 9800: "MIL",
    9900: "NONE",
}  # fmt: skip
_FIRST_FOREIGN_BIRTHPLACE = 100


def check_codes(table: Numbers, columns: Iterable[str], where: str) -> None:
    """Raise `ValueError` for a value that is no code of its column, or no age; file, column and row are named."""
    for column in columns:
        values, codes = table[column], AGES if column == "AGEP" else CODES[column]
        whole = values == np.floor(values)
        known = np.isnan(values) | (whole & (values >= codes[0]) & (values <= codes[-1]))
        if column in MAY_BE_SUPPRESSED:
            known |= values == SUPPRESSED
        if not known.all():
            row = int(np.argmin(known))
            raise ValueError(
                f"{where} has {values[row]:g} in column {column!r}, row {row}, where whole numbers go from {codes[0]} "
                f"to {codes[-1]}; get the official file"
            )


def named(values: np.ndarray, meaning: Mapping[int, str]) -> Categories:
    """Codes as text; a code without a meaning is a missing value."""
    names = tuple(sorted(set(meaning.values())))
    lookup = np.full(max(meaning) + 2, -1)  # the last place stays without a meaning
    for code, name in meaning.items():
        lookup[code] = names.index(name)
    known = np.isin(values, list(meaning))
    return Categories(lookup[np.where(known, values, -1).astype(np.int64)], names)


def as_text(values: np.ndarray, column: str) -> Categories:
    """Codes as the text of their numbers, with every code the column can have among the values."""
    return named(values, {code: str(code) for code in CODES[column]})


def occupation_group(values: np.ndarray) -> Categories:
    """The major group of each occupation."""
    starts = np.array(list(OCCUPATIONS))
    names = tuple(sorted(OCCUPATIONS.values()))
    order = np.array([names.index(name) for name in OCCUPATIONS.values()])
    group = order[np.searchsorted(starts, np.nan_to_num(values, nan=starts[0]), side="right") - 1]
    return Categories(np.where(np.isnan(values), -1, group), names)


def birthplace(values: np.ndarray, state: np.ndarray) -> Categories:
    """Whether a person was born in the state of residence, elsewhere in the US and its territories, or abroad."""
    names = ("abroad", "elsewhere in US", "same state")
    known = np.where(values == state, 2, np.where(values < _FIRST_FOREIGN_BIRTHPLACE, 1, 0))
    return Categories(np.where(np.isnan(values), -1, known), names)
