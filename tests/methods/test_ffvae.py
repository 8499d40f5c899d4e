"""FFVAE against its formulas in NumPy, finite differences, a known total correlation, and data it must split."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

import badrjax as bx
from badrjax.functions import Static
from badrjax.methods.ffvae import discriminator_loss, ffvae_terms, independent_rows
from badrjax.models import Model

NETWORKS = bx.ffvae_networks(4, (2, 3), latent=3, hidden=(8,))
ATTRIBUTES = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]])
ADAM = Partial(optax.adam, learning_rate=1e-2)
SGD = Partial(optax.sgd, learning_rate=1.0)

init_params = jax.jit(lambda networks, key: networks.init(key))
init_state = jax.jit(lambda method, params: method.init(None, params))
take_step = jax.jit(lambda method, key, state, batch: method.step(key, state, batch))
terms_of = jax.jit(ffvae_terms, static_argnames=("reconstruction", "blocks"))
rows_of = jax.jit(independent_rows, static_argnames="num_blocks")


def make(alpha=2.0, gamma=3.0, optimizer=ADAM, attributes=ATTRIBUTES, networks=NETWORKS, **options):
    return bx.ffvae(networks, optimizer, attributes, alpha=alpha, gamma=gamma, **options)


def rows(seed, num_rows):
    generator = np.random.default_rng(seed)
    group = generator.integers(0, 6, num_rows)
    x = generator.normal(size=(num_rows, 4)) + ATTRIBUTES[group][:, [0, 1, 0, 1]]
    zeros = np.zeros(num_rows, np.int32)
    dtype = jnp.result_type(float)
    return bx.Batch(x.astype(dtype), zeros, group.astype(np.int32), np.ones(num_rows, dtype))


def start(method, seed=0):
    return init_state(method, init_params(NETWORKS, jax.random.key(seed)))


def without_noise(params):
    """Parameters whose codes are their means: the encoder's standard deviations are e^-40."""
    output = params.encoder["output"]
    width = NETWORKS.sizes.code_width
    output = {
        "kernel": output["kernel"].at[:, width:].set(0.0),
        "bias": output["bias"].at[width:].set(-80.0),
    }
    return params._replace(encoder={**params.encoder, "output": output})


