"""The five prediction problems on the survey's persons, as the folktables package (0.0.12) defines them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Numbers = Mapping[str, np.ndarray]
"""Columns of numbers of equal length, NaN where missing."""

_RELATIONS = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "=": operator.eq,
}  # fmt: skip


class Condition(NamedTuple):
    """A condition on one column; a missing value never meets it.

    Attributes:
        column: name of the column.
        relation: one of >, <, >=, <= and =.
        value: what the column is compared with.
    """

    column: str
    relation: str
    value: int

    def __str__(self) -> str:
        return f"{self.column} {self.relation} {self.value}"

    def met(self, table: Numbers) -> np.ndarray:
        """Where the condition is met, `bool[n]`."""
        return np.asarray(_RELATIONS[self.relation](table[self.column], self.value))


# Ages, from the first to the last, that have an answer in a column, where nothing but the age decides it (for
# births, the sex, too): by the survey's dictionary, and for `ESP` the definition of a householder's own child.
_UNIVERSES = {
    "DREM": (5, 99), "ESP": (0, 17), "ESR": (16, 99), "FER": (15, 50), "GCL": (30, 99), "MIG": (1, 99),
    "MIL": (17, 99), "PINCP": (15, 99), "SCHL": (3, 99),
}  # fmt: skip


class Problem(NamedTuple):
    """A prediction problem.

    Attributes:
        name: what `load_dataset` takes.
        features: columns a model is given, in the order of folktables.
        target: the condition whose truth is the label.
        keep: conditions that a row must meet.
        may_miss: number columns that can be empty in such a row, by the survey's dictionary.
        badr_keep: conditions of the BADR experiments, empty where they are those of `keep`.
    """

    name: str
    features: tuple[str, ...]
    target: Condition
    keep: tuple[Condition, ...]
    may_miss: tuple[str, ...] = ()
    badr_keep: tuple[Condition, ...] = ()

    def tells_age(self) -> tuple[str, ...]:
        """Features, besides the age, that are empty at some of the ages of the rows and not at the others, sorted."""
        ages = set(range(100))
        for condition in self.keep:
            if condition.column == "AGEP":
                met = condition.met({"AGEP": np.arange(100)})
                ages &= set(np.flatnonzero(met).tolist())
            elif condition.column in _UNIVERSES:
                ages &= _universe(condition.column)  # an empty value meets no condition
        partly = (column for column in _UNIVERSES if ages & _universe(column) and ages - _universe(column))
        return tuple(column for column in partly if column in self.features)


def _universe(column: str) -> set[int]:
    first, last = _UNIVERSES[column]
    return set(range(first, last + 1))


# What the extraction of the Adult data asked for.
_ADULT = (
    Condition("AGEP", ">", 16),
    Condition("PINCP", ">", 100),
    Condition("WKHP", ">", 0),
    Condition("PWGTP", ">=", 1),
)

# In the order of folktables, which is that of the columns of its tables.
_INCOME_FEATURES = (
    "AGEP", "COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "WKHP", "SEX", "RAC1P",
)  # fmt: skip
_EMPLOYMENT_FEATURES = (
    "AGEP", "SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM",
    "SEX", "RAC1P",
)  # fmt: skip
_TRAVEL_TIME_FEATURES = (
    "AGEP", "SCHL", "MAR", "SEX", "DIS", "ESP", "MIG", "RELP", "RAC1P", "PUMA", "ST", "CIT", "OCCP", "JWTR",
    "POWPUMA", "POVPIP",
)  # fmt: skip
_PUBLIC_COVERAGE_FEATURES = (
    "AGEP", "SCHL", "MAR", "SEX", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM",
    "PINCP", "ESR", "ST", "FER", "RAC1P",
)  # fmt: skip
_MOBILITY_FEATURES = (
    "AGEP", "SCHL", "MAR", "SEX", "DIS", "ESP", "CIT", "MIL", "ANC", "NATIVITY", "RELP", "DEAR", "DEYE", "DREM",
    "RAC1P", "GCL", "COW", "ESR", "WKHP", "JWMNP", "PINCP",
)  # fmt: skip

INCOME = Problem(
    name="acs_income",
    features=_INCOME_FEATURES,
    target=Condition("PINCP", ">", 50_000),
    keep=_ADULT,
)
EMPLOYMENT = Problem(
    name="acs_employment",
    features=_EMPLOYMENT_FEATURES,
    target=Condition("ESR", "=", 1),
    keep=(),
    may_miss=("SCHL",),
    badr_keep=_ADULT,
)
TRAVEL_TIME = Problem(
    name="acs_travel_time",
    features=_TRAVEL_TIME_FEATURES,
    target=Condition("JWMNP", ">", 20),
    keep=(Condition("AGEP", ">", 16), Condition("PWGTP", ">=", 1), Condition("ESR", "=", 1)),
    may_miss=("POVPIP",),
)
PUBLIC_COVERAGE = Problem(
    name="acs_public_coverage",
    features=_PUBLIC_COVERAGE_FEATURES,
    target=Condition("PUBCOV", "=", 1),
    keep=(Condition("AGEP", "<", 65), Condition("PINCP", "<=", 30_000)),
)
MOBILITY = Problem(
    name="acs_mobility",
    features=_MOBILITY_FEATURES,
    target=Condition("MIG", "=", 1),
    keep=(Condition("AGEP", ">", 18), Condition("AGEP", "<", 35)),
    may_miss=("WKHP", "JWMNP"),
)
