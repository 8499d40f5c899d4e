"""From the Census Bureau's archives to a dataset, variant by variant."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from badrjax.datasets.acs.codes import CODES, FIVE_RACES, JOBS, MARITAL, RACES, SEXES, check_codes, named
from badrjax.datasets.acs.encoding import default_features, fairlab_features, integer_features, state_column
from badrjax.datasets.acs.problems import INCOME, TRAVEL_TIME, Condition, Numbers, Problem
from badrjax.datasets.acs.reading import read_persons
from badrjax.datasets.acs.states import person_file
from badrjax.datasets.entry import Attribute, Prepared
from badrjax.datasets.tables import Categories, Features, categories

# The BADR experiments drop the rows of a sex, race and age with no more rows than this.
_BADR_LARGEST_DROPPED_CELL = 16
YEAR = "(year)"  # the files' own columns have no brackets


def prepare(
    contents: Mapping[str, bytes],
    *,
    problem: Problem,
    variant: str,
    states: tuple[str, ...],
    year: tuple[int, ...],
    target: str = "above_50k",
) -> Prepared:
    """A problem on the persons of some states in some years, year by year, state by state in the order asked for."""
    keep = problem.badr_keep if variant == "badr" and problem.badr_keep else problem.keep
    parts, total = [], 0
    for of_year, state in itertools.product(year, states):
        path = person_file(state, of_year).path
        part = read_persons(contents[path], state, of_year, _columns(problem, keep), path)
        check_codes(part, _checked_columns(problem, variant), path)
        total += len(part["ST"])
        part[YEAR] = np.full(part["ST"].shape, float(of_year))
        parts.append(_kept(part, keep, problem, path))
    table: Numbers = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    notes = _note_of_filter(len(table["ST"]), total, keep)
    table, dropped = _without_rows_of_variant(table, problem, variant)
    regression = target == "income"
    return Prepared(
        features=_features(table, problem, variant, states),
        label=table["PINCP"] if regression else problem.target.met(table),
        label_name=problem.target.column,
        positive="" if regression else f"{problem.target.relation} {problem.target.value}",
        attributes=_attributes(table, problem, states),
        domains={
            "state": state_column(table, states),
            "year": categories(table[YEAR].astype(np.int64)),
        },
        notes=notes + dropped,
    )


def _columns(problem: Problem, keep: tuple[Condition, ...]) -> list[str]:
    return [*problem.features, problem.target.column, *(condition.column for condition in keep)]


def _checked_columns(problem: Problem, variant: str) -> list[str]:
    """Columns whose codes must be known: of groups and label always, of features where each has its own."""
    columns = ["SEX", "RAC1P", problem.target.column, *(("COW", "MAR") if problem is INCOME else ())]
    if variant == "default":
        columns += problem.features
    return [column for column in dict.fromkeys(columns) if column in CODES]


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


def _without_rows_of_variant(table: Numbers, problem: Problem, variant: str) -> tuple[Numbers, tuple[str, ...]]:
    if variant == "fairlab":
        rows = np.isin(table["COW"], list(JOBS))
        why = "that work without pay or have long been unemployed (COW 8, 9, or none)"
    elif variant == "badr" and problem is TRAVEL_TIME:
        rows = _cell_sizes(table) > _BADR_LARGEST_DROPPED_CELL
        why = f"whose sex, race and age have at most {_BADR_LARGEST_DROPPED_CELL} rows together"
    else:
        return table, ()
    if not rows.any():
        raise ValueError(f"{problem.name}: no rows are left without those {why}; take more states or another variant")
    kept = {column: values[rows] for column, values in table.items()}
    return kept, (f"dropped {(~rows).sum():,} persons {why}",)


def _cell_sizes(table: Numbers) -> np.ndarray:
    """How many rows share the sex, race and age of each row."""
    cells = np.stack([table[column] for column in ("SEX", "RAC1P", "AGEP")], axis=1)
    _, cell, sizes = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(sizes[cell])


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
        "over_40": Attribute(Categories((table["AGEP"] <= 40).astype(np.int64), ("over 40", "up to 40")), ("AGEP",)),
        "state": Attribute(state_column(table, states), ("ST", "PUMA", "POWPUMA")),
    }
    if problem is INCOME:
        attributes |= {
            "job": Attribute(named(table["COW"], JOBS), ("COW", "job")),
            "race_5": Attribute(named(table["RAC1P"], FIVE_RACES), ("RAC1P", "race")),
            "marital": Attribute(named(table["MAR"], MARITAL), ("MAR", "marital")),
        }
    return attributes
