"""What the figure draws."""

import numpy as np

from badrjax import plotting


def curves(seed, diverged=False):
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(0.6, 0.9, size=(3, 6, 2))
    if diverged:
        accuracy[1, 3:] = np.nan
    return {"accuracy": accuracy, "aligned": rng.uniform(size=(3, 6))}


def figure(**goals):
    return plotting.stages_figure(goals, group_names=("Female", "Male"), bargaining_epochs=2, title="Adult")


def test_one_column_a_goal_with_every_line_and_the_stage_shaded():
    drawn = figure(
        FORML={"one stage": curves(0), "two stages": curves(1)}, LtR={"one stage": curves(2), "two stages": curves(3)}
    )
    assert len(drawn.axes) == 4
    upper, lower = drawn.axes[0], drawn.axes[2]
    assert [line.get_label() for line in upper.lines] == [
        "Female, one stage", "Male, one stage", "Female, two stages", "Male, two stages"
    ]  # fmt: skip
    assert len(lower.lines) == 2
    shaded = [patch.get_extents().transformed(upper.transData.inverted()) for patch in upper.patches]
    np.testing.assert_allclose([shaded[0].x0, shaded[0].x1], [0.5, 2.5])


def test_lines_are_means_and_leave_diverged_seeds_out():
    one = curves(0, diverged=True)
    drawn = figure(FORML={"one stage": one})
    line = drawn.axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), np.nanmean(one["accuracy"][:, :, 0], axis=0))


def test_epochs_that_were_not_measured_are_left_out():
    one = curves(0)
    one["aligned"][:, [1, 4]] = np.nan
    drawn = figure(FORML={"two stages": one})
    np.testing.assert_array_equal(drawn.axes[1].lines[0].get_xdata(), [1, 3, 4, 6])


def test_a_single_epoch_is_a_dot():
    one = {"accuracy": np.full((2, 1, 2), 0.5), "aligned": np.ones((2, 3))}
    upper, lower = figure(FORML={"one stage": one}).axes
    assert [axes.lines[0].get_marker() for axes in (upper, lower)] == ["o", "None"]


def test_nothing_overlaps_outside_the_axes():
    drawn = figure(
        FORML={"one stage": curves(0), "two stages": curves(1)}, LtR={"one stage": curves(2), "two stages": curves(3)}
    )
    drawn.draw_without_rendering()
    legend = drawn.legends[0].get_window_extent()
    title = drawn._suptitle.get_window_extent()
    assert not legend.overlaps(title)
    for axes in drawn.axes:
        assert not axes.get_tightbbox().overlaps(legend)
        assert not axes.get_tightbbox().overlaps(title)


def test_the_legend_names_a_stage_that_only_a_later_goal_has():
    drawn = figure(FORML={"two stages": curves(1)}, LtR={"one stage": curves(2), "two stages": curves(3)})
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert sorted(labels) == sorted(
        f"{who}, {stage}" for who in ("Female", "Male", "aligned") for stage in ("one stage", "two stages")
    )


def test_more_groups_than_colours():
    many = {"accuracy": np.full((2, 3, 9), 0.5), "aligned": np.ones((2, 3))}
    drawn = plotting.stages_figure(
        {"LtR": {"one stage": many}}, group_names=[f"group {k}" for k in range(9)], bargaining_epochs=0, title="States"
    )
    assert len(drawn.axes[0].lines) == 9


def grid(**options):
    lines = {"one": np.full((3, 4), 0.2), "two": np.full((3, 6), 0.7)}
    columns = {"LtR": {"rate": lines, "loss": {"two": lines["two"]}}, "FORML": {"rate": {"two": lines["two"]}}}
    return plotting.curves_figure(columns, rows={"loss": "loss", "rate": "share"}, title="Adult", **options)


def test_curves_share_a_colour_by_name_and_may_be_missing():
    drawn = grid(rates=("rate",), shaded={"LtR": 2}, styles={"one": "--"}, colours={"one": "red"})
    assert [line.get_color() for line in drawn.axes[2].lines] == ["red", plotting.COLOURS[1]]
    loss, empty, rate, other = drawn.axes
    assert (len(loss.lines), len(empty.lines), len(rate.lines), len(other.lines)) == (1, 0, 2, 1)
    assert loss.lines[0].get_color() == rate.lines[1].get_color() == other.lines[0].get_color()
    assert rate.lines[0].get_linestyle() == "--"
    assert rate.get_ylim() == (-0.03, 1.03)
    assert [len(axes.patches) for axes in drawn.axes] == [1, 0, 1, 0]  # only one column is shaded
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["two", "one"]
    assert (loss.get_ylabel(), rate.get_ylabel(), other.get_xlabel()) == ("loss", "share", "epoch")


def test_nothing_overlaps_outside_the_grid():
    drawn = grid()
    drawn.draw_without_rendering()
    legend, title = drawn.legends[0].get_window_extent(), drawn._suptitle.get_window_extent()
    for axes in drawn.axes:
        assert not axes.get_tightbbox().overlaps(legend)
        assert not axes.get_tightbbox().overlaps(title)


def test_distribution_functions_rise_by_equal_steps():
    values = {"train": {"BADR": np.array([0.3, 0.1, np.nan, 1e-9]), "uniform": np.array([2.0, 4.0])}, "test": {}}
    near = {"train": {"BADR": np.array([1.0, 2.0])}, "test": {"BADR": np.array([])}}
    drawn = plotting.distributions_figure(
        {"far apart": values, "near": near},
        rows=("train", "test"),
        title="",
        share="cells",
        floor=1e-3,
        styles={"BADR": ":"},
        colours={"BADR": "#000000"},
    )
    first, second, _, empty = drawn.axes
    badr, uniform = first.lines
    np.testing.assert_allclose(badr.get_xdata(), [1e-3, 1e-3, 0.1, 0.3])
    np.testing.assert_allclose(badr.get_ydata(), [0, 0.25, 0.5, 0.75])  # one of four is not finite
    np.testing.assert_allclose(uniform.get_ydata(), [0, 0.5, 1])
    assert (badr.get_linestyle(), badr.get_color(), uniform.get_color()) == (":", "#000000", plotting.COLOURS[1])
    assert (first.get_xscale(), second.get_xscale()) == ("log", "linear")
    assert first.get_ylabel() == "train: share of cells"
    assert empty.get_xlabel() == "near"
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["BADR", "uniform"]