def perceptron(params, x):
    params = jax.tree.map(np.asarray, params)
    hidden = np.maximum(x @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"], 0)
    return hidden @ params["output"]["kernel"] + params["output"]["bias"]


def by_hand(params, x, attributes, noise, reconstruction):
    """The terms, row by row, from textbook formulas."""
    means, log_variances = np.split(perceptron(params.encoder, x), 2, axis=1)
    codes = means + np.exp(log_variances / 2) * noise
    decoded = perceptron(params.decoder, codes)
    likelihood = (
        stats.norm.logpdf(x, decoded)
        if reconstruction == "gaussian"
        else stats.bernoulli.logpmf(x.astype(int), special.expit(decoded))
    )
    divergence = [
        0.5 * (np.trace(np.diag(np.exp(v))) + m @ m - len(m) - np.linalg.slogdet(np.diag(np.exp(v)))[1])
        for m, v in zip(means, log_variances, strict=True)
    ]
    binary = stats.bernoulli.logpmf(attributes[:, 0], special.expit(codes[:, 3]))
    ternary = np.log(special.softmax(codes[:, 4:7], axis=1))[np.arange(len(x)), attributes[:, 1]]
    odds = perceptron(params.discriminator, codes)[:, 0]
    return codes, -likelihood.sum(1), np.array(divergence), -np.stack([binary, ternary], 1), odds


@pytest.mark.parametrize("reconstruction", ["gaussian", "bernoulli"])
def test_terms_are_those_of_the_formulas(reconstruction, x64):
    params, generator = init_params(NETWORKS, jax.random.key(1)), np.random.default_rng(1)
    x = (
        generator.normal(size=(9, 4))
        if reconstruction == "gaussian"
        else generator.integers(0, 2, (9, 4)).astype(float)
    )
    attributes, noise = ATTRIBUTES[generator.integers(0, 6, 9)], generator.normal(size=(9, 7))
    found = terms_of(NETWORKS, params, x, attributes, noise, reconstruction=reconstruction)
    assert {leaf.dtype for leaf in found} == {jnp.dtype("float64")}
    for one, expected in zip(found, by_hand(params, x, attributes, noise, reconstruction), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-9, atol=1e-12)


def test_without_alpha_and_gamma_the_loss_is_the_negative_evidence_bound(x64):
    method, batch = make(0.0, 0.0, SGD), rows(1, 12)
    batch = batch._replace(weight=np.arange(12) % 4.0)
    state = start(method)
    state = state._replace(params=without_noise(state.params))
    _, info = take_step(method, jax.random.key(0), state, batch)
    x, weight = np.asarray(batch.x), np.asarray(batch.weight)
    _, likelihood, divergence, _, _ = by_hand(state.params, x, ATTRIBUTES[batch.group], np.zeros((12, 7)), "gaussian")
    np.testing.assert_allclose(info.loss, np.average(likelihood + divergence, weights=weight), rtol=1e-9)


def test_points_for_blocks_have_neither_noise_nor_divergence(x64):
    params, x = init_params(NETWORKS, jax.random.key(1)), np.asarray(rows(1, 9).x)
    attributes, noise = ATTRIBUTES[np.arange(9) % 6], np.random.default_rng(0).normal(size=(9, 7))
    found = terms_of(NETWORKS, params, x, attributes, noise, blocks="point")
    means, log_variances = bx.ffvae_encoder(NETWORKS, params, x)
    np.testing.assert_array_equal(found.codes[:, 3:], means[:, 3:])
    assert np.all(found.codes[:, :3] != means[:, :3])
    latent = 0.5 * (np.exp(log_variances) + means**2 - 1 - log_variances)[:, :3].sum(1)
    np.testing.assert_allclose(found.divergence, latent, rtol=1e-12)


def test_gradients_are_those_of_finite_differences(x64):
    """A step of size 1 moves by the gradient, of the loss and of the discriminator's own."""
    method, batch = make(optimizer=SGD), rows(2, 12)
    state = start(method)
    after, _ = take_step(method, jax.random.key(3), state, batch)
    moved = jax.tree.map(lambda old, new: old - new, state.params, after.params)
    generator, size = np.random.default_rng(0), 1e-5
    for names, term in ((("encoder", "decoder"), "loss"), (("discriminator",), "discriminator_loss")):
        part = {name: getattr(state.params, name) for name in names}
        gradient = ravel_pytree({name: getattr(moved, name) for name in names})[0]
        flat, unflatten = ravel_pytree(part)
        for _ in range(3):
            direction = generator.normal(size=flat.shape)
            ends = [
                getattr(
                    take_step(
                        method,
                        jax.random.key(3),
                        state._replace(params=state.params._replace(**unflatten(flat + sign * size * direction))),
                        batch,
                    )[1],
                    term,
                )
                for sign in (1, -1)
            ]
            np.testing.assert_allclose((ends[0] - ends[1]) / (2 * size), gradient @ direction, rtol=1e-6, atol=1e-8)


# A discriminator that holds the true log odds of two Gaussians: all of their quadratic forms.
def quadratic_odds(params, codes, *, key=None):
    z, b = codes[:, 0], codes[:, 1]
    return jnp.stack([jnp.ones_like(z), z**2, b**2, z * b], axis=1) @ params


def no_odds(key):
    return jnp.zeros(4)


def best_odds(covariance):
    """Coefficients of the log odds between a Gaussian and the product of its marginals."""
    precision = jnp.linalg.inv(covariance)
    correlation = covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
    squares = [0.5 / covariance[i, i] - 0.5 * precision[i, i] for i in (0, 1)]
    return jnp.stack([-0.5 * jnp.log(1 - correlation), *squares, -precision[0, 1]])


def test_gamma_descends_on_the_total_correlation(x64):
    """At the best discriminator, held fixed, the gradient of its log odds is that of the true total correlation."""
    networks = bx.ffvae_networks(2, (2,), latent=1, hidden=())
    networks = networks._replace(discriminator=Model(no_odds, quadratic_odds))
    x = np.random.default_rng(0).normal(size=(12, 2))
    x = x - x.mean(0)
    kernel, bias = jnp.array([[1.0, 0.4, 0, 0], [-0.3, 0.8, 0, 0]]), jnp.array([0, 0, -80.0, -80.0])  # no noise

    def covariance(kernel):
        return kernel[:, :2].T @ (x.T @ x / 12) @ kernel[:, :2]

    params = networks.init(jax.random.key(0))
    params = params._replace(
        encoder={"output": {"kernel": kernel, "bias": bias}}, discriminator=best_odds(covariance(kernel))
    )
    zeros = np.zeros(12, np.int32)
    moved = []
    for gamma in (0.0, 1.0):
        method = make(0.0, gamma, SGD, np.array([[0]]), networks)
        state, info = take_step(method, jax.random.key(0), init_state(method, params), bx.Batch(x, zeros, zeros))
        moved.append(state.params.encoder["output"]["kernel"][:, :2])
    expected = jax.grad(lambda kernel: best_odds(covariance(kernel))[0])(kernel)[:, :2]
    np.testing.assert_allclose(moved[0] - moved[1], expected, rtol=1e-8)
    np.testing.assert_allclose(info.total_correlation, best_odds(covariance(kernel))[0], rtol=1e-8)


def test_the_best_discriminator_tells_the_total_correlation(x64):
    correlation, num_rows = 0.8, 20_000
    generator = np.random.default_rng(0)
    codes = jnp.asarray(generator.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], num_rows))
    networks = bx.ffvae_networks(1, (2,), latent=1, hidden=())
    networks = networks._replace(discriminator=Model(no_odds, quadratic_odds))
    weight = jnp.ones(num_rows)
    taken = rows_of(jax.random.key(0), weight, num_blocks=1)[0]
    product = codes.at[:, 1].set(codes[taken, 1])
    newton = jax.jit(lambda p: p - jnp.linalg.solve(jax.hessian(loss)(p) + 1e-9 * jnp.eye(4), jax.grad(loss)(p)))
    loss = lambda p: discriminator_loss(networks, p, codes, product, weight)  # noqa: E731
    params = jnp.zeros(4)  # and Newton's method from there
    for _ in range(12):
        params = newton(params)
    truth = np.asarray(best_odds(jnp.array([[1, correlation], [correlation, 1]])))
    np.testing.assert_allclose(truth[0], -0.5 * np.log(1 - correlation**2))
    np.testing.assert_allclose(params, truth, atol=0.06)
    # KL = -log(1 - rho^2) / 2, and the mean log odds is it.
    np.testing.assert_allclose(jnp.mean(quadratic_odds(jnp.asarray(truth), codes)), truth[0], atol=0.02)
    np.testing.assert_allclose(jnp.mean(quadratic_odds(params, codes)), truth[0], atol=0.02)


