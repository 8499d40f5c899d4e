"""Facts about derivatives through Nash weights: closed forms, differences, the implicit rule, lanes that fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from badrjax.bargaining import gramian, nash_weights, nash_weights_from_gradients
from tests.bargaining.bank import aligned, gram_of

solve = jax.jit(nash_weights)


from_gradients = jax.jit(nash_weights_from_gradients)


jacobian_from_gradients = jax.jit(jax.jacrev(lambda *g: nash_weights_from_gradients(*g).weights))


forward_from_gradients = jax.jit(jax.jacfwd(lambda *g: nash_weights_from_gradients(*g).weights))


JACOBIANS = {mode: jax.jit(getattr(jax, mode)(lambda m: nash_weights(m).weights)) for mode in ("jacfwd", "jacrev")}


INFEASIBLE = {
    "opposed": [[1.0, -2.0, 0.1], [-2.0, 4.0, -0.2], [0.1, -0.2, 1.0]],
    "sum to zero": [[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]],
    "a zero gradient": [[1.0, 0.0, 0.2], [0.0, 0.0, 0.0], [0.2, 0.0, 1.0]],
    "only zero gradients": [[0.0] * 3] * 3,
    "all NaN": [[np.nan] * 3] * 3,
    "one gradient NaN": [[1.0, np.nan, 0.2], [np.nan, np.nan, np.nan], [0.2, np.nan, 1.0]],
    "NaN off the diagonal": [[1.0, np.nan, 0.2], [np.nan, 1.0, 0.1], [0.2, 0.1, 1.0]],
    "one norm overflowed": [[1.0, 0.0, 0.2], [0.0, np.inf, 0.0], [0.2, 0.0, 1.0]],
    "negative diagonal": [[1.0, 0.0, 0.2], [0.0, -1.0, 0.0], [0.2, 0.0, 1.0]],
}


@pytest.mark.parametrize("name", INFEASIBLE)
def test_an_infeasible_problem_gets_equal_weights_and_derivative_zero(dtype, name):
    gram = jnp.asarray(INFEASIBLE[name], dtype)
    solution = solve(gram)
    assert not solution.feasible
    np.testing.assert_array_equal(solution.weights, np.full(3, dtype(1) / dtype(3)))
    if "zero gradient" in name:  # which gains nothing
        assert solution.residual == 1
    for mode in JACOBIANS:
        np.testing.assert_array_equal(JACOBIANS[mode](gram), np.zeros((3, 3, 3)))


@pytest.mark.parametrize("name", ["opposed", "a zero gradient", "only zero gradients", "one gradient NaN"])
def test_infeasible_gradients_pass_no_derivative_either(name):
    gradients = {
        "opposed": [[1.0, 2.0], [-2.0, -4.0], [0.5, 0.1]],
        "a zero gradient": [[1.0, 2.0], [0.0, 0.0], [0.5, 0.1]],
        "only zero gradients": [[0.0, 0.0]] * 3,
        "one gradient NaN": [[1.0, 2.0], [np.nan, 1.0], [0.5, 0.1]],
    }[name]
    gradients = jnp.asarray(gradients)
    solution = from_gradients(gradients)
    assert not solution.feasible
    np.testing.assert_array_equal(solution.weights, np.full(3, np.float32(1) / np.float32(3)))
    np.testing.assert_array_equal(jacobian_from_gradients(gradients), np.zeros((3, 3, 2)))


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf, 1e30])
def test_nothing_of_an_absent_gradient_reaches_weights_or_derivatives(garbage):
    gradients = jnp.asarray(aligned(np.random.default_rng(9), 4, 3), jnp.float32).at[1].set(garbage)
    present = jnp.array([True, False, True, True])
    solution = from_gradients(gradients, present)
    alone = from_gradients(gradients[present])
    assert solution.feasible
    np.testing.assert_allclose(solution.weights[present], alone.weights, rtol=1e-5)
    jacobian = jacobian_from_gradients(gradients, present)
    expected = jacobian_from_gradients(gradients[present])
    np.testing.assert_array_equal(jacobian[1], 0)
    np.testing.assert_array_equal(jacobian[:, 1], 0)
    np.testing.assert_allclose(jacobian[present][:, present], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward_from_gradients(gradients, present), jacobian, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_garbage_in_the_tangent_of_an_absent_player_is_ignored(garbage):
    gram = jnp.asarray(gram_of(aligned(np.random.default_rng(9), 3, 3)), jnp.float32)
    present = jnp.array([True, True, False])
    direction = jnp.ones((3, 3)).at[2].set(garbage).at[:, 2].set(garbage)
    _, tangent = jax.jvp(lambda m: solve(m, present).weights, (gram,), (direction,))
    _, expected = jax.jvp(lambda m: solve(m).weights, (gram[:2, :2],), (jnp.ones((2, 2)),))
    np.testing.assert_allclose(tangent, jnp.append(expected, 0.0), rtol=1e-4)


def test_derivative_at_orthogonal_gradients_in_closed_form(x64):
    diagonal = np.array([0.5, 2.0, 9.0])
    jacobian = jax.jit(jax.jacfwd(lambda d: nash_weights(jnp.diag(d)).weights))(diagonal)
    np.testing.assert_allclose(jacobian, np.diag(-0.5 * diagonal**-1.5), rtol=1e-12, atol=1e-14)


def test_derivatives_by_the_gradients_agree_with_differences(x64):
    gradients = jnp.asarray(aligned(np.random.default_rng(11), 4, 3, spread=0.3))
    present = jnp.array([True, False, True, True])
    weights_of = jax.jit(lambda g: nash_weights_from_gradients(g, present).weights)
    check_grads(weights_of, (gradients,), order=1, atol=1e-6, rtol=1e-6)
    # By way of the Gram matrix, where that does not over- or underflow, it is the same function.
    by_gram = jax.jit(jax.jacrev(lambda g: nash_weights(gramian(g), present).weights))
    direct = jax.jit(jax.jacfwd(weights_of))(gradients)
    np.testing.assert_allclose(by_gram(gradients), direct, rtol=1e-8, atol=1e-10)


def test_first_derivative_to_eight_digits_and_modes_agree(x64):
    random = np.random.default_rng(12)
    gram = jnp.asarray(gram_of(aligned(random, 6, 8, spread=0.3)))
    direction = random.normal(size=(6, 6))
    direction = direction + direction.T
    weights_of = jax.jit(lambda m: nash_weights(m).weights)
    step = 1e-5
    difference = (weights_of(gram + step * direction) - weights_of(gram - step * direction)) / (2 * step)
    value, tangent = jax.jvp(weights_of, (gram,), (direction,))
    np.testing.assert_allclose(tangent, difference, rtol=1e-7, atol=1e-9)
    upstream = random.normal(size=6)
    (cotangent,) = jax.vjp(weights_of, gram)[1](upstream)
    np.testing.assert_allclose(jnp.sum(cotangent * direction), upstream @ tangent, rtol=1e-12)
    # The implicit rule itself: (M + diag(1/a^2)) da = -dM a.
    np.testing.assert_allclose((gram + jnp.diag(value**-2)) @ tangent, -direction @ value, rtol=1e-8, atol=1e-8)
    hessian = jax.jit(jax.hessian(lambda t: jnp.vdot(upstream, weights_of(gram + t * direction))))(0.0)
    slope = jax.jit(jax.grad(lambda t: jnp.vdot(upstream, weights_of(gram + t * direction))))
    np.testing.assert_allclose(hessian, (slope(step) - slope(-step)) / (2 * step), rtol=1e-6)


def test_failing_lanes_leave_good_ones_and_gradients_alone():
    good = [aligned(np.random.default_rng(seed), 3, 4).astype(np.float32) for seed in (1, 2)]
    lanes = np.stack([good[0], *(np.zeros((3, 4), np.float32),) * 4, good[1]])
    lanes[1] = np.outer([1.0, -2.0, 3.0], [1.0, 0.5, 0.1, 0.2])
    lanes[2, 0] = good[0][0]
    lanes[3] = np.nan
    lanes[4] = good[0]
    lanes[4, 1] = np.inf

    def score(gradients):
        return jnp.sum(jnp.square(nash_weights_from_gradients(gradients).weights))

    solution = jax.jit(jax.vmap(nash_weights_from_gradients))(lanes)
    np.testing.assert_array_equal(solution.feasible, [True, False, False, False, False, True])
    np.testing.assert_array_equal(solution.weights[1:5], np.full((4, 3), np.float32(1) / np.float32(3)))
    slopes, slope_alone = jax.jit(jax.vmap(jax.grad(score)))(lanes), jax.jit(jax.grad(score))
    np.testing.assert_array_equal(slopes[1:5], 0)
    for lane in (0, 5):
        np.testing.assert_allclose(solution.weights[lane], from_gradients(lanes[lane]).weights, rtol=1e-5)
        np.testing.assert_allclose(slopes[lane], slope_alone(lanes[lane]), rtol=1e-4, atol=1e-6)
        assert np.any(slopes[lane] != 0)


def test_lanes_of_a_gram_with_nan_beside_them(x64):
    gram = np.stack([gram_of(aligned(np.random.default_rng(0), 3, 4)), *map(np.array, INFEASIBLE.values())])
    total = jax.jit(jax.grad(lambda m: jnp.sum(jax.vmap(nash_weights)(m).weights)))(gram)
    np.testing.assert_array_equal(total[1:], 0)
    np.testing.assert_allclose(total[0], JACOBIANS["jacrev"](gram[0]).sum(0), rtol=1e-10)
    assert np.all(np.isfinite(total[0]))


def test_the_rest_of_the_solution_has_no_derivative():
    gram = jnp.asarray(gram_of(aligned(np.random.default_rng(0), 3, 4)), jnp.float32)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda m: nash_weights(m).residual))(gram), np.zeros((3, 3)))
