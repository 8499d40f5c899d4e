"""Facts about the adapters: the module's own scores, dropout by key, one program, and what is refused."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from badrjax import losses
from badrjax.batches import Batch
from badrjax.hypergradients import example_alignments
from badrjax.models import from_equinox, from_linen, from_nnx

eqx = pytest.importorskip("equinox")

KEY, OTHER = jax.random.key(0), jax.random.key(1)
X = jax.random.normal(jax.random.key(2), (6, 4))


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(5)(x)))[:, 0]


class Train(nn.Module):
    hidden: tuple = (16, 8)

    @nn.compact
    def __call__(self, x, train: bool):
        for width in self.hidden:
            x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(width)(x)))
        return nn.Dense(1)(x)[:, 0]


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic, scale=1.0):
        x = nn.Dropout(0.5)(nn.relu(nn.Dense(16)(x)), deterministic=deterministic)
        return scale * nn.Dense(1)(x)[:, 0]


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Dense(1)(nn.BatchNorm(use_running_average=not train)(x))[:, 0]


class FirstFeature(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x[:, 0]


class Head(nnx.Module):
    def __init__(self, width, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.dropout(x))[:, 0]


class Nested(nnx.Module):
    # Twelve layers: an order by name would put the tenth before the second.
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(12)])
        self.heads = nnx.List([Head(8, rngs), Head(8, rngs)])

    def __call__(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = x + nnx.relu(layer(x))
        return self.heads[0](x) - self.heads[1](x)


class PlainNnx(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))[:, 0]


class NormalisedNnx(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)[:, 0]


def perceptron(key):
    return eqx.nn.MLP(4, "scalar", 8, 2, key=key)


def sequential(key):
    first, last = jax.random.split(key)
    layers = [
        eqx.nn.Linear(4, 16, use_bias=False, key=first),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Dropout(0.5),
        eqx.nn.Linear(16, "scalar", key=last),
    ]
    return eqx.nn.Sequential(layers)


class WithoutKey(eqx.Module):
    weight: jax.Array
    scale: float

    def __init__(self, key):
        self.weight, self.scale = jax.random.normal(key, (4,)), 2.0

    def __call__(self, x):
        return self.scale * jnp.dot(self.weight, x)


def evaluated(module):
    module.eval()
    return module


# Name: the adapter, the module's own deterministic scores at `KEY`, and whether it has dropout.
CASES = {
    "linen": (
        lambda: from_linen(Plain(), X),
        lambda: Plain().apply(Plain().init(KEY, X), X),
        False,
    ),
    "linen train": (
        lambda: from_linen(Train(), X, training_argument="train"),
        lambda: Train().apply(Train().init(KEY, X, train=False), X, train=False),
        True,
    ),
    "linen deterministic": (
        lambda: from_linen(Deterministic(), X, training_argument="deterministic", scale=3.0),
        lambda: 3 * Deterministic().apply(Deterministic().init(KEY, X, True), X, True),
        True,
    ),
    "nnx": (lambda: from_nnx(PlainNnx), lambda: PlainNnx(nnx.Rngs(KEY))(X), False),
    "nnx nested": (lambda: from_nnx(Nested), lambda: evaluated(Nested(nnx.Rngs(KEY)))(X), True),
    "equinox": (lambda: from_equinox(perceptron), lambda: jax.vmap(perceptron(KEY))(X), False),
    "equinox dropout": (
        lambda: from_equinox(sequential),
        lambda: jax.vmap(eqx.nn.inference_mode(sequential(KEY)))(X),
        True,
    ),
    "equinox without key": (lambda: from_equinox(WithoutKey), lambda: jax.vmap(WithoutKey(KEY))(X), False),
}
EVERY = pytest.mark.parametrize("name", CASES)


@cache
def made(name):
    """An adapter and its parameters at `KEY`."""
    model = CASES[name][0]()
    return model, jax.jit(model.init)(KEY)


@jax.jit
def scores_of(model, params, x, key=None):
    return model.apply(params, x, key=key)


@EVERY
def test_without_a_key_scores_are_the_modules_own(name):
    scores = scores_of(*made(name), X)
    assert scores.shape == (6,)
    np.testing.assert_allclose(scores, jax.jit(CASES[name][1])(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(scores_of(*made(name), X), scores)


@EVERY
def test_a_key_draws_the_dropout(name):
    still, first, again, other = (np.asarray(scores_of(*made(name), X, key)) for key in (None, KEY, KEY, OTHER))
    np.testing.assert_array_equal(first, again)
    if CASES[name][2]:
        assert np.any(first != still)
        assert np.any(first != other)
    else:
        np.testing.assert_allclose(first, still, rtol=1e-6)


@pytest.mark.parametrize("name", ["linen deterministic", "equinox dropout"])
def test_masks_keep_the_expectation(name):
    # One dropout before a linear layer: the mean over keys is the deterministic score.
    model, params = made(name)
    scores = jax.jit(jax.vmap(lambda key: model.apply(params, X, key=key)))(jax.random.split(KEY, 3000))
    error = np.std(scores, axis=0) / np.sqrt(3000)
    np.testing.assert_array_less(np.abs(np.mean(scores, axis=0) - scores_of(model, params, X)), 4 * error)


@EVERY
def test_a_second_adapter_is_the_same_program(name):
    make = CASES[name][0]
    traces = []

    @jax.jit
    def scores(model, params, x, key):
        traces.append(None)
        return model.apply(params, x, key=key)

    models = [make() for _ in range(3)]
    params = made(name)[1]
    assert len({jax.tree.structure(model) for model in models}) == 1
    for model in models:
        assert jax.tree.leaves(model) == []
        scores(model, params, X, OTHER)
    assert len(traces) == 1


@EVERY
def test_vmap_over_parameters_and_keys_equals_a_loop(name):
    model, single = made(name)
    keys = jnp.stack([KEY, OTHER])

    @jax.jit
    @jax.vmap
    def run(key):
        params = model.init(key)
        return params, model.apply(params, X, key=key)

    params, lanes = run(keys)
    jax.tree.map(lambda leaf, alone: np.testing.assert_allclose(leaf[0], alone, rtol=1e-5, atol=1e-7), params, single)
    for lane, key in enumerate(keys):
        alone = scores_of(model, jax.tree.map(lambda leaf, at=lane: np.asarray(leaf)[at], params), X, key)
        np.testing.assert_allclose(lanes[lane], alone, rtol=1e-4, atol=1e-5)


@EVERY
@pytest.mark.parametrize("key", [None, 3])
def test_examples_do_not_see_each_other(name, key):
    key = None if key is None else jax.random.key(key)
    plain, dirty = (scores_of(*made(name), x, key) for x in (X, X.at[3:].set(jnp.nan)))
    np.testing.assert_allclose(dirty[:3], plain[:3], rtol=1e-5, atol=1e-6)
    assert np.all(np.isnan(dirty[3:]))


@pytest.mark.parametrize("name", [name for name, (_, _, drops) in CASES.items() if drops])
def test_appended_rows_change_no_mask_before_them(name):
    plain, padded = (scores_of(*made(name), x, OTHER) for x in (X, jnp.concatenate([X, X])))
    np.testing.assert_allclose(padded[:6], plain, rtol=1e-5, atol=1e-6)


@EVERY
def test_losses_hypergradients_and_derivatives_go_through(name):
    model, params = made(name)
    batch = Batch(X, jnp.array([0, 1, 0, 1, 1, 0]), None)

    @jax.jit
    def both(params):
        each = partial(losses.cross_entropy(model), batch=batch, key=OTHER)
        slope = jax.grad(lambda p: jnp.sum(each(p)))(params)
        stacked = jax.tree.map(lambda leaf: leaf[None], slope)
        return each(params), slope, example_alignments(each, params, stacked)

    each, slope, alignments = both(params)
    assert np.all(np.isfinite(each))
    assert jax.tree.structure(slope) == jax.tree.structure(params)
    # The alignments of all examples with the gradient of their sum add up to its squared length.
    length = sum(float(jnp.sum(jnp.square(leaf))) for leaf in jax.tree.leaves(slope))
    assert length > 0
    np.testing.assert_allclose(jnp.sum(alignments), length, rtol=1e-4)


def test_an_example_may_be_abstract_and_of_any_length():
    shape = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    from_shape, from_array = from_linen(Plain(), shape), from_linen(Plain(), X)
    assert jax.tree.structure(from_shape) != jax.tree.structure(from_array)
    for name, leaf in from_shape.init(KEY)["Dense_0"].items():
        np.testing.assert_allclose(leaf, made("linen")[1]["Dense_0"][name], rtol=1e-6)
    assert jax.tree.structure(from_shape) == jax.tree.structure(from_linen(Plain(), X[:1]))


def test_other_modules_are_other_programs():
    models = [made(name)[0] for name in CASES]
    models.append(from_linen(Train((16, 9)), X, training_argument="train"))
    assert len({jax.tree.structure(model) for model in models}) == len(CASES) + 1


def test_a_linen_module_without_parameters():
    model = from_linen(FirstFeature(), X)
    np.testing.assert_array_equal(model.apply(model.init(KEY), X), X[:, 0])
    assert jax.tree.leaves(model.init(KEY)) == []


def test_nnx_streams_of_their_own_names():
    class Streams(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(4, 32, rngs=rngs)
            self.noise = nnx.Dropout(0.5, rngs=rngs, rng_collection="noise")

        def __call__(self, x):
            return jnp.sum(self.noise(self.linear(x)), axis=1)

    model = from_nnx(lambda rngs: Streams(nnx.Rngs(params=rngs(), noise=rngs())))
    params = model.init(KEY)
    still, first, other = (model.apply(params, X, key=key) for key in (None, KEY, OTHER))
    assert np.any(still != first)
    assert np.any(first != other)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "the module keeps batch_stats beside its parameters", lambda: from_linen(Normalised(), X)),
        (
            ValueError,
            "the module keeps batch_stats",
            lambda: from_linen(Normalised(), X, training_argument="train"),
        ),
        (ValueError, "the module keeps state beside its parameters", lambda: from_nnx(NormalisedNnx)),
        (TypeError, "build must be a function of nnx.Rngs, got a PlainNnx", lambda: from_nnx(PlainNnx(nnx.Rngs(0)))),
        (
            TypeError,
            "must return an equinox module, got tuple",
            lambda: from_equinox(lambda key: eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode="batch")),
        ),
        (TypeError, "must return an equinox module", lambda: from_equinox(lambda key: jnp.ones(3))),
        (
            TypeError,
            "unexpected keyword argument 'training'",
            lambda: from_linen(Train(), X, training_argument="training"),
        ),
        (TypeError, "missing 1 required positional argument: 'train'", lambda: from_linen(Train(), X)),
    ],
)
def test_wrong_modules_are_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_adapters_bind_like_any_partial():
    model = from_linen(Plain(), X)
    assert isinstance(model.init, Partial)
    assert isinstance(model.apply, Partial)
