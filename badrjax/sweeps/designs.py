"""Tables of trials: grids, random and Sobol samples, and every row with every seed."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from badrjax.extras import require
from badrjax.sweeps.trials import as_jax_sees

# Draws for a wanted row before giving up on finding that many different ones.
_MOST_DRAWS = 32
_FEWEST_DRAWS = 1024


class Range(NamedTuple):
    """What `sample` draws a column from.

    Attributes:
        at: `at(u)`, the values `[n]` at points `u: f64[n]` of `[0, 1)`.
    """

    at: Callable[[np.ndarray], np.ndarray]


def grid(**columns: Any) -> dict[str, np.ndarray]:
    """All combinations of some values, as a table of trials.

    Args:
        **columns: the values of each column (numbers, booleans or text), or a single one.

    Returns:
        Columns of equal length by name, in the order given; the last one varies fastest.

    Raises:
        TypeError: for values without an order (a set), of unlike kinds, or neither numbers, booleans nor text.
        ValueError: for no columns, one without values, with NaN, with the same value twice, with more than one
            axis, or with a name that is no identifier.
    """
    if not columns:
        raise ValueError("grid needs at least one column, such as grid(learning_rate=[0.1, 0.01], seed=range(5))")
    values = {name: _distinct(name, _column(name, entries)) for name, entries in columns.items()}
    sizes = [len(column) for column in values.values()]
    inner = [math.prod(sizes[place + 1 :]) for place in range(len(sizes))]
    outer = [math.prod(sizes[:place]) for place in range(len(sizes))]
    return {
        name: np.tile(np.repeat(column, each), times)
        for (name, column), each, times in zip(values.items(), inner, outer, strict=True)
    }


def cross(design: Any, /, **columns: Any) -> dict[str, np.ndarray]:
    """Every row of a design with every combination of more columns, such as `seed=range(5)`.

    Args:
        design: a table of trials: a dict of equally long columns or a pandas frame.
        **columns: as for `grid`.

    Returns:
        The columns of the design, then the new ones; the rows made of one row follow each other.

    Raises:
        TypeError: for something that is no table, or values as for `grid`.
        ValueError: for a design without rows, with columns of unequal lengths, or with a column that is given
            again; for columns as for `grid`.
    """
    rows = _table(design)
    added = grid(**columns)
    for name in added:
        if name in rows:
            raise ValueError(f"the design has a column {name!r} already; leave it out of one of the two")
    num_rows, num_added = len(next(iter(rows.values()))), len(next(iter(added.values())))
    return {name: np.repeat(column, num_added) for name, column in rows.items()} | {
        name: np.tile(column, num_rows) for name, column in added.items()
    }


def sample(
    num: int, *, seed: int, method: Literal["random", "sobol"] = "random", **ranges: Range
) -> dict[str, np.ndarray]:
    """Rows drawn from ranges, as a table of trials.

    All rows are different, in the precision of JAX: one that is drawn again is left out and the next is taken. The
    same arguments give the same rows, and a larger `num` appends to them. Sobol points are balanced where their number
    is a power of two: the next power of two is drawn and cut to `num`, so a power of two serves best.

    Args:
        num: number of rows.
        seed: of the draw itself. The trials' own `seed` is a column of its own: `cross(design, seed=range(5))`.
        method: "random" for independent rows, "sobol" for scrambled Sobol points (SciPy's, and reproducible for
            its version), which fill the ranges more evenly.
        **ranges: of each column: `uniform`, `log_uniform`, `integers` or `choice`.

    Returns:
        Columns `[num]` by name, in the order given.

    Raises:
        TypeError: for something that is no range, or a number or seed that is no whole number.
        ValueError: for no ranges, a number below 1, a seed below 0, an unknown method, a name that is no
            identifier, or fewer different rows than `num`.
        ModuleNotFoundError: for "sobol" where SciPy is not installed.
    """
    _check_sample(num, seed, method, ranges)
    most = max(_MOST_DRAWS * num, _FEWEST_DRAWS)
    draws = _next_power_of_two(num)
    while True:
        points = _POINTS[method](draws, len(ranges), seed)
        drawn = {name: spread.at(points[:, place]) for place, (name, spread) in enumerate(ranges.items())}
        kept = _first_of_each(drawn)[:num]
        if len(kept) == num:
            return {name: column[kept] for name, column in drawn.items()}
        if draws >= most:
            raise ValueError(
                f"num is {num}, and {draws} draws gave {len(kept)} different rows; ask for fewer, widen a range, or "
                "take grid, which lists them all"
            )
        # Both streams begin with the same points however many are drawn.
        draws *= 2


def uniform(low: float, high: float) -> Range:
    """Numbers spread evenly over `[low, high]`.

    Args:
        low: least value.
        high: largest value.

    Raises:
        TypeError: for a bound that is no number.
        ValueError: unless both are finite and `low < high`.
    """
    low, high = _bounds("uniform", low, high)
    return Range(partial(_uniform_at, low=low, high=high))


def log_uniform(low: float, high: float) -> Range:
    """Numbers whose logarithms are spread evenly over `[log low, log high]`.

    Args:
        low: least value, above 0.
        high: largest value.

    Raises:
        TypeError: for a bound that is no number.
        ValueError: unless both are finite and `0 < low < high`.
    """
    low, high = _bounds("log_uniform", low, high)
    if low <= 0:
        raise ValueError(f"log_uniform needs low > 0, got {low}; take a small positive number, or uniform")
    return Range(partial(_log_uniform_at, low=low, high=high))


def integers(low: int, high: int) -> Range:
    """Whole numbers from `low` to `high - 1`, each as likely.

    Args:
        low: least value.
        high: above the largest value, as for `range`.

    Raises:
        TypeError: for a bound that is no whole number.
        ValueError: unless `low < high`, both below `2**53` in size.
    """
    for name, bound in (("low", low), ("high", high)):
        _check_whole(f"{name} of integers", bound)
        if abs(bound) > 2**53:
            raise ValueError(f"{name} of integers must lie within 2**53 of 0, got {bound}")
    _check_order("integers", low, high)
    return Range(partial(_integers_at, low=int(low), high=int(high)))


def choice(values: Any) -> Range:
    """One of some values, each as likely; one that is listed twice is twice as likely.

    Args:
        values: numbers, booleans or text.

    Raises:
        TypeError: for values without an order (a set), of unlike kinds, or neither numbers, booleans nor text.
        ValueError: for no values, NaN, or more than one axis.
    """
    return Range(partial(_choice_at, values=_values("choice", values)))


def _uniform_at(u: np.ndarray, low: float, high: float) -> np.ndarray:
    # Not `low + u * (high - low)`, whose width may overflow; the ends may be passed by rounding.
    return np.clip((1 - u) * low + u * high, low, high)


def _log_uniform_at(u: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.exp(_uniform_at(u, math.log(low), math.log(high))), low, high)


def _integers_at(u: np.ndarray, low: int, high: int) -> np.ndarray:
    return low + np.floor(u * (high - low)).astype(np.int64)


def _choice_at(u: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values[_integers_at(u, 0, len(values))]


def _random_points(num: int, num_columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((num, num_columns))


def _sobol_points(num: int, num_columns: int, seed: int) -> np.ndarray:
    qmc = require("scipy.stats", "method='sobol'").qmc
    # A generator, because SciPy's versions differ in what they make of a number.
    return qmc.Sobol(num_columns, scramble=True, seed=np.random.default_rng(seed)).random(num)


_POINTS = {"random": _random_points, "sobol": _sobol_points}


def _next_power_of_two(num: int) -> int:
    return 1 << (num - 1).bit_length()


def _first_of_each(columns: Mapping[str, np.ndarray]) -> list[int]:
    """Rows that did not come before, with numbers as a program sees them."""
    first: dict[Any, int] = {}
    seen = [as_jax_sees(column).tolist() for column in columns.values()]
    for row, entries in enumerate(zip(*seen, strict=True)):
        first.setdefault(entries, row)
    return list(first.values())


def _check_sample(num: Any, seed: Any, method: Any, ranges: Mapping[str, Any]) -> None:
    for name, value in (("seed", seed), ("method", method)):
        if isinstance(value, Range):
            raise TypeError(
                f"{name} says how the sample is drawn; for a column {name!r} of the trials, draw the others and add "
                f"it by cross(design, {name}=[...])"
            )
    _check_whole("num", num)
    _check_whole("seed", seed)
    if num < 1 or seed < 0:
        raise ValueError(f"num must be at least 1 and seed at least 0, got num={num} and seed={seed}")
    if method not in _POINTS:
        raise ValueError(f"method must be 'random' or 'sobol', got {method!r}")
    if not ranges:
        raise ValueError("sample needs at least one range, such as learning_rate=log_uniform(1e-4, 1.0)")
    for name, spread in ranges.items():
        _check_name(name)
        if not isinstance(spread, Range):
            raise TypeError(
                f"{name} must be a range (uniform, log_uniform, integers or choice), got {spread!r}; add fixed values "
                f"by cross(design, {name}=...)"
            )


def _check_whole(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{what} must be a whole number, got {value!r}")


def _bounds(name: str, low: Any, high: Any) -> tuple[float, float]:
    for which, bound in (("low", low), ("high", high)):
        if isinstance(bound, bool) or not isinstance(bound, numbers.Real):
            raise TypeError(f"{which} of {name} must be a number, got {bound!r}")
        if not math.isfinite(bound):
            raise ValueError(f"{which} of {name} must be finite, got {bound}")
    _check_order(name, low, high)
    return float(low), float(high)


def _check_order(name: str, low: Any, high: Any) -> None:
    if not low < high:
        raise ValueError(f"{name} needs low < high, got low={low} and high={high}")


def _check_name(name: str) -> None:
    if not name.isidentifier():
        raise ValueError(f"column {name!r} cannot be the name of an argument; rename it")


def _table(design: Any) -> dict[str, np.ndarray]:
    """The columns of a design, checked."""
    if hasattr(design, "columns") and hasattr(design, "to_numpy"):
        columns = {str(name): design[name].to_numpy() for name in design.columns}
    elif isinstance(design, Mapping):
        columns = dict(design)
    else:
        raise TypeError(f"design must be a dict of columns or a pandas DataFrame, got {type(design).__name__}")
    if not columns:
        raise ValueError("design has no columns")
    rows = {name: _column(name, values) for name, values in columns.items()}
    lengths = {name: len(column) for name, column in rows.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"the columns of a design must be equally long, and {listing}")
    return rows


def _column(name: str, entries: Any) -> np.ndarray:
    _check_name(name)
    return _values(f"column {name!r}", entries)


def _values(what: str, entries: Any) -> np.ndarray:
    """One value or several as an array of numbers, booleans or text."""
    array = np.asarray(entries) if hasattr(entries, "__array__") else None
    if array is None or array.dtype.kind not in "biufU":
        array = _from_list(what, entries)
    array = np.atleast_1d(array)
    if array.ndim != 1:
        raise ValueError(f"{what} must be a list of values, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{what} has no values")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{what} has NaN in place {int(np.argmax(np.isnan(array)))}")
    return array


def _from_list(what: str, entries: Any) -> np.ndarray:
    if isinstance(entries, set | frozenset | Mapping):
        raise TypeError(f"{what} has values without an order, {entries!r}; give a list")
    listed = [entries] if isinstance(entries, str) or not hasattr(entries, "__iter__") else list(entries)
    kinds = {_kind(entry) for entry in listed}
    if "other" in kinds:
        odd = next(entry for entry in listed if _kind(entry) == "other")
        raise TypeError(f"{what} must hold numbers, booleans or text, got {odd!r}; name the choices by text instead")
    if len(kinds) > 1:
        raise TypeError(f"{what} mixes {' and '.join(sorted(kinds))}, which would be turned into one another")
    array = np.array(listed)
    whole = all(isinstance(entry, numbers.Integral) for entry in listed)
    if kinds == {"numbers"} and whole and array.dtype.kind not in "iu":
        raise ValueError(f"{what} has whole numbers beyond 64 bits")
    return array


def _kind(entry: Any) -> str:
    if isinstance(entry, bool | np.bool_):
        return "booleans"
    if isinstance(entry, numbers.Real):
        return "numbers"
    return "text" if isinstance(entry, str) else "other"


def _distinct(name: str, column: np.ndarray) -> np.ndarray:
    value, count = Counter(column.tolist()).most_common(1)[0]
    if count > 1:
        raise ValueError(f"column {name!r} has {value!r} {count} times; list each value once")
    return column
