"""Facts about the estimators: their limits, the closed form of a truncated series, warm starts, loops and failures."""

from functools import partial

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

from badrjax.hypergradients import implicit, neumann, single_loop, unrolled
from badrjax.status import Status

SIZE, NUM_HYPER = 5, 2
RANDOM = np.random.default_rng(0)
BASIS = np.linalg.qr(RANDOM.normal(size=(SIZE, SIZE)))[0]
MATRIX = (BASIS * np.linspace(0.5, 2.0, SIZE)) @ BASIS.T
PUSH = RANDOM.normal(size=(SIZE, NUM_HYPER))
TARGET = RANDOM.normal(size=SIZE)
HYPER = {"push": np.array([0.5, -1.0])}
KEY = 0


def inner(params, hyper, batch):
    """Minimised where `MATRIX p = batch + PUSH h`."""
    p = params["p"]
    return 0.5 * p @ (MATRIX.astype(p.dtype) @ p) - (batch + PUSH.astype(p.dtype) @ hyper["push"]) @ p


def outer(params, hyper, batch):
    return 0.5 * jnp.sum((params["p"] - batch) ** 2) + 0.1 * jnp.sum(hyper["push"] ** 2)


def solution(hyper, train):
    return {"p": np.linalg.solve(MATRIX, train + PUSH @ hyper["push"])}


def closed_form(params, hyper, valid, inverse):
    """`d_hyper outer + PUSH' v` with `v = inverse g`."""
    return {"push": 0.2 * hyper["push"] + PUSH.T @ (inverse @ (params["p"] - valid))}


def series(num_terms, step_size):
    """`step_size sum_i (I - step_size H)^i`, term by term."""
    factor = np.eye(SIZE) - step_size * MATRIX
    return step_size * sum(np.linalg.matrix_power(factor, i) for i in range(num_terms))


TRAIN = np.ones(SIZE)
PARAMS = solution(HYPER, TRAIN)


@jax.jit
def call(estimator, state, params, hyper, train, valid):
    return estimator.estimate(jax.random.key(KEY), state, params, hyper, train, valid)


def from_zero(estimator, params=None, hyper=None):
    params, hyper = PARAMS if params is None else params, HYPER if hyper is None else hyper
    return call(estimator, estimator.init(params, hyper), params, hyper, TRAIN, TARGET)


def assert_close(found, expected, tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=tolerance), found, expected)


EXACT = closed_form(PARAMS, HYPER, TARGET, np.linalg.inv(MATRIX))


@pytest.mark.parametrize(
    "estimator",
    [
        implicit(inner, outer),
        implicit(inner, outer, solver=lineax.Cholesky()),
        neumann(inner, outer, num_terms=80, step_size=0.8),
        unrolled(inner, outer, num_steps=80, step_size=0.8),
    ],
    ids=["implicit", "cholesky", "neumann", "unrolled"],
)
def test_all_tend_to_the_implicit_hypergradient(x64, estimator):
    found, state, info = from_zero(estimator)
    assert_close(found, EXACT, 1e-10)
    assert info.status == Status.SUCCESS
    assert info.relative_residual < 1e-10
    assert info.inner_grad_norm < 1e-12
    assert info.num_steps.dtype == np.int32
    jax.tree.map(
        lambda leaf, like: np.testing.assert_equal((leaf.shape, leaf.dtype), (like.shape, like.dtype)), state, PARAMS
    )


@pytest.mark.parametrize("num_terms", [1, 4])
@pytest.mark.parametrize("factory", [neumann, unrolled])
def test_a_truncated_series_in_closed_form(x64, factory, num_terms):
    # At a stationary point of a quadratic, unrolled gradient steps are the same series.
    budget = {"num_terms" if factory is neumann else "num_steps": num_terms}
    found, _, info = from_zero(factory(inner, outer, step_size=0.3, **budget))
    assert_close(found, closed_form(PARAMS, HYPER, TARGET, series(num_terms, 0.3)), 1e-12)
    gap = PARAMS["p"] - TARGET
    left = np.linalg.norm(np.linalg.matrix_power(np.eye(SIZE) - 0.3 * MATRIX, num_terms) @ gap) / np.linalg.norm(gap)
    np.testing.assert_allclose(info.relative_residual, left, rtol=1e-10)
    assert info.status == Status.SUCCESS
    assert info.num_steps == num_terms


def test_damping_is_added_to_the_diagonal(x64):
    damped = closed_form(PARAMS, HYPER, TARGET, np.linalg.inv(MATRIX + 0.3 * np.eye(SIZE)))
    assert_close(from_zero(implicit(inner, outer, damping=0.3))[0], damped, 1e-12)


