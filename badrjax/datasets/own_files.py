"""A dataset from a CSV or Parquet file of the user's own."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import gzip
import io
import numbers
import os
import re
import unicodedata
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from badrjax.datasets.dataset import Dataset
from badrjax.datasets.files import sha256
from badrjax.datasets.frames import column_flaw, dataset_from_frame
from badrjax.extras import require

if TYPE_CHECKING:
    import pandas as pd

TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_LEADING_ZERO = re.compile(r"[+-]?0\d", re.ASCII)
# Groups of digits as people write them, in threes at the end (in twos before, in India), or a decimal comma.
_GROUPED = re.compile(r"[+-]?(?:\d{1,3}(?:[,'\u2019\s]\d{2,3})*[,'\u2019\s]\d{3}|\d+)(?:[.,]\d+)?")
_WHITE = " \t\r\n"
_MISSING = {"", "na", "n/a", "#n/a", "<na>", "n.a.", "nan", "null", "none", "missing", "?", "-", "--", "."}
_SEPARATORS = (";", "\t", "|")
_MOST_DIGITS = 20  # of an integer of 64 bits
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
    refused, and nothing else is ("NA" is text). A column is numbers where all its values are, and booleans where
    all are true or false, in any of the usual spellings. Numbers that are codes stay text, and a note says so:
    where one has a leading zero ("02139"), is an integer beyond 64 bits, or stands there in two ways ("250.1",
    "250.10"). Refused are columns that would be numbers but for a few texts, for texts that stand for missing
    values, or for separators, percent or currency signs ("1,234", "12.5%").

    A Parquet file keeps its types; its pandas index is no column. Categories of numbers come back as such if
    pandas wrote them, but Parquet keeps no order of theirs, so that their groups are in the order of the numbers.

    The favourable value may be given as the text that stands in the file.

    Args:
        path: a file that ends in `.csv`, `.csv.gz` or `.parquet`; `~` is the user's home.
        label: as for `dataset_from_frame`, and so are the others.
        sensitive: see there.
        favourable: see there.
        drop_sensitive: see there.

    Raises:
        ValueError: for a folder, another kind of file, one that cannot be read, is not UTF-8 or has no rows,
            rows that are not as wide as the header, other separators than commas, numbers mixed with a little
            text or not written plainly, and as `dataset_from_frame`.
        FileNotFoundError: for a file that is not there.
        TypeError: for something that is not a path, and as `dataset_from_frame`.
        ModuleNotFoundError: where pandas, or pyarrow for Parquet, is not installed.
    """
    return dataset_of(read_own_file(path, label), label, sensitive, favourable, drop_sensitive)


class OwnFile(NamedTuple):
    """A file as it was read.

    Attributes:
        where: its path.
        frame: a row an example.
        notes: what a person should know of how a column was read, by its name.
        checksum: SHA-256 of the file.
    """

    where: Path
    frame: pd.DataFrame
    notes: dict[str, str]
    checksum: str


def read_own_file(path: str | os.PathLike[str], label: Any = None, *, convert: bool = True) -> OwnFile:
    """Read a CSV or Parquet file; with `convert=False` all columns of a CSV file are the text that stands there.

    Arguments and errors as in `dataset_from_file`.

    Returns:
        `OwnFile`.
    """
    where = _checked_path(path)
    pandas = require("pandas", f"{where}: reading it")
    content = _content(where)
    frame, notes = _table(pandas, where, content, label, convert)
    if not len(frame):
        raise ValueError(f"{where} has no rows")
    return OwnFile(where, frame, notes, sha256(content))


def dataset_of(
    file: OwnFile,
    label: Hashable,
    sensitive: Hashable | Sequence[Hashable],
    favourable: Any = None,
    drop_sensitive: bool = False,
) -> Dataset:
    """The dataset of a file that was read; arguments and errors as in `dataset_from_file`.

    Returns:
        A `Dataset` whose notes have those of the file.
    """
    where, frame, notes, checksum = file
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
        reasons = [f" ({note})" for name, note in notes.items() if repr(name) in str(error)]
        raise ValueError(f"{where}: {error}{''.join(reasons)}") from error
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error
    return dataclasses.replace(
        dataset, source=str(where), checksums={str(where): checksum}, notes=(*dataset.notes, *notes.values())
    )


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


