"""A table of trials: checked, named, and sorted into groups that share a program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

import jax
import numpy as np

SEED = "seed"
_LARGEST_SEED = 2**32


class TrialGroup(NamedTuple):
    """Trials that differ in numbers only, so that one program runs them all.

    Attributes:
        static: settings that are part of the program, the same for all, by name.
        traced: settings that are arguments of it, `[n]` by name, sorted by name.
        seeds: `uint32[n]`.
        ids: identity of each trial, a hash of its settings; it names results and nothing else.
        positions: rows of the table the trials came from, `int[n]`.
    """

    static: Mapping[str, Any]
    traced: Mapping[str, np.ndarray]
    seeds: np.ndarray
    ids: tuple[str, ...]
    positions: np.ndarray

    @property
    def name(self) -> str:
        """Identity of the group: a hash of the static settings and of the names and dtypes of the others."""
        kinds = {name: str(values.dtype) for name, values in self.traced.items()}
        return digest({"static": self.static, "traced": kinds})


def as_columns(trials: Any) -> dict[str, np.ndarray]:
    """The columns of a frame, or of a mapping of equally long columns, as NumPy arrays.

    Raises:
        TypeError: for something else.
        ValueError: for no trials, columns of unequal lengths, names that are no identifiers, a table without
            seeds or with a seed that is no whole number in `[0, 2**32)`, a missing value (column and row are
            named), values that are neither numbers, booleans, text, dates nor tuples of these, or a trial that stands
            in the table twice.
    """
    if hasattr(trials, "columns") and hasattr(trials, "to_numpy"):
        columns = {str(name): trials[name].to_numpy() for name in trials.columns}
        if len(columns) < len(trials.columns):
            raise ValueError("trials has a column name twice; rename one")
    elif isinstance(trials, Mapping):
        columns = {str(name): _array(str(name), values) for name, values in trials.items()}
    else:
        raise TypeError(f"trials must be a pandas DataFrame or a dict of columns, got {type(trials).__name__}")
    _check_shape(columns)
    columns[SEED] = _seeds(columns[SEED])
    for name, values in columns.items():
        _check_present(name, values)
    return columns


def group_trials(columns: Mapping[str, np.ndarray], static: Collection[str] = ()) -> list[TrialGroup]:
    """Trials sorted into groups that share a program, in the order of their first trial.

    Floating-point columns are arguments of the program; all others (whole numbers, booleans, text) and those in
    `static` are part of it, for they may set shapes, loops or choices. The seed is the key and neither.

    Raises:
        ValueError: for an unknown name in `static`, or the same trial twice.
    """
    unknown = sorted(set(static) - set(columns))
    if unknown or SEED in static:
        raise ValueError(f"static must name columns other than {SEED!r}, got {unknown or [SEED]}")
    columns = {name: as_jax_sees(values) for name, values in columns.items()}
    traced = sorted(name for name, values in columns.items() if values.dtype.kind == "f" and name not in static)
    fixed = sorted(set(columns) - set(traced) - {SEED})
    number = len(columns[SEED])
    settings = [{name: scalar(columns[name][row]) for name in sorted(columns)} for row in range(number)]
    ids = [digest([setting, fixed]) for setting in settings]
    _check_distinct(ids, settings)
    rows_of: dict[str, list[int]] = {}
    for row, setting in enumerate(settings):
        rows_of.setdefault(digest({name: setting[name] for name in fixed}), []).append(row)
    return [
        TrialGroup(
            static={name: settings[rows[0]][name] for name in fixed},
            traced={name: columns[name][rows] for name in traced},
            seeds=columns[SEED][rows],
            ids=tuple(ids[row] for row in rows),
            positions=np.array(rows),
        )
        for rows in rows_of.values()
    ]


def as_jax_sees(values: np.ndarray) -> np.ndarray:
    """Floating-point numbers in the precision of the run, so that one number is one trial."""
    with np.errstate(over="ignore"):
        return values.astype(jax.dtypes.canonicalize_dtype(np.float64)) if values.dtype.kind == "f" else values


def digest(value: Any) -> str:
    """A short SHA-256 of JSON-like values, the same in every process."""
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def scalar(value: Any) -> Any:
    """A NumPy scalar as the Python value that it stands for."""
    return value.item() if isinstance(value, np.generic) else value


def _array(name: str, values: Any) -> np.ndarray:
    listed = list(values) if isinstance(values, range | tuple) else values
    if isinstance(listed, list) and any(isinstance(value, tuple) for value in listed):
        array = np.empty(len(listed), object)
        array[:] = listed
        return array
    array = np.asarray(listed)
    if array.ndim != 1:
        raise ValueError(f"column {name!r} of trials must be a list of values, got shape {array.shape}")
    if isinstance(listed, list) and not _unchanged(listed, array):
        array = np.empty(len(listed), object)
        array[:] = listed
    return array


def _unchanged(listed: list[Any], array: np.ndarray) -> bool:
    """Whether NumPy, which makes all values of one kind, has left them what they are; 1 beside "auto" becomes text."""
    kinds = {type(scalar(value)) for value in listed}
    numbers = kinds == {int, float}  # which are all numbers with a fraction then
    return numbers or kinds == {type(scalar(value)) for value in array}


def _check_shape(columns: Mapping[str, np.ndarray]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"the columns of trials must be equally long, and {listing}")
    for name in columns:
        if name == "key":
            raise ValueError("trials may not have a column 'key': that is what run(key, ...) gets from the seed")
        if not name.isidentifier():
            raise ValueError(f"column {name!r} of trials cannot be the name of an argument; rename it")
    if SEED not in columns:
        raise ValueError(f"trials need a column {SEED!r}: the key of a trial is jax.random.key(seed)")
    if lengths[SEED] == 0:
        raise ValueError("trials has no rows")


def _seeds(values: np.ndarray) -> np.ndarray:
    whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and (values == np.round(values)).all())
    if not whole or (values < 0).any() or (values >= _LARGEST_SEED).any():
        raise ValueError(f"seeds must be whole numbers in [0, 2**32), got {values[:5]}")
    return values.astype(np.uint32)


def _check_present(name: str, values: np.ndarray) -> None:
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    else:
        missing = np.array([_is_missing(value) for value in values.tolist()])
    if missing.any():
        raise ValueError(f"column {name!r} of trials has no value in row {int(np.argmax(missing))}")
    odd = [value for value in values.tolist() if not _is_plain(value)] if values.dtype.kind == "O" else []
    if odd:
        raise ValueError(
            f"column {name!r} of trials must hold numbers, booleans, text or tuples of these, got {odd[0]!r}; name the "
            "choices by text, and let run look them up"
        )


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # of pandas' NA, and of an array, which is refused as what it is
        return not hasattr(value, "shape")


def _is_plain(value: Any) -> bool:
    """Whether a value says all of itself by its `repr`, in every process."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | np.generic | date | timedelta)


def _check_distinct(ids: list[str], settings: list[dict[str, Any]]) -> None:
    first: dict[str, int] = {}
    for row, identity in enumerate(ids):
        if identity in first:
            both = f"rows {first[identity]} and {row} of trials"
            raise ValueError(f"{both} are the same trial, {settings[row]}; drop one")
        first[identity] = row
