"""Facts about Gram matrices, weighted sums of trees of gradients, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax.bargaining import (
    alignment,
    cagrad_weights,
    combine,
    gramian,
    min_norm_weights,
    nash_weights,
    nash_weights_from_gradients,
    pcgrad_weights,
)


def tree_of_gradients(num_players=3):
    random = np.random.default_rng(16)
    shapes = {"bias": (), "kernel": (4, 2), "none": (0,), "nested": [(3,)]}

    def leaf(shape):
        return jnp.asarray(random.normal(size=(num_players, *shape)))

    return jax.tree.map(leaf, shapes, is_leaf=lambda x: isinstance(x, tuple))


def test_a_tree_is_its_concatenation(x64):
    tree = tree_of_gradients()
    flat = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(tree)], axis=1)
    gram = jax.jit(gramian)
    np.testing.assert_allclose(gram(tree), flat @ flat.T, rtol=1e-13)
    weights = jnp.array([0.5, -1.0, 2.0])
    combined = jax.jit(combine)(tree, weights)
    chex.assert_trees_all_equal_structs(combined, tree)
    expected = jax.tree.map(lambda leaf: 0.5 * leaf[0] - leaf[1] + 2 * leaf[2], jax.device_get(tree))
    chex.assert_trees_all_close(combined, expected, rtol=1e-13)
    lanes = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), tree)
    np.testing.assert_allclose(jax.jit(jax.vmap(gramian))(lanes)[1], 4 * gram(tree), rtol=1e-13)
    np.testing.assert_allclose(alignment(flat, weights @ flat), flat @ flat.T @ weights, rtol=1e-12)


def test_half_precision_gradients_are_multiplied_in_float32():
    ones = {"w": jnp.ones((2, 1000), jnp.bfloat16), "b": jnp.full((2, 1), 0.125, jnp.bfloat16)}
    gram = gramian(ones)
    assert gram.dtype == jnp.float32
    np.testing.assert_array_equal(gram, np.full((2, 2), 1000.015625))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"gram must be a square matrix.*\(2, 3\)", lambda: nash_weights(jnp.ones((2, 3)))),
        (r"gram must be a square matrix.*\(3,\)", lambda: min_norm_weights(jnp.ones(3))),
        (r"gram must be a square matrix.*\(0, 0\)", lambda: nash_weights(jnp.ones((0, 0)))),
        (r"present must be bool\[2\]", lambda: nash_weights(jnp.eye(2), jnp.ones(3, bool))),
        (r"present must be bool\[2\]", lambda: min_norm_weights(jnp.eye(2), jnp.ones((2, 2), bool))),
        (r"gradients must be \[K, n\].*\(4,\)", lambda: nash_weights_from_gradients(jnp.ones(4))),
        (r"present must be bool\[2\]", lambda: nash_weights_from_gradients(jnp.ones((2, 4)), jnp.ones(3, bool))),
        (r"gram must be a square matrix", lambda: cagrad_weights(jnp.ones((2, 3)))),
        (r"present must be bool\[2\]", lambda: cagrad_weights(jnp.eye(2), 0.5, jnp.ones(3, bool))),
        (r"gram must be a square matrix", lambda: pcgrad_weights(jax.random.key(0), jnp.ones(3))),
        (r"leaves of gradients must all lead", lambda: gramian({"a": jnp.ones((1, 2)), "b": jnp.ones((3, 2))})),
        (r"leaves of gradients must all lead", lambda: gramian({"a": jnp.ones(())})),
        (r"leaves of gradients must all lead", lambda: gramian({})),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_what_a_row_of_weight_zero_holds_reaches_neither_the_sum_nor_derivatives(garbage):
    rows = {"w": jnp.ones((3, 2)).at[1].set(garbage), "b": jnp.arange(3.0).at[1].set(garbage)}
    weights = jnp.array([2.0, 0.0, 1.0])
    combined = jax.jit(combine)(rows, weights)
    np.testing.assert_array_equal(combined["w"], [3, 3])
    assert combined["b"] == 2
    slopes = jax.jit(jax.grad(lambda g, w: jnp.sum(combine(g, w)["w"]), (0, 1)))(rows, weights)
    np.testing.assert_array_equal(slopes[0]["w"], [[2, 2], [0, 0], [1, 1]])
    np.testing.assert_array_equal(slopes[1], [2, 0, 2])


def test_a_finite_row_has_a_derivative_by_its_weight_at_zero():
    slope = jax.grad(lambda w: jnp.sum(combine(jnp.arange(6.0).reshape(3, 2), w)))(jnp.zeros(3))
    np.testing.assert_array_equal(slope, [1, 5, 9])


def test_leaves_keep_their_dtype():
    rows = {"half": jnp.ones((300, 1), jnp.bfloat16), "single": jnp.ones((300, 1))}
    combined = combine(rows, jnp.ones(300))
    assert combined["half"].dtype == jnp.bfloat16
    assert combined["half"][0] == 300  # added in float32: bfloat16 stops at 256
    assert combined["single"].dtype == jnp.float32


def test_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"weights must be f\[2\]"):
        combine(jnp.ones((2, 3)), jnp.ones(3))
