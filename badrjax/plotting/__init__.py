"""Figures of runs. Needs matplotlib (`pip install "badrjax[experiments]"`)."""

from badrjax.plotting.curves import COLOURS, curves_figure, distributions_figure, mean_and_range, stages_figure

__all__ = ["COLOURS", "curves_figure", "distributions_figure", "mean_and_range", "stages_figure"]
