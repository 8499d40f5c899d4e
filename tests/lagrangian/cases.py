"""Constraints, states and compiled functions that the tests of the augmented Lagrangian share."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.tree_util import Partial

from badrjax.lagrangian import augmented_lagrangian, dual_ascent

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
