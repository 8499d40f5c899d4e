"""Facts about the implicit hypergradient: closed forms, differences of exact solutions, unrolled training, failures."""

from functools import partial

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.hypergradients import implicit_hypergradient, implicit_hypergradient_with_info
from badrjax.hypergradients.linear import norm
from badrjax.status import Status

NUM_ROWS, NUM_FEATURES, NUM_GROUPS = 24, 4, 3
RANDOM = np.random.default_rng(0)
X, TARGETS = RANDOM.normal(size=(NUM_ROWS, NUM_FEATURES)), RANDOM.normal(size=NUM_ROWS)
X_VALID, TARGETS_VALID = RANDOM.normal(size=(10, NUM_FEATURES)), RANDOM.normal(size=10)
GROUPS = np.arange(NUM_ROWS) % NUM_GROUPS
HYPER = {"groups": np.array([0.3, -0.4, 0.1]), "ridge": np.array(-1.0)}


def inner(params, hyper):
    """Ridge regression whose groups have weights of their own."""
    miss = (jnp.asarray(X) @ params["w"] - TARGETS) ** 2
    return jnp.mean(jnp.exp(hyper["groups"])[GROUPS] * miss) + jnp.exp(hyper["ridge"]) * jnp.sum(params["w"] ** 2)


def outer(params, hyper):
    miss = jnp.asarray(X_VALID) @ params["w"] - TARGETS_VALID
    return jnp.mean(miss**2) + hyper["ridge"] ** 2 + hyper["groups"][0] * params["w"][1]


def ridge_solution(hyper):
    """The minimiser of `inner`, its Hessian and the weighted rows, in NumPy."""
    weighted = np.exp(hyper["groups"])[GROUPS][:, None] * X / NUM_ROWS
    hessian = 2 * (X.T @ weighted + np.exp(hyper["ridge"]) * np.eye(NUM_FEATURES))
    return np.linalg.solve(hessian, 2 * weighted.T @ TARGETS), hessian, weighted


def ridge_hypergradient(hyper):
    solution, hessian, weighted = ridge_solution(hyper)
    right = 2 * X_VALID.T @ (X_VALID @ solution - TARGETS_VALID) / len(X_VALID)
    right[1] += hyper["groups"][0]
    adjoint = np.linalg.solve(hessian, right)
    rows = 2 * (weighted @ adjoint) * (X @ solution - TARGETS)
    by_groups = -np.array([rows[k == GROUPS].sum() for k in range(NUM_GROUPS)])
    by_groups[0] += solution[1]
    return {
        "groups": by_groups,
        "ridge": 2 * hyper["ridge"] - 2 * np.exp(hyper["ridge"]) * adjoint @ solution,
    }


def assert_close(found, expected, tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=tolerance), found, expected)


@pytest.mark.parametrize("solver", [None, lineax.Cholesky(), pytest.param(lineax.LU(), marks=pytest.mark.slow)])
def test_ridge_regression_in_closed_form(x64, solver):
    params = {"w": ridge_solution(HYPER)[0]}
    call = jax.jit(partial(implicit_hypergradient_with_info, inner, outer, solver=solver))
    found, info = call(params, HYPER)
    assert_close(found, ridge_hypergradient(HYPER), 1e-12)
    assert info.status == Status.SUCCESS
    assert info.status.dtype == info.num_steps.dtype == np.int32
    assert info.relative_residual <= 1e-10
    assert info.inner_grad_norm < 1e-12
    assert info.num_steps == 0 if solver else 0 < info.num_steps <= 2 * NUM_FEATURES


def test_every_entry_is_a_difference_of_exact_solutions(x64):
    def value(hyper):
        return np.asarray(outer({"w": ridge_solution(hyper)[0]}, hyper))

    found, step = ridge_hypergradient(HYPER), 1e-5
    for name, entry in HYPER.items():
        for position in np.ndindex(entry.shape):
            move = np.zeros_like(entry)
            move[position] = step
            up, down = (value(HYPER | {name: entry + sign * move}) for sign in (1, -1))
            np.testing.assert_allclose(found[name][position], (up - down) / (2 * step), rtol=0, atol=1e-8)


