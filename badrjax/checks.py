"""Checks of concrete input, made on the host before anything is traced.

Inside `jit`, `vmap` or `grad` values are unknown, so only shapes and dtypes can be checked there; with plain
arrays the values are checked too. Every message names the argument and says what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def is_concrete(*values: Any) -> bool:
    """Whether the numbers of all leaves may be read: none is being traced, or lies in part on another host."""
    leaves = jax.tree.leaves(values)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return False
    return all(leaf.is_fully_addressable for leaf in leaves if isinstance(leaf, jax.Array))


def check_positive_integer(**values: Any) -> None:
    """Raise `ValueError` unless each named value is an integer of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_same_length(**arrays: Any) -> None:
    """Raise `ValueError` unless the named arrays (`None` is skipped) agree in their leading axis."""
    given = {name: array for name, array in arrays.items() if array is not None}
    lengths = {name: np.shape(array)[0] for name, array in given.items() if np.ndim(array)}
    scalars = [name for name, array in given.items() if np.ndim(array) == 0]
    if scalars:
        raise ValueError(f"{' and '.join(scalars)} must have one entry per example, and a scalar was given")
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"arguments must have one entry per example, but {listing}")


def check_vector(**arrays: Any) -> None:
    """Raise `ValueError` unless each named array (`None` is skipped) has exactly one axis."""
    for name, array in arrays.items():
        if array is not None and np.ndim(array) != 1:
            raise ValueError(
                f"{name} must have one axis (one entry per example) and has shape {np.shape(array)}; "
                "squeeze or reshape it first"
            )


def check_groups(groups: Any, num_groups: int, name: str = "groups") -> None:
    """Raise unless `groups` holds integers and, when concrete, all of them in `[0, num_groups)`."""
    if isinstance(num_groups, bool) or not isinstance(num_groups, int | np.integer) or num_groups < 1:
        raise ValueError(f"num_groups must be a positive Python int (it fixes a shape), got {num_groups!r}")
    dtype = groups.dtype if hasattr(groups, "dtype") else np.asarray(groups).dtype
    if not jax.dtypes.issubdtype(dtype, np.integer):
        raise TypeError(
            f"{name} must hold integer ids in [0, num_groups); turn names into ids with badrjax.encode_groups"
        )
    if is_concrete(groups) and np.size(groups):
        ids = np.asarray(groups)
        outside = (ids < 0) | (ids >= num_groups)
        if outside.any():
            rows = np.flatnonzero(outside)
            raise ValueError(
                f"{name} must lie in [0, {num_groups}), but row {rows[0]} has id {ids.reshape(-1)[rows[0]]}"
                + (f" and {rows.size - 1} more rows are outside" if rows.size > 1 else "")
                + "; pass the right num_groups or re-encode with badrjax.encode_groups"
            )


def check_losses(losses: Any, num_rows: int) -> None:
    """Raise `ValueError` unless losses, traced or not, are one number for each row."""
    if np.shape(losses) != (num_rows,):
        raise ValueError(
            f"losses must be one number a row, f[{num_rows}] here, got shape {np.shape(losses)}; take no mean over "
            "rows, and add up over further axes"
        )


def check_weight(weight: Any, name: str = "weight") -> None:
    """Raise `ValueError` if concrete frequencies (`None` is skipped) hold a negative, infinite or NaN entry."""
    if weight is None or not is_concrete(weight):
        return
    frequencies = np.asarray(weight)
    bad = ~((frequencies >= 0) & (frequencies < np.inf))
    if bad.any():
        row = np.flatnonzero(bad)[0]
        entry = frequencies.reshape(-1)[row]
        raise ValueError(f"{name} must hold frequencies >= 0 and finite (0 is padding), but row {row} has {entry}")


def check_classes(**arrays: Any) -> None:
    """Raise `TypeError` unless each named array holds classes (integers or booleans), not scores."""
    for name, array in arrays.items():
        dtype = array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
        if jax.dtypes.issubdtype(dtype, np.integer) or dtype == np.bool_:
            continue
        raise TypeError(
            f"{name} must hold classes (integers or booleans) and has {dtype}: if these are scores, either "
            "the arguments are swapped (labels come first) or the scores must be turned into classes, e.g. "
            "by logits > 0; if they are classes stored as floats, use astype(int)"
        )


def check_scores(scores: Any, name: str = "scores") -> None:
    """Raise `TypeError` unless `scores` holds floats, as labels and predicted classes do not."""
    dtype = scores.dtype if hasattr(scores, "dtype") else np.asarray(scores).dtype
    if not jax.dtypes.issubdtype(dtype, np.floating):
        raise TypeError(
            f"{name} must hold floats and has {dtype}: if these are labels, the arguments are swapped "
            "(labels come first); predicted classes have no ranking, so pass what they were thresholded from"
        )


def check_class_range(classes: Any, num_classes: int | None, name: str = "labels", weight: Any = None) -> None:
    """Raise `ValueError` if a concrete class in a row of positive `weight` is not in `[0, num_classes)`.

    `num_classes=None` asks only that classes are not negative.
    """
    if not is_concrete(classes, weight):
        return
    values = np.asarray(classes)
    outside = values < 0 if num_classes is None else (values < 0) | (values >= num_classes)
    wrong = outside & (True if weight is None else np.asarray(weight) > 0)
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        allowed = ">= 0" if num_classes is None else "0 or 1" if num_classes == 2 else f"in [0, {num_classes})"
        raise ValueError(
            f"{name} must be {allowed}, but row {row} has {values[row]}; labels coded -1 and 1 become 0 and "
            "1 by labels > 0"
        )


def check_finite(values: Any, name: str, column_names: Iterable[str] | None = None) -> None:
    """Raise `ValueError` naming the first column (or row) of concrete `values` with NaN or infinity."""
    if not is_concrete(values):
        return
    given = np.asarray(values)
    # JAX's own test of dtypes: NumPy's does not count bfloat16 among the inexact ones.
    if not jax.dtypes.issubdtype(given.dtype, np.inexact):
        return
    with np.errstate(over="ignore"):  # what is too large for the precision of the run is infinite in it
        array = given.astype(jax.dtypes.canonicalize_dtype(given.dtype), copy=False)
    if np.isfinite(array).all():
        return
    bad = ~np.isfinite(array)
    if array.ndim == 2:
        columns = np.flatnonzero(bad.any(axis=0))
        names = list(column_names) if column_names is not None else [str(i) for i in range(array.shape[1])]
        where = "column " + repr(names[columns[0]])
        where += f" (row {np.flatnonzero(bad[:, columns[0]])[0]})"
        where += f" and {columns.size - 1} more columns" if columns.size > 1 else ""
    else:
        where = f"row {np.argwhere(bad)[0][0]}" if array.ndim else "its only entry"
    told = "NaN or infinite values"
    if np.isfinite(given).all():
        told = f"values too large for {array.dtype}"
    raise ValueError(f"{name} has {told} in {where}; impute or drop them before training")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """A `ValueError` for a name that is not known, with the nearest known ones."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known are {', '.join(known)}"
    return ValueError(f"unknown {kind} {name!r}: {hint}")