def test_unrolled_is_the_difference_of_its_steps(x64):
    # From parameters that are not stationary.
    start = {"p": RANDOM.normal(size=SIZE)}

    def value(hyper):
        p = start["p"]
        for _ in range(3):
            p = p - 0.3 * (MATRIX @ p - TRAIN - PUSH @ hyper["push"])
        return 0.5 * np.sum((p - TARGET) ** 2) + 0.1 * np.sum(hyper["push"] ** 2), p

    found, _, info = from_zero(unrolled(inner, outer, num_steps=3, step_size=0.3), start)
    moves = 1e-5 * np.eye(NUM_HYPER)
    difference = [
        (value({"push": HYPER["push"] + move})[0] - value({"push": HYPER["push"] - move})[0]) / 2e-5 for move in moves
    ]
    np.testing.assert_allclose(found["push"], difference, rtol=0, atol=1e-8)
    slope = MATRIX @ value(HYPER)[1] - TRAIN - PUSH @ HYPER["push"]
    np.testing.assert_allclose(info.inner_grad_norm, np.linalg.norm(slope), rtol=1e-10)


def test_single_loop_is_one_step_of_the_series_at_a_time(x64):
    once, state = single_loop(inner, outer, step_size=0.3), None
    state = once.init(PARAMS, HYPER)
    for num_terms in range(1, 4):
        found, state, info = call(once, state, PARAMS, HYPER, TRAIN, TARGET)
        assert_close(found, closed_form(PARAMS, HYPER, TARGET, series(num_terms, 0.3)), 1e-12)
    assert info.num_steps == 1
    warm = neumann(inner, outer, num_terms=3, step_size=0.3, warm_start=True)
    assert_close(from_zero(warm)[1], state, 1e-12)
    assert_close(
        call(warm, state, PARAMS, HYPER, TRAIN, TARGET)[0]["push"],
        closed_form(PARAMS, HYPER, TARGET, series(6, 0.3))["push"],
        1e-12,
    )


def test_a_warm_start_needs_fewer_steps(x64):
    estimator = implicit(inner, outer, solver=lineax.CG(rtol=1e-8, atol=1e-8))
    _, state, cold = from_zero(estimator)
    moved = solution({"push": HYPER["push"] + 1e-7}, TRAIN)
    _, _, warm = call(estimator, state, moved, HYPER, TRAIN, TARGET)
    _, _, same = call(estimator, state, PARAMS, HYPER, TRAIN, TARGET)
    assert same.num_steps <= warm.num_steps < cold.num_steps
    assert warm.status == same.status == Status.SUCCESS


@pytest.mark.parametrize(
    "estimator",
    [
        implicit(inner, outer),
        neumann(inner, outer, num_terms=3, step_size=0.3, warm_start=True),
        unrolled(inner, outer, num_steps=3, step_size=0.3),
    ],
    ids=["implicit", "neumann", "unrolled"],
)
def test_nan_is_told_and_does_not_last(x64, estimator):
    state = estimator.init(PARAMS, HYPER)
    found, state, info = call(estimator, state, {"p": PARAMS["p"] * np.nan}, HYPER, TRAIN, TARGET)
    assert info.status == Status.NOT_FINITE
    assert np.isnan(found["push"]).all()
    found, _, info = call(estimator, state, PARAMS, HYPER, TRAIN, TARGET)
    assert info.status == Status.SUCCESS
    assert np.isfinite(found["push"]).all()


@pytest.mark.parametrize("factory", [neumann, unrolled])
def test_steps_that_are_too_large_are_told_by_lane(x64, factory):
    def run(step_size):
        budget = {"num_terms" if factory is neumann else "num_steps": 30}
        estimator = factory(inner, outer, step_size=step_size, **budget)
        state = estimator.init(PARAMS, HYPER)
        return estimator.estimate(jax.random.key(KEY), state, PARAMS, HYPER, TRAIN, TARGET)

    # The largest curvature is 2, so steps above 1 diverge.
    _, _, info = jax.jit(jax.vmap(run))(jnp.asarray([0.9, 1.3, 1e30]))
    assert [Status(int(code)) for code in info.status] == [Status.SUCCESS, Status.DIVERGED, Status.NOT_FINITE]
    assert info.relative_residual[0] < 1e-3 < 1 < info.relative_residual[1]


def test_negative_curvature_is_told(x64):
    def concave(params, hyper, batch):
        return -inner(params, hyper, batch)

    info = from_zero(neumann(concave, outer, num_terms=5, step_size=0.3))[2]
    assert info.status == Status.NOT_POSITIVE_DEFINITE
    assert from_zero(implicit(concave, outer))[2].status == Status.NOT_POSITIVE_DEFINITE


