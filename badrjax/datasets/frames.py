"""A dataset from any pandas frame."""

from __future__ import annotations

import datetime
import decimal
import numbers
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped

from badrjax.checks import unknown_name
from badrjax.datasets.dataset import Dataset
from badrjax.datasets.tables import Categories, Column, Table, attribute_names, encode_features
from badrjax.extras import require
from badrjax.groups import Groups, encode_groups

if TYPE_CHECKING:
    import pandas as pd

_NUMPY_KINDS: dict[str, type] = {"b": np.bool_, "i": np.int64, "u": np.uint64, "f": np.float64}
_TRUTHS = (bool, np.bool_)
_WHOLE = (numbers.Integral, np.bool_)
_REAL = (numbers.Real, decimal.Decimal, np.bool_)
_NEITHER_NUMBER_NOR_TEXT = (
    complex, np.complexfloating, np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip
# More different texts than this, in more than half of the rows, are identifiers, dates or prose, not categories.
_MOST_TEXTS = 1000
_MOST_BYTES_OF_TEXTS = 2**31
_NOT_THERE = dict.fromkeys(("None", "nan", "<NA>", "NaT"), "")
_NAMELESS = re.compile(r"\s*|Unnamed: \d+")  # the latter is what pandas.read_csv calls a column without a name


def dataset_from_frame(
    frame: pd.DataFrame,
    *,
    label: Hashable,
    sensitive: Hashable | Sequence[Hashable],
    favourable: Any = None,
    name: str = "frame",
    drop_sensitive: bool = False,
) -> Dataset:
    """Make a dataset of a pandas frame, a row an example.

    Numbers (also as `Decimal` or other objects) and booleans are taken as they are, without scaling (see
    `standardise`); text and categorical columns become one 0/1 feature a value. Features are sorted by name.
    A text column whose rows are all different is mentioned in the dataset's notes.

    Args:
        frame: one row an example, without missing values.
        label: name of its label column. With `favourable`, or with values 0 and 1, it makes classes; a column
            of floats with more than two values makes regression targets.
        sensitive: name of the column whose values make the groups, or several for their intersections. Groups
            are named by their values and numbered in their order: that of the categories where these are
            ordered, numbers by size, text by the alphabet.
        favourable: the one of the label's two values that becomes 1. It may be left out for 0 and 1.
        name: name of the dataset.
        drop_sensitive: whether the sensitive columns are left out of the features.

    Raises:
        ValueError: for an unknown column (with the nearest names), repeated columns or ones without a name, no
            rows, missing values in any used column (it is named), a number too large for float32, text with NUL
            characters, a text column with more than 1,000 different texts in more than half of its rows, texts
            that make more than 2 GiB of features, a label that is not binary or has a single class, or a value
            of `favourable` that does not occur.
        TypeError: for something that is not a frame, a label that is not one name, sensitive columns in a set
            (which has no order), or a column that holds neither numbers nor text (dates, intervals, lists).
        ModuleNotFoundError: where pandas is not installed.
    """
    pandas = require("pandas", "dataset_from_frame")
    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, got {type(frame).__name__}; convert it first")
    names = _attribute_names(sensitive)
    _check_columns(frame, label, names)
    _check_favourable(favourable)
    y, recoded = _labels(frame[label], favourable)
    attributes = {str(column): _attribute(frame[column]) for column in names}
    groups = _intersections(list(attributes.values()))
    left_out = {label, *names} if drop_sensitive else {label}
    kept = [column for column in frame.columns if column not in left_out]
    table = {str(column): feature_column(frame[column]) for column in kept}
    _check_size(table, frame.shape[0])
    features = encode_features(table)
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
        sensitive=tuple(attributes),
        attributes=attributes,
        notes=_notes(table, frame.shape[0]),
    )


def column_flaw(names: Iterable[Any]) -> str:
    """What is wrong with the names of columns, if anything: one is not there, or not alone."""
    known = [name if isinstance(name, str) else _NOT_THERE.get(str(name), str(name)) for name in names]
    for position, name in enumerate(known):
        if _NAMELESS.fullmatch(name):
            what = f" ({name!r})" if name.strip() else ""
            return (
                f"has no name for column {position}{what}, which may be row numbers; write it with index=False, or "
                "name the column"
            )
    if len(set(known)) < len(known):
        repeated = next(name for name in known if known.count(name) > 1)
        return f"has column {repeated!r} more than once; rename one"
    return ""


