"""Tables of persons out of the Census Bureau's archives."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from badrjax.datasets.acs.states import FIPS, member_name
from badrjax.datasets.archives import member_names, read_member
from badrjax.datasets.delimited import import_pandas, to_numbers

# Every person has these; the groups and the order of ages rest on them.
_NEVER_EMPTY = ("AGEP", "SEX", "RAC1P")


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
            with the persons of another state, or with a value that is no number (file and column are named).
        ModuleNotFoundError: where pandas is not installed.
    """
    pandas = import_pandas("reading the American Community Survey")
    member = _find_member(archive, member_name(state, year), where)
    content, place = read_member(archive, member, where), f"{member} in {where}"
    wanted = list(dict.fromkeys([*columns, *_NEVER_EMPTY, "ST"]))
    _check_header(content, wanted, place)
    # Empty fields, of spaces in some early files, are the only missing values: nothing else may pass for one.
    rules = {"usecols": wanted, "keep_default_na": False, "na_values": [""], "skipinitialspace": True}
    try:
        frame = pandas.read_csv(io.BytesIO(content), dtype=np.float64, **rules)
    except ValueError as error:
        raise _unreadable(content, wanted, place, error) from error
    table = {column: frame[column].to_numpy() for column in wanted}
    _check_values(table, state, place)
    return table


def _find_member(archive: bytes, name: str, where: str) -> str:
    """The name as the archive writes it; early archives have small letters, some copies capitals."""
    names = member_names(archive, where)
    found = [member for member in names if member.lower() == name.lower()]
    if len(found) != 1:
        shown = ", ".join(map(repr, names[:5])) or "nothing"
        number = "no file" if not found else f"{len(found)} files"
        raise ValueError(f"{where} has {number} {name!r}, but {shown}; get the official archive of that state and year")
    return found[0]


def _check_header(content: bytes, columns: Iterable[str], place: str) -> None:
    header = content.split(b"\n", 1)[0].decode("latin-1")
    present = {name.strip().strip('"') for name in header.split(",")}
    missing = [column for column in columns if column not in present]
    if missing:
        raise ValueError(f"{place} has no column {', '.join(map(repr, missing))}; get the official archive")


def _unreadable(content: bytes, columns: list[str], place: str, error: ValueError) -> ValueError:
    """What is wrong with a table, found by reading it once more as text."""
    pandas = import_pandas("reading the American Community Survey")
    try:
        frame = pandas.read_csv(
            io.BytesIO(content), usecols=columns, dtype=str, keep_default_na=False, skipinitialspace=True
        )
        for column in columns:
            to_numbers(frame[column].str.strip(), place)
    except pandas.errors.ParserError as broken:
        return ValueError(f"{place} is not the table it should be ({broken}); get the official archive")
    except ValueError as named:
        return named
    return ValueError(f"{place} is not the table it should be ({error}); get the official archive")


def _check_values(table: dict[str, np.ndarray], state: str, place: str) -> None:
    for column, values in table.items():
        bad = np.isinf(values) | (np.isnan(values) if column in _NEVER_EMPTY else False)
        if bad.any():
            raise ValueError(
                f"{place} has no number in column {column!r}, row {np.argmax(bad)}; get the official archive"
            )
    elsewhere = table["ST"] != FIPS[state]
    if elsewhere.any():
        row = int(np.argmax(elsewhere))
        raise ValueError(
            f"{place} should hold the persons of {state}, ST = {FIPS[state]}, and row {row} has ST = "
            f"{table['ST'][row]:g}; the archive is another state's"
        )
