"""From the Census Bureau's archives to a dataset, variant by variant."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import numpy as np

from badrjax.datasets.acs.codes import CODES, FIVE_RACES, JOBS, MARITAL, RACES, SEXES, check_codes, named
from badrjax.datasets.acs.encoding import (
    FAIRLAB_NUMBERS,
    default_features,
    fairlab_features,
    integer_features,
    state_column,
)
from badrjax.datasets.acs.extracts import EXTRACTS, read_extract
from badrjax.datasets.acs.extracts import YEAR as EXTRACT_YEAR
from badrjax.datasets.acs.problems import INCOME, TRAVEL_TIME, Condition, Numbers, Problem
from badrjax.datasets.acs.reading import read_persons
from badrjax.datasets.acs.states import person_file
from badrjax.datasets.dataset import standardise_numbers
from badrjax.datasets.entry import Attribute, Prepared
from badrjax.datasets.tables import Categories, Features, categories

# The BADR experiments drop the rows of a sex, race and age with no more rows than this in a state and year.
_BADR_LARGEST_DROPPED_CELL = 16
YEAR, _LABEL = "(year)", "(label)"  # the files' own columns have no brackets


def prepare(
    contents: Mapping[str, bytes],
    *,
    problem: Problem,
    variant: str,
    states: tuple[str, ...],
    year: tuple[int, ...],
    target: str = "above_50k",
    extracts: tuple[str, ...] = (),
) -> Prepared:
    """A problem on the persons of some states in some years, year by year, state by state in the order asked for.

    Those of extracts come last; the rows of `keep` were chosen when they were made.
    """
    keep = problem.badr_keep if variant == "badr" and problem.badr_keep else problem.keep
    kept: dict[str, Numbers] = {}
    total = 0
    for of_year, state in itertools.product(year, states):
        path = person_file(state, of_year).path
        persons = read_persons(contents[path], state, of_year, _columns(problem, keep), path)
        check_codes(persons, _checked_columns(problem, variant), path)
        total += len(persons["ST"])
        part = _kept(persons, keep, problem, path)
        kept[path] = _labelled(part, problem.target.met(part), of_year)
    notes = _note_of_filter(_num_rows(kept), total, keep)
    for state in extracts:
        extract = read_extract(contents, state)
        kept[EXTRACTS[state][0].path] = _labelled(*extract, EXTRACT_YEAR)
        notes += (f"{len(extract[1]):,} persons of {state} are those of an extract, chosen when it was made",)
    parts = {path: _without_rows_of_variant(part, problem, variant, path) for path, part in kept.items()}
    dropped = _num_rows(kept) - _num_rows(parts)
    shared = set.intersection(*(set(part) for part in parts.values()))
    table: Numbers = {column: np.concatenate([part[column] for part in parts.values()]) for column in shared}
    states = (*states, *extracts)
    why = _left_out(problem, variant)
    regression = target == "income"
    return Prepared(
        features=_features(table, problem, variant, states),
        label=table["PINCP"] if regression else table[_LABEL],
        label_name=problem.target.column,
        positive="" if regression else f"{problem.target.relation} {problem.target.value}",
        attributes=_attributes(table, problem, states),
        domains={
            "state": state_column(table, states),
            "year": categories(table[YEAR].astype(np.int64)),
        },
        scale=functools.partial(standardise_numbers, names=FAIRLAB_NUMBERS) if variant == "fairlab" else None,
        notes=(*notes, f"dropped {dropped:,} persons {why}") if why else notes,
    )


def _labelled(table: Numbers, label: np.ndarray, year: int) -> Numbers:
    return {**table, _LABEL: label, YEAR: np.full(label.shape, float(year))}


def _num_rows(parts: Mapping[str, Numbers]) -> int:
    return sum(len(part["ST"]) for part in parts.values())


def _columns(problem: Problem, keep: tuple[Condition, ...]) -> list[str]:
    return [*problem.features, problem.target.column, *(condition.column for condition in keep)]


def _checked_columns(problem: Problem, variant: str) -> list[str]:
    """Columns whose values must be known ones: of groups and label always, of features where each has its own."""
    columns = ["AGEP", "SEX", "RAC1P", problem.target.column, *(("COW", "MAR") if problem is INCOME else ())]
    if variant == "default":
        columns += problem.features
    return [column for column in dict.fromkeys(columns) if column == "AGEP" or column in CODES]


def _kept(part: Numbers, keep: tuple[Condition, ...], problem: Problem, path: str) -> Numbers:
    rows = np.ones(part["ST"].shape, bool)
    for condition in keep:
        rows &= condition.met(part)
    if not rows.any():
        asked = f" that meets {' and '.join(map(str, keep))}" if keep else ""
        raise ValueError(f"{path} has no row for {problem.name}{asked}; leave the state out, or get the official file")
    return {column: values[rows] for column, values in part.items()}


def _note_of_filter(kept: int, total: int, keep: tuple[Condition, ...]) -> tuple[str, ...]:
    if not keep:
        return ()
    return (f"kept {kept:,} of {total:,} persons, those with {', '.join(map(str, keep))}",)


def _left_out(problem: Problem, variant: str) -> str:
    """Which persons a variant leaves out besides those of the conditions; empty for none."""
    if variant == "fairlab":
        return "that work without pay or have long been unemployed (COW 8, 9, or none)"
    if variant == "badr" and problem is TRAVEL_TIME:
        return (
            f"whose sex, race and age have at most {_BADR_LARGEST_DROPPED_CELL} rows together in their state and year"
        )
    return ""


def _without_rows_of_variant(part: Numbers, problem: Problem, variant: str, path: str) -> Numbers:
    """The rows of one state in one year, which is what BADR's experiments call a dataset, that a variant takes."""
    why = _left_out(problem, variant)
    if not why:
        return part
    rows = np.isin(part["COW"], list(JOBS)) if variant == "fairlab" else _cell_sizes(part) > _BADR_LARGEST_DROPPED_CELL
    if not rows.any():
        raise ValueError(
            f"{path} has no row for {problem.name} without those {why}; leave the state out, or take another variant"
        )
    return {column: values[rows] for column, values in part.items()}


