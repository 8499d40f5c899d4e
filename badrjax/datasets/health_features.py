"""Claims, drug and laboratory counts of the Heritage Health Prize, summarised member by member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from badrjax.datasets.delimited import one_of
from badrjax.datasets.tables import Categories, Column, text_column
from badrjax.extras import require

# Category counts by the prefix that the milestone feature set numbers them with; "" stands for a missing value.
CONDITIONS = (
    "MSC2a3", "METAB3", "ARTHSPIN", "NEUMENT", "RESPR4", "MISCHRT", "SKNAUT", "GIBLEED", "INFEC4", "TRAUMA", "HEART2",
    "RENAL3", "ROAMI", "MISCL5", "ODaBNCA", "UTI", "COPD", "GYNEC1", "CANCRB", "FXDISLC", "AMI", "PRGNCY", "HEMTOL",
    "HEART4", "SEIZURE", "APPCHOL", "CHF", "GYNECA", "", "PNEUM", "RENAL2", "GIOBSENT", "STROKE", "CANCRA", "FLaELEC",
    "MISCL1", "HIPFX", "METAB1", "PERVALV", "LIVERDZ", "CATAST", "CANCRM", "PERINTL", "PNCRDZ", "RENAL1", "SEPSIS",
)  # fmt: skip
SPECIALTIES = (
    "Internal", "Laboratory", "General Practice", "Surgery", "Diagnostic Imaging", "Emergency", "Other", "Pediatrics",
    "Rehabilitation", "Obstetrics and Gynecology", "Anesthesiology", "Pathology", "",
)  # fmt: skip
PROCEDURES = (
    "EM", "PL", "MED", "SCS", "RAD", "SDS", "SIS", "SMS", "ANES", "SGS", "SEOA", "SRS", "SNS", "SAS", "SUS", "", "SMCD",
    "SO",
)  # fmt: skip
PLACES = (
    "Office", "Independent Lab", "Urgent Care", "Outpatient Hospital", "Inpatient Hospital", "Ambulance", "Other",
    "Home", "",
)  # fmt: skip
COUNTED = {
    "PrimaryConditionGroup": ("pcg", CONDITIONS),
    "Specialty": ("sp", SPECIALTIES),
    "ProcedureGroup": ("pg", PROCEDURES),
    "PlaceSvc": ("ps", PLACES),
}
# Pregnancy, obstetrics, gynaecology, and the surgery of maternity.
FOR_WOMEN = (
    ("Specialty", "Obstetrics and Gynecology"),
    ("PrimaryConditionGroup", "GYNEC1"),
    ("PrimaryConditionGroup", "PRGNCY"),
    ("PrimaryConditionGroup", "GYNECA"),
    ("ProcedureGroup", "SMCD"),
)
DISTINCT = {
    "ProviderID": "no_Providers", "Vendor": "no_Vendors", "PCP": "no_PCPs", "PlaceSvc": "no_PlaceSvcs",
    "Specialty": "no_Specialities", "PrimaryConditionGroup": "no_PrimaryConditionGroups",
    "ProcedureGroup": "no_ProcedureGroups",
}  # fmt: skip

# What a text of the files counts as, as a number.
STAYS = {
    "1 day": 1, "2 days": 2, "3 days": 3, "4 days": 4, "5 days": 5, "6 days": 6, "1- 2 weeks": 11, "2- 4 weeks": 21,
    "4- 8 weeks": 42, "26+ weeks": 180,
}  # fmt: skip
MONTHS = {"0- 1 month": 1} | {f"{month}-{month + 1:2d} months": month + 1 for month in range(1, 12)}
CHARLSON = {"0": 0, "1-2": 2, "3-4": 4, "5+": 6}
LONGEST_DELAY = ("162+", 162)
MOST_DRUGS = ("7+", 7)
MOST_TESTS = ("10+", 10)


class Claims(NamedTuple):
    """Claims of one year.

    Attributes:
        member: position of each claim's member in the list of members, `int[c]`.
        columns: the columns of the claims.
        members: how many members there are.
    """

    member: Int[np.ndarray, "c"]
    columns: Mapping[str, Column]
    members: int


def claim_features(claims: Claims, where: str) -> dict[str, np.ndarray]:
    """A year of claims, member by member, without the Charlson index, which makes the label.

    Statistics of nothing are 0, their ranges and deviations -1; the deviation (of the sample) of a single claim
    is 0.

    Args:
        claims: the claims.
        where: what their file is called, for messages.

    Returns:
        Features by name, `f64[members]` each, in the order of the milestone feature set.

    Raises:
        ValueError: for an unknown category or duration; the column and the value are named.
    """
    stay = numbered(text_column(claims.columns, "LengthOfStay"), STAYS, "LengthOfStay", where)
    month = numbered(text_column(claims.columns, "DSFS"), MONTHS, "DSFS", where)
    delay = capped(text_column(claims.columns, "PayDelay"), LONGEST_DELAY, "PayDelay", where)
    suppressed = numbered(text_column(claims.columns, "SupLOS"), {"0": 0, "1": 1}, "SupLOS", where)
    unknown = np.isnan(stay)
    return {
        "no_Claims": _count(claims, np.ones(unknown.shape, bool)),
        **{feature: _distinct(claims, column) for column, feature in DISTINCT.items()},
        **_statistics(claims, delay, "PayDelay"),
        **_statistics(claims, stay, "LOS"),
        "LOS_TOT_UNKNOWN": _count(claims, unknown & (suppressed == 0)),
        "LOS_TOT_SUPRESSED": _count(claims, unknown & (suppressed == 1)),
        "LOS_TOT_KNOWN": _count(claims, ~unknown),
        **_statistics(claims, month, "dsfs", ranged=True),
        **_category_counts(claims, where),
    }


def category_feature(column: str, value: str) -> str:
    """The name of the feature that counts the claims with a value in a column of `COUNTED`."""
    prefix, known = COUNTED[column]
    return f"{prefix}{known.index(value) + 1}"


def charlson_label(claims: Claims, where: str) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"], int]:
    """Whether the largest Charlson index of each member's claims is above 0, and whether it is known.

    Returns:
        Both, and the number of claims without an index, which take no part.

    Raises:
        ValueError: for an unknown index; the value is named.
    """
    index = numbered(text_column(claims.columns, "CharlsonIndex"), CHARLSON, "CharlsonIndex", where)
    unknown = np.isnan(index)
    return _count(claims, index > 0) > 0, _count(claims, ~unknown) > 0, int(unknown.sum())


def monthly_counts(
    member: Int[np.ndarray, "c"], count: Float[np.ndarray, "c"], members: int, name: str
) -> dict[str, np.ndarray]:
    """Counts of drugs or tests a month, member by member; 0 for members without any.

    Args:
        member: position of each month's member.
        count: its count.
        members: how many members there are.
        name: what is counted, "drug" or "lab".

    Returns:
        Largest, smallest and average count, and the number of months, by the names of the milestone feature set.
    """
    grouped = require("pandas", "reading this dataset").Series(count).groupby(member)
    summary = grouped.agg(["max", "min", "mean", "size"]).reindex(range(members), fill_value=0)
    names = (f"{name}Count_max", f"{name}Count_min", f"{name}Count_ave", f"{name}count_months")
    return {feature: summary[column].to_numpy(np.float64) for feature, column in zip(names, summary, strict=True)}


def numbered(column: Categories, meaning: Mapping[str, int], name: str, where: str) -> Float[np.ndarray, "n"]:
    """Text as the number it stands for, NaN where it is missing.

    Raises:
        ValueError: for a text without a number; the column and the value are named.
    """
    one_of(column, meaning, name, where)
    return np.array([*(meaning[value] for value in column.values), np.nan])[column.codes]


def capped(column: Categories, most: tuple[str, int], name: str, where: str) -> Float[np.ndarray, "n"]:
    """Text of whole numbers as numbers, the open last one ("162+") as `most` says, NaN where it is missing.

    Raises:
        ValueError: for a text that is no such number; the column and the value are named.
    """
    text, number = most
    meaning = {text: number} | {str(value): value for value in range(number)}
    return numbered(column, meaning, name, where)


def _count(claims: Claims, which: np.ndarray) -> np.ndarray:
    return np.bincount(claims.member[which], minlength=claims.members).astype(np.float64)


def _distinct(claims: Claims, column: str) -> np.ndarray:
    """How many distinct values a column has, missing ones not counted."""
    values = claims.columns[column]
    codes = values.codes if isinstance(values, Categories) else _number_codes(values)
    width = int(codes.max(initial=0)) + 1
    pairs = np.unique(claims.member[codes >= 0].astype(np.int64) * width + codes[codes >= 0])
    return np.bincount(pairs // width, minlength=claims.members).astype(np.float64)


def _number_codes(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), -1, np.unique(values, return_inverse=True)[1])


def _statistics(claims: Claims, values: np.ndarray, name: str, *, ranged: bool = False) -> dict[str, np.ndarray]:
    grouped = require("pandas", "reading this dataset").Series(values).groupby(claims.member)
    summary = grouped.agg(["max", "min", "mean", "std", "size"]).reindex(range(claims.members))
    largest, smallest, mean = (summary[column].fillna(0.0).to_numpy(np.float64) for column in ("max", "min", "mean"))
    between = np.where(summary["max"].isna(), -1.0, largest - smallest)
    deviation = np.where(summary["size"] == 1, 0.0, summary["std"].fillna(-1.0))
    return {
        f"{name}_max": largest,
        f"{name}_min": smallest,
        **({f"{name}_range": between} if ranged else {}),
        f"{name}_ave": mean,
        f"{name}_stdev": deviation,
    }


def _category_counts(claims: Claims, where: str) -> dict[str, np.ndarray]:
    """How many claims of each category, feature `pcg1` counting the first of `CONDITIONS`, and so on."""
    features: dict[str, np.ndarray] = {}
    for column, (prefix, known) in COUNTED.items():
        values = one_of(text_column(claims.columns, column), filter(None, known), column, where)
        position = np.array([known.index(value) for value in (*values.values, "")])[values.codes]
        pairs = claims.member.astype(np.int64) * len(known) + position
        counts = np.bincount(pairs, minlength=claims.members * len(known)).reshape(claims.members, len(known))
        features |= {f"{prefix}{number}": counts[:, number - 1] for number in range(1, len(known) + 1)}
    return {name: count.astype(np.float64) for name, count in features.items()}