def test_numbers_are_leaves():
    traces = []

    def counted(params, hyper, batch):
        traces.append(None)
        return inner(params, hyper, batch)

    low = jax.tree.map(lambda leaf: leaf.astype(np.float32), (PARAMS, HYPER, TRAIN, TARGET))
    for make in (
        lambda number: implicit(counted, outer, solver=lineax.Cholesky(), damping=number),
        lambda number: neumann(counted, outer, num_terms=2, step_size=number),
        lambda number: unrolled(counted, outer, num_steps=2, step_size=number),
    ):
        results = []
        for number in (0.1, 0.2):
            estimator = make(number)
            results.append(call(estimator, estimator.init(*low[:2]), *low)[0]["push"])
            traces.append(number)
        assert traces.index(0.2) == traces.index(0.1) + 1
        traces.clear()
        assert np.max(np.abs(results[0] - results[1])) > 1e-3
        assert results[0].dtype == np.float32


@pytest.mark.parametrize("factory", ["single_loop", "implicit"])
def test_a_bilevel_loop_finds_the_known_optimum(x64, factory):
    # outer is quadratic in h through p = H^-1 (1 + PUSH h): least squares with a ridge term.
    response = np.linalg.solve(MATRIX, PUSH)
    rest = TARGET - np.linalg.solve(MATRIX, TRAIN)
    expected = np.linalg.solve(response.T @ response + 0.2 * np.eye(NUM_HYPER), response.T @ rest)
    estimator = {"single_loop": single_loop(inner, outer, step_size=0.5), "implicit": implicit(inner, outer)}[factory]

    @jax.jit
    def run(estimator, params, hyper):
        def step(carry, key):
            params, hyper, state = carry
            gradient, state, info = estimator.estimate(key, state, params, hyper, TRAIN, TARGET)
            slope = jax.grad(inner)(params, hyper, TRAIN)
            params = jax.tree.map(lambda p, g: p - 0.5 * g, params, slope)
            return (params, jax.tree.map(lambda h, g: h - 0.05 * g, hyper, gradient), state), info

        start = (params, hyper, estimator.init(params, hyper))
        return jax.lax.scan(step, start, jax.random.split(jax.random.key(0), 1500))

    start = {"p": jnp.zeros(SIZE)}, {"push": jnp.zeros(NUM_HYPER)}
    (params, hyper, _), infos = run(estimator, *start)
    np.testing.assert_allclose(hyper["push"], expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(params["p"], solution({"push": expected}, TRAIN)["p"], rtol=0, atol=1e-8)
    assert infos.status[-1] == Status.SUCCESS
    assert infos.relative_residual[-1] < 1e-8


@pytest.mark.parametrize(
    ("error", "message", "build"),
    [
        (ValueError, "damping must be >= 0", lambda: implicit(inner, outer, damping=-1.0)),
        (
            TypeError,
            "solver must hold Python numbers",
            lambda: implicit(inner, outer, solver=lineax.CG(jnp.ones(1), 0.0)),
        ),
        (
            ValueError,
            "num_terms must be a positive Python int",
            lambda: neumann(inner, outer, num_terms=0, step_size=1.0),
        ),
        (
            ValueError,
            "num_steps must be a positive Python int",
            lambda: unrolled(inner, outer, num_steps=1.5, step_size=1.0),
        ),
        (ValueError, "step_size must be one number", lambda: single_loop(inner, outer, step_size=jnp.ones(3))),
        (ValueError, "damping must be one number", lambda: implicit(inner, outer, damping=jnp.ones(3))),
        (ValueError, "step_size must be > 0, got 0", lambda: single_loop(inner, outer, step_size=0.0)),
        (ValueError, "step_size must be > 0, got nan", lambda: unrolled(inner, outer, num_steps=1, step_size=np.nan)),
        (TypeError, "expected a function", lambda: neumann(inner, None, num_terms=1, step_size=1.0)),
        (TypeError, "params.*has int32", lambda: implicit(inner, outer).init({"p": jnp.ones(2, int)}, HYPER)),
        (
            ValueError,
            "outer must return one number",
            lambda: from_zero(unrolled(inner, lambda p, h, b: p, num_steps=1, step_size=1.0)),
        ),
    ],
)
def test_wrong_input_is_named(error, message, build):
    with pytest.raises(error, match=message):
        build()


def test_a_state_that_is_not_finite_starts_from_zeros():
    estimator = single_loop(lambda p, h, b: jnp.sum((p - h) ** 2), lambda p, h, b: jnp.sum(p), step_size=0.1)
    estimate = jax.jit(lambda state: estimator.estimate(None, state, jnp.ones(2), jnp.ones(2), None, None))
    for broken, whole in zip(estimate(jnp.array([np.nan, 1.0]))[:2], estimate(jnp.zeros(2))[:2], strict=True):
        np.testing.assert_array_equal(broken, whole)