@pytest.mark.parametrize("double", [False, True])
def test_blocks_are_permuted_among_rows_that_count(double):
    with jax.enable_x64(double):
        check_permutations(np.ones(40, np.float64 if double else np.float32))


def check_permutations(weight):
    weight[[0, 3, 4, 20, 39]] = 0
    real = np.flatnonzero(weight)
    found = np.asarray(rows_of(jax.random.key(0), jnp.asarray(weight), num_blocks=3))
    for permuted in found:
        np.testing.assert_array_equal(np.sort(permuted[real]), real)
    assert not np.array_equal(found[0], found[1])
    # Where padding lies, or whether there is any, does not matter.
    alone = np.asarray(rows_of(jax.random.key(0), jnp.asarray(weight[real]), num_blocks=3))
    np.testing.assert_array_equal(real[alone], found[:, real])


@pytest.mark.parametrize("weight", [[1, 1, 1, 1], [3, 0, 1, 2]])
def test_blocks_come_from_a_row_as_often_as_its_weight_says(weight):
    weight, num_draws = np.array(weight, np.float32), 20_000
    keys = jax.random.split(jax.random.key(1), num_draws)
    draw = jax.jit(jax.vmap(lambda key: independent_rows(key, jnp.asarray(weight), 2)))
    found = np.asarray(draw(keys))
    share, error = weight / weight.sum(), 5 * np.sqrt(0.25 / num_draws)
    for row in np.flatnonzero(weight):
        pairs = np.zeros((4, 4))
        np.add.at(pairs, (found[:, 0, row], found[:, 1, row]), 1 / num_draws)
        np.testing.assert_allclose(pairs, np.outer(share, share), atol=error)


