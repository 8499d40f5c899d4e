"""Tables of persons out of the Census Bureau's archives."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from badrjax.datasets.acs.states import FIPS, member_name
from badrjax.datasets.archives import find_member, read_member
from badrjax.datasets.delimited import to_numbers
from badrjax.extras import require

# Every person has these; the groups and the order of ages rest on them.
_NEVER_EMPTY = ("AGEP", "SEX", "RAC1P")
_REMEDY = "get the official archive"


def read_persons(archive: bytes, state: str, year: int, columns: Iterable[str], where: str) -> dict[str, np.ndarray]:
    """Some columns of the persons of a state, in the order of the file.

    Args:
        archive: the zip file as it was published.
        state: postal code.
        year: of the survey.
        columns: names of columns; the state's number and those that every person has are read besides.
        where: what the archive is called, for messages.

    Returns:
        Numbers `f64[n]` by column, NaN where the file has an empty field.

    Raises:
        ValueError: for an archive that is damaged or lacks the table, for a table without one of the columns,
            with rows shorter or longer than the header, with the persons of another state, or with a value that
            is no number (file and column are named).
        ModuleNotFoundError: where pandas is not installed.
    """
    member = find_member(archive, member_name(state, year), where)
    place = f"{member} in {where}"
    content = read_member(archive, member, where).removeprefix(codecs.BOM_UTF8)
    header = _header(content)
    wanted = list(dict.fromkeys([*columns, *_NEVER_EMPTY, "ST"]))
    _check_header(header, wanted, place)
    _check_widths(content, len(header), place)
    # The last column, a weight of each person, is empty where a row was cut off right before it.
    table = _read_numbers(content, header, list(dict.fromkeys([*wanted, header[-1]])), place)
    _check_values(table, {*_NEVER_EMPTY, header[-1]}, place)
    _check_state(table["ST"], state, place)
    return {column: table[column] for column in wanted}


def _header(content: bytes) -> list[str]:
    return [name.strip().strip('"').strip() for name in _lines(content).readline().split(",")]


def _lines(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="latin-1")


def _check_header(header: Sequence[str], columns: Iterable[str], place: str) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        raise ValueError(f"{place} has no column {', '.join(map(repr, missing))}; {_REMEDY}")
    repeated = [name for position, name in enumerate(header) if name in header[:position]]
    if repeated:
        raise ValueError(f"{place} has several columns {repeated[0]!r}; {_REMEDY}")


def _check_widths(content: bytes, width: int, place: str) -> None:
    """Raise `ValueError` unless all rows are as wide as the header: pandas fills short ones and cuts long ones.

    No value of these files has a comma, so counting them is exact, and much faster than parsing.
    """
    for number, line in enumerate(_lines(content), start=1):
        found = line.count(",") + 1
        if found != width and line.strip():
            raise ValueError(f"{place} has {found} values in line {number}, not {width} as its header; {_REMEDY}")


def _read_numbers(content: bytes, header: list[str], columns: list[str], place: str) -> dict[str, np.ndarray]:
    pandas = require("pandas", "reading the American Community Survey")
    # The names are passed on, for in the file they may have spaces around them.
    rules: dict[str, Any] = {
        "names": header, "header": 0, "usecols": columns, "index_col": False, "skipinitialspace": True,
        "keep_default_na": False,
    }  # fmt: skip
    try:
        try:
            # Empty fields, of spaces in some early files, are the only missing values.
            frame = pandas.read_csv(io.BytesIO(content), dtype=np.float64, na_values=[""], **rules)
            return {column: frame[column].to_numpy() for column in columns}
        except ValueError:
            # Once more as text, which is slower, but names a value that is no number.
            frame = pandas.read_csv(io.BytesIO(content), dtype=str, **rules)
            return {column: to_numbers(frame[column].str.strip(), place) for column in columns}
    except ValueError as error:
        if str(error).startswith(place):
            raise
        raise ValueError(f"{place} is not the table it should be ({error}); {_REMEDY}") from error


def _check_values(table: dict[str, np.ndarray], never_empty: Iterable[str], place: str) -> None:
    for column, values in table.items():
        bad = np.isinf(values) | (np.isnan(values) if column in never_empty else False)
        if bad.any():
            raise ValueError(f"{place} has no number in column {column!r}, row {np.argmax(bad)}; {_REMEDY}")


def _check_state(found: np.ndarray, state: str, place: str) -> None:
    elsewhere = found != FIPS[state]
    if elsewhere.any():
        row = int(np.argmax(elsewhere))
        raise ValueError(
            f"{place} should hold the persons of {state}, ST = {FIPS[state]}, and row {row} has ST = "
            f"{found[row]:g}; the archive is another state's"
        )
