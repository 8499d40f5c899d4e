"""Features made of the survey's columns."""

from __future__ import annotations

import numpy as np

from badrjax.datasets.acs.codes import (
    FIVE_RACES,
    JOBS,
    MARITAL,
    SEXES,
    as_text,
    birthplace,
    named,
    occupation_group,
)
from badrjax.datasets.acs.problems import Numbers, Problem
from badrjax.datasets.acs.states import FIPS
from badrjax.datasets.tables import Categories, Column, Features, encode_features

_NUMBERS = ("AGEP", "WKHP", "PINCP", "POVPIP", "JWMNP", "SCHL")
# Numbers of areas, which start anew in each state and so mean nothing without it, and would be thousands of
# features with it.
_LEFT_OUT = ("PUMA", "POWPUMA")
_MISSING = "_missing"


def default_features(table: Numbers, problem: Problem, states: tuple[str, ...]) -> Features:
    """Numbers as they are, few codes one by one, many codes by kind.

    The features are the same whatever rows, states or year are read (but for `ST`), so that a model of one state
    can be asked about another.
    """
    columns: dict[str, Column] = {}
    for name in problem.features:
        if name in _NUMBERS:
            columns |= _number(table[name], name, problem)
        elif name not in _LEFT_OUT:
            columns[name] = _codes(table, name, states)
    features = encode_features(columns, missing="indicator")
    return features._replace(columns=tuple(column.removesuffix(_MISSING) for column in features.columns))


def integer_features(table: Numbers, problem: Problem, missing: float) -> Features:
    """Every code as a number, missing ones replaced, in the order of folktables."""
    filled = {name: np.where(np.isnan(table[name]), missing, table[name]) for name in problem.features}
    return encode_features(filled, order="table")


FAIRLAB_NUMBERS = ("AGEP", "SCHL", "OCCP", "POBP", "RELP", "WKHP")


def fairlab_features(table: Numbers) -> Features:
    """Fourteen 0/1 features of sex, job, race and marital status, and six codes as numbers."""
    columns: dict[str, Column] = {
        "sex": named(table["SEX"], SEXES),
        "job": named(table["COW"], JOBS),
        "race": named(table["RAC1P"], FIVE_RACES),
        "marital": named(table["MAR"], MARITAL),
    }
    columns |= {name: table[name] for name in FAIRLAB_NUMBERS}
    return encode_features(columns, missing="zero", order="table")


def state_column(table: Numbers, states: tuple[str, ...]) -> Categories:
    """Postal codes of the rows' states."""
    return named(table["ST"], {FIPS[state]: state for state in states})


def _number(values: np.ndarray, name: str, problem: Problem) -> dict[str, Column]:
    # A column that can be empty says so even where none of these rows is: the features must not depend on them.
    if name not in problem.may_miss:
        return {name: values}
    absent = np.isnan(values)
    return {name: np.where(absent, 0, values), name + _MISSING: absent}


def _codes(table: Numbers, name: str, states: tuple[str, ...]) -> Categories:
    if name == "ST":
        return state_column(table, states)
    if name == "OCCP":
        return occupation_group(table[name])
    if name == "POBP":
        return birthplace(table[name], table["ST"])
    return as_text(table[name], name)