def test_it_is_the_derivative_of_long_training(x64):
    @jax.jit
    def unrolled(hyper):
        def step(params, _):
            return jax.tree.map(lambda p, g: p - 0.2 * g, params, jax.grad(inner)(params, hyper)), None

        trained, _ = jax.lax.scan(step, {"w": jnp.zeros(NUM_FEATURES)}, None, length=400)
        return outer(trained, hyper)

    assert_close(jax.jit(jax.grad(unrolled))(HYPER), ridge_hypergradient(HYPER), 1e-10)


def logistic_inner(params, weights):
    """Group-weighted logistic regression with an L2 term, as the lower level of a minimax fair learner."""
    margins = jnp.where(TARGETS > 0, 1.0, -1.0) * (jnp.asarray(X) @ params)
    losses = jax.nn.softplus(-margins)
    return jnp.sum(weights[GROUPS] * losses) / NUM_ROWS * NUM_GROUPS + 0.05 * jnp.sum(params**2)


def logistic_outer(params, weights):
    return jnp.sum(jax.nn.sigmoid(jnp.asarray(X_VALID) @ params) ** 2) + jnp.sum(weights**3)


def logistic_solution(weights):
    """Newton's method in NumPy."""
    signs, params = np.where(TARGETS > 0, 1.0, -1.0), np.zeros(NUM_FEATURES)
    share = weights[GROUPS] / NUM_ROWS * NUM_GROUPS
    for _ in range(30):
        wrong = 1 / (1 + np.exp(signs * (X @ params)))
        slope = -X.T @ (share * signs * wrong) + 0.1 * params
        hessian = (X.T * (share * wrong * (1 - wrong))) @ X + 0.1 * np.eye(NUM_FEATURES)
        params = params - np.linalg.solve(hessian, slope)
    return params


def test_group_weights_of_a_logistic_regression(x64):
    weights, step = np.array([0.5, 0.3, 0.2]), 1e-5
    call = jax.jit(partial(implicit_hypergradient_with_info, logistic_inner, logistic_outer))
    found, info = call(logistic_solution(weights), weights)
    difference = [
        (logistic_outer(logistic_solution(weights + move), weights + move))
        - (logistic_outer(logistic_solution(weights - move), weights - move))
        for move in step * np.eye(NUM_GROUPS)
    ]
    np.testing.assert_allclose(found, np.array(difference) / (2 * step), rtol=0, atol=1e-8)
    assert info.status == Status.SUCCESS
    assert info.inner_grad_norm < 1e-12


def quadratic(params, hyper):
    return 0.5 * params @ (hyper["matrix"] @ params) - hyper["right"] @ params


def distance(params, hyper):
    return 0.5 * jnp.sum((params - hyper["target"]) ** 2)


@partial(jax.jit, static_argnames="solver")
@partial(jax.vmap, in_axes=(0, 0, None, None))
def on_quadratics(params, hyper, damping, solver):
    return implicit_hypergradient_with_info(
        quadratic, distance, params, hyper, damping=damping, stationarity_tolerance=1e-3, solver=solver
    )


def quadratics(matrices, rights, targets, dtype=np.float64):
    """Solutions (shortest ones of singular systems) and hyperparameters of quadratic problems."""
    matrices, rights, targets = (np.asarray(part, dtype) for part in (matrices, rights, targets))
    params = np.stack([np.linalg.lstsq(m, b, rcond=None)[0] for m, b in zip(matrices, rights, strict=True)])
    return params.astype(dtype), {"matrix": matrices, "right": rights, "target": targets}


def quadratic_closed_form(params, hyper, damping=0.0):
    adjoint = np.linalg.solve(hyper["matrix"] + damping * np.eye(params.size), params - hyper["target"])
    mixed = np.outer(adjoint, params)
    return {"matrix": -(mixed + mixed.T) / 2, "right": adjoint, "target": hyper["target"] - params}


