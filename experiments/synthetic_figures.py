"""Pictures of runs on the two-objective problem: in the plane, in the plane of the losses, and alignment over steps.

Each takes paths by title of the rule from S starts: `theta` and `losses` `f[S, T + 1, 2]`, `aligned` and `bargained`
`bool[S, T]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from badrjax.plotting import COLOURS
from experiments import synthetic

Paths = Mapping[str, Mapping[str, np.ndarray]]

_HALF_WIDTH = 11.0
_NUM_COLUMNS = 4
_WINDOW = 25
_FIRST, _SECOND = "#7B9BC7", "#D9A066"
_FAIR: dict[str, Any] = {"color": "#F0E442", "markeredgecolor": "black", "markeredgewidth": 0.7, "ms": 13}


def trajectories(paths: Paths, front: synthetic.Front, *, scale: float, title: str) -> Any:
    """Paths in the plane over contours of both losses, a panel a rule; what leaves the square is cut off."""
    figure, panels, corner = _panels(len(paths))
    x, values = _losses_on_grid(scale)
    for axes, (name, run) in zip(panels, paths.items(), strict=True):
        for loss, colour in enumerate((_FIRST, _SECOND)):
            axes.contour(
                x, x, values[:, :, loss], levels=12, colors=colour, linewidths=0.6, linestyles="solid", zorder=0
            )
        _draw_paths(axes, run["theta"], run["bargained"], front.theta, front.fair)
        axes.set_title(name, fontsize=10)
        axes.set(xlim=(-_HALF_WIDTH, _HALF_WIDTH), ylim=(-_HALF_WIDTH, _HALF_WIDTH), aspect="equal")
    handles = [*_legend_handles(), _line(_FIRST, "$L_1$ (contours)"), _line(_SECOND, "$L_2$ (contours)")]
    _finish(figure, corner, handles, f"{title} (what lies outside the square is cut off)", "x", "y")
    return figure


def loss_planes(paths: Paths, front: synthetic.Front, *, scale: float, title: str) -> Any:
    """The same paths in the plane of the losses, where the front is a curve and fairness is the diagonal."""
    figure, panels, corner = _panels(len(paths))
    low, high = -23 * scale, 13 * scale
    for axes, (name, run) in zip(panels, paths.items(), strict=True):
        axes.plot([low, high], [low, high], color="0.75", lw=0.8, zorder=0)
        fair = scale * front.losses[len(front.losses) // 2]
        _draw_paths(axes, run["losses"], run["bargained"], scale * front.losses, fair)
        axes.set_title(name, fontsize=10)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    handles = [*_legend_handles(), _line("0.75", "$L_1 = L_2$")]
    _finish(figure, corner, handles, title, "$L_1$", "$L_2$")
    return figure


def alignment(families: Mapping[str, Paths], *, bargaining_steps: int, title: str) -> Any:
    """Share of the starts whose update helps both losses, a moving average over steps; a panel a family of rules."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.1 * len(families), 3.9), layout="constrained")
    grid = figure.subplots(1, len(families), squeeze=False)[0]
    for axes, (family, paths) in zip(grid, families.items(), strict=True):
        for (name, run), colour in zip(paths.items(), COLOURS, strict=False):
            share = moving_average(np.mean(run["aligned"], axis=0), _WINDOW)
            axes.plot(np.arange(1, len(share) + 1), share, color=colour, lw=1.4, label=name)
        if family.startswith("bargaining"):
            axes.axvspan(0, bargaining_steps, color="0.9", lw=0, zorder=0, label="stage before a goal")
        axes.set_title(family, fontsize=10)
        axes.set(xlabel="step", ylim=(-0.03, 1.03))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=8, ncols=2)
    figure.axes[0].set_ylabel(f"share of starts aligned\n(moving average of {_WINDOW} steps)")
    figure.suptitle(title, fontsize=11)
    return figure


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the last `width` values (at the beginning, of those there are), `f[T]`."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(end - width, 0)
    return (total[end] - total[begin]) / (end - begin)


def _panels(number: int) -> tuple[Any, Sequence[Any], Any]:
    """A figure, its panels, and the empty one that is left for the legend."""
    from matplotlib.figure import Figure

    num_rows = number // _NUM_COLUMNS + 1
    num_columns = min(_NUM_COLUMNS, number + 1)
    figure = Figure(figsize=(2.7 * num_columns, 2.85 * num_rows + 0.5), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[number:]:
        axes.set_axis_off()
    return figure, grid[:number], grid[number]


def _draw_paths(axes: Any, paths: np.ndarray, bargained: np.ndarray, front: np.ndarray, fair: np.ndarray) -> None:
    axes.plot(front[:, 0], front[:, 1], color="black", lw=3, alpha=0.45, solid_capstyle="round", zorder=1)
    # Below the ends, of which the best lie on it, and larger than these.
    axes.plot(*fair, "*", **_FAIR, zorder=1.5)
    for points, steps, colour in zip(np.asarray(paths), np.asarray(bargained), COLOURS, strict=False):
        axes.plot(points[:, 0], points[:, 1], color=colour, lw=1.1, alpha=0.85, zorder=2)
        axes.plot(*points[0], "o", color="white", markeredgecolor=colour, ms=5, zorder=3)
        stop = stage_end(steps)
        if stop is not None:
            axes.plot(*points[stop], "D", color="white", markeredgecolor=colour, ms=4, zorder=3)
        axes.plot(*points[-1], "s", color=colour, markeredgecolor="white", markeredgewidth=0.6, ms=6, zorder=4)


def stage_end(bargained: np.ndarray) -> int | None:
    """The point, by number, after the last bargain among steps `bool[T]`; none where none or the last step was one."""
    steps = np.flatnonzero(bargained)
    return None if steps.size == 0 or steps[-1] == len(bargained) - 1 else int(steps[-1]) + 1


def _legend_handles() -> list[Any]:
    from matplotlib.lines import Line2D

    mark = {"linestyle": "none", "color": "0.3"}
    return [
        Line2D([], [], marker="o", markerfacecolor="white", label="start", **mark),
        Line2D([], [], marker="D", markerfacecolor="white", ms=4, label="bargaining stops", **mark),
        Line2D([], [], marker="s", label="end", **mark),
        Line2D([], [], color="black", lw=3, alpha=0.45, label="Pareto front"),
        Line2D([], [], marker="*", linestyle="none", label="fair", **_FAIR),
    ]


def _line(colour: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, lw=1, label=label)


def _finish(figure: Any, corner: Any, handles: list[Any], title: str, xlabel: str, ylabel: str) -> None:
    corner.legend(handles=handles, loc="center", frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)


def _losses_on_grid(scale: float, number: int = 221) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, number)
    points = jnp.stack(jnp.meshgrid(x, x), axis=-1)
    return x, np.asarray(jax.vmap(jax.vmap(synthetic.losses, (0, None)), (0, None))(points, scale))