def _table(
    pandas: ModuleType, where: Path, content: bytes, label: Any, convert: bool
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The file as a frame, and by column what a person should know of how it was read."""
    kind = where.suffix.lower()
    if kind == ".parquet":
        require("pyarrow", f"{where}: reading Parquet")
    try:
        if kind == ".parquet":
            return _parquet(pandas, content), {}
        content = gzip.decompress(content) if kind == ".gz" else content
    except Exception as error:  # what the readers raise for a broken file is of many kinds
        raise ValueError(f"{where} cannot be read as a table ({error})") from error
    content = content.removeprefix(codecs.BOM_UTF8)
    frame = _csv(pandas, where, content, _checked_header(where, content, label))
    notes: dict[str, str] = {}
    if not convert:
        return frame, notes
    columns = {name: _converted(where, frame[name], notes) for name in frame.columns}
    return pandas.DataFrame(columns), notes


def _parquet(pandas: ModuleType, content: bytes) -> pd.DataFrame:
    from pyarrow import parquet

    frame = pandas.read_parquet(io.BytesIO(content), engine="pyarrow")
    # Of categories Parquet itself keeps only those of text; what pandas wrote beside them tells of the others.
    kinds = (parquet.read_schema(io.BytesIO(content)).pandas_metadata or {}).get("columns", [])
    names = {kind["name"] for kind in kinds if kind["pandas_type"] == "categorical"}
    lost = [name for name in frame.columns if str(name) in names and frame[name].dtype != "category"]
    return frame.astype(dict.fromkeys(lost, "category")) if lost else frame


def _csv(pandas: ModuleType, where: Path, content: bytes, header: list[str]) -> pd.DataFrame:
    """The file as text, missing where a field is empty."""
    try:
        return pandas.read_csv(
            io.BytesIO(content), header=0, names=header, index_col=False, dtype=str, keep_default_na=False,
            na_values=[""], encoding="utf-8",
        )  # fmt: skip
    except Exception as error:  # a quotation mark that is never closed, say
        raise ValueError(f"{where} cannot be read as a table ({error})") from error


def _checked_header(where: Path, content: bytes, label: Any) -> list[str]:
    """The names of the columns as they stand in the file.

    Raises:
        ValueError: for what pandas would pass over in silence, or say less well.
    """
    text = _decoded(where, content)
    rows = _rows(where, text)
    header = next(rows, (0, []))[1]
    if not header:
        raise ValueError(f"{where} cannot be read as a table (it is empty)")
    if "\0" in text:
        raise ValueError(f"{where} {_with_nul(header, rows)}")
    for separator in _SEPARATORS:
        names = next(csv.reader([",".join(header)], delimiter=separator))
        if len(names) > 1 and (len(header) == 1 or (isinstance(label, str) and label in names and label not in header)):
            raise _wrong_separator(where, separator, header)
    flaw = column_flaw(header)
    if flaw:
        raise ValueError(f"{where} {flaw}")
    for line, values in rows:
        if len(values) != len(header):
            raise _wrong_width(where, line, values, header)
    return header


def _decoded(where: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = len(content[: error.start + 1].splitlines())
        raise ValueError(f"{where} is not UTF-8 text in line {line}; save it as UTF-8") from error


def _rows(where: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with the number of the line that each starts in."""
    reader = csv.reader(io.StringIO(text, newline=""))
    line = 1
    try:
        for values in reader:
            if len(values) > 1 or "".join(values).strip():
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{where} cannot be read as a table (line {line}: {error})") from error


def _with_nul(header: list[str], rows: Iterator[tuple[int, list[str]]]) -> str:
    for _, values in rows:
        for name, value in zip(header, values, strict=False):
            if "\0" in value:  # pandas 2 drops what comes after it
                return f"has NUL characters in column {name!r}; remove them, or save the file as UTF-8"
    return "has NUL characters; remove them, or save the file as UTF-8"


def _wrong_separator(where: Path, separator: str, header: list[str]) -> ValueError:
    what = f"one column, {header[0]!r}" if len(header) == 1 else f"columns {header!r}"
    return ValueError(f"{where} has {what}: values should be separated by commas, not by {separator!r}")


def _wrong_width(where: Path, line: int, values: list[str], header: list[str]) -> ValueError:
    for separator in _SEPARATORS:
        number = ",".join(header).count(separator)
        if number >= len(header) - 1 and number == ",".join(values).count(separator):
            return _wrong_separator(where, separator, header)
    return ValueError(
        f"{where}: line {line} has {len(values)} values and the header {len(header)}; make them as many (a value with "
        "commas in it must stand in quotation marks)"
    )


def _converted(where: Path, series: pd.Series[Any], notes: dict[str, str]) -> pd.Series[Any]:
    """A column of text as booleans or numbers, where all of it is; else itself, with a note for codes."""
    codes, found = series.factorize()
    if not len(found) or (codes < 0).any():  # a missing value is refused later, whatever the column is
        return series
    texts = [text.strip(_WHITE) for text in map(str, found)]
    if set(texts) <= set(TRUTHS):
        return _of_codes(series, np.array([TRUTHS[text] for text in texts]), codes)
    plain = [bool(NUMBER.fullmatch(text)) for text in texts]
    written = [text for text, is_number in zip(texts, plain, strict=True) if is_number]
    reason = next(filter(None, map(_code, written)), "")
    if all(plain):
        values = None if reason else _numbers(texts)
        if values is not None:
            return _of_codes(series, values, codes)
        reason = reason or _same_number(texts)
        notes[str(series.name)] = f"column {series.name!r} holds numbers and is taken as text: {reason}"
    elif not reason:
        _check_no_numbers(where, series, codes, texts, plain)
    return series


def _of_codes(series: pd.Series[Any], values: np.ndarray, codes: np.ndarray) -> pd.Series[Any]:
    return type(series)(values[codes], name=series.name)


def _code(text: str) -> str:
    """Why a number is a code, if it is one: as a number it would become another, or lose digits."""
    if _LEADING_ZERO.match(text):
        return f"{text!r} has a leading zero"
    if _WHOLE.fullmatch(text) and (len(text.lstrip("+-")) > _MOST_DIGITS or not -(2**63) <= int(text) < 2**64):
        return f"{text[:40]!r} does not fit in 64 bits"
    return ""


def _numbers(texts: list[str]) -> np.ndarray | None:
    """Numbers in 64 bits; `None` where two texts would become the same, or no type holds all."""
    if not all(map(_WHOLE.fullmatch, texts)):
        values = np.array([float(text) for text in texts])
        bits = values.view(np.int64)  # -0.0 is another text than 0.0, and writers make both
        return values if np.unique(bits).size == len(set(texts)) else None
    whole = [int(text) for text in texts]
    if len(set(whole)) < len(set(texts)) or (min(whole) < 0 and max(whole) >= 2**63):
        return None
    return np.array(whole, np.int64 if max(whole) < 2**63 else np.uint64)


def _same_number(texts: list[str]) -> str:
    """Why `_numbers` is `None`."""
    first: dict[float, str] = {}
    for text in texts:
        other = first.setdefault(float(text), text)
        if other != text:
            return f"{other!r} and {text!r} are the same number"
    return "its integers do not fit in 64 bits"


def _check_no_numbers(
    where: Path, series: pd.Series[Any], codes: np.ndarray, texts: list[str], plain: list[bool]
) -> None:
    """Raise `ValueError` for text that was meant to be numbers."""
    others = [text for text, is_number in zip(texts, plain, strict=True) if not is_number]
    rows = np.flatnonzero(~np.array(plain)[codes])
    enough = len({float(text) for text, is_number in zip(texts, plain, strict=True) if is_number}) >= _FEWEST_NUMBERS
    missing = [text.casefold() in _MISSING for text in others]
    dressed = [_is_dressed(text) for text in others]
    share = 1 - rows.size / codes.size
    to_keep = (
        "clean the column, or, to keep it as text, read the file yourself, make the column text and use "
        "dataset_from_frame"
    )
    if enough and (share >= _NUMBERS_SHARE or all(missing)):
        raise ValueError(
            f"{where} has numbers in column {series.name!r}, but {series.iloc[rows[0]]!r} in row {rows[0]} "
            f"({rows.size} rows have no number); {to_keep}"
        )
    if any(dressed) and all(one or other for one, other in zip(dressed, missing, strict=True)):
        text = others[dressed.index(True)]
        row = int(np.argmax(codes == texts.index(text)))
        raise ValueError(
            f"{where} has numbers in column {series.name!r} that are not written plainly, such as {text!r} in row "
            f"{row}; write digits, a decimal point and '-' only (no separators, percent or currency signs, or "
            f"parentheses): {to_keep}"
        )


def _is_dressed(text: str) -> bool:
    """Whether it is a number but for separators, percent or currency signs, parentheses or another minus."""
    bare = "".join(" " if unicodedata.category(char) == "Sc" or char in "%‰" else char for char in text)
    bare = bare.replace("\N{MINUS SIGN}", "-").strip()
    bare = bare[1:-1] if bare.startswith("(") and bare.endswith(")") else bare
    bare = re.sub(r"^([+-])\s+", r"\1", bare.strip())
    return not _LEADING_ZERO.match(bare) and bool(NUMBER.fullmatch(bare) or _GROUPED.fullmatch(bare))


def _value_of(frame: pd.DataFrame, label: Any, favourable: Any) -> Any:
    """The favourable value, which may be given as text, as one of a label column of numbers."""
    found = [name for name in frame.columns if name == label] if isinstance(label, str | int) else []
    if not isinstance(favourable, str) or len(found) != 1:
        return favourable
    try:
        distinct = set(frame[label].dropna().tolist())
    except TypeError:  # lists, which are refused later
        return favourable
    if not distinct or not all(isinstance(value, numbers.Real | np.bool_) for value in distinct):
        return favourable
    if distinct <= {0, 1} and favourable.lower() in ("true", "false"):
        return favourable.lower() == "true"
    for kind in (int, float):  # an integer as it stands: a float has 53 bits
        try:
            return kind(favourable)
        except ValueError:
            continue
    return favourable
