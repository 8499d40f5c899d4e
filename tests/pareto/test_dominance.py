"""Facts about dominated points and fronts, against a double loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.pareto import dominated, front, front_points

N = 9
find = jax.jit(dominated)
keep = jax.jit(front)


def reference(points, valid):
    """Each row against each other row."""
    usable = valid & ~np.isnan(points).any(1)
    beaten = ~usable
    for i, point in enumerate(points):
        for j, other in enumerate(points):
            if usable[j] and (other <= point).all() and (other < point).any():
                beaten[i] = True
    return beaten


# Few values, so that ties and copies are common.
ENTRIES = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, -1.0, np.inf, -np.inf, np.nan, 1e-40])
MASKS = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)


def points_of(m):
    return st.lists(st.lists(ENTRIES, min_size=m, max_size=m), min_size=N, max_size=N).map(np.float32)


@pytest.mark.parametrize("m", [1, 2, 3])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_domination_is_that_of_a_double_loop(m, data):
    points, valid = data.draw(points_of(m)), data.draw(MASKS)
    # XLA may flush numbers below the normal range to 0, and then they tie with it.
    points = np.where(np.abs(points) < 1e-38, 0, points)
    np.testing.assert_array_equal(find(points, valid), reference(points, valid))
    np.testing.assert_array_equal(keep(points, valid), ~reference(points, valid))


@pytest.mark.parametrize("m", [2, 3])
@settings(deadline=None, max_examples=25)
@given(data=st.data(), order=st.permutations(range(N)))
def test_the_order_of_points_and_what_padding_holds_change_nothing(m, data, order):
    points, valid, order = data.draw(points_of(m)), data.draw(MASKS), np.array(order)
    np.testing.assert_array_equal(find(points[order], valid[order]), np.asarray(find(points, valid))[order])
    other = np.where(valid[:, None], points, np.float32(-7.0))
    np.testing.assert_array_equal(find(other, valid), find(points, valid))


@pytest.mark.parametrize("m", [2, 3])
def test_many_points(m):
    # More rows than are compared at once.
    points = np.random.default_rng(0).integers(0, 12, (300, m)).astype(np.float32)
    np.testing.assert_array_equal(find(points), reference(points, np.ones(300, bool)))


def test_copies_stay_and_integers_are_points():
    points = np.array([[1, 2], [1, 2], [2, 1], [2, 2]])
    np.testing.assert_array_equal(front(points), [True, True, True, False])
    np.testing.assert_array_equal(front(points, np.array([False, False, True, True])), [False, False, True, False])


def test_diverged_lanes_do_not_spoil_a_front():
    points = jnp.array([[[1.0, 2.0], [np.nan, 0.0], [2.0, 1.0]], [[np.nan] * 2] * 3])
    np.testing.assert_array_equal(jax.vmap(front)(points), [[True, False, True], [False] * 3])


def test_no_points_have_an_empty_front():
    for m in (2, 3):
        assert front(jnp.zeros((0, m))).shape == (0,)
        assert front_points(np.zeros((0, m))).points.shape == (0, m)


def test_front_points_are_in_order():
    points = np.array([[2.0, 1.0], [1.0, 3.0], [5.0, 5.0], [0.0, np.nan], [1.5, 2.0], [1.0, 3.0]])
    found = front_points(points)
    np.testing.assert_array_equal(found.indices, [1, 5, 4, 0])
    np.testing.assert_array_equal(found.points, points[[1, 5, 4, 0]])
    assert found.points.dtype == points.dtype
    found = front_points(points, np.arange(6) == 2)
    np.testing.assert_array_equal(found.indices, [2])
    assert front_points(points, np.zeros(6, bool)).points.shape == (0, 2)


def test_bad_points_are_refused():
    for wrong in (np.ones(3), np.ones((3, 2, 1)), np.ones((3, 0)), 1.0):
        with pytest.raises(ValueError, match=r"points must be \[n, m\]"):
            dominated(wrong)
    with pytest.raises(ValueError, match=r"valid must be bool\[3\] like points, got shape \(2,\)"):
        jax.jit(front)(np.ones((3, 2)), np.ones(2, bool))
    with pytest.raises(TypeError, match="use front, which gives a mask"):
        jax.jit(front_points)(np.ones((3, 2)))


def test_front_points_compares_doubles_as_doubles():
    np.testing.assert_array_equal(front_points(np.array([[1 + 1e-12, 0.0], [1.0, 0.0]])).indices, [1])
