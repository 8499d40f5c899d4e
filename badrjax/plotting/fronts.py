"""Trade-offs between two objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from badrjax.pareto import front_points
from badrjax.plotting.panels import finish, mark, named, numbers, panel


def fronts(fronts: Mapping[str, Any], *, x_label: str, y_label: str, reference: Any = None, axes: Any = None) -> Any:
    """Points of two objectives, both to be minimised, with the Pareto front of each method as a staircase.

    Points that others of the same name dominate are drawn light and small; points of the front are joined by a
    staircase, the border of what the front dominates. With `reference`, that region is shaded up to it: its area is the
    hypervolume. Rows with NaN or an infinity are not drawn, and the legend counts them.

    Args:
        fronts: by name, points `f[m, 2]`, a `badrjax.pareto.Front`, or a `badrjax.bilevel.Front` of two groups, of
            which the regularised risks are drawn. Each name has a colour and a marker of its own.
        x_label: of the first objective, with its unit or range, such as "error (share of test rows)".
        y_label: of the second.
        reference: `f[2]`, the reference point of the hypervolume, drawn as a cross; `None` draws and shades nothing.
        axes: a matplotlib `Axes`; `None` makes a `Figure` of its own.

    Returns:
        The `Axes`; its figure is `axes.figure`.

    Raises:
        ValueError: for points that are not `[m, 2]`, no entry, or a reference that is not two finite numbers.
        TypeError: for `axes` that are none.
    """
    entries = {name: _points(name, entry) for name, entry in named(fronts, "fronts").items()}
    corner = None if reference is None else numbers(reference, "reference")
    if corner is not None and (corner.shape != (2,) or not np.isfinite(corner).all()):
        raise ValueError(f"reference must be two finite numbers, f[2], got {reference!r}")
    labels = [_label(name, points) for name, points in entries.items()]
    axes = panel(axes, height=3.6, legend=[*labels, None if corner is None else "reference point"])
    for position, (label, points) in enumerate(zip(labels, entries.values(), strict=True)):
        _draw(axes, points, label, corner, mark(position))
    if corner is not None:
        axes.plot(*corner, "x", color="0.25", markersize=8, label="reference point", linestyle="none")
    return finish(axes, x_label=x_label, y_label=y_label, legend=True)


def _points(name: str, entry: Any) -> np.ndarray:
    points = getattr(entry, "regularised_risks", getattr(entry, "points", entry))
    points = numbers(points, f"fronts[{name!r}]")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"fronts[{name!r}] must be [m, 2], a row a point of two objectives, got shape {points.shape}")
    return points


def _label(name: str, points: np.ndarray) -> str | None:
    lost = int((~np.isfinite(points).all(axis=1)).sum())
    note = f"{lost} of {len(points)} not finite" if lost else ""
    return (f"{name} ({note})" if name and note else name or note) or None


def _draw(axes: Any, points: Any, label: str | None, corner: np.ndarray | None, look: dict[str, Any]) -> None:
    points = points[np.isfinite(points).all(axis=1)]
    best = np.isin(np.arange(len(points)), front_points(points).indices)
    axes.scatter(*points[~best].T, s=14, alpha=0.3, linewidths=0, color=look["color"], marker=look["marker"], zorder=2)
    stairs = np.unique(points[best], axis=0)
    axes.plot(*stairs.T, linestyle="none", markersize=6, markeredgecolor="white", label=label, zorder=4, **look)
    axes.step(*stairs.T, where="post", color=look["color"], linewidth=1.2, alpha=0.8, zorder=3)
    if corner is None:
        return
    inside = stairs[(stairs < corner).all(axis=1)]
    if len(inside):
        x, y = np.append(inside[:, 0], corner[0]), np.append(inside[:, 1], inside[-1, 1])
        axes.fill_between(x, y, corner[1], step="post", color=look["color"], alpha=0.08, linewidth=0, zorder=1)
