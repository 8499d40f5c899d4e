"""Facts about the augmented Lagrangian: its terms, its dual step, and exact solutions of small problems."""

import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from jax.tree_util import Partial

from badrjax.lagrangian import AugmentedLagrangianState, augmented_lagrangian, dual_ascent

C = 6
NAN, INF = np.nan, np.inf
QUADRATIC = augmented_lagrangian(penalty=1.0, multiplier_step=1.0)
value = jax.jit(lambda lagrangian, state, violations, active=None: lagrangian.value(state, violations, active))
gradient = jax.jit(
    jax.grad(lambda lagrangian, state, violations, active=None: lagrangian.value(state, violations, active), argnums=2)
)
by_settings = jax.jit(
    jax.grad(lambda lagrangian, state, violations: lagrangian.value(state, violations), allow_int=True)
)
update = jax.jit(lambda lagrangian, state, violations, active=None: lagrangian.update(state, violations, active))
info = jax.jit(lambda lagrangian, state, violations, active=None: lagrangian.info(state, violations, active))


def lagrangian_of(penalty):
    """With a dual that is always allowed: these tests are of the value."""
    return augmented_lagrangian(penalty=penalty, dual_optimizer=Partial(dual_ascent, 1.0))


def state_of(multipliers, lagrangian=QUADRATIC):
    return lagrangian.init(len(multipliers), multipliers=jnp.asarray(multipliers))


def psi(multipliers, penalty, violations):
    """The textbook form, for a positive penalty."""
    return np.sum((np.maximum(0, multipliers + penalty * violations) ** 2 - multipliers**2) / (2 * penalty))


def by_penalty(penalty, multipliers, violations):
    lagrangian = lagrangian_of(jnp.asarray(penalty))
    bound = by_settings(lagrangian, state_of(multipliers), jnp.asarray(violations))
    return bound.value.args[0].penalty


NUMBERS = st.lists(st.floats(-3, 3, width=32), min_size=C, max_size=C).map(np.array)
DUALS = st.lists(st.one_of(st.just(0.0), st.floats(0, 5, width=32)), min_size=C, max_size=C).map(np.array)
PENALTIES = st.lists(st.floats(0.0625, 20, width=32), min_size=C, max_size=C).map(np.array)
MASKS = st.lists(st.booleans(), min_size=C, max_size=C).map(np.array)


# The value


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


# The dual step


def reference_update(state, violations, penalty_step, patience):
    """One constraint after the other, in plain Python."""
    multipliers, best, stalled = (np.array(part) for part in state[:3])
    for i, violation in enumerate(violations):
        if not np.isfinite(violation):
            continue
        amount = max(violation, 0.0)
        stalled[i] = 0 if amount < best[i] else stalled[i] + 1
        best[i] = min(best[i], amount)
        if stalled[i] >= patience:
            multipliers[i] = max(0.0, multipliers[i] + penalty_step[i] * violation)
    return AugmentedLagrangianState(multipliers, best, stalled, state.dual_state)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0, 2.0, NAN, INF]), min_size=C, max_size=C),
        min_size=1,
        max_size=8,
    ),
    patience=st.integers(0, 3),
)
def test_updates_equal_a_loop(rows, patience):
    step = np.linspace(0.5, 1, C).astype(np.float32)
    lagrangian = augmented_lagrangian(penalty=0.5, multiplier_step=step, patience=patience)
    state = expected = lagrangian.init(C)
    for row in np.float32(rows):
        state, expected = update(lagrangian, state, row), reference_update(expected, row, step, patience)
        chex.assert_trees_all_close(state, expected, rtol=1e-6)


def test_patience_is_each_constraints_own():
    lagrangian = augmented_lagrangian(penalty=1.0, multiplier_step=1.0, patience=2)
    state = lagrangian.init(3)
    # The first improves throughout, the second stalls from the start, the third improves once in between.
    rows = [[4, 1, 1], [3, 1, 1], [2, 1, 0.5], [1, 1, 0.5], [0.5, 1, 0.5], [0.25, 1, 0.5]]
    history = []
    for row in rows:
        state = update(lagrangian, state, jnp.array(row))
        history.append(np.asarray(state.multipliers))
    np.testing.assert_array_equal(history, [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 2, 0], [0, 3, 0.5], [0, 4, 1.0]])
    np.testing.assert_array_equal(state.best_violations, [0.25, 1, 0.5])
    np.testing.assert_array_equal(state.num_stalled, [0, 5, 3])


def test_a_satisfied_constraint_gives_its_multiplier_back():
    lagrangian = augmented_lagrangian(penalty=1.0, multiplier_step=1.0, patience=1)
    state = lagrangian.init(1, multipliers=[3.0])
    for violation, expected in [(-1.0, 3), (-1.5, 1.5), (-2.0, 0), (-2.0, 0)]:
        state = update(lagrangian, state, jnp.array([violation]))
        assert state.multipliers[0] == expected


