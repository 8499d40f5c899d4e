"""What the augmented Lagrangian refuses, and the settings at the edge that it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from badrjax.lagrangian import augmented_lagrangian, dual_ascent
from tests.lagrangian.cases import NAN, QUADRATIC, lagrangian_of


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


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [(TypeError, "dtype must be a float", {"dtype": int}), (ValueError, "finite", {"multipliers": [np.inf, 1.0]})],
)
def test_states_that_cannot_be_are_refused(error, message, options):
    with pytest.raises(error, match=message):
        augmented_lagrangian(penalty=1.0, multiplier_step=1.0).init(2, **options)
