"""Raw tables, a column a name, and the features made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped


class Categories(NamedTuple):
    """A column of text.

    Attributes:
        codes: position of each row's value among `values`, `int[n]`; -1 where it is missing.
        values: the distinct values, sorted.
    """

    codes: Int[np.ndarray, "n"]
    values: tuple[str, ...]

    def text(self, missing: str = "") -> Shaped[np.ndarray, "n"]:
        """The column as text, `missing` where no value is."""
        return np.array([*self.values, missing])[self.codes]


Column = Shaped[np.ndarray, "n"] | Categories
"""Numbers or booleans `[n]` (NaN where missing), or text."""

Table = Mapping[str, Column]
"""Equally long columns by name."""


class Features(NamedTuple):
    """What a model is given.

    Attributes:
        x: the features, `f32[n, F]`.
        names: one distinct name a column of `x`.
        columns: the column of the raw table that each feature was made of.
    """

    x: Float[np.ndarray, "n F"]
    names: tuple[str, ...]
    columns: tuple[str, ...]


def categories(values: Sequence[str] | Shaped[np.ndarray, "n"], missing: Iterable[str] = ()) -> Categories:
    """Text as `Categories`; values among `missing` become missing ones."""
    distinct, codes = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
    absent = set(missing)
    kept = [value not in absent for value in distinct.tolist()]
    position = np.where(kept, np.cumsum(kept) - 1, -1)
    return Categories(position[codes], tuple(distinct[kept].tolist()))


def text_column(table: Table, name: str) -> Categories:
    """A column that is known to be text."""
    column = table[name]
    assert isinstance(column, Categories), name
    return column


def number_column(table: Table, name: str) -> Shaped[np.ndarray, "n"]:
    """A column that is known to be numbers."""
    column = table[name]
    assert not isinstance(column, Categories), name
    return column


def fill_missing(column: Column, value: str | float) -> Column:
    """The column with its missing entries replaced, text by text and numbers by a number."""
    if isinstance(column, Categories):
        return categories(column.text(missing=str(value)))
    return np.where(np.isnan(column), value, column) if column.dtype.kind == "f" else column


def is_missing(column: Column) -> Shaped[np.ndarray, "n"]:
    """Where a column has no value, `bool[n]`."""
    if isinstance(column, Categories):
        return column.codes < 0
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(column.shape, bool)


def take_rows(column: Column, rows: Shaped[np.ndarray, "m"]) -> Column:
    """Some rows of a column, by positions or by a mask; values that are left with no row disappear."""
    if not isinstance(column, Categories):
        return column[rows]
    codes = column.codes[rows]
    used = np.unique(codes[codes >= 0])
    position = np.full(len(column.values) + 1, -1)  # the last entry is what a missing value's -1 finds
    position[used] = np.arange(used.size)
    return Categories(position[codes], tuple(column.values[code] for code in used))


def encode_features(
    table: Table,
    *,
    missing: Literal["refuse", "zero", "indicator"] = "refuse",
    order: Literal["name", "table"] = "name",
) -> Features:
    """One feature a numeric or boolean column, one 0/1 feature a value of a text column.

    The feature of value `v` of column `c` is named `c_v`; a missing text is 0 in all features of its column.
    In the order of their names these are the sorted columns of `pandas.get_dummies`.

    Args:
        table: the columns.
        missing: what is done with a missing number: "refuse" raises, "zero" puts 0, "indicator" puts 0 and
            adds a 0/1 feature `c_missing`. No rule looks at other rows, so none can leak.
        order: "name" sorts the features by name, "table" keeps the order of the columns.

    Raises:
        ValueError: for no columns, for two features of the same name, for a missing number with "refuse".
    """
    features: dict[str, np.ndarray] = {}
    origins: dict[str, str] = {}
    for column, values in table.items():
        for name, feature in _features_of(column, values, missing).items():
            if name in features:
                raise ValueError(f"column {column!r} makes a second feature named {name!r}; rename the column")
            features[name] = feature
            origins[name] = column
    if not features:
        raise ValueError("no columns are left to make features of")
    names = tuple(sorted(features)) if order == "name" else tuple(features)
    x = np.empty((len(features[names[0]]), len(names)), np.float32)
    # A number too large for float32 becomes infinite, which the dataset's own check reports with its column.
    with np.errstate(over="ignore"):
        for position, name in enumerate(names):
            x[:, position] = features[name]
    return Features(x, names, tuple(origins[name] for name in names))


def attribute_names(sensitive: str | Sequence[str]) -> tuple[str, ...]:
    """One attribute name, or a list or tuple of several distinct ones, as a tuple.

    Raises:
        ValueError: for no name, or one given twice.
        TypeError: for a set, whose order, and with it the numbers of the groups, changes from run to run.
    """
    if isinstance(sensitive, set | frozenset):
        raise TypeError(f"sensitive must be a name or a list of names, and a set has no order: {sensitive!r}")
    attributes = tuple(sensitive) if isinstance(sensitive, list | tuple) else (sensitive,)
    if not attributes or len(set(attributes)) < len(attributes):
        raise ValueError(f"sensitive must name at least one attribute and none twice, got {sensitive!r}")
    return attributes


def _features_of(column: str, values: Column, missing: str) -> dict[str, np.ndarray]:
    if isinstance(values, Categories):
        return {f"{column}_{value}": values.codes == code for code, value in enumerate(values.values)}
    absent = is_missing(values)
    if not absent.any():
        return {column: values}
    if missing == "refuse":
        raise ValueError(f"column {column!r} has no number in row {np.argmax(absent)}; impute it or drop it")
    filled = {column: np.where(absent, 0, values)}
    return filled | {f"{column}_missing": absent} if missing == "indicator" else filled
