"""Facts about the hypervolume: inclusion and exclusion, a grid, sampling, invariances, derivatives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.pareto import dominated, hypervolume

N = 7
volume = jax.jit(hypervolume)
gradient = jax.jit(jax.grad(hypervolume, argnums=(0, 1)))
BOTH = pytest.mark.parametrize("m", [2, 3])


def by_inclusion_and_exclusion(points, reference):
    """Volumes of the intersections of boxes, with alternating signs."""
    total = 0.0
    for number in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, number):
            total -= (-1) ** number * np.prod(np.maximum(reference - np.max(chosen, axis=0), 0))
    return total


def by_cells(points, reference):
    """Cells of the grid through all coordinates, each inside when some point is at or below its lower corner."""
    m = len(reference)
    points = points[(points < reference).all(1)]
    edges = [np.unique(np.r_[points[:, j], reference[j]]) for j in range(m)]
    corners = np.stack(np.meshgrid(*(e[:-1] for e in edges), indexing="ij"), -1)
    sizes = np.stack(np.meshgrid(*map(np.diff, edges), indexing="ij"), -1).prod(-1)
    covered = (points[(slice(None),) + (None,) * m] <= corners[None]).all(-1).any(0)
    return float((sizes * covered).sum())


def points_of(m):
    entry = st.one_of(st.floats(-2, 2, width=32), st.sampled_from([0.0, 1.0, 1.5]))
    return st.lists(st.lists(entry, min_size=m, max_size=m), min_size=N, max_size=N).map(np.array)


MASKS = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)


@BOTH
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_volume_is_that_of_inclusion_and_exclusion_and_of_a_grid(m, data):
    points, valid, reference = data.draw(points_of(m)), data.draw(MASKS), np.array([1.5, 1.25, 1.0])[:m]
    with jax.enable_x64(True):
        found = volume(points, reference, valid)
        np.testing.assert_allclose(found, by_inclusion_and_exclusion(points[valid], reference), atol=1e-11)
        np.testing.assert_allclose(found, by_cells(points[valid], reference), atol=1e-12)
    single = volume(np.float32(points), np.float32(reference), valid)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, found, atol=2e-5)


@BOTH
def test_many_points_equal_a_grid_and_a_sample(m, x64):
    random = np.random.default_rng(0)
    directions = np.abs(random.normal(size=(24, m)))
    points = 1 - directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points = np.concatenate([points, points + 0.1, points[:4], random.uniform(0, 2, (8, m))])
    found = volume(points, np.full(m, 1.1))
    np.testing.assert_allclose(found, by_cells(points, np.full(m, 1.1)), rtol=1e-13)
    samples = random.uniform(0, 1.1, (20_000, m))
    share = (points[None] <= samples[:, None]).all(-1).any(1).mean()
    np.testing.assert_allclose(found, share * 1.1**m, atol=5 * 1.1**m / np.sqrt(4 * 20_000))


@BOTH
@settings(deadline=None, max_examples=25)
@given(data=st.data(), order=st.permutations(range(N)))
def test_invariances(m, data, order):
    points = data.draw(points_of(m))
    reference, scale, shift = np.array([2.5, 2.0, 3.0])[:m], np.array([0.01, 7.0, 2.0])[:m], np.array([5.0, -1, 2])[:m]
    with jax.enable_x64(True):
        found = volume(points, reference)
        np.testing.assert_allclose(volume(points[list(order)], reference), found, rtol=1e-12)
        np.testing.assert_allclose(volume(points + shift, reference + shift), found, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(volume(points * scale, reference * scale), found * scale.prod(), rtol=1e-12)
        columns = np.arange(m)[::-1]
        np.testing.assert_allclose(volume(points[:, columns], reference[columns]), found, rtol=1e-12)
        # Dominated points and copies add nothing.
        front = np.where(np.asarray(dominated(points))[:, None], points[[0]], points)
        np.testing.assert_allclose(volume(front, reference), found, rtol=1e-12)
        better = points.copy()
        better[3] -= 0.1
        assert volume(better, reference) >= found - 1e-12


@BOTH
def test_points_that_do_not_beat_the_reference_add_nothing(m):
    reference = np.ones(m, np.float32)
    points = np.zeros((4, m), np.float32)
    points[1, 0], points[2, -1], points[3] = 1.0, np.inf, 5.0
    for masked in (points, np.where(np.arange(4)[:, None] > 0, np.nan, points)):
        assert volume(masked, reference) == 1
        by_points, by_reference = gradient(masked, reference)
        np.testing.assert_array_equal(by_points, -1.0 * (np.arange(4) == 0)[:, None] * np.ones(m))
        np.testing.assert_array_equal(by_reference, np.ones(m))
    assert volume(points, reference, np.zeros(4, bool)) == 0
    np.testing.assert_array_equal(gradient(points, reference, np.zeros(4, bool))[0], 0)
    assert hypervolume(np.zeros((0, m)), reference) == 0


@BOTH
def test_derivative_three_ways(m, x64):
    random = np.random.default_rng(1)
    points, reference = random.uniform(0, 1.2, (8, m)), np.full(m, 1.0)
    by_points, by_reference = gradient(points, reference)
    closed = np.zeros((8, m))
    for i, j in itertools.product(range(8), range(m)):
        if (points[i] < reference).all():
            # The face: what point i alone dominates of the plane at its coordinate j.
            rest = [k for k in range(m) if k != j]
            below = np.array([k for k in range(8) if k != i and points[k, j] <= points[i, j]], int)
            faces, corner = points[:, rest], reference[rest]
            closed[i, j] = by_cells(faces[below], corner) - by_cells(faces[[*below, i]], corner)
    np.testing.assert_allclose(by_points, closed, atol=1e-13)
    np.testing.assert_array_equal(by_points[np.asarray(dominated(points))], 0)
    steps = 1e-6 * np.eye(8 * m).reshape(-1, 8, m)
    differences = [(by_cells(points + e, reference) - by_cells(points - e, reference)) / 2e-6 for e in steps]
    np.testing.assert_allclose(np.ravel(by_points), differences, atol=1e-8)
    # All of it scales with the axes: Euler's identity.
    np.testing.assert_allclose(
        np.sum(by_points * points) + by_reference @ reference, m * volume(points, reference), rtol=1e-12
    )


def test_derivative_where_points_tie_is_one_sided():
    points = np.array([[0.0, 0.0], [0.0, 0.5], [0.5, 0.0], [0.0, 0.0]], np.float32)
    by_points = np.asarray(gradient(points, np.ones(2, np.float32))[0])
    np.testing.assert_array_equal(by_points[1:3], 0)
    np.testing.assert_array_equal(by_points.sum(0), [-1, -1])
    flat = np.concatenate([points, np.zeros((4, 1), np.float32)], 1)
    by_points = np.asarray(gradient(flat, np.ones(3, np.float32))[0])
    np.testing.assert_array_equal(by_points[1:3], 0)
    np.testing.assert_array_equal(by_points.sum(0), [-1, -1, -1])


@BOTH
def test_an_unbounded_coordinate_is_infinite_and_an_unknown_reference_nan(m):
    points = np.zeros((3, m), np.float32)
    points[1, 0] = -np.inf
    assert volume(points, np.ones(m, np.float32)) == np.inf
    assert volume(points[:, ::-1], np.ones(m, np.float32)) == np.inf
    assert np.isnan(volume(points, np.full(m, np.nan, np.float32)))


@BOTH
def test_lanes_equal_a_loop(m):
    random = np.random.default_rng(2)
    points = random.uniform(0, 1.1, (4, N, m)).astype(np.float32)
    points[1, 2], points[3] = np.nan, np.nan
    reference = np.ones(m, np.float32)
    lanes = jax.vmap(volume, (0, None))(points, reference)
    np.testing.assert_allclose(lanes, [volume(lane, reference) for lane in points], rtol=1e-6)
    assert lanes[3] == 0
    slopes = jax.vmap(gradient, (0, None))(points, reference)[0]
    assert np.isfinite(slopes).all()


@pytest.mark.slow
def test_memory_stays_linear():
    n = 2000

    def used(function):
        shapes = jax.ShapeDtypeStruct((n, 3), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32)
        return jax.jit(function).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert used(hypervolume) < 200 * n
    assert used(jax.grad(hypervolume)) < 400 * n


def test_bad_input_is_refused():
    for m in (1, 4):
        with pytest.raises(ValueError, match=f"points have {m} objectives, and hypervolume offers 2 and 3"):
            hypervolume(np.ones((3, m)), np.ones(m))
    with pytest.raises(ValueError, match=r"reference must have one entry an objective, shape \(2,\)"):
        hypervolume(np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match=r"reference must .* got shape \(\)"):
        hypervolume(np.ones((3, 2)), 1.0)
    with pytest.raises(ValueError, match="reference must be finite"):
        hypervolume(np.ones((3, 2)), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"points must be \[n, m\]"):
        hypervolume(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=r"valid must be bool\[3\]"):
        hypervolume(np.ones((3, 2)), np.ones(2), np.ones(4, bool))


@pytest.mark.parametrize("points", [[[0, 0, -np.inf], [0.1, -0.1, -np.inf]], [[-np.inf] * 3] * 2])
def test_two_points_without_a_lower_end_have_infinite_volume(points):
    assert hypervolume(np.float32(points), np.ones(3, np.float32)) == np.inf
