"""How the columns of a table became features, kept so that other rows become the same features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from badrjax.datasets.frames import feature_column
from badrjax.datasets.own_files import NUMBER, TRUTHS, read_own_file
from badrjax.datasets.tables import Categories, Column, encode_features

if TYPE_CHECKING:
    import pandas as pd

_MOST_SHOWN = 6


class ColumnEncoding(NamedTuple):
    """One column.

    Attributes:
        name: of the column.
        kind: what it holds; booleans are the numbers 0 and 1.
        values: of text, each with a 0/1 feature.
        unseen: those of them that no training row had.
    """

    name: str
    kind: Literal["number", "text"]
    values: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


class Encoding(NamedTuple):
    """The columns that features are made of, in the order of the table; features are sorted by name."""

    columns: tuple[ColumnEncoding, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns that other rows must have."""
        return tuple(column.name for column in self.columns)


def encoding_of(frame: pd.DataFrame, left_out: Iterable[str], rows: Int[np.ndarray, "m"] | None = None) -> Encoding:
    """How `badrjax.dataset_from_frame` makes features of a frame's columns.

    Args:
        frame: that a dataset is made of.
        left_out: columns that are no features: the label, and sensitive ones that were dropped.
        rows: positions of the training rows; values that only others have are not known. `None` is all.

    Returns:
        An `Encoding` of the others.

    Raises:
        ValueError, TypeError: as `badrjax.dataset_from_frame` for the columns.
    """
    dropped = set(left_out)
    kept = [name for name in frame.columns if str(name) not in dropped]
    return Encoding(tuple(_encoding(str(name), feature_column(frame[name]), rows) for name in kept))


def encode_frame(frame: pd.DataFrame, encoding: Encoding) -> Float[np.ndarray, "n F"]:
    """Features of other rows, as those that the encoding was made of.

    Args:
        frame: with at least the columns of the encoding; numbers and booleans may be text.
        encoding: of `encoding_of`.

    Returns:
        `f32[n, F]`, in the order of the dataset's `feature_names`.

    Raises:
        ValueError: for columns that are missing, a missing value, text where numbers or booleans were, or a text
            that the encoding does not know (the column, the row and the known ones are named).
    """
    present = set(map(str, frame.columns))
    lacking = [name for name in encoding.column_names if name not in present]
    if lacking:
        raise ValueError(f"columns that the model was trained with are missing: {_listing(lacking)}")
    by_name = {str(name): frame[name] for name in frame.columns}
    return encode_features({column.name: _encoded(column, by_name[column.name]) for column in encoding.columns}).x


def encode_file(path: str | os.PathLike[str], encoding: Encoding) -> Float[np.ndarray, "n F"]:
    """`encode_frame` of a CSV or Parquet file, whose other columns are not read.

    Returns:
        `f32[n, F]`.

    Raises:
        ValueError: as `encode_frame` and, for a file that cannot be read, `badrjax.datasets.dataset_from_file`.
        FileNotFoundError: for a file that is not there.
    """
    file = read_own_file(path, convert=False)
    try:
        return encode_frame(file.frame, encoding)
    except ValueError as error:
        raise ValueError(f"{file.where}: {error}") from error


def _encoding(name: str, column: Column, rows: np.ndarray | None) -> ColumnEncoding:
    if isinstance(column, Categories):
        seen = set(column.codes.tolist() if rows is None else column.codes[rows].tolist())
        unseen = tuple(value for code, value in enumerate(column.values) if code not in seen)
        return ColumnEncoding(name, "text", column.values, unseen)
    # `feature_column` has made floats of booleans: both are taken as numbers from here on.
    return ColumnEncoding(name, "number")


def _encoded(column: ColumnEncoding, series: pd.Series[Any]) -> Column:
    missing = np.flatnonzero(series.isna().to_numpy())
    if missing.size:
        raise ValueError(f"column {column.name!r} has no value in row {missing[0]}; impute it or drop the row")
    # Each different value once: files have many rows and few values.
    codes, found = series.factorize()
    first = np.unique(codes, return_index=True)[1]
    values = list(zip(first.tolist(), found.tolist(), strict=True))
    if column.kind == "text":
        return Categories(_codes(column, values)[codes], column.values)
    return np.array([_number(column.name, row, value) for row, value in values], np.float64)[codes]


def _codes(column: ColumnEncoding, values: Sequence[tuple[int, Any]]) -> np.ndarray:
    """Positions among the known values, of values with the row that each stands in first."""
    position = {value: code for code, value in enumerate(column.values) if value not in column.unseen}
    codes = [position.get(str(value), -1) for _, value in values]
    if -1 in codes:
        row, value = values[codes.index(-1)]
        raise ValueError(
            f"column {column.name!r} has {value!r} in row {row}, which the model was not trained with; it knows "
            f"{_listing(tuple(position))}"
        )
    return np.array(codes, int)


def _number(name: str, row: int, value: Any) -> float:
    if isinstance(value, str):
        text = value.strip()
        if text in TRUTHS:
            return float(TRUTHS[text])
        if not NUMBER.fullmatch(text):
            raise ValueError(f"column {name!r} has {value!r} in row {row}, where the model was trained with numbers")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"column {name!r} has {value!r} in row {row}, where the model was trained with numbers"
        ) from error
    if not abs(number) <= float(np.finfo(np.float32).max):
        raise ValueError(f"column {name!r} has {value!r} in row {row}, which is not finite in float32")
    return number


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_MOST_SHOWN])
    return shown + (f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else "")