def test_padding_changes_nothing():
    method, batch = make(), rows(1, 12)
    state = start(method)
    places = np.array([0, 3, 4, 8, 12])  # 0, 4, 6, 9 and 16 of the seventeen rows
    junk = bx.Batch(np.nan, 0, np.array([-3, 99, 0, 1, 2]), 0.0)
    padded = jax.tree.map(lambda a, b: np.insert(np.asarray(a), places, b, axis=0), batch, junk)
    for _ in range(2):
        plain = take_step(method, jax.random.key(5), state, batch)
        chex.assert_trees_all_close(plain, take_step(method, jax.random.key(5), state, padded), rtol=1e-4, atol=1e-5)
        state = plain[0]
    empty = padded._replace(x=np.full_like(padded.x, np.nan), weight=np.zeros_like(padded.weight))
    after, info = take_step(method, jax.random.key(6), state, empty)
    chex.assert_trees_all_equal(after, state)
    chex.assert_tree_all_finite(info)


def test_a_row_of_weight_two_is_the_row_twice():
    """Without sampling noise, for all but the permutation."""
    method, batch = make(), rows(1, 12)
    state = start(method)
    state = state._replace(params=without_noise(state.params))
    weighted = take_step(
        method, jax.random.key(0), state, batch._replace(weight=np.where(np.arange(12) < 5, 2, batch.weight))
    )
    twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:5]]), batch)
    repeated = take_step(method, jax.random.key(0), state, twice)
    chex.assert_trees_all_close(weighted[0].params[:2], repeated[0].params[:2], rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(weighted[1][:-1], repeated[1][:-1], rtol=1e-4)


def test_numbers_are_leaves_and_mapped_steps_are_single_steps():
    methods = [make(alpha, 5 * alpha, Partial(optax.adam, learning_rate=alpha / 100)) for alpha in (0.5, 1.0, 2.0)]
    assert len({jax.tree.structure(method) for method in methods}) == 1  # so they are one program
    state, batch = start(methods[0]), rows(1, 12)
    alone = [take_step(method, jax.random.key(1), state, batch) for method in methods]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *methods)
    together = jax.jit(jax.vmap(take_step, (0, None, None, None)))(stacked, jax.random.key(1), state, batch)
    for index, one in enumerate(alone):
        picked = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        chex.assert_trees_all_close(picked, one, rtol=1e-4, atol=1e-5)
    assert alone[0][1].loss < alone[1][1].loss < alone[2][1].loss
    again, other = (take_step(methods[0], jax.random.key(seed), state, batch) for seed in (1, 2))
    chex.assert_trees_all_equal(again, alone[0])
    assert other[1].loss != alone[0][1].loss


@pytest.mark.slow  # outside jit every operation is compiled by itself
def test_steps_are_the_same_with_and_without_jit():
    method, batch = make(), rows(1, 12)
    batch = batch._replace(weight=(np.arange(12) % 3).astype(np.float32))
    state = start(method)
    jitted = take_step(method, jax.random.key(0), state, batch)
    chex.assert_trees_all_close(jitted, method.step(jax.random.key(0), state, batch), rtol=1e-4, atol=1e-6)


def test_one_feature_and_one_attribute():
    networks = bx.ffvae_networks(1, [4], latent=1, hidden=())
    params, x = init_params(networks, jax.random.key(0)), rows(1, 12).x[:, :1]
    found = terms_of(networks, params, x, np.arange(12)[:, None] % 4, np.zeros((12, 5), np.float32))
    means = bx.fair_features(networks, params, x)
    decoded = np.asarray(means @ params.decoder["output"]["kernel"] + params.decoder["output"]["bias"][None])
    np.testing.assert_allclose(found.reconstruction, -stats.norm.logpdf(x, decoded)[:, 0], rtol=1e-5)
    assert means.shape == (12, 5)
    assert bx.fair_features(networks, params, x, drop=(0,)).shape == (12, 1)


