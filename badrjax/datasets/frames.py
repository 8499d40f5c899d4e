"""A dataset from any pandas frame."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset
from badrjax.datasets.tables import attribute_names, encode_features
from badrjax.groups import encode_groups

if TYPE_CHECKING:
    import pandas as pd


def dataset_from_frame(
    frame: pd.DataFrame,
    *,
    label: str,
    sensitive: str | Sequence[str],
    favourable: Any = None,
    name: str = "frame",
    drop_sensitive: bool = False,
) -> Dataset:
    """Make a dataset of a pandas frame, a row an example.

    Numbers and booleans are taken as they are, without scaling (see `standardise`); text and categorical
    columns become one 0/1 feature a value. Features are sorted by name.

    Args:
        frame: one row an example, without missing values.
        label: its label column. With `favourable`, or with values 0 and 1, it makes classes; a float column
            with more than two values makes regression targets.
        sensitive: column whose values make the groups, or several for their intersections. Groups are
            numbered in the order of their values and named by them.
        favourable: the one of the label's two values that becomes 1. It may be left out for 0 and 1.
        name: name of the dataset.
        drop_sensitive: whether the sensitive columns are left out of the features.

    Raises:
        ValueError: for an unknown column (with the nearest names), repeated columns, no rows, missing values
            in any used column (it is named), a label that is not binary or has a single class, or a value of
            `favourable` that does not occur.
        TypeError: for something that is not a frame, sensitive columns in a set (which has no order), or a
            column of a kind that cannot be a feature.
        ModuleNotFoundError: where pandas is not installed.
    """
    pandas = _import_pandas()
    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, got {type(frame).__name__}; convert it first")
    attributes = attribute_names(sensitive)
    _check_columns(frame, label, attributes)
    y, recoded = _labels(frame[label], favourable)
    groups = encode_groups(*(_attribute(frame[attribute]) for attribute in attributes))
    left_out = {label, *attributes} if drop_sensitive else {label}
    kept = [column for column in frame.columns if column not in left_out]
    x, feature_names = encode_features({str(column): _feature(frame[column]) for column in kept})
    return Dataset(
        x=x,
        y=y,
        group=groups.ids,
        feature_names=feature_names,
        group_names=groups.names,
        name=name,
        source="a pandas DataFrame",
        licence="unknown",
        label_name=str(label),
        favourable=recoded,
        sensitive=tuple(map(str, attributes)),
    )


def _import_pandas() -> ModuleType:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("dataset_from_frame needs pandas: pip install 'badrjax[data]'") from error
    return pandas


def _check_columns(frame: pd.DataFrame, label: str, attributes: tuple[str, ...]) -> None:
    names = [str(column) for column in frame.columns]
    if len(set(names)) < len(names):
        raise ValueError(
            f"frame has column {next(n for n in names if names.count(n) > 1)!r} more than once; rename one"
        )
    if label in attributes:
        raise ValueError(f"sensitive must not name the label, got {attributes!r}; choose another column")
    for column in (label, *attributes):
        if column not in frame.columns:
            raise unknown_name("label column" if column == label else "sensitive column", column, names)
    if frame.shape[0] == 0:
        raise ValueError("frame has no rows")


def _labels(series: pd.Series[Any], favourable: Any) -> tuple[Shaped[np.ndarray, "n"], str]:
    """Labels as `int32` classes or `f32` targets, and the value that became 1."""
    _check_present(series, "drop the rows without a label")
    values = series.drop_duplicates().tolist()
    listing = ", ".join(repr(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")
    if len(values) == 1:
        raise ValueError(f"label {series.name!r} has a single class, {listing}; nothing can be learnt from it")
    if favourable is None and len(values) > 2 and series.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which the dataset's own check reports
            return series.to_numpy(np.float64).astype(np.float32), ""
    if len(values) > 2:
        raise ValueError(
            f"label {series.name!r} is not binary, it has {len(values)} values ({listing}); "
            "make it two values, or floats for regression (without favourable)"
        )
    if favourable is None and set(values) != {0, 1}:
        raise ValueError(f"label {series.name!r} has the values {listing}; say with favourable= which becomes 1")
    if favourable is not None and favourable not in values:
        raise ValueError(f"favourable {favourable!r} does not occur in label {series.name!r}, which has {listing}")
    one = 1 if favourable is None else favourable
    return np.array([value == one for value in series.tolist()], np.int32), str(one)


def _attribute(series: pd.Series[Any]) -> Shaped[np.ndarray, "n"]:
    _check_present(series, "drop the rows or give missing values a name of their own")
    return np.array(series.tolist()) if series.dtype.kind in "biuf" else _text(series)


def _feature(series: pd.Series[Any]) -> Shaped[np.ndarray, "n"]:
    _check_present(series, "impute it, or drop the rows or the column")
    if series.dtype.kind in "biuf":
        return series.to_numpy(np.float64)
    if series.dtype.kind == "O":
        return _text(series)
    raise TypeError(
        f"column {series.name!r} of dtype {series.dtype} cannot be a feature; turn it into numbers or text, or drop it"
    )


def _text(series: pd.Series[Any]) -> Shaped[np.ndarray, "n"]:
    values = series.tolist()
    text = [str(value) for value in values]
    if len(set(text)) != series.nunique():
        raise ValueError(f"column {series.name!r} has different values that read alike, such as 1 and '1'; unify them")
    return np.array(text)


def _check_present(series: pd.Series[Any], remedy: str) -> None:
    missing = np.flatnonzero(series.isna().to_numpy())
    if missing.size:
        raise ValueError(
            f"column {series.name!r} has missing values in {missing.size} rows, first in row {missing[0]}; {remedy}"
        )
