"""A number for each group with its interval, and what chance alone would show."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from badrjax.plotting.curves import COLOURS
from badrjax.plotting.panels import finish, numbers, panel

_LETTERS_A_NAME = 26
_LETTERS_A_LABEL = 48


def group_metrics(
    estimate: Any,
    low: Any,
    high: Any,
    *,
    counts: Any,
    names: Sequence[str],
    x_label: str,
    floor: Any = None,
    axes: Any = None,
) -> Any:
    """A dot with a horizontal interval for each group, its count beside its name.

    `floor` says what a gap comes to by chance. One number is for metrics of groups, such as rates: a band of that width
    about the middle of the dots; where all dots lie in the band, their gap is not above the floor. One number a row is
    for rows that are gaps themselves: a tick in each row, above which the gap is more than chance explains.

    A row whose estimate is NaN or infinite says "not assessed"; one whose interval is not finite is a hollow dot alone.

    Args:
        estimate: `f[K]`.
        low: lower ends, `f[K]`.
        high: upper ends, `f[K]`.
        counts: rows that stand behind each estimate, `f[K]`, `>= 0`.
        names: of the K groups; the first is drawn at the top.
        x_label: of the metric, with its range and the level of the intervals, such as
            "true positive rate (0 to 1; 95% bootstrap)".
        floor: a number `>= 0` or `f[K]`; `None` draws none.
        axes: a matplotlib `Axes`; `None` makes a `Figure` of its own, taller with more groups.

    Returns:
        The `Axes`; its figure is `axes.figure`.

    Raises:
        ValueError: for unequal lengths, no groups, ends in the wrong order, negative counts, or a floor that is
            negative, not finite or of another shape.
        TypeError: for `axes` that are none.
    """
    columns = _checked(estimate, low, high, counts, names)
    floor = None if floor is None else _checked_floor(floor, len(names))
    labels = [_row_label(name, count) for name, count in zip(names, columns[-1], strict=True)]
    legend = [] if floor is None else ["noise floor"]
    axes = panel(axes, width=6.4, height=1.1 + 0.19 * sum(2 + label.count("\n") for label in labels), legend=legend)
    estimate, low, high, _ = columns
    rows = np.arange(len(names))
    known = np.isfinite(estimate)
    bounded = known & np.isfinite(low) & np.isfinite(high)
    if floor is not None:
        _draw_floor(axes, floor, estimate[known])
    axes.hlines(rows[bounded], low[bounded], high[bounded], color=COLOURS[0], linewidth=2.2, alpha=0.55)
    axes.plot(estimate[bounded], rows[bounded], "o", color=COLOURS[0], markersize=6)
    alone = known & ~bounded
    axes.plot(estimate[alone], rows[alone], "o", markerfacecolor="white", color=COLOURS[0], markersize=6)
    for row in rows[~known]:
        where = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "center"}
        axes.annotate("not assessed", (0.5, row), color="0.35", fontsize=9, style="italic", **where)
    axes.set_yticks(rows, labels)
    axes.set_ylim(len(names) - 0.4, -0.6)
    x_label = textwrap.fill(x_label, _LETTERS_A_LABEL)
    return finish(axes, x_label=x_label, y_label="", legend=floor is not None, grid="x")


def _draw_floor(axes: Any, floor: np.ndarray, known: np.ndarray) -> None:
    if floor.ndim:
        rows = np.flatnonzero(np.isfinite(floor))
        options = {"linewidth": 1.8, "linestyle": "-", "label": "noise floor of the row"}
        axes.vlines(floor[rows], rows - 0.28, rows + 0.28, color=COLOURS[1], **options)
    elif known.size:
        middle = (known.min() + known.max()) / 2
        label = f"as wide as the noise floor of their gap, {float(floor):.3f}"
        axes.axvspan(middle - floor / 2, middle + floor / 2, color="0.88", lw=0, zorder=0, label=label)


def _checked(*given: Any) -> list[np.ndarray]:
    *arrays, names = given
    if isinstance(names, str) or len(names) == 0:
        raise ValueError(f"names must be a list of at least one group, got {names!r}")
    columns = {}
    for argument, values in zip(("estimate", "low", "high", "counts"), arrays, strict=True):
        columns[argument] = numbers(values, argument)
        if columns[argument].shape != (len(names),):
            raise ValueError(f"{argument} must be f[{len(names)}] like names, got shape {columns[argument].shape}")
    crossed = np.flatnonzero(columns["low"] > columns["high"])
    if crossed.size:
        raise ValueError(f"low must not be above high, but is for {names[crossed[0]]!r}; are they swapped?")
    if not (columns["counts"] >= 0).all():
        raise ValueError(f"counts must be numbers of rows, 0 or more, got {columns['counts']}")
    return list(columns.values())


def _checked_floor(floor: Any, num_groups: int) -> np.ndarray:
    floor = numbers(floor, "floor")
    if floor.shape not in ((), (num_groups,)):
        raise ValueError(f"floor must be one number, or f[{num_groups}] with one a row, got shape {floor.shape}")
    bad = ~(floor >= 0) if floor.ndim == 0 else (floor < 0) | np.isinf(floor)  # NaN in a row: no floor there
    if bad.any() or (floor.ndim == 0 and not np.isfinite(floor)):
        raise ValueError(f"floor must be finite and 0 or more, got {floor}; None draws none")
    return floor


def _row_label(name: str, count: float) -> str:
    number = f"n = {count:,.0f}" if float(count).is_integer() else f"n = {count:,.1f}"
    # The count stays in one piece.
    return textwrap.fill(f"{name} ({number.replace(' ', '~')})", _LETTERS_A_NAME).replace("~", " ")
