"""Datasets and settings of the FairLAB paper: what is constrained, on which rows."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

import badrjax as bx
from badrjax.constraints import FairnessConstraints

Metric = Literal["demographic_parity", "equalized_odds"]
FRACTIONS = (0.8, 0.1, 0.1)
SINGLE, INTERSECTION = 0.10, 0.20
"""The thresholds of the paper."""
SHORT = {"demographic_parity": "DP", "equalized_odds": "EOD"}
MISSING = (FileNotFoundError, ConnectionError, PermissionError)


class Source(NamedTuple):
    """A dataset of the paper.

    Attributes:
        name, options: what `badrjax.load_dataset` takes.
        attributes: the three that are constrained, by the paper's names.
        paper: the paper's name.
        same_rows: whether these are the paper's rows.
        rows: what they are, where they are others.
    """

    name: str
    options: dict[str, Any]
    attributes: dict[str, str]
    paper: str
    same_rows: bool
    rows: str = ""


SOURCES = {
    "compas": Source(
        "compas", {"variant": "fairlab"}, {"Gender": "sex", "Race": "race_3", "Age": "age_cat"}, "Compas", True
    ),
    "acs": Source(
        "acs_income", {"variant": "fairlab"}, {"Job": "job", "Race": "race_5", "Marital": "marital"}, "FolkTables",
        False, "14 states of 2018 (90,253 rows)",
    ),
    "acs17": Source(
        "acs_income", {"variant": "fairlab", "extracts": ("CO", "AZ", "UT")},
        {"Job": "job", "Race": "race_5", "Marital": "marital"}, "FolkTables",
        False, "17 states of 2018 (170,888 rows)",
    ),
    "meps": Source(
        "meps", {"variant": "fairlab"}, {"Gender": "sex", "Race": "race", "Marital": "marital"}, "MEPS", True
    ),
}  # fmt: skip


class Problem(NamedTuple):
    """A dataset split by a seed, with the constraints of a setting.

    Attributes:
        constraints: of the setting, on the groups that have the training rows.
        every: the seven requirements of the metric on all groups, of whatever setting: for the unconstrained model.
        data: all rows, on the device, with the finest intersections as groups.
        splits: positions of training, validation and test rows.
        attribute_values: value of each attribute in each cell, attributes by name, `int[C, 3]`.
        constrained: positions of the attributes that some requirement of the setting names.
    """

    constraints: FairnessConstraints
    every: FairnessConstraints
    data: bx.Batch
    splits: bx.Splits
    attribute_values: np.ndarray
    constrained: tuple[int, ...]

    @property
    def num_cells(self) -> int:
        """How many finest intersections there are."""
        return self.constraints.membership.shape[1]

    def part(self, name: str) -> bx.Batch:
        """The rows of a part."""
        rows = jnp.asarray(getattr(self.splits, name))
        return bx.Batch(self.data.x[rows], self.data.y[rows], self.data.group[rows])


def subsets(source: Source, setting: str) -> list[tuple[str, ...]]:
    """The attributes of each requirement of a setting, by the paper's names.

    Args:
        source: of the dataset.
        setting: `"mixed"`, the seven; or attributes joined by `*`, such as `"Gender*Race"`.

    Raises:
        ValueError: for a setting that names other attributes.
    """
    names = list(source.attributes)
    everything = [chosen for size in (3, 2, 1) for chosen in itertools.combinations(names, size)]
    if setting == "mixed":
        return everything
    chosen = tuple(setting.split("*"))
    if chosen not in everything:
        known = ["mixed", *("*".join(names) for names in everything)]
        raise ValueError(f"setting {setting!r} is none of {source.paper}: {', '.join(known)}")
    return [chosen]


def settings_of(source: Source, kind: Literal["two_way", "three_way", "mixed"]) -> list[str]:
    """The settings of a table."""
    if kind == "mixed":
        return ["mixed"]
    size = 2 if kind == "two_way" else 3
    return ["*".join(names) for names in itertools.combinations(source.attributes, size)]


def requirements(source: Source, metric: Metric, setting: str) -> list[bx.Requirement]:
    """The requirements of a setting, with the paper's thresholds."""
    return [
        bx.Requirement(
            metric, tuple(source.attributes[name] for name in names), SINGLE if len(names) == 1 else INTERSECTION
        )
        for names in subsets(source, setting)
    ]


def load(source: Source, data_home: Path | None) -> bx.Dataset:
    """The dataset with its three attributes; raises one of `MISSING` where its files are not there."""
    return bx.load_dataset(
        source.name, sensitive=tuple(source.attributes.values()), data_home=data_home, **source.options
    )


def prepare(
    dataset: bx.Dataset, source: Source, metric: Metric, setting: str, seed: int, minimum_count: int = 1
) -> Problem:
    """Split by the seed, stratified by label and finest intersection, and set up the constraints.

    Groups with fewer training rows than `minimum_count` of a label that their requirement compares (of any, for
    demographic parity) are left out of the constraints, and of the gaps.
    """
    splits = split(dataset, seed)
    names = sorted(source.attributes.values())
    constraints, cells = _constrained(dataset, source, metric, setting, splits, minimum_count)
    every, _ = _constrained(dataset, source, metric, "mixed", splits, 1)
    first = np.unique(cells.ids, return_index=True)[1]
    values = np.stack([dataset.attributes[name].ids[first] for name in names], axis=1)
    data = bx.to_batch(dataset)._replace(group=jnp.asarray(cells.ids))
    named = {source.attributes[name] for chosen in subsets(source, setting) for name in chosen}
    constrained = tuple(number for number, name in enumerate(names) if name in named)
    return Problem(constraints, every, data, splits, values, constrained)


def split(dataset: bx.Dataset, seed: int) -> bx.Splits:
    """The parts of a seed, stratified by label and finest intersection."""
    return bx.datasets.split(dataset, "stratified", seed, fractions=FRACTIONS)


def constraints_of(
    dataset: bx.Dataset, source: Source, metric: Metric, setting: str, seed: int, minimum_count: int = 1
) -> FairnessConstraints:
    """The constraints of a setting under a seed's split, as `prepare` has them."""
    return _constrained(dataset, source, metric, setting, split(dataset, seed), minimum_count).constraints


def _constrained(
    dataset: bx.Dataset, source: Source, metric: Metric, setting: str, splits: bx.Splits, minimum_count: int
) -> Any:
    return bx.fairness_constraints(
        requirements(source, metric, setting), dataset.attributes, dataset.y, rows=splits.train, small="drop",
        minimum_count=minimum_count, cells_of=sorted(source.attributes.values()),
    )  # fmt: skip
