"""Facts about the distances to a reference front, against a double loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from badrjax.pareto import generational_distance_plus, igd_plus

N, R, M = 6, 4, 3
FUNCTIONS = {"igd": igd_plus, "gd": generational_distance_plus}
JITTED = {name: jax.jit(f) for name, f in FUNCTIONS.items()}
GRADIENTS = {name: jax.jit(jax.grad(f, argnums=(0, 1))) for name, f in FUNCTIONS.items()}
EACH = pytest.mark.parametrize("name", FUNCTIONS)


def reference(name, points, targets):
    lengths = [[np.sqrt(sum(max(p - z, 0) ** 2 for p, z in zip(a, b, strict=True))) for b in targets] for a in points]
    if not len(targets if name == "igd" else points):
        return np.nan
    return np.mean(np.min(np.reshape(lengths, (len(points), len(targets))), axis=int(name == "gd"), initial=np.inf))


def rows(number):
    entry = st.one_of(st.floats(-2, 2, width=32), st.sampled_from([0.0, 1.0]))
    return st.lists(st.lists(entry, min_size=M, max_size=M), min_size=number, max_size=number).map(np.float32)


def masks(number):
    return st.lists(st.booleans(), min_size=number, max_size=number).map(np.array)


@EACH
@settings(deadline=None, max_examples=30)
@given(
    points=rows(N), targets=rows(R), valid=masks(N), wanted=masks(R), garbage=st.sampled_from([np.nan, np.inf, -np.inf])
)
def test_distances_are_those_of_a_double_loop(name, points, targets, valid, wanted, garbage):
    expected = reference(name, points[valid], targets[wanted])
    np.testing.assert_allclose(JITTED[name](points, targets, valid, wanted), expected, rtol=1e-5, atol=1e-6)
    # Rows that are not finite mask themselves out, and reach no derivative.
    dirty = (
        np.where(valid[:, None], points, np.float32(garbage)),
        np.where(wanted[:, None], targets, np.float32(garbage)),
    )
    np.testing.assert_allclose(JITTED[name](*dirty), expected, rtol=1e-5, atol=1e-6)
    for slope in GRADIENTS[name](*dirty):
        assert np.isfinite(slope).all() or np.isnan(expected)


@EACH
def test_a_set_reaches_itself_with_derivative_zero(name):
    points = np.random.default_rng(0).normal(size=(N, M)).astype(np.float32)
    assert JITTED[name](points, points) == 0
    for slope in GRADIENTS[name](points, points):
        np.testing.assert_array_equal(slope, 0)


def test_better_points_have_distance_zero_and_a_dominating_set_is_never_worse():
    targets = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert igd_plus(np.array([[0.0, -1.0]]), targets) == 0
    np.testing.assert_allclose(igd_plus(np.array([[2.0, 0.5]]), targets), (2.0 + np.hypot(1, 0.5)) / 2, rtol=1e-6)
    random = np.random.default_rng(0)
    for _ in range(5):
        worse = random.uniform(0, 2, (N, M)).astype(np.float32)
        better = worse - random.uniform(0, 1, (N, M)).astype(np.float32)
        front = random.uniform(0, 1, (R, M)).astype(np.float32)
        assert JITTED["igd"](better, front) <= JITTED["igd"](worse, front)


@EACH
def test_derivatives_agree_with_differences(name, x64):
    random = np.random.default_rng(1)
    points, targets = random.normal(size=(N, M)) + 1, random.normal(size=(R, M))
    check_grads(JITTED[name], (points, targets), order=1, modes=["rev"], eps=1e-6)
    # One pair: minus the unit vector along the positive part.
    by_points, by_targets = GRADIENTS[name](np.array([[3.0, 4.0, -1.0]]), np.zeros((1, 3)))
    np.testing.assert_allclose(by_points, [[0.6, 0.8, 0]], rtol=1e-14)
    np.testing.assert_allclose(by_targets, -by_points, rtol=1e-14)


def test_nothing_to_measure_has_a_rule():
    points, targets, none = np.ones((N, M)), np.zeros((R, M)), np.zeros((0, M))
    assert igd_plus(none, targets) == np.inf
    assert igd_plus(points, targets, np.zeros(N, bool)) == np.inf
    assert generational_distance_plus(points, none) == np.inf
    for value in (igd_plus(points, none), igd_plus(none, none), igd_plus(points, targets, None, np.zeros(R, bool))):
        assert np.isnan(value)
    assert np.isnan(generational_distance_plus(none, targets))


@EACH
def test_lanes_equal_a_loop(name):
    random = np.random.default_rng(2)
    points = random.normal(size=(3, 100, M)).astype(np.float32)
    points[1, :5] = np.nan
    targets = random.normal(size=(90, M)).astype(np.float32)
    lanes = jax.vmap(JITTED[name], (0, None))(points, targets)
    np.testing.assert_allclose(lanes, [JITTED[name](lane, targets) for lane in points], rtol=1e-5)
    for lane, value in zip(points, lanes, strict=True):
        np.testing.assert_allclose(value, reference(name, lane[np.isfinite(lane).all(1)], targets), rtol=1e-5)


@pytest.mark.slow
def test_memory_stays_linear():
    def used(function, n):
        shape = jax.ShapeDtypeStruct((n, M), jnp.float32)
        return jax.jit(function).lower(shape, shape).compile().memory_analysis().temp_size_in_bytes

    for function in (igd_plus, jax.grad(igd_plus)):
        assert used(function, 16_000) < 6 * used(function, 4000)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="points have 2 objectives and reference_front 3"):
        igd_plus(np.ones((3, 2)), np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"reference_front must be \[n, m\]"):
        igd_plus(np.ones((3, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"reference_valid must be bool\[4\] like reference_front"):
        igd_plus(np.ones((3, 2)), np.ones((4, 2)), None, np.ones(3, bool))