FAILURES = {
    "fine": (np.diag([1.0, 2.0, 3.0]), [1.0, 1.0, 1.0], [0.0, 0.0, 5.0], Status.SUCCESS),
    "nan": (np.diag([1.0, 2.0, 3.0]), [1.0, np.nan, 1.0], [0.0, 0.0, 5.0], Status.NOT_FINITE),
    "nan in the target": (np.diag([1.0, 2.0, 3.0]), [1.0, 1.0, 1.0], [0.0, np.nan, 5.0], Status.NOT_FINITE),
    "saddle": (np.diag([1.0, -2.0, 3.0]), [1.0, 1.0, 1.0], [0.0, 4.0, 5.0], Status.NOT_POSITIVE_DEFINITE),
    "maximum": (np.diag([-1.0, -2.0, -3.0]), [1.0, 1.0, 1.0], [0.0, 4.0, 5.0], Status.NOT_POSITIVE_DEFINITE),
    "singular": (np.diag([1.0, 2.0, 0.0]), [1.0, 1.0, 0.0], [0.0, 0.0, 5.0], Status.SINGULAR),
    "flat": (np.zeros((3, 3)), [0.0, 0.0, 0.0], [1.0, 0.0, 5.0], Status.SINGULAR),
    "not stationary": (np.diag([1.0, 2.0, 3.0]), [1.0, 1.0, 1.0], [0.0, 0.0, 5.0], Status.NOT_STATIONARY),
    "at the target": (np.diag([1.0, 2.0, 4.0]), [1.0, 1.0, 1.0], [1.0, 0.5, 0.25], Status.SUCCESS),
}


def failing_lanes(dtype=np.float64):
    matrices, rights, targets, statuses = zip(*FAILURES.values(), strict=True)
    finite = [np.nan_to_num(right) for right in rights]
    params, hyper = quadratics(matrices, finite, targets, dtype)
    params[list(FAILURES).index("not stationary")] += 1.0
    return params, hyper | {"right": np.asarray(rights, dtype)}, statuses


@pytest.mark.parametrize("solver", [None, lineax.Cholesky()])
def test_lanes_fail_alone_and_say_why(x64, solver):
    params, hyper, statuses = failing_lanes()
    found, info = on_quadratics(params, hyper, 0.0, solver)
    if solver is not None:  # a Cholesky factor does not tell a singular matrix from an indefinite one
        statuses = [Status.NOT_POSITIVE_DEFINITE if code == Status.SINGULAR else code for code in statuses]
    assert [Status(int(code)) for code in info.status] == list(statuses)
    for lane, name in enumerate(FAILURES):
        if name in ("fine", "at the target"):
            one = jax.tree.map(lambda leaf, lane=lane: leaf[lane], hyper)
            assert_close(
                jax.tree.map(lambda leaf, lane=lane: leaf[lane], found), quadratic_closed_form(params[lane], one), 1e-12
            )
    exact = list(FAILURES).index("at the target")
    assert info.relative_residual[exact] == 0
    assert info.num_steps[exact] == 0
    # What broke down is NaN, not a number that looks like a result.
    for name in ("nan in the target", "flat"):
        assert np.isnan(found["right"][list(FAILURES).index(name)]).any()


def test_lanes_fail_alone_in_float32():
    params, hyper, statuses = failing_lanes(np.float32)
    found, info = on_quadratics(params, hyper, 0.0, None)
    assert found["right"].dtype == info.relative_residual.dtype == np.float32
    assert [Status(int(code)) for code in info.status] == list(statuses)


def test_damping_is_added_to_the_diagonal(x64):
    params, hyper, _ = failing_lanes()
    found, info = on_quadratics(params, hyper, 2.5, None)
    for name in ("fine", "saddle", "singular", "flat"):
        lane = list(FAILURES).index(name)
        expected = quadratic_closed_form(params[lane], jax.tree.map(lambda leaf, lane=lane: leaf[lane], hyper), 2.5)
        assert info.status[lane] == Status.SUCCESS
        assert_close(jax.tree.map(lambda leaf, lane=lane: leaf[lane], found), expected, 1e-12)


def test_consistent_singular_systems_have_the_shortest_solution(x64):
    matrix = np.diag([1.0, 2.0, 0.0])
    params, hyper = quadratics([matrix], [[1.0, 1.0, 0.0]], [[5.0, 5.0, 0.0]])
    found, info = on_quadratics(params, hyper, 0.0, None)
    assert info.status[0] == Status.SUCCESS
    expected = np.linalg.pinv(matrix) @ (params[0] - hyper["target"][0])
    np.testing.assert_allclose(found["right"][0], expected, atol=1e-12)


