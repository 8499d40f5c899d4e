"""Delimited text files as raw tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.tables import Categories, Column, Table, text_column
from badrjax.extras import require

if TYPE_CHECKING:
    import pandas as pd


def read_csv(
    content: bytes,
    where: str,
    *,
    numbers: Iterable[str],
    text: Iterable[str],
    missing: Sequence[str] = (),
    **pandas_options: Any,
) -> dict[str, Column]:
    """Some columns of a delimited text file.

    Args:
        content: the file.
        where: what it is called, for messages.
        numbers: columns of numbers; an empty field is a missing one.
        text: columns of text, spaces around values removed; an empty field is a missing one.
        missing: texts that stand for a missing value, besides the empty one.
        **pandas_options: of `pandas.read_csv`, such as `sep` or `names`.

    Returns:
        Numbers as `f64[n]`, text as `Categories`, in the order of `numbers`, then `text`.

    Raises:
        ValueError: for a file that is no such table, a column that is not there, or a value that is no number
            (column, row and value are named).
        ModuleNotFoundError: where pandas is not installed.
    """
    pandas = require("pandas", "reading this dataset")
    numbers, text = tuple(numbers), tuple(text)
    _check_widths(content, where, pandas_options.get("sep", ","), pandas_options.get("names"))
    try:
        frame = pandas.read_csv(
            io.BytesIO(content), dtype=str, keep_default_na=False, skipinitialspace=True, **pandas_options
        )
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise ValueError(f"{where} is not the table it should be ({error}); get the official file") from error
    for column in (*numbers, *text):
        if column not in frame.columns:
            raise ValueError(f"{where}: {unknown_name('column', column, map(str, frame.columns))}")
    if frame.shape[0] == 0:
        raise ValueError(f"{where} has no rows; get the official file")
    absent = ("", *missing)
    table: dict[str, Column] = {column: to_numbers(frame[column], where, absent) for column in numbers}
    return table | {column: to_categories(frame[column].str.strip(), absent) for column in text}


def _check_widths(content: bytes, where: str, separator: str, names: Sequence[str] | None) -> None:
    """Raise `ValueError` unless all rows are as wide as the header: pandas fills short ones and cuts long ones.

    The message quotes no value: in a table whose columns are out of place it could be anybody's name.
    """
    width = None if names is None else len(names)
    try:
        stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        for line, values in enumerate(csv.reader(stream, delimiter=separator), start=1):
            width = len(values) if width is None else width
            if values and len(values) != width:
                raise ValueError(
                    f"{where} has {len(values)} values separated by {separator!r} in line {line}, not {width}; get the "
                    "official file"
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{where} is not the table it should be ({error}); get the official file") from error


def to_numbers(series: pd.Series[Any], where: str, missing: Sequence[str] = ("",)) -> np.ndarray:
    """A column of text as `f64[n]`, NaN where it says one of `missing`.

    Raises:
        ValueError: for a value that is no number; the column, the row and the value are named.
    """
    pandas = require("pandas", "reading this dataset")
    present = ~series.isin(missing).to_numpy()
    values = pandas.to_numeric(series.where(present), errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~np.isfinite(values) & present)
    if bad.size:
        raise ValueError(
            f"{where} has {series.iloc[bad[0]]!r} in column {series.name!r}, row {bad[0]}, where a number should "
            "be; get the official file"
        )
    return values


def to_categories(series: pd.Series[Any], missing: Sequence[str] = ("",)) -> Categories:
    """A column of text as `Categories`."""
    codes, values = series.where(~series.isin(missing)).factorize(sort=True)
    return Categories(codes.astype(np.int64), tuple(map(str, values)))


def one_of(column: Categories, known: Iterable[str], name: str, where: str) -> Categories:
    """The column, if it has no other values than the `known` ones.

    Raises:
        ValueError: for an unknown category; the column and the value are named.
    """
    known = set(known)
    for value in column.values:
        if value not in known:
            raise ValueError(f"{where}: column {name!r} has the {unknown_name('category', value, known)}")
    return column


def check_known(table: Table, known: Mapping[str, Iterable[str]], where: str, *, missing: bool = False) -> None:
    """Raise `ValueError` for text columns with values that are not known, or with none unless `missing`.

    The column, and the value or the row, are named.
    """
    for name, values in known.items():
        column = text_column(table, name)
        one_of(column, values, name, where)
        if not missing and (column.codes < 0).any():
            row = int(np.argmax(column.codes < 0))
            raise ValueError(f"{where}: column {name!r} has no value in row {row}; get the official file")


def recode(column: Categories, meaning: Mapping[str, str], name: str, where: str) -> Categories:
    """The column with each value replaced by its meaning; values may share one.

    Raises:
        ValueError: for a value without a meaning; the column and the value are named.
    """
    one_of(column, meaning, name, where)
    values = tuple(sorted({meaning[value] for value in column.values}))
    position = np.array([*(values.index(meaning[value]) for value in column.values), -1])
    return Categories(position[column.codes], values)
