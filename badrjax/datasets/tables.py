"""From named columns to a table of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped


def encode_features(
    columns: Mapping[str, Shaped[np.ndarray, "n"]], missing: str | None = None
) -> tuple[Float[np.ndarray, "n F"], tuple[str, ...]]:
    """One feature a numeric or boolean column, one 0/1 feature a value of a text column, sorted by name.

    The feature of value `v` of column `c` is named `c_v`; a missing value is 0 in all features of its column.
    These are the columns of `pandas.get_dummies`, put in the order of their names.

    Args:
        columns: equally long columns, numbers, booleans or text.
        missing: the text that stands for a missing value.

    Returns:
        The features, `f32[n, F]`, and their names.

    Raises:
        ValueError: for no columns, or for two features of the same name.
    """
    features: dict[str, np.ndarray] = {}
    for column, values in columns.items():
        for name, feature in _features_of(column, values, missing).items():
            if name in features:
                raise ValueError(f"column {column!r} makes a second feature named {name!r}; rename the column")
            features[name] = feature
    if not features:
        raise ValueError("no columns are left to make features of")
    names = tuple(sorted(features))
    table = np.empty((len(features[names[0]]), len(names)), np.float32)
    # A number too large for float32 becomes infinite, which the dataset's own check reports with its column.
    with np.errstate(over="ignore"):
        for position, name in enumerate(names):
            table[:, position] = features[name]
    return table, names


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


def _features_of(column: str, values: Shaped[np.ndarray, "n"], missing: str | None) -> dict[str, np.ndarray]:
    if values.dtype.kind != "U":
        return {column: values}
    distinct, codes = np.unique(values, return_inverse=True)
    return {f"{column}_{value}": codes == code for code, value in enumerate(distinct) if value != missing}
