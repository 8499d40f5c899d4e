"""Figures of runs. Needs matplotlib (`pip install "badrjax[experiments]"`).

Plots of one panel take `axes=` and return it, so that they go into any figure; without it they make a matplotlib
`Figure` of their own, which pyplot does not know of: `axes.figure.savefig(...)`, or the last line of a notebook's cell
`axes.figure`. Colours are those of Okabe and Ito, and lines and marks differ in more than colour.
"""

from badrjax.plotting.curves import COLOURS, curves_figure, distributions_figure, mean_and_range, stages_figure
from badrjax.plotting.fronts import fronts
from badrjax.plotting.groups import group_metrics
from badrjax.plotting.trajectories import alignment_rates, multipliers_over_time, trajectory, weights_over_time

__all__ = [
    "COLOURS",
    "alignment_rates",
    "curves_figure",
    "distributions_figure",
    "fronts",
    "group_metrics",
    "mean_and_range",
    "multipliers_over_time",
    "stages_figure",
    "trajectory",
    "weights_over_time",
]
