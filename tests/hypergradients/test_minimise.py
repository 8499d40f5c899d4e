"""Facts about the minimisers: closed forms, SciPy, hard starts, budgets and lanes that fail alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from badrjax.hypergradients import lbfgs, newton
from badrjax.status import Status

RANDOM = np.random.default_rng(0)
X, SIGNS = RANDOM.normal(size=(40, 5)), RANDOM.choice([-1.0, 1.0], size=40)
MINIMISERS = {"newton": newton(), "lbfgs": lbfgs()}


def logistic(params, strength, scale=1.0):
    x, signs = jnp.asarray(X, params["w"].dtype), jnp.asarray(SIGNS, params["w"].dtype)
    losses = jax.nn.softplus(-signs * (x @ params["w"] + params["b"]))
    return scale * (jnp.mean(losses) + strength * jnp.sum(params["w"] ** 2))


@jax.jit
def solve_logistic(minimise, params, strength, scale=1.0):
    return minimise(lambda p: logistic(p, strength, scale), params)


def logistic_start(dtype=np.float64, size=0.0):
    return {"w": np.full(5, size, dtype), "b": np.asarray(size, dtype)}


@pytest.mark.parametrize("name", MINIMISERS)
@pytest.mark.parametrize("size", [0.0, 30.0])
def test_logistic_regression_agrees_with_scipy(x64, name, size):
    def slope(vector):
        wrong = -SIGNS / (1 + np.exp(SIGNS * (X @ vector[:5] + vector[5])))
        return np.append(X.T @ wrong / 40 + 0.02 * vector[:5], wrong.mean())

    expected = scipy.optimize.root(slope, np.zeros(6), tol=1e-14).x
    found, info = solve_logistic(MINIMISERS[name], logistic_start(size=size), 0.01)
    np.testing.assert_allclose(np.append(found["w"], found["b"]), expected, rtol=0, atol=1e-8)
    assert info.status == Status.SUCCESS
    assert info.grad_norm <= 1e-10
    assert info.num_steps.dtype == np.int32


@pytest.mark.parametrize("name", ["newton", pytest.param("lbfgs", marks=pytest.mark.slow)])
def test_logistic_regression_in_float32(name):
    found, info = solve_logistic(MINIMISERS[name], logistic_start(np.float32), np.float32(0.01))
    assert found["w"].dtype == info.grad_norm.dtype == np.float32
    assert info.status == Status.SUCCESS
    assert info.grad_norm <= 1e-5


def test_newton_needs_one_step_on_a_quadratic(x64):
    basis = RANDOM.normal(size=(4, 4))
    matrix = basis @ basis.T + np.eye(4)
    found, info = jax.jit(lambda: newton()(lambda p: 0.5 * p @ (matrix @ p) - jnp.sum(p), jnp.zeros(4)))()
    np.testing.assert_allclose(found, np.linalg.solve(matrix, np.ones(4)), rtol=0, atol=1e-12)
    assert info.num_steps == 1


def rosenbrock(params):
    return jnp.sum(100 * (params[1:] - params[:-1] ** 2) ** 2 + (1 - params[:-1]) ** 2)


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def solve_rosenbrock(minimise, params):
    return minimise(rosenbrock, params)


@pytest.mark.parametrize("name", MINIMISERS)
def test_starts_where_the_hessian_is_indefinite_and_lanes_that_fail(x64, name):
    # At (0, 1) the Hessian has a negative eigenvalue; (1, 1) is the minimum; NaN fails and stops none of the others.
    starts = jnp.asarray([[0.0, 1.0], [-1.2, 1.0], [1.0, 1.0], [np.nan, 0.0], [4.0, -3.0]])
    found, info = solve_rosenbrock(MINIMISERS[name], starts)
    fine = np.array([0, 1, 2, 4])
    np.testing.assert_allclose(found[fine], np.ones((4, 2)), rtol=0, atol=1e-8)
    assert [Status(int(code)) for code in info.status] == [Status.NOT_FINITE if k == 3 else 0 for k in range(5)]
    assert info.num_steps[2] == 0


@pytest.mark.parametrize("minimise", [newton(max_steps=2), pytest.param(lbfgs(max_steps=2), marks=pytest.mark.slow)])
def test_a_budget_that_is_too_small_is_told(x64, minimise):
    start = logistic_start()
    found, info = solve_logistic(minimise, start, 1e-4)
    assert info.status == Status.MAX_STEPS
    assert info.num_steps == 2
    assert info.grad_norm > 1e-10
    assert logistic(found, 1e-4) < logistic(start, 1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_newton_does_not_mind_the_units_of_the_objective(x64, scale):
    # A tolerance of the gradient has the units of the objective, a shift those of its Hessian.
    far = logistic_start(size=30.0)
    found, info = solve_logistic(newton(tolerance=1e-10 * scale), far, 0.01, scale)
    plain, plain_info = solve_logistic(newton(tolerance=1e-10), far, 0.01, 1.0)
    assert info.status == Status.SUCCESS
    assert abs(info.num_steps - plain_info.num_steps) <= 1
    np.testing.assert_allclose(found["w"], plain["w"], rtol=0, atol=1e-8)


def test_steps_into_infinity_are_not_taken(x64):
    # A full Newton step from 10 leaves the domain of the logarithm.
    found, info = jax.jit(lambda p: newton()(lambda q: q - jnp.log(q), p))(10.0)
    np.testing.assert_allclose(found, 1.0, rtol=0, atol=1e-10)
    assert info.status == Status.SUCCESS


def test_tolerance_and_damping_are_leaves(x64):
    traces = []

    @jax.jit
    def solve(minimise):
        traces.append(None)
        return minimise(lambda p: logistic(p, 0.01), logistic_start())[1]

    loose, tight = solve(newton(tolerance=1e-2, damping=0.0)), solve(newton(tolerance=1e-12, damping=1.0))
    assert len(traces) == 1
    assert loose.num_steps < tight.num_steps
    assert loose.status == tight.status == Status.SUCCESS


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("tolerance must be >= 0, got -1", lambda: newton(tolerance=-1.0)),
        ("damping must be >= 0, got nan", lambda: newton(damping=np.nan)),
        ("max_steps must be a positive Python int", lambda: newton(max_steps=0)),
        ("max_steps must be a positive Python int", lambda: lbfgs(max_steps=2.5)),
        ("memory_size must be a positive Python int", lambda: lbfgs(memory_size=True)),
        ("objective must return one number", lambda: newton()(lambda p: p, jnp.ones(2))),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