def test_the_dual_may_see_another_violation_than_the_primal():
    state = QUADRATIC.init(1)
    soft, hard = jnp.array([0.2]), jnp.array([0.5])
    assert value(QUADRATIC, update(QUADRATIC, state, hard), soft) == np.float32(0.5) * np.float32(0.2) + 0.5 * 0.2**2


def test_dual_ascent_composes_with_optax():
    multipliers, violations = jnp.array([1.0, 0.5, 0.0]), jnp.array([0.5, -2.0, -1.0])
    for transform in (dual_ascent(0.5), dual_ascent(jnp.full(3, 0.5)), optax.chain(optax.identity(), dual_ascent(0.5))):
        updates, _ = transform.update(violations, transform.init(multipliers), multipliers)
        np.testing.assert_array_equal(optax.apply_updates(multipliers, updates), [1.25, 0, 0])
    with pytest.raises(ValueError, match="must be > 0"):
        dual_ascent(-1.0)


def test_dual_ascent_is_the_default_dual():
    plain = augmented_lagrangian(penalty=1.0, multiplier_step=0.5, patience=1)
    same = augmented_lagrangian(penalty=1.0, dual_optimizer=dual_ascent(0.5), patience=1)
    states = plain.init(2), same.init(2)
    for row in [[1.0, 2.0], [1.5, 1.0], [-0.5, 1.0], [-3.0, 0.0]]:
        states = plain.update(states[0], jnp.array(row)), same.update(states[1], jnp.array(row))
        np.testing.assert_array_equal(states[0].multipliers, states[1].multipliers)


def test_momentum_of_the_dual_stays_with_its_constraint():
    ascent = optax.chain(optax.trace(decay=0.5), optax.scale(1.0))
    lagrangian = augmented_lagrangian(penalty=1.0, dual_optimizer=ascent, patience=1)
    state = lagrangian.init(2)
    for row, multipliers, momentum in [
        ([2.0, 1.0], [0, 0], [0, 0]),  # both improve on infinity
        ([2.0, 0.5], [2, 0], [2, 0]),  # the first has stalled
        ([1.0, 0.5], [2, 0.5], [2, 0.5]),  # it improves, and keeps its momentum
        ([1.0, 0.5], [4, 1.25], [2, 0.75]),
    ]:
        state = lagrangian.update(state, jnp.array(row))
        np.testing.assert_array_equal(state.multipliers, multipliers)
        np.testing.assert_array_equal(state.dual_state[0].trace, momentum)


def test_any_optimiser_of_optax_moves_the_dual_and_stays_nonnegative():
    ascent = optax.chain(optax.adam(0.5), optax.scale(-1.0))
    lagrangian = augmented_lagrangian(penalty=1.0, dual_optimizer=ascent)
    state = update(lagrangian, lagrangian.init(2), jnp.array([3.0, -3.0]))
    np.testing.assert_allclose(state.multipliers, [0.5, 0], rtol=1e-5)
    quiet = update(lagrangian, state, jnp.array([NAN, NAN]))
    chex.assert_trees_all_equal(quiet, state)


# Reports


def test_info_reports_a_step():
    found = info(QUADRATIC, state_of([1.0, 2.0, 0.0, 5.0]), jnp.array([0.5, -0.75, -INF, NAN]), jnp.arange(4) < 3)
    assert found.max_violation == 0.5
    assert found.complementarity == 1.5
    assert (found.num_violated, found.num_missing, found.feasible) == (1, 0, False)
    np.testing.assert_array_equal(found.violations, [0.5, -0.75, -INF, NAN])
    np.testing.assert_array_equal(found.multipliers, [1, 2, 0, 5])
    assert QUADRATIC.info(state_of([1.0]), jnp.array([0.01]), tolerance=0.02).feasible


def test_a_constraint_that_cannot_be_measured_is_not_called_feasible():
    found = info(QUADRATIC, state_of([0.0, 0.0]), jnp.array([NAN, -1.0]))
    assert (found.feasible, found.num_missing, found.num_violated, found.max_violation) == (False, 1, 0, -1)
    assert info(QUADRATIC, state_of([0.0, 0.0]), jnp.array([NAN, -1.0]), jnp.array([False, True])).feasible
    nothing = info(QUADRATIC, state_of([0.0]), jnp.array([NAN]))
    assert np.isnan(nothing.max_violation)
    assert np.isnan(nothing.complementarity)


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


