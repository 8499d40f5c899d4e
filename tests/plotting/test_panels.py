"""What all plots of one panel have in common."""

import itertools
import sys

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.figure import Figure

from badrjax import plotting
from badrjax.plotting.panels import look, mark

PLOTS = {
    "fronts": lambda axes: plotting.fronts(
        {f"a method with a long name {i}": np.arange(8.0).reshape(4, 2) + i for i in range(5)},
        x_label="error (share of rows)", y_label="gap (0 to 1)", reference=(20, 20), axes=axes,
    ),
    "trajectory": lambda axes: plotting.trajectory(
        {"one": np.ones((3, 5)), "two": np.arange(5)}, y_label="loss (nats)", axes=axes
    ),
    "weights_over_time": lambda axes: plotting.weights_over_time(np.full((5, 2), 0.5), ["a", "b"], axes=axes),
    "multipliers_over_time": lambda axes: plotting.multipliers_over_time(
        np.ones((5, 9)), [f"parity of {'a rather long pair, ' * 5}{i}" for i in range(9)], bound=2.0, axes=axes
    ),
    "alignment_rates": lambda axes: plotting.alignment_rates({"LtR": np.ones((2, 5))}, bargaining_epochs=2, axes=axes),
    "group_metrics": lambda axes: plotting.group_metrics(
        [0.5, 0.6], [0.4, 0.5], [0.6, 0.7], counts=[10, 2000], names=["a", "a much longer name of a group & another"],
        x_label="true positive rate (0 to 1; 95% bootstrap over the rows of the test part)", floor=0.02, axes=axes,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLOTS)
def test_axes_given_are_drawn_on_and_returned(name):
    axes = Figure().subplots()
    assert PLOTS[name](axes) is axes
    assert axes.lines or axes.collections


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_of_its_own_has_labels_and_nothing_that_overlaps_or_is_cut(name):
    before = "matplotlib.pyplot" in sys.modules
    axes = PLOTS[name](None)
    assert ("matplotlib.pyplot" in sys.modules) == before
    figure = axes.figure
    figure.draw_without_rendering()
    assert axes.get_xlabel()
    assert axes.get_ylabel() or name == "group_metrics"
    legend, x_label = axes.get_legend().get_window_extent(), axes.xaxis.label.get_window_extent()
    assert not legend.overlaps(x_label)
    assert not legend.overlaps(axes.get_window_extent())
    assert all(not legend.overlaps(label.get_window_extent()) for label in axes.get_xticklabels())
    whole, drawn = figure.bbox, axes.get_tightbbox()
    assert drawn.x0 >= whole.x0 - 1
    assert drawn.y0 >= whole.y0 - 1
    assert drawn.x1 <= whole.x1 + 1
    assert drawn.y1 <= whole.y1 + 1
    assert axes.get_window_extent().height > 0.3 * whole.height
    assert axes.get_window_extent().width > 0.45 * whole.width


@pytest.mark.parametrize("name", PLOTS)
def test_only_an_axes_is_drawn_on(name):
    with pytest.raises(TypeError, match=r"axes must be a matplotlib Axes or None, got (Figure|ndarray)"):
        PLOTS[name](Figure().subplots(2, 2))
    with pytest.raises(TypeError, match="take one of its Axes"):
        PLOTS[name](Figure())


def test_lines_and_marks_differ_in_more_than_colour():
    for looks, kind in ((look, "linestyle"), (mark, "marker")):
        several = [looks(position) for position in range(28)]
        assert len({(one["color"], one[kind]) for one in several}) == 28
        for left, right in itertools.pairwise(several):
            assert left["color"] != right["color"]
            assert left[kind] != right[kind]


def test_colours_differ_for_those_who_do_not_see_red_or_green():
    # Linear RGB as seen without the long (protanopia) or the middle cones (deuteranopia): Vienot, Brettel and
    # Mollon (1999), up to the scaling of the darkest and brightest colours.
    seen = {
        "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    linear = np.array([matplotlib.colors.to_rgb(colour) for colour in plotting.COLOURS]) ** 2.2
    for matrix in seen.values():
        shown = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(shown[:, None] - shown[None], axis=-1)
        assert apart[~np.eye(len(apart), dtype=bool)].min() > 0.1
