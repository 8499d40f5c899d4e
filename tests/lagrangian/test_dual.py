"""Facts about the dual step, and about the report of a step."""

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax.lagrangian import AugmentedLagrangianState, augmented_lagrangian, dual_ascent
from tests.lagrangian.cases import INF, NAN, QUADRATIC, C, info, state_of, update, value


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


def test_a_tolerance_that_is_nan_is_met_by_nobody():
    lagrangian = augmented_lagrangian(penalty=1.0, multiplier_step=1.0)
    assert not lagrangian.info(lagrangian.init(2), np.float32([0.1, -0.1]), tolerance=np.nan).feasible