# Programs


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


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"penalty": -1.0, "multiplier_step": 1.0}, "penalty must be >= 0 and finite, got -1"),
        ({"penalty": NAN, "multiplier_step": 1.0}, "penalty must be >= 0"),
        ({"penalty": np.ones((2, 1)), "multiplier_step": 1.0}, r"penalty must be one number .* shape \(2, 1\)"),
        ({"penalty": 1.0, "multiplier_step": 0.0}, "multiplier_step must be > 0"),
        ({"penalty": 0.1, "multiplier_step": 10.0}, "10 exceeds twice the penalty 0.1: .* diverge"),
        ({"penalty": [1.0, 0.0, 0.1], "multiplier_step": 2.0}, "2 exceeds twice the penalty 0.1"),
        ({"penalty": 1.0, "multiplier_step": [1.0, 3.0]}, "3 exceeds twice the penalty 1"),
        ({"penalty": np.ones(2), "multiplier_step": np.ones(3)}, r"has shape \(3,\) and penalty \(2,\)"),
        ({"penalty": 1.0, "multiplier_step": 1.0, "patience": -1}, "patience must be >= 0 updates, got -1"),
        ({"penalty": 1.0, "multiplier_step": 1.0, "patience": [1, 2]}, "patience must be one number"),
        ({"penalty": 1.0}, "give either"),
        ({"penalty": 1.0, "multiplier_step": 1.0, "dual_optimizer": dual_ascent(1.0)}, "give either"),
        ({"penalty": 1.0, "dual_optimizer": optax.adam(0.1)}, r"must ascend.*optax.scale\(-1.0\)"),
        ({"penalty": 1.0, "dual_optimizer": Partial(optax.sgd, learning_rate=0.1)}, "must ascend"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        augmented_lagrangian(**arguments)


def test_settings_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match=r"whole number of updates, got 1\.5"):
        augmented_lagrangian(penalty=1.0, multiplier_step=1.0, patience=1.5)
    for wrong in (0.1, Partial(jnp.ones, 2), lambda: dual_ascent(1.0)):
        with pytest.raises(TypeError, match="must be an optax transformation"):
            augmented_lagrangian(penalty=1.0, dual_optimizer=wrong)


@pytest.mark.parametrize("penalty", [0.3, 0.7, 1e-3, np.float32(0.7), jnp.asarray(0.3)])
def test_exactly_twice_the_penalty_is_accepted(penalty):
    for step in (2 * float(penalty), np.float32(2 * penalty)):
        lagrangian = augmented_lagrangian(penalty=penalty, multiplier_step=step)
        moved = lagrangian.update(lagrangian.init(1), jnp.ones(1)).multipliers
        np.testing.assert_allclose(moved, [2 * penalty], rtol=1e-6)
    with pytest.raises(ValueError, match="multiplier_step"):
        augmented_lagrangian(penalty=penalty, multiplier_step=2.001 * float(penalty))


def test_without_a_penalty_any_step_is_accepted():
    lagrangian = augmented_lagrangian(penalty=0.0, multiplier_step=100.0)
    np.testing.assert_allclose(lagrangian.update(lagrangian.init(1), jnp.ones(1)).multipliers, [100.0])


def test_bad_shapes_are_refused():
    state = QUADRATIC.init(3)
    for wrong in (jnp.ones((3, 1)), jnp.ones(2), jnp.ones(())):
        for function in (QUADRATIC.value, QUADRATIC.update, QUADRATIC.info):
            with pytest.raises(ValueError, match=r"violations must have one entry a constraint, shape \(3,\)"):
                jax.jit(function)(state, wrong)
    with pytest.raises(ValueError, match="active must have one entry"):
        QUADRATIC.value(state, jnp.ones(3), jnp.ones(2, bool))
    for wrong in (0, -1, 1.0, True, None):
        with pytest.raises(ValueError, match="num_constraints must be a positive"):
            QUADRATIC.init(wrong)
    with pytest.raises(ValueError, match="multipliers must have one entry"):
        QUADRATIC.init(2, multipliers=jnp.ones(3))
    with pytest.raises(ValueError, match=r"must be >= 0; an equality is two"):
        QUADRATIC.init(2, multipliers=jnp.array([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"penalty has shape \(2,\) for 3 constraints"):
        lagrangian_of(np.ones(2)).init(3)


def test_a_product_that_fits_does_not_overflow_on_the_way():
    lagrangian = augmented_lagrangian(penalty=1e-30, multiplier_step=1e-30)
    state = lagrangian.init(1, multipliers=np.ones(1, np.float32))
    np.testing.assert_allclose(lagrangian.value(state, np.float32([-1e30])), -5e29, rtol=1e-5)


def test_a_tolerance_that_is_nan_is_met_by_nobody():
    lagrangian = augmented_lagrangian(penalty=1.0, multiplier_step=1.0)
    assert not lagrangian.info(lagrangian.init(2), np.float32([0.1, -0.1]), tolerance=np.nan).feasible


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [(TypeError, "dtype must be a float", {"dtype": int}), (ValueError, "finite", {"multipliers": [np.inf, 1.0]})],
)
def test_states_that_cannot_be_are_refused(error, message, options):
    with pytest.raises(error, match=message):
        augmented_lagrangian(penalty=1.0, multiplier_step=1.0).init(2, **options)