def _cell_sizes(table: Numbers) -> np.ndarray:
    """How many rows share the sex, race and age of each row."""
    cells = np.stack([table[column] for column in ("SEX", "RAC1P", "AGEP")], axis=1)
    _, cell, sizes = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    # NumPy 2.0 gives the positions a second axis.
    return np.asarray(sizes[cell.reshape(-1)])


def _features(table: Numbers, problem: Problem, variant: str, states: tuple[str, ...]) -> Features:
    if variant == "default":
        return default_features(table, problem, states)
    if variant == "fairlab":
        return fairlab_features(table)
    return integer_features(table, problem, missing=-1 if variant == "badr" else 0)


def _attributes(table: Numbers, problem: Problem, states: tuple[str, ...]) -> dict[str, Attribute]:
    attributes = {
        # Only women have an answer on births.
        "sex": Attribute(named(table["SEX"], SEXES), ("SEX", "FER", "sex")),
        "race": Attribute(named(table["RAC1P"], RACES), ("RAC1P", "race")),
        "over_40": Attribute(
            Categories((table["AGEP"] <= 40).astype(np.int64), ("over 40", "up to 40")), ("AGEP", *problem.tells_age())
        ),
        "state": Attribute(state_column(table, states), ("ST", "PUMA", "POWPUMA")),
    }
    if problem is INCOME:
        attributes |= {
            "job": Attribute(named(table["COW"], JOBS), ("COW", "job")),
            "race_5": Attribute(named(table["RAC1P"], FIVE_RACES), ("RAC1P", "race")),
            # A husband or wife of the householder is married.
            "marital": Attribute(named(table["MAR"], MARITAL), ("MAR", "RELP", "marital")),
        }
    return attributes
