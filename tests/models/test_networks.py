"""Facts about our networks: where they start, what they compute, and what their numbers may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from badrjax.models import as_model, linear, mlp

KEY = jax.random.key(0)


def forward(params, x, num_hidden):
    """The network in NumPy."""
    for index in range(num_hidden):
        layer = params[f"hidden_{index}"]
        x = np.maximum(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]), 0)
    return x @ np.asarray(params["output"]["kernel"]) + np.asarray(params["output"]["bias"])


def test_weights_and_biases_start_uniform_in_one_over_the_root_of_fan_in():
    params = jax.jit(jax.vmap(mlp(9, (40, 7), 3).init))(jax.random.split(KEY, 60))
    fan_ins = {"hidden_0": 9, "hidden_1": 40, "output": 7}
    assert set(params) == set(fan_ins)
    for name, fan_in in fan_ins.items():
        bound = 1 / np.sqrt(fan_in)
        for values in params[name].values():
            values = np.ravel(values)
            assert np.all(np.abs(values) <= bound * (1 + 1e-6))
            assert scipy.stats.kstest(values, "uniform", args=(-bound, 2 * bound)).pvalue > 1e-3


def test_different_keys_start_differently_and_the_same_key_alike():
    network = mlp(4, (8,))
    first, again, other = (network.init(jax.random.key(seed)) for seed in (0, 0, 1))
    for a, b, c in zip(*map(jax.tree.leaves, (first, again, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.all(np.asarray(a) != np.asarray(c))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_linear_models_start_at_zero_and_are_linear(num_outputs, intercept):
    model = linear(5, num_outputs, intercept=intercept)
    params = model.init(KEY)
    assert set(params["output"]) == ({"kernel", "bias"} if intercept else {"kernel"})
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(params))
    params = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape), params)
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    expected = x @ np.asarray(params["output"]["kernel"])
    expected = expected + np.asarray(params["output"]["bias"]) if intercept else expected
    np.testing.assert_allclose(model.apply(params, x), expected[:, 0] if num_outputs == 1 else expected, rtol=1e-5)
    np.testing.assert_array_equal(model.apply(params, x, key=KEY), model.apply(params, x))


@pytest.mark.parametrize(("hidden", "num_outputs"), [((), 2), ((5,), 1), ([6, 4, 3], 5), ([6, 4], 1)])
def test_scores_are_those_of_the_formula(hidden, num_outputs):
    model = mlp(3, hidden, num_outputs, dropout=0.4)
    params = jax.jit(model.init)(KEY)
    x = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    scores = jax.jit(model.apply)(params, x)
    expected = forward(params, x, len(hidden))
    assert scores.shape == ((7,) if num_outputs == 1 else (7, num_outputs))
    np.testing.assert_allclose(scores, expected[:, 0] if num_outputs == 1 else expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_rows", [0, 1])
def test_few_rows(num_rows):
    model = mlp(3, (4,), dropout=0.5)
    for key in (None, KEY):
        assert model.apply(model.init(KEY), jnp.zeros((num_rows, 3)), key=key).shape == (num_rows,)


@pytest.mark.parametrize("make", [mlp, linear])
def test_parameters_and_scores_have_the_default_precision(make):
    for enabled, dtype in ((False, np.float32), (True, np.float64)):
        with jax.enable_x64(enabled):
            model = make(3)
            params = jax.jit(model.init)(KEY)
            assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}
            assert jax.eval_shape(model.apply, params, jnp.ones((2, 3)), key=KEY).dtype == dtype


@pytest.mark.parametrize("dtype", [int, bool, jnp.bfloat16])
def test_features_of_other_types(dtype):
    x = np.random.default_rng(2).integers(0, 2, (5, 3))
    for model in (mlp(3, (4,), dropout=0.3), linear(3)):
        params = model.init(KEY)
        for key in (None, KEY):
            expected = model.apply(params, jnp.asarray(x, jnp.float32), key=key)
            np.testing.assert_allclose(model.apply(params, jnp.asarray(x, dtype), key=key), expected, rtol=1e-5)


def test_an_examples_score_depends_on_no_other():
    model = mlp(3, (8, 4), dropout=0.5)
    params, x = model.init(KEY), jax.random.normal(KEY, (6, 3))
    padded = jnp.concatenate([x, jnp.full((2, 3), jnp.nan)])
    apply = jax.jit(model.apply)
    for key in (None, jax.random.key(3)):
        np.testing.assert_allclose(apply(params, padded, key=key)[:6], apply(params, x, key=key), rtol=1e-5)
        jacobian = jax.jit(jax.jacrev(lambda v, key=key: model.apply(params, v, key=key)))(x)
        off = np.asarray(jacobian)[~np.eye(6, dtype=bool)]
        np.testing.assert_array_equal(off, 0)


def test_dropout_has_the_scores_expectation_and_needs_a_key():
    # One hidden layer: scores are linear in its masks, so the mean over keys is the deterministic score.
    model = mlp(4, (32,), dropout=0.5)
    params, x = model.init(KEY), jax.random.normal(KEY, (5, 4))
    keys = jax.random.split(jax.random.key(1), 4000)
    scores = np.asarray(jax.jit(jax.vmap(lambda key: model.apply(params, x, key=key)))(keys))
    error = scores.std(0) / np.sqrt(len(scores))
    assert np.all(error > 0)
    np.testing.assert_array_less(np.abs(scores.mean(0) - model.apply(params, x)), 4 * error)


@pytest.mark.parametrize("masks", ["hash", "threefry"])
def test_a_sweep_of_rates_is_a_vmap_over_models(masks):
    rates = jnp.array([0.0, 0.2, 0.7])
    template = mlp(4, (16, 8), dropout=0.1, masks=masks)
    params, x = template.init(KEY), jax.random.normal(KEY, (5, 4))
    models = mlp(4, (16, 8), dropout=rates, masks=masks)
    assert jax.tree.leaves(models) == [rates]
    score = jax.jit(lambda model: model.apply(params, x, key=KEY))
    together = jax.jit(jax.vmap(score))(models)
    inside = jax.jit(jax.vmap(lambda rate: score(mlp(4, (16, 8), dropout=rate, masks=masks))))(rates)
    np.testing.assert_array_equal(together, inside)
    for lane, rate in enumerate(rates):
        alone = score(mlp(4, (16, 8), dropout=float(rate), masks=masks))
        np.testing.assert_allclose(together[lane], alone, rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[1], together[2])


def test_models_of_one_architecture_are_one_program():
    traces = []

    @jax.jit
    def scores(model, params, x, key):
        traces.append(None)
        return model.apply(params, x, key=key)

    params, x = mlp(4, (8,)).init(KEY), jnp.ones((2, 4))
    for rate in (0.1, 0.3, 0.9):
        scores(mlp(4, [8], dropout=rate), params, x, KEY)
        scores(as_model(mlp(4, (8,), dropout=rate)), params, x, KEY)
    assert len(traces) == 1
    assert hash(jax.tree.structure(mlp(4, (8,)))) == hash(jax.tree.structure(mlp(4, (8,))))
    assert jax.tree.structure(mlp(4, (8,))) == jax.tree.structure(mlp(4, (8,)))
    assert jax.tree.structure(mlp(4, (8,))) != jax.tree.structure(mlp(4, (9,)))
    assert jax.tree.structure(linear(4)) != jax.tree.structure(linear(4, intercept=False))


def test_vmap_over_parameters_and_derivatives():
    model = mlp(4, (8,), 2, dropout=0.3)
    keys, x = jax.random.split(KEY, 3), jax.random.normal(KEY, (5, 4))
    params = jax.jit(jax.vmap(model.init))(keys)

    def total(params, key):
        return jnp.sum(jnp.square(model.apply(params, x, key=key)))

    slopes = jax.jit(jax.vmap(jax.grad(total)))(params, keys)
    alone = jax.jit(jax.grad(total))(jax.tree.map(lambda leaf: leaf[1], params), keys[1])
    for lane, single in zip(jax.tree.leaves(slopes), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(lane[1], single, rtol=1e-4, atol=1e-5)
        assert np.any(single != 0)


def test_counts_from_numpy_are_widths_too():
    model = mlp(np.int64(3), (np.int32(4),), np.int64(2))
    assert model.apply(model.init(KEY), jnp.ones((5, 3))).shape == (5, 2)


def test_a_model_of_plain_functions():
    model = as_model(mlp(3, ())._replace(init=lambda key: jnp.zeros(3), apply=lambda p, x, *, key=None: x @ p))
    assert jax.tree.leaves(model) == []
    np.testing.assert_array_equal(model.apply(model.init(KEY), jnp.ones((2, 3)), key=KEY), [0, 0])
    with pytest.raises(TypeError, match="expected a function, got int"):
        as_model(model._replace(init=3))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("num_features must be a positive integer, got 0", lambda: mlp(0)),
        ("num_features must be a positive integer, got 2.0", lambda: linear(2.0)),
        ("num_outputs must be a positive integer, got True", lambda: mlp(3, num_outputs=True)),
        (r"hidden\[1\] must be a positive integer, got -4", lambda: mlp(3, (8, -4))),
        (r"dropout must lie in \[0, 1\), got 1", lambda: mlp(3, dropout=1)),
        (r"dropout must lie in \[0, 1\), got -0.1", lambda: mlp(3, dropout=-0.1)),
        (r"dropout must lie in \[0, 1\), got nan", lambda: mlp(3, dropout=float("nan"))),
        (r"dropout must lie in \[0, 1\), got 1.5", lambda: mlp(3, dropout=jnp.float32(1.5))),
        (r"dropout must lie in \[0, 1\), got \[", lambda: mlp(3, dropout=np.array([0.1, 1.0]))),
        ("masks must be 'hash' or 'threefry', got 'rbg'", lambda: mlp(3, masks="rbg")),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