@pytest.mark.parametrize(
    ("drop", "columns"), [((), range(7)), ((0,), (0, 1, 2, 4, 5, 6)), ((1, 1), range(4)), ([1, 0], range(3))]
)
def test_fair_features_are_the_means_that_are_left(drop, columns):
    params, x = init_params(NETWORKS, jax.random.key(0)), rows(1, 9).x
    means = perceptron(params.encoder, np.asarray(x))[:, :7]
    found = bx.fair_features(NETWORKS, params, x, drop)
    np.testing.assert_allclose(found, means[:, list(columns)], rtol=1e-4, atol=1e-5)
    bound = Partial(bx.fair_features, NETWORKS, params, drop=Static(tuple(drop)))
    np.testing.assert_allclose(jax.jit(lambda function, x: function(x))(bound, x), found, rtol=1e-5, atol=1e-6)
    mapped = jax.vmap(lambda one: bx.fair_features(NETWORKS, params, one, drop))(x.reshape(3, 3, 4))
    np.testing.assert_allclose(mapped.reshape(9, -1), found, rtol=1e-5, atol=1e-6)


def test_samples_have_the_moments_of_the_posterior():
    params, x = init_params(NETWORKS, jax.random.key(0)), np.repeat(rows(1, 1).x, 4000, axis=0)
    means, log_variances = bx.ffvae_encoder(NETWORKS, params, x)
    kept = [0, 1, 2, 4, 5, 6]
    drawn = np.asarray(bx.fair_features(NETWORKS, params, x, (0,), key=jax.random.key(1)))
    np.testing.assert_allclose(drawn.mean(0), means[0, kept], atol=0.1)
    np.testing.assert_allclose(drawn.std(0), np.exp(0.5 * log_variances[0, kept]), rtol=0.1)


NUM_TRAINING = 2000


def made_up():
    """Attributes that show in two features each, and three features of a trait that goes along with the first."""
    generator = np.random.default_rng(0)
    attributes = generator.integers(0, 2, (2 * NUM_TRAINING, 2))
    signs = 2.0 * attributes - 1
    trait = 0.8 * signs[:, :1] + 0.6 * generator.normal(size=(len(signs), 1))
    x = 2 * np.concatenate([np.repeat(signs, 2, axis=1), np.repeat(trait, 3, axis=1)], axis=1)
    x = (x + generator.normal(size=x.shape)).astype(np.float32)
    group = (2 * attributes[:, 0] + attributes[:, 1]).astype(np.int32)
    return bx.Batch(x, np.zeros(len(x), np.int32), group), attributes


def trained(alpha, gamma):
    networks = bx.ffvae_networks(7, (2, 2), latent=3, hidden=(32,))
    optimizer, quicker = (Partial(optax.adam, learning_rate=rate) for rate in (5e-3, 1e-2))
    cells = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    method = bx.ffvae(networks, optimizer, cells, alpha=alpha, gamma=gamma, discriminator_optimizer=quicker)
    params, training = init_params(networks, jax.random.key(1)), np.arange(NUM_TRAINING)
    return networks, bx.fit(
        jax.random.key(0), method, params, made_up()[0], num_epochs=40, sampler=bx.shuffled(100), rows=training
    )


def probe(networks, params, attribute, drop):
    """Accuracy of logistic regression on samples of the code, on rows that neither it nor FFVAE has seen."""
    batch, attributes = made_up()
    codes = np.asarray(bx.fair_features(networks, params, batch.x, drop, key=jax.random.key(2)))
    first, second = slice(NUM_TRAINING), slice(NUM_TRAINING, None)
    model = LogisticRegression().fit(codes[first], attributes[first, attribute])
    return model.score(codes[second], attributes[second, attribute])


def test_dropping_a_block_hides_its_attribute_and_no_other():
    networks, result = trained(alpha=10.0, gamma=5.0)
    params = result.state.params
    batch, attributes = made_up()
    for attribute in (0, 1):
        assert probe(networks, params, attribute, ()) > 0.95
        assert probe(networks, params, attribute, (1 - attribute,)) > 0.95  # dropping the other is no loss
        assert probe(networks, params, attribute, (attribute,)) < 0.65
        assert probe(networks, params, attribute, (0, 1)) < 0.65
        logits = np.asarray(bx.fair_features(networks, params, batch.x))[:, networks.sizes.block(attribute)]
        assert np.mean((logits[:, 0] > 0) == attributes[:, attribute]) > 0.95
    # What a plain autoencoder has in the columns of those blocks is no attribute.
    networks, plain = trained(alpha=0.0, gamma=0.0)
    assert probe(networks, plain.state.params, 0, (0,)) > 0.8
    assert probe(networks, plain.state.params, 1, (1,)) > 0.75