NUM_LANES, SIZE = 4, 6


def random_quadratics(seed, log_condition, log_scale, log_right, dtype):
    random = np.random.default_rng(seed)
    bases = np.linalg.qr(random.normal(size=(NUM_LANES, SIZE, SIZE)))[0]
    spectra = 10.0 ** (log_scale + random.uniform(-log_condition, 0, size=(NUM_LANES, SIZE)))
    matrices = (bases * spectra[:, None, :]) @ np.swapaxes(bases, 1, 2)
    params = random.normal(size=(NUM_LANES, SIZE))
    rights = np.einsum("lij,lj->li", matrices, params)
    targets = params - 10.0**log_right * random.normal(size=(NUM_LANES, SIZE))
    return params.astype(dtype), {
        "matrix": matrices.astype(dtype),
        "right": rights.astype(dtype),
        "target": targets.astype(dtype),
    }


SCALES = {
    "seed": st.integers(0, 10_000),
    "log_scale": st.sampled_from([-8.0, 0.0, 8.0]),
    "log_right": st.sampled_from([-3.0, 0.0, 6.0]),
}


def check_scales(dtype, log_condition, log_scale, log_right, seed, tolerance):
    params, hyper = random_quadratics(seed, log_condition, log_scale, log_right, dtype)
    found, info = on_quadratics(params, hyper, 0.0, None)
    # Whether rounding leaves a gradient of 1e-3 depends on the scale.
    assert np.isin(info.status, [Status.SUCCESS, Status.NOT_STATIONARY]).all()
    assert np.max(info.relative_residual) <= (1e-10 if dtype == np.float64 else 1e-4)
    for lane in range(NUM_LANES):
        wide = jax.tree.map(lambda leaf, lane=lane: leaf[lane].astype(np.float64), hyper)
        expected = quadratic_closed_form(params[lane].astype(np.float64), wide)["right"]
        error = np.linalg.norm(found["right"][lane] - expected) / np.linalg.norm(expected)
        assert error < tolerance


@settings(deadline=None, max_examples=30)
@given(**SCALES)
def test_hessians_of_any_scale_float64(seed, log_scale, log_right):
    with jax.enable_x64(True):
        check_scales(np.float64, 3.0, log_scale, log_right, seed, 1e-8)


@settings(deadline=None, max_examples=30)
@given(**SCALES)
def test_hessians_of_any_scale_float32(seed, log_scale, log_right):
    check_scales(np.float32, 1.5, log_scale, log_right, seed, 1e-3)


def test_one_parameter_and_python_numbers():
    # inner = (p - h)^2, so p* = h and d(p*^3 + h)/dh = 3 h^2 + 1.
    found = jax.jit(lambda: implicit_hypergradient(lambda p, h: (p - h) ** 2, lambda p, h: p**3 + h, 2.0, 2.0))()
    np.testing.assert_allclose(found, 13.0, rtol=1e-6)


def test_conjugate_gradients_reach_their_tolerance_on_a_larger_system(x64):
    spectrum = jnp.logspace(-4, 0, 80)

    @jax.jit
    def call(params, hyper):
        return implicit_hypergradient_with_info(
            lambda p, h: 0.5 * jnp.sum(spectrum * p**2) - h @ p, lambda p, h: jnp.sum(jnp.sin(p)), params, hyper
        )

    params = jnp.linspace(-1, 1, 80)
    found, info = call(params, spectrum * params)
    assert info.relative_residual <= 1e-10
    assert 80 <= info.num_steps <= 800
    np.testing.assert_allclose(found, jnp.cos(params) / spectrum, rtol=1e-8)


def test_leaves_of_hyper_keep_their_precision(x64):
    def mixed_inner(params, hyper):
        return jnp.sum((params["a"] - hyper["x"]) ** 2) + jnp.sum((params["b"] - hyper["y"]) ** 2)

    params = {"a": jnp.ones(2), "b": jnp.ones((1, 2))}
    hyper = {"x": jnp.ones(2, jnp.float64), "y": jnp.ones((1, 2), jnp.float32)}

    def mixed_outer(params, hyper):
        return jnp.sum(params["a"]) + 2 * jnp.sum(params["b"])

    found = jax.jit(partial(implicit_hypergradient, mixed_inner, mixed_outer))(params, hyper)
    assert (found["x"].dtype, found["y"].dtype) == (np.float64, np.float32)
    assert_close(found, {"x": np.ones(2), "y": np.full((1, 2), 2.0)}, 1e-6)
    with pytest.raises(TypeError, match="params mixes float32 and float64"):
        implicit_hypergradient(mixed_inner, mixed_outer, params | {"a": jnp.ones(2, jnp.float32)}, hyper)


