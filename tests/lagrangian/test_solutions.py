"""Exact primal and dual solutions of small problems, and how their programs compile."""

import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.tree_util import Partial

from badrjax.lagrangian import augmented_lagrangian, dual_ascent
from tests.lagrangian.cases import (
    INF,
    NAN,
    QUADRATIC,
)

# Exact solutions. Quadratic programmes min x'Qx/2 + q'x subject to Ax <= b, padded to one shape.

SIZE, ROWS = 6, 8


def solve_programme(lagrangian, matrix, linear, rows, bounds, active, num_updates=400):
    """`(x, multipliers, trail)`: Newton steps on the piecewise quadratic primal, then a step of the dual."""

    def violations_of(x):
        # A product in full precision, for both are at their limits here.
        return jnp.matmul(rows, x, precision="highest") - bounds

    def primal(x, state):
        return 0.5 * x @ matrix @ x + linear @ x + lagrangian.value(state, violations_of(x), active)

    def newton(_, x, state):
        hessian = jax.hessian(primal)(x, state) + 1e-9 * jnp.eye(SIZE)
        return x - jnp.linalg.solve(hessian, jax.grad(primal)(x, state))

    def outer(carry, _):
        x, state = carry
        x = jax.lax.fori_loop(0, 8, partial(newton, state=state), x)
        state = lagrangian.update(state, violations_of(x), active)
        return (x, state), jnp.max(state.multipliers)

    state = lagrangian.init(ROWS, dtype=linear.dtype)
    (x, state), trail = jax.lax.scan(outer, (jnp.zeros(SIZE, linear.dtype), state), length=num_updates)
    return x, state.multipliers, trail


solve = jax.jit(solve_programme)
solve_each = jax.jit(jax.vmap(solve_programme, in_axes=(None, 0, 0, 0, 0, None)))


def padded(matrix, linear, rows, bounds):
    """The programme with idle variables at 0 and inactive constraints whose violation is NaN."""
    size, count = len(linear), len(bounds)
    full = np.eye(SIZE)
    full[:size, :size] = matrix
    all_rows, all_bounds = np.zeros((ROWS, SIZE)), np.full(ROWS, NAN)
    all_rows[:count, :size], all_bounds[:count] = rows, bounds
    return full, np.r_[linear, np.zeros(SIZE - size)], all_rows, all_bounds, np.arange(ROWS) < count


def kkt_solution(matrix, linear, rows, bounds):
    """The one set of constraints that, taken as equalities, gives a feasible x and multipliers >= 0."""
    size, count = len(linear), len(bounds)
    for number in range(min(size, count) + 1):
        for chosen in map(list, itertools.combinations(range(count), number)):
            system = np.block([[matrix, rows[chosen].T], [rows[chosen], np.zeros((number, number))]])
            solution = np.linalg.solve(system, np.r_[-linear, bounds[chosen]])
            x, multipliers = solution[:size], np.zeros(count)
            multipliers[chosen] = solution[size:]
            if (rows @ x <= bounds + 1e-12).all() and (multipliers >= 0).all():
                return x, multipliers
    raise AssertionError("no KKT point")


def random_programme(seed, count=ROWS):
    random = np.random.default_rng(seed)
    root = random.normal(size=(SIZE, SIZE))
    # A feasible point with slack exists; the minimum without constraints violates some of them.
    rows, inside = random.normal(size=(count, SIZE)), random.normal(size=SIZE)
    return root @ root.T / SIZE + 0.3 * np.eye(SIZE), random.normal(size=SIZE), rows, rows @ inside + 0.2


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_one_variable_has_multiplier_two(patience, x64):
    lagrangian = augmented_lagrangian(penalty=1.0, multiplier_step=1.0, patience=patience)
    programme = padded(np.array([[2.0]]), np.array([-4.0]), np.ones((1, 1)), np.array([1.0]))
    x, multipliers, _ = solve(lagrangian, *programme)
    np.testing.assert_allclose(x[0], 1, atol=1e-8)
    np.testing.assert_allclose(multipliers, [2] + 7 * [0], atol=1e-7)