def _attribute_names(sensitive: Any) -> tuple[Any, ...]:
    """Names given in a list, an array, an Index or a Series, or a single one."""
    given = sensitive.tolist() if hasattr(sensitive, "tolist") else sensitive
    for name in given if isinstance(given, list | tuple) else ():
        if not _is_hashable(name):
            raise TypeError(f"sensitive must be a name or a list of names, and holds {name!r}")
    if not isinstance(given, list | set) and not _is_hashable(given):
        raise TypeError(f"sensitive must be a name or a list of names, got {type(given).__name__}")
    return attribute_names(given)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _check_columns(frame: pd.DataFrame, label: Any, attributes: tuple[Any, ...]) -> None:
    if frame.columns.nlevels > 1:
        raise ValueError("frame has column names of several levels; join each to one name")
    flaw = column_flaw(frame.columns)
    if flaw:
        raise ValueError(f"frame {flaw}")
    if not _is_hashable(label):
        raise TypeError(f"label must be the name of one column, got {label!r}")
    if label in attributes:
        raise ValueError(f"sensitive must not name the label, got {attributes!r}; choose another column")
    for column in (label, *attributes):
        if column not in frame.columns:
            raise _unknown_column("label column" if column == label else "sensitive column", column, frame)
    if frame.shape[0] == 0:
        raise ValueError("frame has no rows")


def _unknown_column(kind: str, column: Any, frame: pd.DataFrame) -> ValueError:
    if column is not None and column in frame.index.names:
        return ValueError(f"{kind} {column!r} is the index of the frame; make it a column with frame.reset_index()")
    for name in frame.columns:
        if str(name) == str(column):
            what = "text" if isinstance(name, str) else "numbers" if isinstance(name, numbers.Number) else "objects"
            return ValueError(f"unknown {kind} {column!r}: names of columns are {what} here; give {name!r}")
    return unknown_name(kind, column, map(str, frame.columns))


def _check_favourable(favourable: Any) -> None:
    if not _is_hashable(favourable):
        raise TypeError(f"favourable must be one value of the label, got {type(favourable).__name__}; give one value")
    types = require("pandas", "dataset_from_frame")
    if favourable is not None and types.api.types.is_scalar(favourable) and types.isna(favourable):
        raise ValueError(f"favourable must be a value of the label, got the missing value {favourable!r}")


def _labels(series: pd.Series[Any], favourable: Any) -> tuple[Shaped[np.ndarray, "n"], str]:
    """Labels as `int32` classes or `f32` targets, and the value that became 1."""
    _check_present(series, "drop the rows without a label")
    values = _values(series)
    distinct = list(dict.fromkeys(values))
    listing = ", ".join(repr(value) for value in distinct[:5]) + (", ..." if len(distinct) > 5 else "")
    if len(distinct) == 1:
        raise ValueError(f"label {series.name!r} has a single class, {listing}; nothing can be learnt from it")
    if len(distinct) > 2:
        targets = None if series.dtype == "category" else _numbers(series, values)
        if favourable is None and targets is not None and targets.dtype.kind == "f":
            return _as_floats(targets, series.name).astype(np.float32), ""
        raise _not_binary(series.name, len(distinct), listing, targets is not None and favourable is None)
    if favourable is None and set(distinct) != {0, 1}:
        raise ValueError(f"label {series.name!r} has the values {listing}; say with favourable= which becomes 1")
    if favourable is not None and favourable not in distinct:
        raise ValueError(f"favourable {favourable!r} does not occur in label {series.name!r}, which has {listing}")
    one = 1 if favourable is None else favourable
    return np.array([value == one for value in values], np.int32), str(one)


def _not_binary(name: Hashable, number: int, listing: str, whole: bool) -> ValueError:
    remedy = "floats for regression (without favourable)"
    if whole:  # a file says 3.0 where a frame says astype
        remedy = f"floats for regression: astype({{{name!r}: float}}) in a frame, 3.0 for 3 in a file"
    return ValueError(
        f"label {name!r} is not binary, it has {number} values ({listing}); make it two values, or {remedy}"
    )


def _attribute(series: pd.Series[Any]) -> Groups:
    """Groups of one sensitive column."""
    _check_present(series, "drop the rows or give missing values a name of their own")
    if series.dtype != "category" or not series.cat.ordered:
        column = _numbers_or_text(series, "make groups")
        if not isinstance(column, Categories):
            return encode_groups(column)
        return Groups(column.codes.astype(np.int32), column.values, len(column.values))
    _text(series)
    present, ids = np.unique(series.cat.codes.to_numpy(), return_inverse=True)
    names = tuple(str(series.cat.categories[code]) for code in present)
    return Groups(ids.astype(np.int32), names, len(names))


def _intersections(columns: Sequence[Groups]) -> Groups:
    """Groups of the intersections that occur, in the order of each column's groups."""
    joint = encode_groups(*(column.ids for column in columns))  # its names are ids joined by " & "
    parts = [zip(columns, name.split(" & "), strict=True) for name in joint.names]
    return joint._replace(names=tuple(" & ".join(column.names[int(i)] for column, i in part) for part in parts))


def feature_column(series: pd.Series[Any]) -> Column:
    """A column as features are made of it: numbers, booleans, or text as categories.

    Raises:
        ValueError: for missing values, and TypeError for what is neither numbers nor text (the column is named).
    """
    _check_present(series, "impute it, or drop the rows or the column")
    if series.dtype == "category":
        return _text(series)
    column = _numbers_or_text(series, "be a feature")
    return column if isinstance(column, Categories) else _as_floats(column, series.name)


