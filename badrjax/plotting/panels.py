"""What all plots share: an Axes without pyplot, looks that are more than a colour, a legend that covers nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from badrjax.plotting.curves import COLOURS

# Lines and marks differ beside their colour, so that they can be told apart in grey and by everyone.
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_LEGEND_LETTERS = 70
_HANDLE_LETTERS = 8
_POINTS_BELOW = 40
_POINTS_A_LINE = 15


def panel(axes: Any, *, height: float, width: float = 5.4, legend: Sequence[str | None] = ()) -> Any:
    """The Axes given, or that of a Figure of its own (inches), which no state of pyplot knows of.

    The figure grows by the lines that a legend of these labels takes.

    Raises:
        TypeError: for something else than an Axes, such as a Figure or an array of Axes.
    """
    if axes is not None:
        if not (hasattr(axes, "plot") and hasattr(axes, "get_figure")):
            raise TypeError(f"axes must be a matplotlib Axes or None, got {type(axes).__name__}; take one of its Axes")
        return axes
    from matplotlib.figure import Figure

    labels = [_wrapped(label) for label in legend if label]
    lines = -(-len(labels) // _columns(labels)) + sum(label.count("\n") for label in labels) if labels else 0
    return Figure(figsize=(width, height + 0.2 * lines), layout="constrained").subplots()


def integer_ticks(axes: Any) -> None:
    """Ticks at whole numbers only, for an axis that counts."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def look(position: int) -> dict[str, Any]:
    """Colour and style of the line at a position; 28 positions differ, and neighbours in both."""
    return {"color": COLOURS[position % len(COLOURS)], "linestyle": STYLES[position % len(STYLES)]}


def mark(position: int) -> dict[str, Any]:
    """Colour and marker of the points at a position; 63 positions differ, and neighbours in both."""
    return {"color": COLOURS[position % len(COLOURS)], "marker": MARKERS[position % len(MARKERS)]}


def finish(axes: Any, *, x_label: str, y_label: str, legend: bool, grid: str = "both") -> Any:
    """Labels, a light grid and, below the axes where it covers nothing, the legend; returns the Axes."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    if legend:
        _legend_below(axes)
    return axes


def named(values: Any, argument: str) -> dict[str, Any]:
    """A mapping from names to values; anything else is one value without a name.

    Raises:
        ValueError: for a mapping without entries.
    """
    if not isinstance(values, Mapping):
        return {"": values}
    if not values:
        raise ValueError(f"{argument} must have at least one entry, got an empty mapping")
    return {str(name): value for name, value in values.items()}


def numbers(values: Any, argument: str) -> np.ndarray:
    """An array of doubles.

    Raises:
        ValueError: for what is not numbers.
    """
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} must hold numbers, all rows equally long ({error})") from error


def _columns(labels: Sequence[str]) -> int:
    """How many labels fit side by side below a panel of the usual width."""
    longest = max(len(line) for label in labels for line in label.split("\n")) + _HANDLE_LETTERS
    return max(1, min(len(labels), _LEGEND_LETTERS // longest))


def _wrapped(label: str) -> str:
    """A label that would be wider than the panel on several lines, for a wide legend takes its width from the panel."""
    return textwrap.fill(label, _LEGEND_LETTERS - _HANDLE_LETTERS)


def _legend_below(axes: Any) -> None:
    from matplotlib.transforms import ScaledTranslation

    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    labels = [_wrapped(label) for label in labels]
    down = _POINTS_BELOW + _POINTS_A_LINE * axes.get_xlabel().count("\n")
    below = axes.transAxes + ScaledTranslation(0, -down / 72, axes.get_figure().dpi_scale_trans)
    options = {"loc": "upper center", "borderaxespad": 0.0, "frameon": False, "fontsize": 9, "ncols": _columns(labels)}
    axes.legend(handles, labels, bbox_to_anchor=(0.5, 0.0), bbox_transform=below, handlelength=2.6, **options)
