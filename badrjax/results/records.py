"""What one sitting found of a part of a table, kept so that verdicts over the whole table can be made later.

Benjamini and Hochberg's and Holm's procedures need every p-value of a table at once, and a table can take longer to
run than one sitting lasts. A record holds what `ledger_table` and `claim_table` start from, not verdicts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from badrjax.results.cells import Cell, Printed
from badrjax.results.claims import Claim
from badrjax.results.contrasts import Contrast
from badrjax.results.recording import write_atomically
from badrjax.results.tables import Entry

_FORMAT = 1


class Record(NamedTuple):
    """A part of a table.

    Attributes:
        about: what it is a part of and how it was run, such as the data set, the protocol's options and the seeds;
            what `check_record` compares.
        entries: cells, for `ledger_table`.
        claims: labels and claims, for `claim_table`.
        notes: other rows that belong to it, of names and plain values.
        origin: see `provenance`.
    """

    about: Mapping[str, Any]
    entries: Sequence[Entry]
    claims: Sequence[tuple[Mapping[str, str], Claim]] = ()
    notes: Sequence[Mapping[str, Any]] = ()
    origin: Mapping[str, Any] = {}


def write_record(record: Record, path: str | os.PathLike[str]) -> Path:
    """Write a record as JSON by an atomic rename, its directory made where there is none; numbers keep all digits."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"format": _FORMAT, **_plain(record)}, indent=1) + "\n")
    return path


def read_record(path: str | os.PathLike[str]) -> Record:
    """The record in a file, equal to the one that was written.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: for a file that is no record, or is damaged.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        stored = json.loads(text)
        if stored["format"] != _FORMAT:
            raise ValueError(f"its format is {stored['format']}, and this version reads {_FORMAT}")
        entries = [_entry(entry) for entry in stored["entries"]]
        claims = [(labels, _claim(claim)) for labels, claim in stored["claims"]]
        notes = [{name: _number(value) for name, value in note.items()} for note in stored["notes"]]
        return Record(stored["about"], entries, claims, notes, stored["origin"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no record of results: {error}") from error


def check_record(record: Record, about: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise `ValueError` where a record is about something else, with what differs."""
    wanted = _plain(about)
    names = sorted({*wanted, *record.about})
    differing = [
        f"{name} {record.about.get(name)!r} instead of {wanted.get(name)!r}"
        for name in names
        if record.about.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(f"{path} was recorded with {'; '.join(differing)}; ask for the same, or leave it out")


def _plain(value: Any) -> Any:
    """JSON's own types; NaN, which JSON has not, as `None`."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    number = value.item() if hasattr(value, "item") else value
    return None if number != number else number


def _entry(stored: Mapping[str, Any]) -> Entry:
    cell = None if stored["cell"] is None else _cell(stored["cell"])
    return Entry(**{**stored, "printed": Printed(**stored["printed"]), "cell": cell})


def _cell(stored: Mapping[str, Any]) -> Cell:
    return Cell(**{name: _number(value) for name, value in stored.items()} | {"printed": Printed(**stored["printed"])})


def _claim(stored: Mapping[str, Any]) -> Claim:
    contrasts = {
        name: Contrast(**{key: _number(value) for key, value in stored[name].items()}) for name in ("seeds", "wide")
    }
    return Claim(**{**stored, **contrasts})


def _number(value: Any) -> Any:
    return float("nan") if value is None else value
