"""What several kinds of split share: the generator, the cells of group and label, the rows that are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset, Splits
from badrjax.groups import Groups


class Cell(NamedTuple):
    """The rows of a group with a label.

    Attributes:
        name: for messages.
        rows: their positions, rising.
    """

    name: str
    rows: np.ndarray


def generator_of(seed: int) -> np.random.Generator:
    """NumPy's generator of a non-negative integer seed; `TypeError` or `ValueError` for anything else."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed must be a non-negative integer, got {seed!r}")
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed}")
    return np.random.default_rng(int(seed))


def cells_of(dataset: Dataset, kind: str) -> Iterator[Cell]:
    """Rows of each group with each label, group by group and label by label in rising order."""
    if not np.issubdtype(dataset.y.dtype, np.integer):
        raise ValueError(f"{kind} needs class labels, and y holds regression targets; use the random split")
    labels = np.unique(dataset.y)
    if labels.size < 2:
        raise ValueError(f"{kind} needs at least two classes, and every label is {labels[0]}")
    for group, group_name in enumerate(dataset.group_names):
        for label in labels:
            rows = np.flatnonzero((dataset.group == group) & (dataset.y == label))
            yield Cell(f"(group {group_name!r}, label {label})", rows)


def strata_of(dataset: Dataset) -> Iterator[np.ndarray]:
    """Rows of each cell of group and label that has any; of each group where the label is a number."""
    classes = np.issubdtype(dataset.y.dtype, np.integer)
    strata = dataset.group.astype(np.int64) * (1 + dataset.y.max()) + dataset.y if classes else dataset.group
    for stratum in np.unique(strata):
        yield np.flatnonzero(strata == stratum)


def domain_of(dataset: Dataset, name: str) -> Groups:
    """A domain or a sensitive attribute by name; `ValueError` with the nearest names for another."""
    known = {**dataset.attributes, **dataset.domains}
    if name not in known:
        raise unknown_name(f"domain of {dataset.name}", name, known)
    return known[name]


def number_of_units(dataset: Dataset, whole: str | None) -> int:
    """How many things are dealt out: rows, or the values of the domain that stays whole."""
    return int(dataset.y.size) if whole is None else domain_of(dataset, whole).num_groups


def rows_of_units(dataset: Dataset, whole: str | None, units: np.ndarray) -> np.ndarray:
    """The rows of some units, `int32`."""
    rows = units if whole is None else np.flatnonzero(np.isin(domain_of(dataset, whole).ids, units))
    return rows.astype(np.int32)


def check_fractions(fractions: Sequence[float]) -> np.ndarray:
    """Sizes of training, validation and test; `ValueError` unless they are three numbers >= 0 with sum 1."""
    try:
        sizes = np.asarray(fractions, np.float64)
    except (TypeError, ValueError):
        sizes = np.array(np.nan)
    if sizes.shape != (3,) or not (sizes >= 0).all() or abs(sizes.sum() - 1) > 1e-6:
        raise ValueError(
            f"fractions must be three numbers >= 0 with sum 1 (train, validation, test), got {fractions!r}"
        )
    return sizes


def with_remaining_rows_as_train(dataset: Dataset, validation: np.ndarray, test: np.ndarray) -> Splits:
    """The split whose training rows are all that neither validation nor test takes."""
    remaining = np.ones(dataset.y.size, bool)
    remaining[validation] = False
    remaining[test] = False
    train = np.flatnonzero(remaining)
    if train.size == 0:
        raise ValueError("validation and test take every row and leave none to train on; lower test_fraction")
    return Splits(*(rows.astype(np.int32) for rows in (train, validation, test)))
