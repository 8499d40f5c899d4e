"""Facts about the augmented Lagrangian's value and its derivatives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from badrjax.lagrangian import augmented_lagrangian
from tests.lagrangian.cases import (
    DUALS,
    INF,
    MASKS,
    NAN,
    NUMBERS,
    PENALTIES,
    QUADRATIC,
    C,
    by_penalty,
    gradient,
    lagrangian_of,
    psi,
    state_of,
    update,
    value,
)


@settings(deadline=None, max_examples=60)
@given(multipliers=DUALS, penalty=PENALTIES, violations=NUMBERS)
def test_value_and_derivative_are_the_textbook_ones(multipliers, penalty, violations):
    with jax.enable_x64(True):
        lagrangian, state = lagrangian_of(penalty), state_of(multipliers)
        np.testing.assert_allclose(
            value(lagrangian, state, violations), psi(multipliers, penalty, violations), rtol=1e-12, atol=1e-12
        )
        np.testing.assert_allclose(
            gradient(lagrangian, state, violations), np.maximum(0, multipliers + penalty * violations), atol=1e-14
        )


@settings(deadline=None, max_examples=40)
@given(multipliers=DUALS, penalty=PENALTIES, violations=NUMBERS)
def test_value_in_single_precision(multipliers, penalty, violations):
    lagrangian, state = lagrangian_of(penalty), state_of(multipliers)
    found = value(lagrangian, state, np.float32(violations))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, psi(multipliers, penalty, violations), rtol=1e-5, atol=1e-4)


def test_derivative_three_ways(x64):
    random = np.random.default_rng(0)
    multipliers, penalty = random.uniform(0, 2, C), random.uniform(0.1, 3, C)
    violations = random.normal(size=C)
    lagrangian, state = lagrangian_of(penalty), state_of(multipliers)
    found = gradient(lagrangian, state, violations)
    np.testing.assert_allclose(found, np.maximum(0, multipliers + penalty * violations), rtol=1e-14)
    shift = 1e-6 * np.eye(C)
    differences = [
        (psi(multipliers, penalty, violations + e) - psi(multipliers, penalty, violations - e)) / 2e-6 for e in shift
    ]
    np.testing.assert_allclose(found, differences, atol=1e-8)
    textbook = jax.grad(
        lambda g: jnp.sum((jnp.maximum(0, multipliers + penalty * g) ** 2 - multipliers**2) / (2 * penalty))
    )
    np.testing.assert_allclose(found, textbook(jnp.asarray(violations)), rtol=1e-13)
    check_grads(lambda g: value(lagrangian, state, g), (violations,), order=2, modes=["fwd", "rev"], eps=1e-6)


def test_derivative_by_the_penalty(x64):
    multipliers, violations = np.array([0.0, 1.0, 2.0, 0.5]), np.array([-1.0, 0.3, -4.0, -0.1])
    penalty = np.array([0.5, 1.5, 1.0, 2.0])
    closed = np.where(multipliers + penalty * violations >= 0, violations**2 / 2, multipliers**2 / (2 * penalty**2))
    found = by_penalty(penalty, multipliers, violations)
    np.testing.assert_allclose(found, closed, rtol=1e-14)
    shift = 1e-6 * np.eye(4)
    differences = [
        (psi(multipliers, penalty + e, violations) - psi(multipliers, penalty - e, violations)) / 2e-6 for e in shift
    ]
    np.testing.assert_allclose(found, differences, atol=1e-8)
    assert by_penalty(1.0, multipliers, violations).shape == ()


@pytest.mark.parametrize("x64_on", [False, True])
def test_no_penalty_is_the_plain_lagrangian_with_finite_derivatives(x64_on):
    with jax.enable_x64(x64_on):
        multipliers, violations = np.array([0.0, 0.0, 2.0, 2.0, 0.0]), np.array([-1.0, 1.0, -3.0, 3.0, 0.0])
        lagrangian, state = lagrangian_of(0.0), state_of(multipliers)
        assert value(lagrangian, state, violations) == np.sum(multipliers * violations)
        np.testing.assert_array_equal(gradient(lagrangian, state, violations), multipliers)
        np.testing.assert_allclose(by_penalty(np.zeros(5), multipliers, violations), violations**2 / 2)


def test_value_is_continuous_as_the_penalty_goes_to_zero():
    multipliers = np.array([0.0, 1.0, 2.0, 1e-30, 0.0], np.float32)
    violations = np.array([-1.0, 2.0, -3.0, -5.0, 4.0], np.float32)
    state = state_of(multipliers)
    plain = np.sum(multipliers * violations)
    for penalty in [1e-3, 1e-6, 1e-18, 1.1e-19, 1.08e-19, 1e-20, 1e-30, 1e-38, 1e-44]:
        lagrangian = lagrangian_of(np.float32(penalty))
        room = penalty * np.sum(violations**2) / 2
        np.testing.assert_allclose(value(lagrangian, state, violations), plain, rtol=1e-6, atol=room)
        assert np.isfinite(by_penalty(np.full(5, penalty, np.float32), multipliers, violations)).all()
        # ... and bounded by its limit at 0, g^2 / 2.
        assert (by_penalty(np.full(5, penalty, np.float32), multipliers, violations) <= violations**2).all()


@settings(deadline=None, max_examples=40)
@given(multipliers=DUALS, violations=NUMBERS, active=MASKS, garbage=st.sampled_from([NAN, INF, -INF, 1e30]))
def test_inactive_constraints_contribute_nothing(multipliers, violations, active, garbage):
    penalty = np.linspace(0, 2, C)
    lagrangian, state = lagrangian_of(penalty), state_of(np.float32(multipliers))
    given = np.where(active, violations, garbage).astype(np.float32)
    found = value(lagrangian, state, given, active)
    expected = value(lagrangian, state_of(np.float32(multipliers * active)), np.float32(violations * active))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    slope = np.asarray(gradient(lagrangian, state, given, active))
    np.testing.assert_allclose(slope[active], np.maximum(0, multipliers + penalty * violations)[active], atol=1e-4)
    np.testing.assert_array_equal(slope[~active], 0)
    new = update(lagrangian, state, given, active)
    for before, after in zip(state[:3], new[:3], strict=True):
        np.testing.assert_array_equal(np.asarray(before)[~active], np.asarray(after)[~active])


def test_a_violation_that_cannot_be_measured_takes_no_part():
    state = state_of([1.0, 2.0, 3.0])
    violations = jnp.array([NAN, 0.5, NAN])
    assert value(QUADRATIC, state, violations) == 2 * 0.5 + 0.5 * 0.5**2
    np.testing.assert_array_equal(gradient(QUADRATIC, state, violations), [0, 2.5, 0])
    # The division that gave NaN has a finite derivative, too.
    assert jax.grad(lambda x: QUADRATIC.value(state, violations * jnp.stack([1.0, x, 1.0])))(1.0) == 1.25
    new = update(QUADRATIC, state, violations)
    np.testing.assert_array_equal(new.multipliers, [1, 2.5, 3])
    np.testing.assert_array_equal(new.best_violations, [INF, 0.5, INF])
    np.testing.assert_array_equal(new.num_stalled, [0, 0, 0])


def test_an_infinite_violation_shows_in_the_value_and_moves_nothing():
    state = state_of([1.0, 2.0])
    assert value(QUADRATIC, state, jnp.array([INF, 0.0])) == INF
    assert value(QUADRATIC, state, jnp.array([-INF, 0.0])) == -0.5
    for sign in (1, -1):
        new = update(QUADRATIC, state, jnp.array([sign * INF, 1.0]))
        np.testing.assert_array_equal(new.multipliers, [1, 3])
        np.testing.assert_array_equal(new.best_violations, [INF, 1])


def test_multipliers_are_constants_of_the_derivative():
    slope = jax.grad(lambda mu: QUADRATIC.value(state_of([1.0, 1.0])._replace(multipliers=mu), jnp.ones(2)))
    np.testing.assert_array_equal(slope(jnp.ones(2)), 0)


def test_dtype_follows_the_violations_and_the_state_keeps_its_own(x64):
    state = QUADRATIC.init(2, dtype=jnp.float32)
    assert QUADRATIC.value(state, np.ones(2)).dtype == jnp.float64
    assert QUADRATIC.value(QUADRATIC.init(2), np.ones(2, np.float32)).dtype == jnp.float32
    assert QUADRATIC.value(state, jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
    chex.assert_trees_all_equal_dtypes(state, QUADRATIC.update(state, np.ones(2)))
    assert QUADRATIC.value(state, jnp.array([1, 2])) == 2.5


def test_a_product_that_fits_does_not_overflow_on_the_way():
    lagrangian = augmented_lagrangian(penalty=1e-30, multiplier_step=1e-30)
    state = lagrangian.init(1, multipliers=np.ones(1, np.float32))
    np.testing.assert_allclose(lagrangian.value(state, np.float32([-1e30])), -5e29, rtol=1e-5)
