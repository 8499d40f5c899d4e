"""A dataset from any pandas frame."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset
from badrjax.datasets.delimited import import_pandas
from badrjax.datasets.files import sha256
from badrjax.datasets.tables import Column, attribute_names, categories, encode_features
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
    pandas = import_pandas("dataset_from_frame")
    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, got {type(frame).__name__}; convert it first")
    attributes = attribute_names(sensitive)
    _check_columns(frame, label, attributes)
    y, recoded = _labels(frame[label], favourable)
    columns = {str(attribute): _attribute(frame[attribute]) for attribute in attributes}
    groups = encode_groups(*columns.values())
    left_out = {label, *attributes} if drop_sensitive else {label}
    kept = [column for column in frame.columns if column not in left_out]
    features = encode_features({str(column): _feature(frame[column]) for column in kept})
    return Dataset(
        x=features.x,
        y=y,
        group=groups.ids,
        feature_names=features.names,
        group_names=groups.names,
        name=name,
        source="a pandas DataFrame",
        licence="unknown",
        label_name=str(label),
        favourable=recoded,
        sensitive=tuple(columns),
        attributes={attribute: encode_groups(column) for attribute, column in columns.items()},
    )


def dataset_from_file(
    path: str | os.PathLike[str],
    *,
    label: str,
    sensitive: str | Sequence[str],
    favourable: Any = None,
    drop_sensitive: bool = False,
) -> Dataset:
    """Make a dataset of a CSV or Parquet file, a row an example.

    In a CSV file an empty field is a missing value, which is refused, and nothing else is ("NA" is text); the
    favourable value may be given as the text that stands in the file.

    Args:
        path: a file that ends in `.csv`, `.csv.gz` or `.parquet`.
        label: as for `dataset_from_frame`, and so are the others.
        sensitive: see there.
        favourable: see there.
        drop_sensitive: see there.

    Raises:
        ValueError: for another kind of file, one that cannot be read, and as `dataset_from_frame`.
        FileNotFoundError: for a file that is not there.
        TypeError: as `dataset_from_frame`.
        ModuleNotFoundError: where pandas, or pyarrow for Parquet, is not installed.
    """
    frame = _read(import_pandas("reading a file"), Path(path))
    if label in frame.columns and isinstance(favourable, str) and frame[label].dtype.kind in "biuf":
        favourable = _as_number(favourable, label)
    dataset = dataset_from_frame(
        frame,
        label=label,
        sensitive=sensitive,
        favourable=favourable,
        name=Path(path).name,
        drop_sensitive=drop_sensitive,
    )
    return dataclasses.replace(dataset, source=str(path), checksums={str(path): sha256(Path(path).read_bytes())})


def _read(pandas: ModuleType, path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        read = pandas.read_parquet
    elif path.name.endswith((".csv", ".csv.gz")):
        read = partial(pandas.read_csv, keep_default_na=False, na_values=[""], index_col=False)
    else:
        raise ValueError(f"{path} is neither .csv, .csv.gz nor .parquet; convert it, or make a frame of it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header
            return read(path)
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, pandas.errors.ParserWarning) as error:
        raise ValueError(f"{path} cannot be read as a table ({error})") from error


def _as_number(text: str, label: str) -> bool | float:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
        return int(number) if number.is_integer() else number
    except ValueError as error:
        raise ValueError(f"favourable {text!r} does not occur in label {label!r}, which holds numbers") from error


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


def _feature(series: pd.Series[Any]) -> Column:
    _check_present(series, "impute it, or drop the rows or the column")
    if series.dtype.kind in "biuf":
        return series.to_numpy(np.float64)
    if series.dtype.kind == "O":
        return categories(_text(series))
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
