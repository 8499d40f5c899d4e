"""What plots over the time of a run draw."""

import numpy as np
import pytest

from badrjax import plotting
from badrjax.results import mean_interval

RNG = np.random.default_rng(0)
VALUES = RNG.uniform(size=(4, 6))


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def band(axes):
    """Ends of the first band by epoch."""
    corners = axes.collections[0].get_paths()[0].vertices
    epochs = np.unique(corners[:, 0])
    return np.array([[corners[corners[:, 0] == e, 1].min(), corners[corners[:, 0] == e, 1].max()] for e in epochs]).T


def test_a_line_is_the_mean_and_a_band_the_range_of_seeds():
    axes = plotting.trajectory({"loss": VALUES, "alone": VALUES[0]}, y_label="loss (nats)")
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.c_[1:7, VALUES.mean(0)])
    np.testing.assert_allclose(band(axes), [VALUES.min(0), VALUES.max(0)])
    assert labels(axes) == ["loss (4 seeds)", "alone"]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_the_other_band_is_the_interval_of_the_mean():
    axes = plotting.trajectory({"loss": VALUES}, y_label="loss (nats)", band="interval")
    expected = [
        (found.mean - found.half_width, found.mean + found.half_width) for found in map(mean_interval, VALUES.T)
    ]
    np.testing.assert_allclose(band(axes), np.transpose(expected))


@pytest.mark.parametrize("kind", ["range", "interval"])
def test_what_is_not_finite_is_left_out_and_counted(kind):
    values = VALUES.copy()
    values[1], values[2, 3:], values[:, 5] = np.nan, np.inf, np.nan
    axes = plotting.trajectory({"loss": values, "none": np.full((2, 3), np.nan)}, y_label="loss (nats)", band=kind)
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(axes.lines[0].get_ydata()[:3], VALUES[[0, 2, 3], :3].mean(0))
    np.testing.assert_allclose(axes.lines[0].get_ydata()[3:], VALUES[[0, 3], 3:5].mean(0))
    assert labels(axes) == ["loss (4 seeds, 1 not finite)", "none (2 seeds, 2 not finite)"]


def test_a_single_epoch_is_a_dot():
    for kind in ("range", "interval"):
        assert plotting.trajectory(VALUES[:, :1], y_label="loss (nats)", band=kind).lines[0].get_marker() == "o"


def test_epochs_are_whole_numbers():
    axes = plotting.trajectory(VALUES[:, :3], y_label="loss (nats)")
    axes.figure.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_weights_on_the_simplex_are_drawn_beside_equal_ones():
    weights = RNG.dirichlet(np.ones(3), size=(2, 8))
    axes = plotting.weights_over_time(weights, ["a", "b", "c"])
    for group in range(3):
        np.testing.assert_allclose(axes.lines[group].get_ydata(), weights[:, :, group].mean(0))
    assert axes.lines[3].get_ydata()[0] == pytest.approx(1 / 3)
    assert axes.get_ylim() == (-0.03, 1.03)
    assert axes.get_ylabel() == "weight (0 to 1, sum 1)"
    assert labels(axes) == ["a (2 seeds)", "b (2 seeds)", "c (2 seeds)"]


def test_weights_off_the_simplex_keep_their_own_range():
    axes = plotting.weights_over_time(5 * RNG.uniform(size=(8, 2)), ["a", "b"], y_label="bargaining weight")
    assert len(axes.lines) == 2
    assert axes.get_ylabel() == "bargaining weight"
    assert axes.get_ylim()[1] > 1.5


def test_the_largest_multipliers_have_names_and_the_others_are_grey():
    multipliers = np.outer(np.arange(5), [3.0, 1.0, 2.0, 0.0])
    multipliers[2, 1] = np.nan
    axes = plotting.multipliers_over_time(multipliers, list("abcd"), bound=12.0, most_named=2)
    assert labels(axes) == ["2 others, none larger", "a", "c", "bound: 12"]
    grey = [line for line in axes.lines if line.get_color() == "0.75"]
    assert len(grey) == 2
    np.testing.assert_array_equal(grey[0].get_ydata(), multipliers[:, 1])
    assert labels(plotting.multipliers_over_time(multipliers, list("abcd"))) == ["a", "c", "b", "d"]


def test_alignment_is_drawn_from_0_to_1_with_the_bargaining_shaded():
    axes = plotting.alignment_rates({"LtR": VALUES}, bargaining_epochs=2)
    assert axes.get_ylim() == (-0.03, 1.03)
    (shaded,) = axes.patches
    assert (shaded.get_x(), shaded.get_width()) == (0.5, 2.0)
    assert labels(axes) == ["LtR (4 seeds)", "bargaining"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plotting.trajectory({"a": np.ones((2, 3, 4))}, y_label=""), r"values\['a'\] must be \[seeds,"),
        (lambda: plotting.trajectory(np.ones((0, 4)), y_label=""), r"at least one of each, got \(0, 4\)"),
        (lambda: plotting.trajectory(1.0, y_label=""), r"values must be \[seeds, epochs\] or \[epochs\]"),
        (lambda: plotting.trajectory(["x"], y_label=""), "must hold numbers"),
        (lambda: plotting.trajectory({}, y_label=""), "at least one entry"),
        (lambda: plotting.trajectory(VALUES, y_label="", band="sd"), "band must be 'range' or 'interval', got 'sd'"),
        (lambda: plotting.weights_over_time(np.ones(3), ["a"]), r"weights must be \[T, K\] or \[S, T, K\]"),
        (lambda: plotting.weights_over_time(np.ones((3, 2)), ["a"]), "names must be 2 different names"),
        (lambda: plotting.weights_over_time(np.ones((3, 2)), "ab"), "names must be 2 different names"),
        (lambda: plotting.weights_over_time(np.ones((3, 2)), ["a", "a"]), "names must be 2 different names"),
        (lambda: plotting.multipliers_over_time(np.ones((1, 3, 2)), ["a", "b"]), r"multipliers must be \[T, K\]"),
        (lambda: plotting.multipliers_over_time(np.ones((3, 1)), ["a"], most_named=0), "most_named must be at least 1"),
        (lambda: plotting.alignment_rates({"LtR": 2 * VALUES + 1}), r"shares in \[0, 1\], got values from 1"),
        (lambda: plotting.alignment_rates({"LtR": VALUES}, bargaining_epochs=-1), "must be 0 or more, got -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