def _texts(table: Table) -> dict[str, int]:
    """How many different texts each text column has."""
    return {name: len(column.values) for name, column in table.items() if isinstance(column, Categories)}


def _check_size(table: Table, rows: int) -> None:
    """Raise `ValueError` for texts that are not categories, before a feature is made of each."""
    texts = _texts(table)
    for name, number in texts.items():
        if number > _MOST_TEXTS and 2 * number > rows:
            raise ValueError(
                f"column {name!r} has {number:,} different texts in {rows:,} rows; drop it, or group its values"
            )
    size = rows * sum(texts.values()) * np.dtype(np.float32).itemsize
    if size > _MOST_BYTES_OF_TEXTS:
        widest = max(texts, key=texts.__getitem__)
        raise ValueError(
            f"column {widest!r} has {texts[widest]:,} different texts in {rows:,} rows, and all text columns make "
            f"features of {size / 2**30:.1f} GiB; drop it, or group its values"
        )


def _notes(table: Table, rows: int) -> tuple[str, ...]:
    alone = [name for name, number in _texts(table).items() if number == rows]
    return tuple(
        f"every row of text column {name!r} is different, so that its {rows} features tell rows apart and nothing "
        "else; drop it, or group its values"
        for name in alone
    )


def _numbers_or_text(series: pd.Series[Any], use: str) -> Column:
    values = _values(series)
    column = _numbers(series, values)
    if column is not None:
        return column
    pandas = require("pandas", "dataset_from_frame")
    refused = (*_NEITHER_NUMBER_NOR_TEXT, pandas.Period, pandas.Interval)
    found = next((kind for kind in dict.fromkeys(map(type, values)) if issubclass(kind, refused)), None)
    if found is not None and series.dtype != "category":  # bins, say, are categories on purpose
        raise TypeError(
            f"column {series.name!r} of dtype {series.dtype} cannot {use} (it holds {found.__name__}); turn it into "
            "numbers or text, or drop it"
        )
    return _text(series)


def _numbers(series: pd.Series[Any], values: list[Any]) -> Shaped[np.ndarray, "n"] | None:
    """A column of numbers, also of objects, as booleans, integers or floats; `None` where one is no number."""
    if series.dtype.kind in _NUMPY_KINDS:
        return series.to_numpy(_NUMPY_KINDS[series.dtype.kind])
    kinds = set(map(type, values))
    if not all(issubclass(kind, _REAL) for kind in kinds):
        return None
    if all(issubclass(kind, _TRUTHS) for kind in kinds):
        return np.array(values, np.bool_)
    if all(issubclass(kind, _WHOLE) for kind in kinds):
        try:
            return np.array(values, np.int64)
        except OverflowError:
            pass  # floats hold them, if less exactly
    try:
        return np.array([float(value) for value in values])
    except OverflowError as error:
        raise ValueError(f"column {series.name!r} has a number that is too large for float32; rescale it") from error


def _as_floats(column: Shaped[np.ndarray, "n"], name: Hashable) -> Float[np.ndarray, "n"]:
    """Numbers as `f64[n]`, none of which becomes infinite in float32."""
    wide = column.astype(np.float64)
    with np.errstate(over="ignore"):
        lost = np.flatnonzero(np.isinf(wide.astype(np.float32)) & np.isfinite(wide))
    if lost.size:
        raise ValueError(
            f"column {name!r} has {wide[lost[0]]:g} in row {lost[0]}, which is too large for float32; rescale it, or "
            "take its logarithm"
        )
    return wide


def _text(series: pd.Series[Any]) -> Categories:
    """A column as text. No array of fixed width on the way: a single long text would widen every row."""
    values = _values(series)
    text = values
    if set(map(type, values)) != {str}:
        text = [str(value) for value in values]
        if len(set(text)) != len(set(values)):
            raise ValueError(
                f"column {series.name!r} has different values that read alike, or equal ones that do not, such as 1, "
                "'1' and 1.0; unify them"
            )
    pandas = require("pandas", "dataset_from_frame")
    codes, distinct = pandas.factorize(np.array(text, dtype=object), sort=True)
    return Categories(codes, tuple(map(str, distinct)))


def _values(series: pd.Series[Any]) -> list[Any]:
    """The values of a column as Python objects that can be told apart."""
    values = series.tolist()
    try:
        distinct = set(values)
    except TypeError as error:
        raise TypeError(
            f"column {series.name!r} holds lists or the like ({error}); make columns of numbers or text of it, or drop "
            "it"
        ) from error
    if any(isinstance(value, str) and "\0" in value for value in distinct):  # NumPy cuts these off at the end
        raise ValueError(f"column {series.name!r} has text with NUL characters; remove them")
    return values


def _check_present(series: pd.Series[Any], remedy: str) -> None:
    missing = np.flatnonzero(series.isna().to_numpy())
    if missing.size:
        raise ValueError(
            f"column {series.name!r} has missing values in {missing.size} rows, first in row {missing[0]}; {remedy}"
        )
