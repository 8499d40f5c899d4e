"""Delimited text files as raw tables."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.tables import Categories, Column

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
    pandas = import_pandas("reading this dataset")
    numbers, text = tuple(numbers), tuple(text)
    frame = _read_text(pandas, content, where, pandas_options)
    for column in (*numbers, *text):
        if column not in frame.columns:
            raise ValueError(f"{where}: {unknown_name('column', column, map(str, frame.columns))}")
    absent = ("", *missing)
    table: dict[str, Column] = {column: to_numbers(frame[column], where, absent) for column in numbers}
    return table | {column: to_categories(frame[column].str.strip(), absent) for column in text}


def _read_text(pandas: ModuleType, content: bytes, where: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """Every column as text. Rows longer than the header are an error: pandas would cut them in silence."""
    errors = (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            return pandas.read_csv(
                io.BytesIO(content),
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                index_col=False,
                **options,
            )
    except (*errors, pandas.errors.ParserWarning) as error:
        raise ValueError(f"{where} is not the table it should be ({error}); get the official file") from error


def to_numbers(series: pd.Series[Any], where: str, missing: Sequence[str] = ("",)) -> np.ndarray:
    """A column of text as `f64[n]`, NaN where it says one of `missing`.

    Raises:
        ValueError: for a value that is no number; the column, the row and the value are named.
    """
    pandas = import_pandas("reading this dataset")
    present = ~series.isin(missing).to_numpy()
    values = pandas.to_numeric(series.where(present), errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(np.isnan(values) & present)
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


def recode(column: Categories, meaning: Mapping[str, str], name: str, where: str) -> Categories:
    """The column with each value replaced by its meaning; values may share one.

    Raises:
        ValueError: for a value without a meaning; the column and the value are named.
    """
    one_of(column, meaning, name, where)
    values = tuple(sorted({meaning[value] for value in column.values}))
    position = np.array([*(values.index(meaning[value]) for value in column.values), -1])
    return Categories(position[column.codes], values)


def import_pandas(purpose: str) -> ModuleType:
    """pandas.

    Raises:
        ModuleNotFoundError: where it is not installed, with how to install it.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{purpose} needs pandas: pip install 'badrjax[data]'") from error
    return pandas
