"""Facts about hypergradients: differences of a hand-written lookahead, the unrolled graph, padding and order."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from badrjax import losses, models
from badrjax.batches import Batch
from badrjax.hypergradients import (
    alignments_from,
    example_alignments,
    linearised_losses,
    one_step_hypergradients,
)

NUM_ROWS, NUM_FEATURES, NUM_GROUPS = 7, 3, 2
STEP, MOMENTUM, DECAY = 0.3, 0.9, 5e-4
NETWORK = models.mlp(NUM_FEATURES, (6,), 2, dropout=0.3)


class Problem(NamedTuple):
    """Training rows, validation rows of each group, parameters and a momentum buffer."""

    train: Batch
    validation: Batch
    params: dict
    buffer: dict


def problem(seed=0):
    random = np.random.default_rng(seed)
    dtype = jnp.result_type(float)

    def rows(count):
        x = jnp.asarray(random.normal(size=(count, NUM_FEATURES)), dtype)
        return Batch(x, jnp.asarray(random.integers(0, 2, count)), jnp.arange(count) % NUM_GROUPS)

    params = NETWORK.init(jax.random.key(seed))
    buffer = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), dtype), params)
    return Problem(rows(NUM_ROWS), rows(10), params, buffer)


def training_losses(params, batch, key=None):
    return losses.cross_entropy(NETWORK)(params, batch, key)


def validation_losses(params, batch):
    """The mean loss of each group, with the F1 term, `f[K]`."""
    each = losses.cross_entropy_with_f1(NETWORK)(params, batch, None)
    return jnp.stack([jnp.mean(each[k::NUM_GROUPS]) for k in range(NUM_GROUPS)])


def lookahead(weights, given, key=None):
    """A step of SGD with momentum and weight decay on the weighted losses, written by hand."""
    slope = jax.grad(lambda p: jnp.dot(weights, training_losses(p, given.train, key)))(given.params)
    move = jax.tree.map(lambda b, p, g: MOMENTUM * b + DECAY * p + g, given.buffer, given.params, slope)
    return jax.tree.map(lambda p, m: p - STEP * m, given.params, move)


@jax.jit
def hypergradients(given, key=None):
    stepped = lookahead(jnp.zeros(given.train.y.shape[0]), given, key)
    directions = jax.jacrev(validation_losses)(stepped, given.validation)
    return one_step_hypergradients(
        lambda p: training_losses(p, given.train, key),
        given.params,
        directions,
        step_size=STEP,
        weight=given.train.weight,
    )


@jax.jit
def losses_after(weights, given, key=None):
    return validation_losses(lookahead(weights, given, key), given.validation)


def random_directions(params, num_directions, seed=1):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(random.normal(size=(num_directions, *p.shape)), p.dtype), params)


@pytest.mark.parametrize(("seed", "key"), [(0, None), (1, 5)])
def test_they_are_the_differences_of_a_lookahead(x64, seed, key):
    given, key = problem(seed), None if key is None else jax.random.key(key)
    step = 1e-5
    difference = np.stack(
        [
            (losses_after(step * row, given, key) - losses_after(-step * row, given, key)) / (2 * step)
            for row in np.eye(NUM_ROWS)
        ],
        axis=1,
    )
    found = hypergradients(given, key)
    assert found.shape == (NUM_GROUPS, NUM_ROWS)
    assert found.dtype == np.float64
    assert np.max(np.abs(difference)) > 1e-3
    np.testing.assert_allclose(found, difference, rtol=0, atol=1e-8)


@pytest.mark.parametrize("key", [None, 5])
def test_they_equal_the_derivative_through_the_step(x64, key):
    given, key = problem(), None if key is None else jax.random.key(key)
    unrolled = jax.jit(jax.jacrev(losses_after))(jnp.zeros(NUM_ROWS), given, key)
    np.testing.assert_allclose(hypergradients(given, key), unrolled, rtol=1e-10, atol=1e-14)


def test_float32_agrees_with_float64():
    single = hypergradients(problem())
    assert single.dtype == np.float32
    with jax.enable_x64(True):
        given = jax.tree.map(
            lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, problem_in_float32()
        )
        double = hypergradients(given)
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-6)


def problem_in_float32():
    with jax.enable_x64(False):
        return problem()


@pytest.mark.parametrize("nesterov", [False, True])
def test_nesterov_momentum_multiplies_the_step(x64, nesterov):
    given = problem()
    optimizer = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(STEP, momentum=MOMENTUM, nesterov=nesterov))

    def stepped(weights):
        slope = jax.grad(lambda p: jnp.dot(weights, training_losses(p, given.train)))(given.params)
        updates, _ = optimizer.update(slope, optimizer.init(given.params), given.params)
        return optax.apply_updates(given.params, updates)

    def after(weights):
        return validation_losses(stepped(weights), given.validation)

    @jax.jit
    def formula():
        directions = jax.jacrev(validation_losses)(stepped(jnp.zeros(NUM_ROWS)), given.validation)
        return one_step_hypergradients(
            partial(training_losses, batch=given.train),
            given.params,
            directions,
            step_size=STEP * (1 + MOMENTUM * nesterov),
        )

    np.testing.assert_allclose(formula(), jax.jit(jax.jacrev(after))(jnp.zeros(NUM_ROWS)), rtol=1e-10, atol=1e-14)


def test_a_linear_model_in_closed_form(x64):
    # Squared losses of x'p: grad l_i = 2 (x_i'p - y_i) x_i.
    random = np.random.default_rng(3)
    x, y, params = random.normal(size=(5, 3)), random.normal(size=5), random.normal(size=3)
    directions = random.normal(size=(2, 3))

    def each(p):
        return jnp.square(jnp.asarray(x) @ p - y)

    expected = directions @ (2 * (x @ params - y)[:, None] * x).T
    np.testing.assert_allclose(example_alignments(each, params, directions), expected, rtol=1e-12)
    found = one_step_hypergradients(each, params, directions, step_size=0.5)
    np.testing.assert_allclose(found, -0.5 * expected, rtol=1e-12)


def test_columns_are_the_gradients_of_single_examples(x64):
    given, directions = problem(), random_directions(problem().params, 3)
    each = partial(training_losses, batch=given.train)
    single = jax.jit(jax.jacrev(each))(given.params)
    flat = np.concatenate([np.reshape(leaf, (NUM_ROWS, -1)) for leaf in jax.tree.leaves(single)], axis=1)
    rows = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(directions)], axis=1)
    found = jax.jit(lambda p, v: example_alignments(each, p, v))(given.params, directions)
    np.testing.assert_allclose(found, rows @ flat.T, rtol=1e-10, atol=1e-12)


def test_examples_and_losses_keep_their_order(x64):
    given = problem()
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    permuted = given._replace(train=jax.tree.map(lambda leaf: leaf[order], given.train))
    swapped = given._replace(validation=jax.tree.map(lambda leaf: leaf[np.arange(10) ^ 1], given.validation))
    found = hypergradients(given)
    np.testing.assert_allclose(hypergradients(permuted), found[:, order], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(hypergradients(swapped), found[::-1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("garbage", [0.0, 1e30, np.nan, np.inf])
def test_columns_of_padding_are_zero_and_change_no_other(garbage):
    given = problem()
    directions = random_directions(given.params, 2)
    padded = given.train._replace(
        x=jnp.concatenate([given.train.x, jnp.full((2, NUM_FEATURES), garbage)]),
        y=jnp.append(given.train.y, jnp.array([0, 1])),
        weight=jnp.append(jnp.array([1.0, 2.0, 0.5, 3.0, 1.0, 1.0, 4.0]), jnp.zeros(2)),
    )
    plain = jax.jit(lambda v: example_alignments(partial(training_losses, batch=given.train), given.params, v))
    each = partial(training_losses, batch=padded)
    for call in (
        lambda v: example_alignments(each, given.params, v, weight=padded.weight),
        lambda v: -one_step_hypergradients(each, given.params, v, step_size=1.0, weight=padded.weight),
    ):
        found = jax.jit(call)(directions)
        np.testing.assert_array_equal(found[:, NUM_ROWS:], 0)
        # Frequencies say how often a column counts; they do not scale it.
        np.testing.assert_allclose(found[:, :NUM_ROWS], plain(directions), rtol=1e-5, atol=1e-6)


def test_no_step_is_no_derivative_and_twice_the_step_twice_as_much():
    given = problem()
    directions = random_directions(given.params, 2)
    each = partial(training_losses, batch=given.train)
    call = jax.jit(lambda step: one_step_hypergradients(each, given.params, directions, step_size=step))
    np.testing.assert_array_equal(call(0.0), np.zeros((2, NUM_ROWS)))
    np.testing.assert_allclose(call(0.5), 2 * call(0.25), rtol=1e-6)
    assert np.any(call(0.25) != 0)


def test_linear_in_the_directions(x64):
    given = problem()
    directions = random_directions(given.params, 3)
    each = partial(training_losses, batch=given.train)
    call = jax.jit(lambda v: example_alignments(each, given.params, v))
    mixed = jax.tree.map(lambda v: (2 * v[0] - v[1] + 0.5 * v[2])[None], directions)
    parts = call(directions)
    np.testing.assert_allclose(call(mixed)[0], 2 * parts[0] - parts[1] + 0.5 * parts[2], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("key", [None, 5])
def test_the_transpose_of_the_linear_map_is_the_weighted_gradient(x64, key):
    given, key = problem(), None if key is None else jax.random.key(key)
    weights = jnp.asarray(np.random.default_rng(4).normal(size=NUM_ROWS))
    each = partial(training_losses, batch=given.train, key=key)

    @jax.jit
    def both(params, weights):
        values, push = linearised_losses(each, params)
        return values, jax.linear_transpose(push, params)(weights)[0]

    values, found = both(given.params, weights)
    np.testing.assert_allclose(values, jax.jit(each)(given.params), rtol=1e-12)
    expected = jax.jit(jax.grad(lambda p: jnp.dot(weights, each(p))))(given.params)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-14), found, expected)


def test_the_map_serves_many_directions(x64):
    given, directions = problem(), random_directions(problem().params, 2)
    each = partial(training_losses, batch=given.train)
    _, push = linearised_losses(jax.jit(each), given.params)
    found = jax.jit(alignments_from, static_argnums=0)(push, given.params, directions)
    expected = jax.jit(partial(example_alignments, each))(given.params, directions)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_vmap_equals_a_loop():
    given = [problem(seed) for seed in range(3)]
    lanes = jax.tree.map(lambda *leaves: jnp.stack(leaves), *given)
    together = jax.jit(jax.vmap(hypergradients))(lanes)
    np.testing.assert_allclose(together, np.stack([hypergradients(g) for g in given]), rtol=1e-4, atol=1e-6)


PARAMS = {"a": jnp.ones(3), "b": jnp.ones(())}
GOOD = {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}


def two_losses(params):
    return jnp.array([1.0, 2.0]) * jnp.sum(params["a"]) + params["b"]


@pytest.mark.parametrize(
    ("message", "directions", "weight"),
    [
        ("directions must have the structure of params", {"a": jnp.ones((2, 3))}, None),
        ("directions must have the structure of params", [jnp.ones((2, 3)), jnp.ones(2)], None),
        (r"each leaf of directions.*got \(3,\) for a leaf of shape \(3,\)", GOOD | {"a": jnp.ones(3)}, None),
        (r"each leaf of directions.*got \(2, 4\)", GOOD | {"a": jnp.ones((2, 4))}, None),
        (r"each leaf of directions.*got \(\)", GOOD | {"b": jnp.ones(())}, None),
        (r"each leaf of directions.*got \(3,\) for a leaf of shape \(\)", GOOD | {"b": jnp.ones(3)}, None),
        ("losses has 2, weight has 3", GOOD, jnp.ones(3)),
    ],
)
def test_wrong_input_is_named(message, directions, weight):
    with pytest.raises(ValueError, match=message):
        example_alignments(two_losses, PARAMS, directions, weight=weight)
    with pytest.raises(ValueError, match=message):
        one_step_hypergradients(two_losses, PARAMS, directions, step_size=0.1, weight=weight)


def test_losses_that_are_not_one_an_example_are_refused():
    with pytest.raises(ValueError, match=r"one number an example, \[n\], got shape \(\)"):
        example_alignments(lambda p: jnp.sum(p["a"]), PARAMS, GOOD)
    with pytest.raises(ValueError, match=r"one number an example, \[n\], got shape \(2, 1\)"):
        linearised_losses(lambda p: two_losses(p)[:, None], PARAMS)
