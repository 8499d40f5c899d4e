"""Figures of runs. Needs matplotlib (`pip install "badrjax[experiments]"`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# Distinguishable in the common forms of colour blindness (Okabe and Ito), darkest first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# The ratio of values beyond which an axis is logarithmic.
_FAR_APART = 20


def mean_and_range(axes: Any, values: np.ndarray, *, colour: str, label: str | None, style: str = "-") -> None:
    """Draw the mean over seeds of `values` `f[S, epochs]` with the range of the seeds as a band.

    Epochs without any finite value are left out of the line; diverged seeds are left out of mean and range. A single
    epoch, which makes no line, is a dot with an upright range.
    """
    values = np.asarray(values, float)
    known = np.isfinite(values).any(axis=0)
    epochs = np.arange(1, values.shape[1] + 1)[known]
    finite = np.where(np.isfinite(values), values, np.nan)[:, known]
    low, high = np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)
    mark = "o" if len(epochs) == 1 else None
    axes.plot(epochs, np.nanmean(finite, axis=0), style, color=colour, label=label, linewidth=1.6, marker=mark)
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
    if mark:
        axes.vlines(epochs, low, high, color=colour, alpha=0.4)


def stages_figure(
    goals: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    *,
    group_names: Sequence[str],
    bargaining_epochs: int,
    title: str,
) -> Any:
    """Accuracy by group and alignment rate over epochs, one column a goal, one-stage beside two-stage runs.

    Args:
        goals: by goal, then `"one stage"` / `"two stages"`, then `accuracy` `f[S, epochs, K]` and `aligned`
            `f[S, epochs]`.
        group_names: of the K groups.
        bargaining_epochs: the epochs that are shaded.
        title: of the figure.

    Returns:
        A matplotlib `Figure`, not shown and not saved.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.9 * len(goals) + 0.4, 6.2), layout="constrained")
    grid = figure.subplots(2, len(goals), sharex=True, sharey="row", squeeze=False)
    for column, (goal, stages) in enumerate(goals.items()):
        upper, lower = grid[:, column]
        for stage, style in (("one stage", "--"), ("two stages", "-")):
            if stage not in stages:
                continue
            for group, name in enumerate(group_names):
                accuracy = np.asarray(stages[stage]["accuracy"])[:, :, group]
                mean_and_range(
                    upper, accuracy, colour=COLOURS[group % len(COLOURS)], label=f"{name}, {stage}", style=style
                )
            colour = COLOURS[-1] if stage == "two stages" else COLOURS[3]
            mean_and_range(lower, stages[stage]["aligned"], colour=colour, label=f"aligned, {stage}", style=style)
        for axes in (upper, lower):
            _finish_panel(axes, bargaining_epochs)
        upper.set_title(goal)
        lower.set_xlabel("epoch")
        lower.set_ylim(-0.03, 1.03)
    grid[0, 0].set_ylabel("test accuracy by group")
    grid[1, 0].set_ylabel("share of batches with\nevery cell aligned")
    _legend_below(figure, grid.flat)
    figure.suptitle(f"{title} (shaded: bargaining; bands: range over seeds)", fontsize=11)
    return figure