def test_quadratic_programmes_reach_their_primal_and_dual_solutions(x64):
    programmes = [random_programme(seed) for seed in range(12)]
    lagrangian = augmented_lagrangian(penalty=5.0, multiplier_step=5.0)
    x, multipliers, _ = solve_each(lagrangian, *map(np.stack, zip(*programmes, strict=True)), np.ones(ROWS, bool))
    numbers = set()
    for i, programme in enumerate(programmes):
        expected, duals = kkt_solution(*programme)
        numbers.add(int((duals > 0).sum()))
        np.testing.assert_allclose(x[i], expected, atol=1e-7)
        np.testing.assert_allclose(multipliers[i], duals, atol=1e-6)
        np.testing.assert_array_equal(multipliers[i][duals == 0], 0)
    assert len(numbers) >= 3  # few and many constraints bind
    matrix, linear, rows, bounds = programmes[0]
    reference = scipy.optimize.minimize(
        lambda y: y @ matrix @ y / 2 + linear @ y,
        np.zeros(SIZE),
        constraints={"type": "ineq", "fun": lambda y: bounds - rows @ y},
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(x[0], reference.x, atol=1e-5)


def test_single_precision_has_its_own_tolerance():
    programme = random_programme(3)
    expected, duals = kkt_solution(*programme)
    programme = (np.asarray(part, np.float32) for part in programme)
    lagrangian = augmented_lagrangian(penalty=5.0, multiplier_step=5.0)
    x, multipliers, _ = solve(lagrangian, *programme, np.ones(ROWS, bool))
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, expected, atol=1e-4)
    np.testing.assert_allclose(multipliers, duals, atol=1e-3)


def test_a_linear_programme_reaches_its_vertex(x64):
    cost, rows = np.array([-3.0, -5.0]), np.array([[1.0, 0], [0, 2], [3, 2], [-1, 0], [0, -1]])
    bounds = np.array([4.0, 12, 18, 0, 0])
    reference = scipy.optimize.linprog(cost, rows, bounds, bounds=(None, None))
    x, multipliers, _ = solve(
        augmented_lagrangian(penalty=1.0, multiplier_step=1.0), *padded(np.zeros((2, 2)), cost, rows, bounds)
    )
    np.testing.assert_allclose(x[:2], reference.x, atol=1e-7)
    np.testing.assert_allclose(multipliers[:5], -reference.ineqlin.marginals, atol=1e-7)


def test_an_equality_is_two_constraints_and_projects_onto_the_simplex(x64):
    point = np.array([0.9, 0.3, -0.4, 0.5, 0.1, -1.0])
    ones = np.ones((1, SIZE))
    rows, bounds = np.concatenate([-np.eye(SIZE), ones, -ones]), np.r_[np.zeros(SIZE), 1, -1]
    x, multipliers, _ = solve(
        augmented_lagrangian(penalty=1.0, multiplier_step=1.0), *padded(np.eye(SIZE), -point, rows, bounds)
    )
    descending = np.sort(point)[::-1]
    levels = (np.cumsum(descending) - 1) / np.arange(1, SIZE + 1)
    level = levels[np.flatnonzero(descending > levels)[-1]]
    np.testing.assert_allclose(x, np.maximum(point - level, 0), atol=1e-8)
    np.testing.assert_allclose(multipliers[6] - multipliers[7], level, atol=1e-8)
    np.testing.assert_allclose(multipliers[:6], np.maximum(level - point, 0), atol=1e-8)


def test_constraints_that_do_not_bind_leave_the_problem_as_it_was(x64):
    matrix, linear, rows, _ = random_programme(1)
    free = np.linalg.solve(matrix, -linear)
    bounds = rows @ free + 0.5
    x, multipliers, _ = solve(
        augmented_lagrangian(penalty=2.0, multiplier_step=2.0), *padded(matrix, linear, rows, bounds)
    )
    np.testing.assert_allclose(x, free, atol=1e-8)
    np.testing.assert_array_equal(multipliers, 0)


LINEAR = padded(np.zeros((1, 1)), np.array([1.0]), -np.ones((1, 1)), np.zeros(1))  # min x subject to x >= 0: mu = 1


