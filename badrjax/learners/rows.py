"""The rows that a learner is fitted to, checked, and those of them that are held out of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from badrjax.batches import Batch
from badrjax.checks import check_finite, check_same_length
from badrjax.datasets import Dataset
from badrjax.groups import Groups
from badrjax.learners.settings import METHODS, Settings

_MOST_BALANCED = 64  # rows of a group and label that steer a meta-learning method


class Rows(NamedTuple):
    """Training rows on the host.

    Attributes:
        x: features, `f32[n, F]`.
        y: labels 0 and 1, `int32[n]`, or targets, `f32[n]`.
        groups: of the intersections of all attributes.
        attributes: each by itself.
        weight: frequencies, `f32[n]`, or `None`.
    """

    x: Float[np.ndarray, "n F"]
    y: Shaped[np.ndarray, "n"]
    groups: Groups
    attributes: Mapping[str, Groups]
    weight: Float[np.ndarray, "n"] | None = None

    def batch(self, rows: Int[np.ndarray, "m"] | None = None, group: Int[np.ndarray, "n"] | None = None) -> Batch:
        """Some rows on the device, with other groups than the intersections where these are given."""
        rows = np.arange(self.y.shape[0]) if rows is None else rows
        ids = self.groups.ids if group is None else group
        weight = None if self.weight is None else jnp.asarray(self.weight[rows])
        return Batch(jnp.asarray(self.x[rows]), jnp.asarray(self.y[rows]), jnp.asarray(ids[rows]), weight)


def check_rows(rows: Rows, settings: Settings) -> None:
    """Raise for rows that the method cannot be fitted to.

    Raises:
        ValueError: for unequal lengths, features or weights that are not finite, one class only (over the rows with
            weight), no weight at all, or a method of groups where there is one group.
    """
    check_same_length(x=rows.x, y=rows.y, groups=rows.groups.ids, weight=rows.weight)
    check_finite(rows.x, "x", tuple(f"column {i}" for i in range(rows.x.shape[1])))
    counted = np.ones(rows.y.shape[0], bool) if rows.weight is None else rows.weight > 0
    if not counted.any():
        raise ValueError("no row has any weight")
    if settings.task == "classification" and np.unique(rows.y[counted]).size < 2:
        raise ValueError("the labels have one class only, from which nothing can be learnt")
    about = METHODS[settings.method]
    if about.groups and np.unique(rows.groups.ids[counted]).size < 2:
        raise ValueError(
            f"method {settings.method!r} compares groups, and the sensitive features make one only; name attributes "
            "with at least two values, or take method='erm'"
        )
    empty = np.bincount(rows.groups.ids[counted], minlength=rows.groups.num_groups) == 0
    if about.groups and empty.any():
        raise ValueError(f"group {rows.groups.names[int(np.argmax(empty))]!r} has no row with weight; leave it out")


def held_out(dataset: Dataset, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training rows and of rows to measure on: a share of all, spread over groups and labels.

    Systematic sampling: rows are put in order by group and label, at random within, and every `1 / fraction`-th is
    taken from a random start on. Each row has the same chance, and of each group and label the share is met to a row.

    Args:
        dataset: with groups and labels.
        fraction: in `(0, 1)`.
        seed: of the order and of the start.

    Returns:
        Both, sorted, `int[m]`.
    """
    generator = np.random.default_rng(seed)
    classes = np.issubdtype(dataset.y.dtype, np.integer)
    key = dataset.group * 2 + (dataset.y if classes else 0)
    order = np.lexsort((generator.permutation(key.size), key))
    passed = np.floor(np.arange(key.size + 1) * fraction + generator.uniform())
    chosen = np.sort(order[np.diff(passed) > 0])
    return np.setdiff1d(np.arange(key.size), chosen), chosen


def stratified_holdout(rows: Rows, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and of held-out rows: the same share of each group and label, rounded down."""
    generator = np.random.default_rng(settings.seed)
    held = []
    for cell in _cells(rows):
        count = int(settings.validation_fraction * cell.size)
        held.append(generator.permutation(cell)[:count])
    chosen = np.sort(np.concatenate(held))
    if chosen.size == 0 or np.unique(rows.y[chosen]).size < 2:
        raise ValueError(
            f"validation_fraction {settings.validation_fraction} of {rows.y.size} rows leaves too few to steer by; "
            "raise it, or take a method that needs none"
        )
    return np.setdiff1d(np.arange(rows.y.size), chosen), chosen


def balanced_holdout(rows: Rows, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and of held-out rows: as many of each group and label, a share of the smallest cell.

    Raises:
        ValueError: for a group (of one label) with fewer than two rows, by name.
    """
    generator = np.random.default_rng(settings.seed)
    cells = _cells(rows)
    smallest = min(cells, key=len)
    if smallest.size < 2:
        name = rows.groups.names[rows.groups.ids[smallest[0]]]
        label = f" and label {rows.y[smallest[0]]}" if settings.task == "classification" else ""
        raise ValueError(
            f"method {settings.method!r} holds rows of every group and label out of training, and group {name!r}"
            f"{label} has {smallest.size}; merge or drop small groups"
        )
    count = int(np.clip(settings.validation_fraction * smallest.size, 1, _MOST_BALANCED))
    chosen = np.sort(np.concatenate([generator.permutation(cell)[:count] for cell in cells]))
    return np.setdiff1d(np.arange(rows.y.size), chosen), chosen


def _cells(rows: Rows) -> list[np.ndarray]:
    """Positions of the rows with weight, by group and label that occur (by group for targets)."""
    classes = np.issubdtype(rows.y.dtype, np.integer)
    key: Any = rows.groups.ids * 2 + rows.y if classes else rows.groups.ids
    counted = np.flatnonzero(np.ones(rows.y.size, bool) if rows.weight is None else rows.weight > 0)
    return [counted[key[counted] == value] for value in np.unique(key[counted])]