def curves_figure(
    columns: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    *,
    rows: Mapping[str, str],
    title: str,
    rates: Collection[str] = (),
    shaded: Mapping[str, int] | None = None,
    styles: Mapping[str, str] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Any:
    """Curves over epochs in a grid of panels, a line the mean over seeds and a band their range.

    Args:
        columns: by title of a column, then key of a row, then name of a line, values `f[S, epochs]`; a panel may lack
            lines that others have, and a name has one colour throughout.
        rows: label of the vertical axis by key of a row, in order.
        title: of the figure.
        rates: keys of the rows that are drawn from 0 to 1.
        shaded: by title of a column, how many of the first epochs are shaded; none where it is not listed.
        styles: matplotlib's line style by name of a line; solid where it is not listed.
        colours: of lines by name; those of `COLOURS`, in order of the names, where it is not listed.

    Returns:
        A matplotlib `Figure`, not shown and not saved.
    """
    from matplotlib.figure import Figure

    size = (3.6 * len(columns) + 0.6, 2.3 * len(rows) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
    names = dict.fromkeys(name for panels in columns.values() for lines in panels.values() for name in lines)
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)} | dict(colours or {})
    for (column, panels), axes_of_column in zip(columns.items(), grid.T, strict=True):
        for key, axes in zip(rows, axes_of_column, strict=True):
            for name, values in panels.get(key, {}).items():
                style = (styles or {}).get(name, "-")
                mean_and_range(axes, values, colour=colours[name], label=name, style=style)
            _finish_panel(axes, (shaded or {}).get(column, 0))
            if key in rates:
                axes.set_ylim(-0.03, 1.03)
        axes_of_column[0].set_title(column)
        axes_of_column[-1].set_xlabel("epoch")
    for label, axes in zip(rows.values(), grid[:, 0], strict=True):
        axes.set_ylabel(label)
    figure.align_ylabels()
    _legend_below(figure, grid.flat, 2 * len(columns))
    figure.suptitle(title, fontsize=11)
    return figure


def distributions_figure(
    columns: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    *,
    rows: Sequence[str],
    title: str,
    share: str,
    floor: float = 0.0,
    styles: Mapping[str, str] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Any:
    """Empirical distribution functions in a grid of panels.

    Args:
        columns: by label of a column's axis, then row, then name of a line, values `f[n]`. Those that are not finite
            count in n and lie beyond the axis, which is logarithmic where values of a column are far apart.
        rows: the rows in order.
        title: of the figure.
        share: of what the vertical axis is the share, such as "cells".
        floor: smaller values are drawn there.
        styles: matplotlib's line style by name of a line; solid where it is not listed.
        colours: of lines by name; those of `COLOURS`, in order of the names, where it is not listed.

    Returns:
        A matplotlib `Figure`, not shown and not saved.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 * len(columns) + 0.8, 2.4 * len(rows) + 1.2), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), sharex="col", sharey=True, squeeze=False)
    names = dict.fromkeys(name for panels in columns.values() for lines in panels.values() for name in lines)
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)} | dict(colours or {})
    for (label, panels), axes_of_column in zip(columns.items(), grid.T, strict=True):
        drawn = []
        for row, axes in zip(rows, axes_of_column, strict=True):
            for name, values in panels.get(row, {}).items():
                steps, shares = _distribution(values, floor)
                style = (styles or {}).get(name, "-")
                axes.step(steps, shares, style, where="post", color=colours[name], label=name, linewidth=1.6)
                drawn += [value for value in steps if value > 0]
            _finish_panel(axes, 0)
        if drawn and max(drawn) > _FAR_APART * min(drawn):
            axes_of_column[0].set_xscale("log")
        axes_of_column[-1].set_xlabel(label)
    for row, axes in zip(rows, grid[:, 0], strict=True):
        axes.set_ylabel(f"{row}: share of {share}")
    _legend_below(figure, grid.flat, min(len(names), 2 * len(columns)))
    figure.suptitle(title, fontsize=11)
    return figure


def _distribution(values: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the distribution function steps, from its foot on, and the shares up to there."""
    values = np.maximum(np.asarray(values, float), floor)
    known = np.sort(values[np.isfinite(values)])
    shares = np.arange(known.size + 1) / max(values.size, 1)
    return np.concatenate([known[:1], known]), shares[: known.size + 1 if known.size else 0]


def _finish_panel(axes: Any, shaded_epochs: int) -> None:
    if shaded_epochs > 0:
        axes.axvspan(0.5, shaded_epochs + 0.5, color="0.88", lw=0, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)


def _legend_below(figure: Any, panels: Iterable[Any], num_columns: int = 3) -> None:
    """One legend for all panels, for some may lack lines that others have."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    options = {"loc": "outside lower center", "ncols": num_columns, "frameon": False, "fontsize": 9}
    figure.legend(named.values(), named.keys(), **options)
