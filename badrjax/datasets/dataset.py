"""The host's table of examples, its split into rows, and its way onto the device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from badrjax.batches import Batch
from badrjax.checks import check_finite, check_groups, check_same_length, check_vector
from badrjax.groups import Groups


class Splits(NamedTuple):
    """Positions of the rows of each part, `int32`; `test` may repeat a row, the others never do.

    Attributes:
        train: rows to fit on.
        validation: rows that steer the fit.
        test: rows to report on.
    """

    train: Int[np.ndarray, "n_train"]
    validation: Int[np.ndarray, "n_validation"]
    test: Int[np.ndarray, "n_test"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples with named features and named groups, in NumPy arrays on the host.

    An instance is always valid: `validate` runs when it is made.

    Attributes:
        x: finite features, `f32[n, F]`.
        y: classes from 0, `int[n]`, or regression targets, `float[n]`.
        group: ids in `[0, K)`, `int[n]`; every group has at least one row.
        feature_names: one distinct name a column of `x`.
        group_names: one distinct name a group, in the order of the ids.
        name: name of the dataset.
        source: where the data come from.
        licence: terms of the data, as their source states them.
        citation: how to cite the data.
        label_name: what `y` is.
        favourable: the value of the label that became `y = 1`; empty where nothing was recoded. Whether it is
            good for the person is the dataset's own matter (`dataset_info(name).positive`).
        sensitive: the attributes whose values make the groups.
        attributes: each of these attributes by itself, for constraints on one at a time.
        domains: where rows come from (state, year, published part), by name, for splits by origin.
        variant: the preprocessing.
        feature_shape: shape of one row of `x`, where it is no plain list of numbers (an image).
        notes: what was left out, merged or changed, for a person to read.
        checksums: SHA-256 of each file the data were read from, by path.
    """

    x: Float[np.ndarray, "n F"]
    y: Shaped[np.ndarray, "n"]
    group: Int[np.ndarray, "n"]
    feature_names: tuple[str, ...]
    group_names: tuple[str, ...]
    name: str
    source: str
    licence: str
    citation: str = ""
    label_name: str = ""
    favourable: str = ""
    sensitive: tuple[str, ...] = ()
    attributes: Mapping[str, Groups] = dataclasses.field(default_factory=dict)
    domains: Mapping[str, Groups] = dataclasses.field(default_factory=dict)
    variant: str = ""
    feature_shape: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    checksums: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for field in ("x", "y", "group"):
            object.__setattr__(self, field, np.asarray(getattr(self, field)))
        for field in ("feature_names", "group_names", "sensitive", "feature_shape", "notes"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        self.validate()

    @property
    def num_groups(self) -> int:
        """How many groups there are, `K`."""
        return len(self.group_names)

    def validate(self) -> None:
        """Check shapes, dtypes and values.

        Raises:
            ValueError: for unequal lengths, no rows, a feature that is not finite (its column is named),
                repeated names, ids outside `[0, K)`, a group without rows, or a negative class.
            TypeError: for features that are not floats, or labels or ids of a wrong kind.
        """
        if np.ndim(self.x) != 2 or np.size(self.x) == 0:
            raise ValueError(f"x must be a table of rows by features with at least one of each, got {np.shape(self.x)}")
        if not np.issubdtype(self.x.dtype, np.floating):
            raise TypeError(f"x must hold floats, got {self.x.dtype}; convert it with x.astype('float32')")
        check_vector(y=self.y, group=self.group)
        check_same_length(x=self.x, y=self.y, group=self.group)
        _check_names("feature_names", self.feature_names, self.x.shape[1], "columns in x")
        check_finite(self.x, "x", self.feature_names)
        _check_labels(self.y)
        check_groups(self.group, len(self.group_names), "group")
        _check_names("group_names", self.group_names, self.num_groups, "groups")
        counts = np.bincount(self.group, minlength=self.num_groups)
        if (counts == 0).any():
            empty = self.group_names[int(np.argmin(counts))]
            raise ValueError(
                f"group {empty!r} has no rows; leave its name out and re-encode with badrjax.encode_groups"
            )
        if self.feature_shape and math.prod(self.feature_shape) != self.x.shape[1]:
            raise ValueError(f"feature_shape {self.feature_shape} does not hold the {self.x.shape[1]} columns of x")
        for kind, columns in (("attributes", self.attributes), ("domains", self.domains)):
            for name, column in columns.items():
                check_same_length(**{"y": self.y, f"{kind}[{name!r}]": column.ids})
                check_groups(column.ids, column.num_groups, f"{kind}[{name!r}]")

    def __repr__(self) -> str:
        rows, features = self.x.shape
        return f"Dataset({self.name!r}: {rows} rows, {features} features, groups {', '.join(self.group_names)})"


def standardise(dataset: Dataset, rows: Int[np.ndarray, "m"] | None = None) -> Dataset:
    """The dataset with each feature shifted and scaled to mean 0 and standard deviation 1 over `rows`.

    The deviation is the population's (divided by `m`); a feature that is constant over `rows` is only
    shifted. Means and deviations are taken in double precision. Fit on the training rows to keep the other
    rows out of it; the papers that standardise over all rows take the default.

    Args:
        dataset: what to scale.
        rows: positions to fit on, `int[m]`, a repeated row counting as often as it occurs; `None` takes all.

    Returns:
        A new `Dataset`, every row of it scaled.

    Raises:
        ValueError: for no rows, or positions outside the dataset.
        TypeError: for positions that are not integers.
    """
    fitted = dataset.x if rows is None else dataset.x[_check_rows(rows, dataset.x.shape[0])]
    fitted = fitted.astype(np.float64)
    # Constancy is read off the values: the mean of equal numbers rounds, and so leaves a tiny false
    # deviation.
    constant = np.ptp(fitted, axis=0) == 0
    mean = np.where(constant, fitted[0], fitted.mean(axis=0))
    scale = np.where(constant, 1.0, fitted.std(axis=0))
    scaled = (dataset.x.astype(np.float64) - mean[None, :]) / scale[None, :]
    return dataclasses.replace(dataset, x=scaled.astype(dataset.x.dtype))


def standardise_numbers(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The dataset with the features of these names standardised over all rows, as the FairLAB code has it.

    Args:
        dataset: what to scale.
        names: among `dataset.feature_names`; the other features, those of 0 and 1, stay as they are.
    """
    is_number = np.isin(dataset.feature_names, list(names))
    return dataclasses.replace(dataset, x=np.where(is_number[None, :], standardise(dataset).x, dataset.x))


def min_max_scale(dataset: Dataset, rows: Int[np.ndarray, "m"] | None = None) -> Dataset:
    """The dataset with each feature shifted and scaled to the range [0, 1] over `rows`.

    Other rows may fall outside it. A feature that is constant over `rows` is only shifted.

    Args:
        dataset: what to scale.
        rows: positions to fit on, `int[m]`; `None` takes all.

    Returns:
        A new `Dataset`, every row of it scaled.

    Raises:
        ValueError: for no rows, or positions outside the dataset.
        TypeError: for positions that are not integers.
    """
    fitted = dataset.x if rows is None else dataset.x[_check_rows(rows, dataset.x.shape[0])]
    low = fitted.min(axis=0).astype(np.float64)
    width = fitted.max(axis=0).astype(np.float64) - low
    scaled = (dataset.x.astype(np.float64) - low[None, :]) / np.where(width == 0, 1.0, width)[None, :]
    return dataclasses.replace(dataset, x=scaled.astype(dataset.x.dtype))


def take(dataset: Dataset, rows: Int[np.ndarray, "m"]) -> Dataset:
    """The dataset's `rows` in their order, repeats allowed.

    Groups, attributes and domains that are left with no row lose their name, and the others are numbered
    anew in the old order. A published split of the whole dataset no longer fits.

    Args:
        dataset: what to take of.
        rows: positions in `[0, n)`, `int[m]`.

    Raises:
        ValueError: for no rows, or positions outside the dataset.
        TypeError: for positions that are not integers.
    """
    chosen = _check_rows(rows, dataset.x.shape[0])
    groups = _renumbered(Groups(dataset.group, dataset.group_names, dataset.num_groups), chosen)
    return dataclasses.replace(
        dataset,
        x=dataset.x[chosen],
        y=dataset.y[chosen],
        group=groups.ids,
        group_names=groups.names,
        attributes={name: _renumbered(column, chosen) for name, column in dataset.attributes.items()},
        domains={name: _renumbered(column, chosen) for name, column in dataset.domains.items()},
    )


def to_batch(dataset: Dataset, rows: Int[np.ndarray, "m"] | None = None) -> Batch:
    """Copy the dataset, or its `rows` in their order, to device arrays.

    Args:
        dataset: what to copy.
        rows: positions in `[0, n)`, `int[m]`, repeats allowed; `None` takes every row.

    Returns:
        A `Batch` without weights: `x` `f32[m, F]`, `y` `int32[m]` or `f32[m]`, `group` `int32[m]` (64 bits
        only where the dataset has them and jax keeps them).

    Raises:
        ValueError: for no rows, or positions outside the dataset.
        TypeError: for positions that are not integers.
    """
    chosen = slice(None) if rows is None else _check_rows(rows, dataset.x.shape[0])
    # jnp.array copies, so that a later change of the host's arrays cannot reach the batch.
    return Batch(*(jnp.array(values[chosen]) for values in (dataset.x, dataset.y, dataset.group)))


def _check_rows(rows: Int[np.ndarray, "m"], num_rows: int) -> np.ndarray:
    positions = np.asarray(rows)
    check_vector(rows=positions)
    if positions.size == 0:
        raise ValueError("rows must name at least one row")
    if not np.issubdtype(positions.dtype, np.integer):
        raise TypeError(f"rows must hold integer positions, got {positions.dtype}; take np.flatnonzero of a mask")
    outside = positions[(positions < 0) | (positions >= num_rows)]
    if outside.size:
        raise ValueError(f"rows must lie in [0, {num_rows}), got {outside[0]}; use the split of this very dataset")
    return positions


def _renumbered(groups: Groups, rows: np.ndarray) -> Groups:
    present, ids = np.unique(groups.ids[rows], return_inverse=True)
    return Groups(ids.astype(np.int32), tuple(groups.names[i] for i in present), len(present))


def _check_names(argument: str, names: tuple[str, ...], number: int, what: str) -> None:
    if len(names) != number:
        raise ValueError(f"{argument} has {len(names)} names for {number} {what}; give one name each")
    if len(set(names)) < len(names):
        repeated = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{argument} has {repeated!r} more than once; rename one of them")


def _check_labels(labels: Shaped[np.ndarray, "n"]) -> None:
    if np.issubdtype(labels.dtype, np.floating):
        check_finite(labels, "y")
    elif not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"y must hold integer classes or float targets, got {labels.dtype}")
    elif (labels < 0).any():
        raise ValueError(
            f"y must hold classes from 0, got {labels.min()}; recode them (a loss of -1 and 1 takes 0 and 1)"
        )
