"""Facts about the differentiable arg-min: forward and reverse mode, Hessians, closures, lanes that fail alone."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.tree_util import Partial

from badrjax.hypergradients import argmin, argmin_with_info, lbfgs, newton
from badrjax.status import Status

NUM_ROWS, NUM_FEATURES = 24, 4
RANDOM = np.random.default_rng(0)
X, TARGETS = RANDOM.normal(size=(NUM_ROWS, NUM_FEATURES)), RANDOM.normal(size=NUM_ROWS)
LABELS = (TARGETS > 0).astype(int)
HYPER = np.array([0.3, -0.4, -1.0])  # log weights of two halves of the rows and the log of the ridge term
START = {"w": np.zeros(NUM_FEATURES)}


def ridge(params, hyper):
    share = jnp.exp(hyper[:2])[np.arange(NUM_ROWS) % 2] / NUM_ROWS
    return share @ (jnp.asarray(X) @ params["w"] - TARGETS) ** 2 + jnp.exp(hyper[2]) * jnp.sum(params["w"] ** 2)


@jax.jit
def ridge_closed_form(hyper):
    weighted = (jnp.exp(hyper[:2])[np.arange(NUM_ROWS) % 2] / NUM_ROWS)[:, None] * X
    return jnp.linalg.solve(X.T @ weighted + jnp.exp(hyper[2]) * jnp.eye(NUM_FEATURES), weighted.T @ TARGETS)


def solution(hyper, minimise=None):
    return argmin(ridge, START, hyper, minimise=minimise)["w"]


def differences(function, point, step=1e-5):
    """Central differences of the function along each entry of a vector, stacked."""
    moves = step * np.eye(point.size)
    return np.stack([np.asarray(function(point + move)) - np.asarray(function(point - move)) for move in moves]) / (
        2 * step
    )


def test_forward_and_reverse_mode_are_those_of_the_closed_form(x64):
    found, forward, backward = jax.jit(lambda h: (solution(h), jax.jacfwd(solution)(h), jax.jacrev(solution)(h)))(HYPER)
    expected = jax.jit(jax.jacrev(ridge_closed_form))(HYPER)
    np.testing.assert_allclose(found, ridge_closed_form(HYPER), rtol=0, atol=1e-12)
    np.testing.assert_allclose(forward, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(backward, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(forward.T, differences(jax.jit(solution), HYPER), rtol=0, atol=1e-8)


@pytest.mark.slow
def test_the_derivative_does_not_depend_on_the_minimiser(x64):
    def with_lbfgs(hyper):
        return solution(hyper, lbfgs(tolerance=1e-12))

    found = jax.jit(jax.jacrev(with_lbfgs))(HYPER)
    np.testing.assert_allclose(found, jax.jit(jax.jacrev(ridge_closed_form))(HYPER), rtol=0, atol=1e-10)


def upper(point):
    return jnp.sum(jnp.sin(point) * jnp.arange(1.0, NUM_FEATURES + 1))


@pytest.mark.parametrize("solver", [None, pytest.param(lineax.Cholesky(), marks=pytest.mark.slow)])
def test_hessians_through_it(x64, solver):
    def value(hyper):
        return upper(argmin(ridge, START, hyper, solver=solver)["w"])

    def gradient_twice(hyper):
        gradient = jax.grad(value)(hyper)
        return gradient, gradient

    hessian_and_gradient = jax.jit(jax.jacfwd(gradient_twice, has_aux=True))
    found, _ = hessian_and_gradient(HYPER)
    expected = jax.jit(jax.hessian(lambda hyper: upper(ridge_closed_form(hyper))))(HYPER)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    by_differences = differences(lambda hyper: hessian_and_gradient(hyper)[1], HYPER)
    np.testing.assert_allclose(found, by_differences, rtol=0, atol=1e-8)


def logistic(params, hyper):
    """Integers and a key among the hyperparameters are constants."""
    scores = hyper["x"] @ params
    losses = jax.nn.softplus(jnp.where(hyper["y"] == 1, -scores, scores))
    jitter = jax.random.normal(hyper["key"], params.shape)
    return jnp.mean(losses) + 0.5 * jnp.exp(hyper["log_l2"]) * jnp.sum((params - 0.1 * jitter) ** 2)


@jax.jit
def logistic_value(log_l2, x, start):
    hyper = {"x": x, "y": jnp.asarray(LABELS), "key": jax.random.key(0), "log_l2": log_l2}
    return upper(argmin(logistic, start, hyper, solver=lineax.Cholesky()))


@pytest.mark.slow
def test_logistic_regression_by_every_argument(x64):
    arguments = (jnp.asarray(-2.0), jnp.asarray(X), jnp.zeros(NUM_FEATURES))
    by_strength, by_data, by_start = jax.jit(jax.grad(logistic_value, argnums=(0, 1, 2)))(*arguments)
    step, (log_l2, x, start) = 1e-5, arguments
    difference = (logistic_value(log_l2 + step, x, start) - logistic_value(log_l2 - step, x, start)) / (2 * step)
    np.testing.assert_allclose(by_strength, difference, rtol=0, atol=1e-8)
    along = RANDOM.normal(size=x.shape)
    difference = (logistic_value(log_l2, x + step * along, start) - logistic_value(log_l2, x - step * along, start)) / (
        2 * step
    )
    np.testing.assert_allclose(jnp.sum(by_data * along), difference, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(by_start, 0)


def pulled(params, target):
    return jnp.sum(jnp.cosh(params - target))


def test_what_the_objective_closes_over_is_differentiated_too(x64):
    def found(target, bound, labels):
        # The solution is target + bound + labels; the labels are integers, closed over as well.
        objective = Partial(lambda b, p, h: jnp.sum(jnp.cosh(p - target - b - labels - h)), bound)
        return argmin(objective, jnp.zeros(2), 0.0, solver=lineax.Cholesky())

    targets, labels = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), jnp.asarray([[1, 0], [0, 2]])
    call = jax.jit(jax.vmap(lambda *given: (found(*given), jax.jacrev(found, argnums=(0, 1))(*given))))
    point, jacobians = call(targets, 2 * targets, labels)
    np.testing.assert_allclose(point, 3 * targets + labels, atol=1e-10)
    for jacobian in jacobians:
        np.testing.assert_allclose(jacobian, np.stack([np.eye(2)] * 2), atol=1e-10)


def quartic(params, hyper):
    """Minimum where `c p^3 = b - a p`; for `a = b = 0` flat at its minimum, for `a < 0` with a maximum at 0."""
    return hyper["a"] * params**2 / 2 + hyper["c"] * params**4 / 4 - hyper["b"] * params


def test_lanes_fail_alone(x64):
    hyper = {
        "a": jnp.asarray([1.0, 0.0, jnp.nan, 2.0, -1.0]),
        "b": jnp.asarray([1.0, 0.0, 1.0, 4.0, 0.0]),
        "c": jnp.asarray([0.0, 1.0, 1.0, 0.0, 1.0]),
    }

    def call(one):
        return argmin_with_info(quartic, jnp.zeros(()), one)

    slopes, (point, info) = jax.jit(jax.vmap(jax.grad(lambda one: (call(one)[0], call(one)), has_aux=True)))(hyper)
    np.testing.assert_allclose(point[np.array([0, 1, 3])], [1.0, 0.0, 2.0], atol=1e-10)
    assert [Status(int(code)) for code in info.status] == [0, 0, Status.NOT_FINITE, 0, 0]
    np.testing.assert_allclose(slopes["b"][np.array([0, 3])], [1.0, 0.5], atol=1e-10)
    # A flat minimum and NaN have no derivative, and a maximum is none of a minimum.
    assert np.isnan(slopes["b"][np.array([1, 2, 4])]).all()


def test_damping_acts_on_the_tangents_only(x64):
    def point(b, damping):
        return argmin(quartic, jnp.zeros(()), {"a": 1.0, "b": b, "c": 0.0}, damping=damping)

    value, slope = jax.jit(jax.value_and_grad(point))(1.0, 3.0)
    np.testing.assert_allclose((value, slope), (1.0, 0.25), atol=1e-12)


def test_infos_have_no_derivative(x64):
    def grad_norm(b):
        info = argmin_with_info(quartic, jnp.zeros(()), {"a": 1.0, "b": b, "c": 1.0})[1]
        return info.grad_norm + info.num_steps

    assert jax.jit(jax.grad(grad_norm))(1.0) == 0


def test_numbers_of_the_minimiser_may_be_traced(x64):
    def steps(tolerance):
        hyper = {"a": 1.0, "b": 3.0, "c": 1.0}
        return argmin_with_info(quartic, 0.0, hyper, minimise=newton(tolerance=tolerance))[1].num_steps

    counts = jax.jit(jax.vmap(steps))(jnp.asarray([1.0, 1e-3, 1e-12]))
    assert 0 < counts[0] < counts[1] < counts[2]


def test_float32():
    found, slope = jax.jit(jax.value_and_grad(lambda b: argmin(quartic, 0.0, {"a": 1.0, "b": b, "c": 1.0})))(2.0)
    assert found.dtype == slope.dtype == np.float32
    np.testing.assert_allclose((found, slope), (1.0, 0.25), rtol=1e-5)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "params must be float32 or float64 and has int32", lambda: argmin(jnp.dot, 1, 1.0)),
        (ValueError, "objective must return one number", lambda: argmin(lambda p, h: p * h, jnp.ones(2), 1.0)),
        (ValueError, "damping must be >= 0", lambda: argmin(jnp.dot, 1.0, 1.0, damping=-1.0)),
        (TypeError, "solver must be a lineax solver", lambda: argmin(jnp.dot, 1.0, 1.0, solver="cg")),
        (TypeError, "expected a function", lambda: argmin(jnp.dot, 1.0, 1.0, minimise=3)),
    ],
)
def test_wrong_input_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()