def test_a_step_of_twice_the_penalty_is_the_last_that_does_not_diverge(x64):
    at = solve(augmented_lagrangian(penalty=1.0, multiplier_step=2.0), *padded(*random_programme(3)))
    np.testing.assert_allclose(at[1], kkt_solution(*random_programme(3))[1], atol=1e-6)
    # Without any curvature of the loss it swings between 0 and 2, and any longer step ever wider.
    trail = solve(augmented_lagrangian(penalty=1.0, multiplier_step=2.0), *LINEAR)[2]
    np.testing.assert_allclose(trail[-2:].sum(), 2, atol=1e-4)
    np.testing.assert_allclose(jnp.ptp(trail[-2:]), 2, atol=1e-4)
    np.testing.assert_allclose(solve(augmented_lagrangian(penalty=1.0, multiplier_step=1.9), *LINEAR)[1][0], 1)
    too_long = augmented_lagrangian(penalty=0.1, dual_optimizer=Partial(dual_ascent, 10.0))
    trail = solve(too_long, *LINEAR)[2]
    assert trail.max() > 10
    assert np.ptp(trail[-50:]) > 10


def test_a_hard_rate_in_the_dual_and_its_surrogate_in_the_primal():
    # Accept as many of 200 as a loss asks for, but no more than 30 %: a step function, with no derivative.
    points, bound, temperature = jnp.linspace(0, 1, 200), 0.3, 0.02
    lagrangian = augmented_lagrangian(penalty=2.0, multiplier_step=0.5)

    def primal(threshold, state):
        soft = jnp.mean(jax.nn.sigmoid((threshold - points) / temperature))
        return (threshold - 0.8) ** 2 + lagrangian.value(state, jnp.stack([soft - bound]))

    def outer(carry, _):
        threshold, state = carry
        threshold = jax.lax.fori_loop(0, 20, lambda _, t: t - 0.1 * jax.grad(primal)(t, state), threshold)
        hard = jnp.stack([jnp.mean(points < threshold) - bound])
        state = lagrangian.update(state, hard)
        return (threshold, state), lagrangian.info(state, hard)

    _, infos = jax.jit(lambda: jax.lax.scan(outer, (jnp.asarray(0.8), lagrangian.init(1)), length=200))()
    assert abs(infos.max_violation[-1]) <= 1 / 200 + 1e-6
    # (t - 0.8)^2 has slope -1 at 0.3, and the rate has slope 1.
    np.testing.assert_allclose(infos.multipliers[-1], 1.0, atol=0.05)


def test_another_penalty_does_not_recompile():
    programme = [np.float32(part) for part in padded(*random_programme(5))]
    traced = jax.jit(chex.assert_max_traces(lambda *a: solve_programme(*a, num_updates=3), n=1))
    for penalty in (0.0, 1.0, np.float32(2.0), jnp.asarray(3.0, jnp.float32), 4):
        traced(augmented_lagrangian(penalty=penalty, multiplier_step=0.5, patience=int(penalty)), *programme)


def test_lanes_of_penalties_equal_a_loop(x64):
    programme = padded(*random_programme(4))
    penalties = jnp.array([0.5, 1.0, 4.0])
    made = jax.jit(jax.vmap(lambda p: augmented_lagrangian(penalty=p, multiplier_step=p)))(penalties)
    lanes = jax.vmap(lambda lagrangian: solve(lagrangian, *programme)[:2])(made)
    for i, penalty in enumerate(penalties):
        alone = solve(augmented_lagrangian(penalty=penalty, multiplier_step=penalty), *programme)[:2]
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], lanes), alone, atol=1e-9)


def test_it_can_be_made_inside_a_traced_function():
    @jax.jit
    def run(penalty, step, patience):
        lagrangian = augmented_lagrangian(penalty=penalty, multiplier_step=step, patience=patience)
        return lagrangian.update(lagrangian.init(2), jnp.ones(2)).multipliers

    np.testing.assert_array_equal(run(1.0, jnp.full(2, 0.5), 0), [0.5, 0.5])
    np.testing.assert_array_equal(
        jax.vmap(run, (0, None, 0))(jnp.ones(2), 0.5, jnp.array([0, 1])), [[0.5] * 2, [0] * 2]
    )


def test_a_failing_lane_leaves_the_others_alone():
    violations = jnp.array([[1.0, 1.0], [NAN, NAN], [INF, 1.0]])
    states = jax.vmap(lambda v: QUADRATIC.update(QUADRATIC.init(2), v))(violations)
    np.testing.assert_array_equal(states.multipliers, [[1, 1], [0, 0], [0, 1]])
