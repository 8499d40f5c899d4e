"""What a plot of group metrics draws."""

import numpy as np
import pytest

from badrjax import plotting

ESTIMATE, LOW, HIGH = np.array([0.7, 0.5, 0.6]), np.array([0.6, 0.45, 0.3]), np.array([0.75, 0.65, 0.9])
GIVEN = {"counts": [1200, 30, 2.5], "names": ["Female", "Male", "Other"], "x_label": "accuracy (0 to 1; 95%)"}


def row_labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_dots_with_intervals_and_counts_beside_the_names():
    axes = plotting.group_metrics(ESTIMATE, LOW, HIGH, **GIVEN)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.c_[ESTIMATE, range(3)])
    ends = np.array(axes.collections[0].get_segments())
    np.testing.assert_allclose(ends[:, :, 0], np.c_[LOW, HIGH])
    assert row_labels(axes) == ["Female (n = 1,200)", "Male (n = 30)", "Other (n = 2.5)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first name is at the top
    assert axes.get_legend() is None


def test_dots_within_the_band_differ_by_no_more_than_the_floor():
    for floor, inside in ((0.21, True), (0.19, False)):
        axes = plotting.group_metrics(ESTIMATE, LOW, HIGH, floor=floor, **GIVEN)
        (band,) = axes.patches
        assert band.get_width() == pytest.approx(floor)
        within = (band.get_x() <= ESTIMATE) & (band.get_x() + band.get_width() >= ESTIMATE)
        assert within.all() == inside
        assert f"{floor:.3f}" in axes.get_legend().get_texts()[0].get_text()


def test_rows_that_are_gaps_have_a_floor_each():
    axes = plotting.group_metrics(ESTIMATE, LOW, HIGH, floor=[0.1, np.nan, 0.3], **GIVEN)
    ticks = np.array(axes.collections[0].get_segments())
    np.testing.assert_allclose(ticks.mean(axis=1), [[0.1, 0], [0.3, 2]])


def test_what_was_not_measured_is_said():
    estimate, low = np.array([np.nan, 0.5, 0.6]), np.array([np.nan, np.nan, 0.5])
    axes = plotting.group_metrics(estimate, low, np.array([np.nan, 0.6, 0.7]), floor=0.1, **GIVEN)
    bounded, alone = axes.lines
    np.testing.assert_allclose(bounded.get_xydata(), [[0.6, 2]])
    np.testing.assert_allclose(alone.get_xydata(), [[0.5, 1]])
    assert alone.get_markerfacecolor() == "white"
    assert [(text.get_text(), text.xy[1]) for text in axes.texts] == [("not assessed", 0)]


def test_a_long_name_is_broken_and_its_count_is_not():
    names = ["Asian-Pac-Islander & Female & above sixty", "a", "b"]
    axes = plotting.group_metrics(ESTIMATE, LOW, HIGH, **GIVEN | {"names": names, "counts": [12345, 1, 1]})
    assert row_labels(axes)[0].split("\n")[-1] == "(n = 12,345)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": LOW[:2]}, r"low must be f\[3\] like names, got shape \(2,\)"),
        ({"estimate": ESTIMATE[None]}, r"estimate must be f\[3\] like names"),
        ({"counts": 5}, r"counts must be f\[3\] like names"),
        ({"low": HIGH, "high": LOW}, "low must not be above high, but is for 'Female'"),
        ({"counts": [1, -1, 2]}, "counts must be numbers of rows, 0 or more"),
        ({"counts": [1, np.nan, 2]}, "counts must be numbers of rows, 0 or more"),
        ({"names": "abc"}, "names must be a list of at least one group"),
        ({"names": []}, "names must be a list of at least one group"),
        ({"floor": -0.1}, "floor must be finite and 0 or more"),
        ({"floor": np.nan}, "floor must be finite and 0 or more"),
        ({"floor": [0.1, 0.2]}, r"floor must be one number, or f\[3\]"),
        ({"floor": [0.1, 0.2, np.inf]}, "floor must be finite and 0 or more"),
        ({"estimate": ["a", "b", "c"]}, "estimate must hold numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, message):
    given = {"estimate": ESTIMATE, "low": LOW, "high": HIGH} | GIVEN | given
    with pytest.raises(ValueError, match=message):
        plotting.group_metrics(given.pop("estimate"), given.pop("low"), given.pop("high"), **given)