@pytest.mark.parametrize("condition", [100, 1000])
def test_conjugate_gradients_in_single_precision_reach_their_tolerance(condition):
    # A geometric spectrum in a random basis: putting in true residuals on the way makes the iterates explode here.
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(100, 100)))[0]
    hessian = basis @ np.diag(np.geomspace(1, 1 / condition, 100)) @ basis.T
    slope = random.normal(size=100)
    matrix, right = jnp.asarray(hessian, jnp.float32), jnp.asarray(slope, jnp.float32)

    @jax.jit
    def solve(params):
        return implicit_hypergradient_with_info(
            lambda w, h: 0.5 * w @ (matrix @ w) - h * (right @ w), lambda w, h: right @ w, params, jnp.float32(1)
        )

    found, info = solve(jnp.zeros(100))
    assert info.status == Status.SUCCESS
    assert info.num_steps < 300
    np.testing.assert_allclose(found, slope @ np.linalg.solve(hessian, slope), rtol=1e-5)


def test_a_norm_near_the_largest_number_is_not_zero():
    huge = np.full(2, 1.2e38, np.float32)
    for vectors in (jax.jit(jax.vmap(norm))(huge[None])[0], norm(huge)):
        np.testing.assert_allclose(vectors, 1.2e38 * 2**0.5, rtol=1e-5)


def test_it_can_be_differentiated_in_turn(x64):
    # With params fixed, d/d ridge of the formula itself: differences of it.
    params = {"w": jnp.asarray(ridge_solution(HYPER)[0])}

    @jax.jit
    def gradient(ridge):
        hyper = HYPER | {"ridge": ridge}
        return implicit_hypergradient(inner, outer, params, hyper, solver=lineax.Cholesky())["ridge"]

    step = 1e-5
    difference = (gradient(-1 + step) - gradient(-1 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(gradient))(-1.0), difference, rtol=0, atol=1e-8)


PARAMS, ONES = {"w": jnp.ones(2)}, jnp.ones(2)


@pytest.mark.parametrize(
    ("error", "message", "params", "hyper", "options"),
    [
        (TypeError, r"hyper\['count'\] must be float32 or float64 and has int32", PARAMS, {"count": 3}, {}),
        (TypeError, r"hyper\['key'\] must be float32 or float64 and has key", PARAMS, {"key": jax.random.key(0)}, {}),
        (TypeError, r"hyper must be float32 or float64 and has complex64", PARAMS, 1j * ONES, {}),
        (TypeError, r"params\['w'\].*has bfloat16", {"w": jnp.ones(2, jnp.bfloat16)}, ONES, {}),
        (TypeError, r"params\['w'\].*has bool", {"w": jnp.ones(2, bool)}, ONES, {}),
        (ValueError, "params holds no numbers", {"w": jnp.ones((0, 3))}, ONES, {}),
        (ValueError, "damping must be >= 0, got -1", PARAMS, ONES, {"damping": -1.0}),
    ],
)
def test_wrong_input_is_named(error, message, params, hyper, options):
    def objective(p, h):
        return jnp.sum(p["w"])

    with pytest.raises(error, match=message):
        implicit_hypergradient(objective, objective, params, hyper, **options)


def test_objectives_that_are_not_one_number_are_refused():
    def number(p, h):
        return jnp.sum(p["w"])

    def numbers(p, h):
        return p["w"] * h

    with pytest.raises(ValueError, match=r"inner must return one number.*\(2,\)"):
        implicit_hypergradient(numbers, number, PARAMS, ONES)
    with pytest.raises(ValueError, match=r"outer must return one number.*\(2,\)"):
        implicit_hypergradient(number, numbers, PARAMS, ONES)
