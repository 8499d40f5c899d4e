"""What a plot of fronts draws."""

import jax.numpy as jnp
import numpy as np
import pytest

import badrjax as bx
from badrjax import plotting

POINTS = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.8, 0.8], [0.5, 0.5]])
LABELS = {"x_label": "error (share)", "y_label": "gap (0 to 1)"}


def test_the_front_is_marked_and_joined_and_the_others_are_light():
    axes = plotting.fronts({"a": POINTS}, **LABELS)
    marks, stairs = axes.lines
    np.testing.assert_array_equal(marks.get_xydata(), POINTS[:3])
    np.testing.assert_array_equal(stairs.get_xydata(), POINTS[:3])
    assert stairs.get_drawstyle() == "steps-post"
    (light,) = axes.collections
    np.testing.assert_array_equal(light.get_offsets(), POINTS[3:4])
    assert light.get_alpha() < 0.5


def test_the_shaded_region_is_the_hypervolume():
    axes = plotting.fronts({"a": POINTS}, reference=(2.0, 1.5), **LABELS)
    shaded = axes.collections[-1].get_paths()[0].vertices
    x, y = shaded[:, 0], shaded[:, 1]
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    np.testing.assert_allclose(area, bx.pareto.hypervolume(jnp.asarray(POINTS), jnp.array([2.0, 1.5])), rtol=1e-6)
    np.testing.assert_array_equal(axes.lines[-1].get_xydata(), [[2.0, 1.5]])


def test_a_front_beyond_the_reference_shades_nothing():
    axes = plotting.fronts({"a": POINTS + 5}, reference=(2.0, 1.5), **LABELS)
    assert len(axes.collections) == 1


def test_fronts_of_the_library_are_taken_as_they_are():
    front = bx.pareto.front_points(POINTS)
    risks = bx.bilevel.Front(None, None, jnp.zeros((5, 2)), jnp.asarray(POINTS))
    for entry in (front, risks):
        np.testing.assert_allclose(plotting.fronts({"a": entry}, **LABELS).lines[0].get_xydata(), POINTS[:3])


def test_rows_that_are_not_finite_are_counted_and_not_drawn():
    lost = np.concatenate([POINTS, [[np.nan, 0.0], [-np.inf, -np.inf]]])
    axes = plotting.fronts({"a": lost, "b": np.full((2, 2), np.nan)}, **LABELS)
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), POINTS[:3])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "a (2 of 7 not finite)",
        "b (2 of 2 not finite)",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fronts": {"a": np.ones(4)}}, r"fronts\['a'\] must be \[m, 2\].*got shape \(4,\)"),
        ({"fronts": {"a": np.ones((4, 3))}}, r"two objectives, got shape \(4, 3\)"),
        ({"fronts": {"a": [[1, 2], [3]]}}, r"fronts\['a'\] must hold numbers"),
        ({"fronts": {}}, "at least one entry"),
        ({"fronts": {"a": POINTS}, "reference": (1.0, np.inf)}, "reference must be two finite numbers"),
        ({"fronts": {"a": POINTS}, "reference": 1.0}, "reference must be two finite numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        plotting.fronts(**given, **LABELS)
