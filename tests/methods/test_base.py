"""Optimisers as pytrees, and one step of descent."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax.methods.base import descend, optimiser_pytree


def decayed(value, steps):
    return optax.sgd(optax.exponential_decay(value, steps, 0.5))


# The table of docs/optimisers.md: a builder with the numbers that may be traced.
TRACEABLE = {
    "sgd": (optax.sgd, {"learning_rate": 0.1, "momentum": 0.9}, {"nesterov": True}),
    "adam": (optax.adam, {"learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-8}, {}),
    "adamw": (optax.adamw, {"learning_rate": 0.1, "b1": 0.9, "eps": 1e-6, "weight_decay": 0.01}, {"nesterov": True}),
    "clip": (optax.clip_by_global_norm, {"max_norm": 0.5}, {}),
    "decay": (optax.add_decayed_weights, {"weight_decay": 0.1}, {}),
    "schedule": (decayed, {"value": 0.1}, {"steps": 3}),
}


@pytest.mark.parametrize("name", TRACEABLE)
def test_numbers_of_an_optimiser_are_leaves_and_nothing_else_is(name):
    build, numbers, options = TRACEABLE[name]
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def two_steps(optimizer, params, gradient):
        state = optimizer().init(params)
        for _ in range(2):
            params, state = descend(optimizer, gradient, state, params, jnp.ones(3))
        return params

    params, gradient = jnp.array([1.0, -2.0]), jnp.array([0.3, 0.4])
    for scale in (1.0, 0.5):
        scaled = {key: scale * value for key, value in numbers.items()}
        optimizer = optimiser_pytree(Partial(build, **scaled, **options))
        assert len(jax.tree.leaves(optimizer)) == len(numbers)
        built = optimiser_pytree(build(**scaled, **options))
        assert jax.tree.leaves(built) == []
        expected, state = params, built().init(params)
        for _ in range(2):
            updates, state = built().update(gradient, state, expected)
            expected = optax.apply_updates(expected, updates)
        np.testing.assert_allclose(two_steps(optimizer, params, gradient), expected, rtol=1e-5)


def test_an_optimiser_that_is_ready_is_left_alone():
    once = optimiser_pytree(Partial(optax.sgd, learning_rate=0.1))
    assert optimiser_pytree(once) is once


@pytest.mark.parametrize("wrong", [0.1, "sgd", optax.sgd, Partial(optax.sgd, 0.1)])
def test_other_optimisers_are_refused(wrong):
    with pytest.raises(TypeError, match="learning_rate="):
        bx.erm(lambda params, batch, key: params, wrong)


def test_a_batch_without_weight_moves_neither_parameters_nor_momentum():
    optimizer = optimiser_pytree(Partial(optax.sgd, learning_rate=0.1, momentum=0.9))
    params = jnp.ones(2)
    params, state = descend(optimizer, jnp.ones(2), optimizer().init(params), params, jnp.ones(1))
    after = descend(optimizer, jnp.ones(2), state, params, jnp.zeros(1))
    chex.assert_trees_all_equal(after, (params, state))
