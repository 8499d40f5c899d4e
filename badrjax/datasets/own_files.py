"""A dataset from a CSV or Parquet file of the user's own."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import os
import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from badrjax.datasets.dataset import Dataset
from badrjax.datasets.delimited import import_pandas
from badrjax.datasets.files import sha256
from badrjax.datasets.frames import dataset_from_frame

if TYPE_CHECKING:
    import pandas as pd

_CSV_OPTIONS = {"keep_default_na": False, "encoding": "utf-8-sig", "index_col": False}
# Text in which so many values are numbers, and so many different ones, is a column of numbers with a flaw.
_NUMBERS_SHARE = 0.9
_FEWEST_NUMBERS = 10


def dataset_from_file(
    path: str | os.PathLike[str],
    *,
    label: Hashable,
    sensitive: Hashable | Sequence[Hashable],
    favourable: Any = None,
    drop_sensitive: bool = False,
) -> Dataset:
    """Make a dataset of a CSV or Parquet file, a row an example.

    A CSV file has a header, commas between values and UTF-8 text. An empty field is a missing value, which is
    refused, and nothing else is ("NA" is text); a column that would be numbers but for a few such texts is
    refused too. The favourable value may be given as the text that stands in the file.

    Args:
        path: a file that ends in `.csv`, `.csv.gz` or `.parquet`; `~` is the user's home.
        label: as for `dataset_from_frame`, and so are the others.
        sensitive: see there.
        favourable: see there.
        drop_sensitive: see there.

    Raises:
        ValueError: for a folder, another kind of file, one that cannot be read, repeated columns, other
            separators than commas, numbers mixed with a little text, and as `dataset_from_frame`.
        FileNotFoundError: for a file that is not there.
        TypeError: for something that is not a path, and as `dataset_from_frame`.
        ModuleNotFoundError: where pandas, or pyarrow for Parquet, is not installed.
    """
    where = _checked_path(path)
    pandas = import_pandas(f"{where}: reading it")
    content = _content(where)
    frame = _table(pandas, where, content)
    try:
        dataset = dataset_from_frame(
            frame,
            label=label,
            sensitive=sensitive,
            favourable=_value_of(frame, label, favourable),
            name=where.name,
            drop_sensitive=drop_sensitive,
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error
    return dataclasses.replace(dataset, source=str(where), checksums={str(where): sha256(content)})


def _checked_path(path: str | os.PathLike[str]) -> Path:
    try:
        where = Path(path).expanduser()
    except TypeError as error:
        raise TypeError(f"path must be that of a file, got {type(path).__name__}") from error
    except RuntimeError as error:  # no such user
        raise ValueError(f"{path} cannot be found ({error})") from error
    if where.is_dir():
        raise ValueError(f"{where} is a folder; give one file, or read its parts and use dataset_from_frame")
    if not where.name.lower().endswith((".csv", ".csv.gz", ".parquet")):
        raise ValueError(f"{where} is neither .csv, .csv.gz nor .parquet; convert it, or make a frame of it")
    return where


def _content(where: Path) -> bytes:
    try:
        return where.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where} is not there") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{where} cannot be read ({error})") from error


def _table(pandas: ModuleType, where: Path, content: bytes) -> pd.DataFrame:
    kind = where.suffix.lower()
    try:
        if kind == ".parquet":
            return pandas.read_parquet(io.BytesIO(content), engine="pyarrow")
        content = gzip.decompress(content) if kind == ".gz" else content
        flaw = _flaw(_header(pandas, content), content)
        frame = None if flaw else _csv(pandas, content)
    except ImportError as error:
        raise ModuleNotFoundError(f"{where}: reading Parquet needs pyarrow: pip install 'badrjax[data]'") from error
    except Exception as error:  # what the readers raise for a broken file is of many kinds
        raise ValueError(f"{where} cannot be read as a table ({error})") from error
    if frame is None:
        raise ValueError(f"{where} {flaw}")
    for name in frame.columns:
        if frame[name].dtype.kind not in "biuf":
            frame[name] = _cleared(pandas, where, frame[name])
    return frame


def _csv(pandas: ModuleType, content: bytes) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header
        warnings.simplefilter("error", pandas.errors.DtypeWarning)  # a column of several types
        # Read in pieces, a column of 01, 02, ... would be numbers in one piece and text in the next.
        return pandas.read_csv(io.BytesIO(content), na_values=[""], low_memory=False, **_CSV_OPTIONS)


def _header(pandas: ModuleType, content: bytes) -> list[str]:
    """The names of the columns as they stand in the file: pandas itself renames repeated ones."""
    line = pandas.read_csv(io.BytesIO(content), header=None, nrows=1, dtype=str, **_CSV_OPTIONS)
    return line.iloc[0].tolist()


def _flaw(header: list[str], content: bytes) -> str:
    """What pandas would pass over in silence, if anything."""
    if b"\0" in content:
        return _with_nul(header, content)
    if len(set(header)) < len(header):
        repeated = next(name for name in header if header.count(name) > 1)
        return f"has column {repeated!r} more than once; rename one"
    for separator in (";", "\t", "|") if len(header) == 1 else ():
        if separator in header[0]:
            return f"has one column, {header[0]!r}: values should be separated by commas, not by {separator!r}"
    return ""


def _with_nul(header: list[str], content: bytes) -> str:
    for values in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")):
        for name, value in zip(header, values, strict=False):
            if "\0" in value:  # pandas 2 drops what comes after it
                return f"has NUL characters in column {name!r}; remove them, or save the file as UTF-8"
    return "has NUL characters; remove them, or save the file as UTF-8"


def _cleared(pandas: ModuleType, where: Path, series: pd.Series[Any]) -> pd.Series[Any]:
    """A column of text; numbers where all of it reads as such (integers that do not fit in 64 bits)."""
    try:
        numbers = pandas.to_numeric(series, errors="coerce")
    except OverflowError:  # an integer that not even a float holds, which is refused with its column later
        return series
    others = np.flatnonzero((series.notna() & numbers.isna()).to_numpy())
    if not others.size:
        return numbers
    share = numbers.notna().sum() / series.notna().sum()
    if share < _NUMBERS_SHARE or numbers.nunique() < _FEWEST_NUMBERS:
        return series
    raise ValueError(
        f"{where} has numbers in column {series.name!r}, but {series.iloc[others[0]]!r} in row {others[0]} "
        f"({others.size} rows have no number); clean the column, or, to keep it as text, read the file yourself, "
        "make the column text and use dataset_from_frame"
    )


def _value_of(frame: pd.DataFrame, label: Any, favourable: Any) -> Any:
    """The favourable value, which may be given as text, as one of a label column of numbers."""
    kinds = {name: dtype.kind for name, dtype in frame.dtypes.items()}
    if not isinstance(favourable, str) or not isinstance(label, str | int) or kinds.get(label, "") not in tuple("biuf"):
        return favourable
    if favourable.lower() in ("true", "false"):
        return favourable.lower() == "true"
    try:
        number = float(favourable)
    except ValueError as error:
        raise ValueError(f"favourable {favourable!r} does not occur in label {label!r}, which holds numbers") from error
    return int(number) if number.is_integer() else number