def test_groups_out_of_range_are_never_silent():
    method, batch = make(), rows(1, 12)
    state = start(method)
    wrong = batch._replace(group=np.where(np.arange(12) == 3, np.int32(6), batch.group))
    with pytest.raises(ValueError, match=r"batch\.group must lie in \[0, 6\), but row 3 has id 6"):
        method.step(jax.random.key(0), state, wrong)
    after, info = take_step(method, jax.random.key(0), state, wrong)  # where nothing can be raised
    assert np.isnan(info.loss)
    assert np.isnan(after.params.encoder["output"]["kernel"]).any()
    with pytest.raises(ValueError, match=r"batch\.x must be features \[n, 4\]"):
        take_step(method, jax.random.key(0), state, batch._replace(x=batch.x[:, :2]))
    with pytest.raises(ValueError, match=r"batch\.x must lie in \[0, 1\]"):
        make(reconstruction="bernoulli").step(jax.random.key(0), state, batch)
    with pytest.raises(TypeError, match="params must be FFVAEParams"):
        method.init(None, {"encoder": 1})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"alpha": -1.0}, ValueError, "alpha must be 0 or more"),
        ({"alpha": np.nan}, ValueError, "alpha must be 0 or more"),
        ({"gamma": np.array([1.0, -0.5])}, ValueError, "gamma must be 0 or more"),
        ({"gamma": np.inf}, ValueError, "gamma must be 0 or more and finite"),
        ({"reconstruction": "gausian"}, ValueError, "did you mean 'gaussian'"),
        ({"blocks": "dirac"}, ValueError, "unknown blocks"),
        ({"attributes": ATTRIBUTES[:, 0]}, ValueError, "attributes_of_group must be int"),
        ({"attributes": ATTRIBUTES[:, :1]}, ValueError, "attributes_of_group must be int"),
        ({"attributes": ATTRIBUTES[:0]}, ValueError, "attributes_of_group must be int"),
        ({"attributes": ATTRIBUTES * 1.0}, TypeError, "attributes_of_group must hold integers"),
        ({"attributes": ATTRIBUTES[:, ::-1]}, ValueError, r"\[0, 2\) for attribute 0.* group 2 has 2"),
        ({"attributes": -ATTRIBUTES}, ValueError, r"\[0, 3\) for attribute 1.* group 1 has -1"),
        ({"optimizer": 0.1}, TypeError, "optimizer"),
        ({"discriminator_optimizer": 0.1}, TypeError, "optimizer"),
        ({"networks": NETWORKS.encoder}, TypeError, "networks must be FFVAENetworks"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    with pytest.raises(error, match=message):
        make(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_features": 0}, "num_features must be a positive integer"),
        ({"cardinalities": (2, 1)}, "cardinalities must hold"),
        ({"cardinalities": ()}, "cardinalities must hold"),
        ({"cardinalities": 2}, "cardinalities must hold"),
        ({"cardinalities": (2.0,)}, "cardinalities must hold"),
        ({"latent": 0}, "latent must be a positive integer"),
        ({"hidden": (8, 0)}, r"hidden\[1\] must be a positive integer"),
        ({"discriminator_hidden": (-1,)}, r"discriminator_hidden\[0\] must be a positive integer"),
    ],
)
def test_bad_sizes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        bx.ffvae_networks(**{"num_features": 4, "cardinalities": (2, 3), **change})


@pytest.mark.parametrize(
    ("drop", "error", "message"),
    [
        ((2,), ValueError, r"drop must hold attributes in \[0, 2\), got 2"),
        ((-1,), ValueError, "drop must hold attributes"),
        (0, TypeError, "drop must be a tuple of integers"),
        ((True,), TypeError, "drop must be a tuple of integers"),
        (("sex",), TypeError, "drop must be a tuple of integers"),
    ],
)
def test_bad_drops_are_named(drop, error, message):
    params = init_params(NETWORKS, jax.random.key(0))
    with pytest.raises(error, match=message):
        bx.fair_features(NETWORKS, params, jnp.zeros((3, 4)), drop)
    with pytest.raises(ValueError, match=r"x must be features \[n, 4\]"):
        bx.fair_features(NETWORKS, params, jnp.zeros((3, 5)))
