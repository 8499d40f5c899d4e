"""What happens over a run: any measurement, weights of groups, multipliers, alignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from badrjax.plotting.curves import mean_and_range
from badrjax.plotting.panels import finish, integer_ticks, look, named, numbers, panel
from badrjax.results import mean_interval

_MOST_NAMED = 6


def trajectory(
    values: Any,
    *,
    y_label: str,
    x_label: str = "epoch",
    band: Literal["range", "interval"] = "range",
    axes: Any = None,
) -> Any:
    """Measurements over a run: a line is the mean over seeds, a band says how far the seeds differ.

    Values that are not finite are diverged seeds: they are left out of mean and band, an epoch without any finite value
    is left out of the line, and the legend counts the seeds that are not finite throughout. A single epoch is a dot.

    Args:
        values: by name, `f[S, epochs]`, a row a seed, or `f[epochs]` for one seed; an array alone is a single line.
        y_label: of the vertical axis, with its unit or range.
        x_label: of the horizontal axis.
        band: "range", from the least to the largest seed, or "interval", Student's 95% interval of the mean, which a
            single seed does not have.
        axes: a matplotlib `Axes`; `None` makes a `Figure` of its own.

    Returns:
        The `Axes`; its figure is `axes.figure`.

    Raises:
        ValueError: for values of other shapes, without epochs or seeds, no entry, or an unknown band.
        TypeError: for `axes` that are none.
    """
    if band not in ("range", "interval"):
        raise ValueError(f"band must be 'range' or 'interval', got {band!r}")
    entries = {name: _by_seed(name, entry) for name, entry in named(values, "values").items()}
    labels = [_label(name, rows) for name, rows in entries.items()]
    axes = panel(axes, height=3.2, legend=labels)
    draw = mean_and_range if band == "range" else _mean_and_interval
    for position, (label, rows) in enumerate(zip(labels, entries.values(), strict=True)):
        style = look(position)
        draw(axes, rows, colour=style["color"], label=label, style=style["linestyle"])
    integer_ticks(axes)
    return finish(axes, x_label=x_label, y_label=y_label, legend=True)


def weights_over_time(
    weights: Any, names: Sequence[str], *, x_label: str = "epoch", y_label: str = "weight", axes: Any = None
) -> Any:
    """Weights of groups over a run, a line a group.

    Where they lie on the simplex, the axis goes from 0 to 1 and a thin line shows equal weights. Values that are not
    finite are left out as by `trajectory`.

    Args:
        weights: `f[T, K]`, or `f[S, T, K]` with a row a seed, of which mean and range are drawn.
        names: of the K groups.
        x_label: what T counts.
        y_label: of the vertical axis.
        axes: a matplotlib `Axes`; `None` makes a `Figure` of its own.

    Returns:
        The `Axes`.

    Raises:
        ValueError: for another shape, or another number of names.
        TypeError: for `axes` that are none.
    """
    weights = _by_name(weights, names, "weights")
    lines = dict(zip(names, np.moveaxis(weights, -1, 0), strict=True))
    axes = trajectory(lines, y_label=y_label, x_label=x_label, axes=axes)
    totals = weights.sum(axis=-1)[np.isfinite(weights).all(axis=-1)]
    if totals.size and np.allclose(totals, 1, atol=1e-3) and np.nanmin(weights) >= 0:
        axes.axhline(1 / len(names), color="0.45", linewidth=0.8, zorder=1)
        axes.annotate(
            f"1/{len(names)}", (1, 1 / len(names)), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", ha="left", va="center", fontsize=8, color="0.35",
        )  # fmt: skip
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel(f"{y_label} (0 to 1, sum 1)")
    return axes


def multipliers_over_time(
    multipliers: Any,
    names: Sequence[str],
    *,
    bound: float | None = None,
    most_named: int = _MOST_NAMED,
    x_label: str = "round",
    y_label: str = "multiplier (≥ 0)",
    axes: Any = None,
) -> Any:
    """Multipliers of constraints over a run: those that grow largest by name, the others in grey.

    A multiplier that stays at 0 belongs to a constraint that never binds; one at `bound` to a constraint that is not
    met in spite of it. Values that are not finite are left out of the lines.

    Args:
        multipliers: `f[T, C]`.
        names: of the C constraints.
        bound: at which multipliers are clipped, drawn as a line.
        most_named: how many lines have a name and a colour; the others are grey, and the legend counts them.
        x_label: what T counts.
        y_label: of the vertical axis.
        axes: a matplotlib `Axes`; `None` makes a `Figure` of its own.

    Returns:
        The `Axes`.

    Raises:
        ValueError: for another shape, another number of names, or `most_named` below 1.
        TypeError: for `axes` that are none.
    """
    multipliers = _by_name(multipliers, names, "multipliers", axes_allowed=(2,))[0]
    if most_named < 1:
        raise ValueError(f"most_named must be at least 1, got {most_named}")
    largest = np.max(np.where(np.isfinite(multipliers), multipliers, -np.inf), axis=0)
    order = np.argsort(-largest, kind="stable")
    shown, others = order[:most_named], order[most_named:]
    labels = [str(names[column]) for column in shown]
    rest = f"{len(others)} others, none larger" if len(others) else None
    limit = None if bound is None else f"bound: {bound:g}"
    axes = panel(axes, height=3.2, legend=[rest, *labels, limit])
    steps = np.arange(1, len(multipliers) + 1)
    for position, column in enumerate(others):
        label = None if position else rest
        axes.plot(steps, _finite(multipliers[:, column]), color="0.75", linewidth=0.8, label=label, zorder=1)
    for position, column in enumerate(shown):
        axes.plot(steps, _finite(multipliers[:, column]), linewidth=1.6, label=labels[position], **look(position))
    if bound is not None:
        axes.axhline(bound, color="0.25", linewidth=0.8, linestyle=(0, (1, 2)), label=limit)
    integer_ticks(axes)
    return finish(axes, x_label=x_label, y_label=y_label, legend=True, grid="y")


def alignment_rates(rates: Any, *, bargaining_epochs: int = 0, axes: Any = None) -> Any:
    """How often an update helps every player at once, over the epochs of a run.

    Args:
        rates: by name, `f[S, epochs]` or `f[epochs]` in `[0, 1]`, such as `run.steps.aligned`; NaN where it was not
            measured, which is left out.
        bargaining_epochs: how many of the first epochs are shaded.
        axes: a matplotlib `Axes`; `None` makes a `Figure` of its own.

    Returns:
        The `Axes`.

    Raises:
        ValueError: as `trajectory`, for rates outside `[0, 1]`, or negative epochs.
        TypeError: for `axes` that are none.
    """
    for name, entry in named(rates, "rates").items():
        known = numbers(entry, f"rates[{name!r}]")
        known = known[np.isfinite(known)]
        if known.size and not (known.min() >= 0 and known.max() <= 1):
            raise ValueError(
                f"rates[{name!r}] must be shares in [0, 1], got values from {known.min():g} to {known.max():g}"
            )
    if bargaining_epochs < 0:
        raise ValueError(f"bargaining_epochs must be 0 or more, got {bargaining_epochs}")
    axes = trajectory(rates, y_label="share of batches with every\ngroup's loss falling (0 to 1)", axes=axes)
    axes.set_ylim(-0.03, 1.03)
    if bargaining_epochs:
        axes.axvspan(0.5, bargaining_epochs + 0.5, color="0.88", lw=0, zorder=0, label="bargaining")
        finish(axes, x_label=axes.get_xlabel(), y_label=axes.get_ylabel(), legend=True)
    return axes


def _by_seed(name: str, entry: Any) -> np.ndarray:
    argument = f"values[{name!r}]" if name else "values"
    rows = np.atleast_2d(numbers(entry, argument)) if np.ndim(entry) else np.zeros(())
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{argument} must be [seeds, epochs] or [epochs], at least one of each, got {np.shape(entry)}")
    return rows


def _by_name(values: Any, names: Sequence[str], argument: str, axes_allowed: tuple[int, ...] = (2, 3)) -> np.ndarray:
    """`f[S, T, K]` with a name for each of K."""
    rows = numbers(values, argument)
    shapes = " or ".join({2: "[T, K]", 3: "[S, T, K]"}[count] for count in axes_allowed)
    if rows.ndim not in axes_allowed or 0 in rows.shape:
        raise ValueError(f"{argument} must be {shapes}, nothing of it empty, got shape {rows.shape}")
    if isinstance(names, str) or len(names) != rows.shape[-1] or len(set(names)) < len(names):
        raise ValueError(f"names must be {rows.shape[-1]} different names, one a column of {argument}, got {names!r}")
    return rows if rows.ndim == 3 else rows[None]


def _label(name: str, rows: np.ndarray) -> str | None:
    seeds, lost = len(rows), int((~np.isfinite(rows).any(axis=1)).sum())
    notes = [f"{seeds} seeds"] if seeds > 1 else []
    notes += [f"{lost} not finite"] if lost else []
    return " ".join(filter(None, (name, f"({', '.join(notes)})" if notes else ""))) or None


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _mean_and_interval(axes: Any, values: np.ndarray, *, colour: str, label: str | None, style: str) -> None:
    intervals = [mean_interval(column) for column in values.T]
    mean, half = np.array([[found.mean, found.half_width] for found in intervals]).T
    epochs = np.arange(1, len(mean) + 1)
    known = np.isfinite(mean)
    single = {"marker": "o"} if known.sum() == 1 else {}
    axes.plot(epochs[known], mean[known], style, color=colour, label=label, linewidth=1.6, **single)
    axes.fill_between(epochs[known], (mean - half)[known], (mean + half)[known], color=colour, alpha=0.15, lw=0)
    if single:
        axes.vlines(epochs[known], (mean - half)[known], (mean + half)[known], color=colour, alpha=0.4)
