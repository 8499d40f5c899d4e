"""Classifiers of nodes: against dense matrices, what they do not depend on, and a whole training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx

NODES, FEATURES = 12, 4


def made_up(seed=0):
    random = np.random.default_rng(seed)
    upper = np.triu(random.random((NODES, NODES)) < 0.3, 1)
    return random.normal(size=(NODES, FEATURES)).astype(np.float32), np.stack(np.nonzero(upper | upper.T))


def relu(x):
    return np.maximum(x, 0)


def dense_scores(params, x, edges, encoder):
    params = jax.tree.map(np.asarray, params)
    adjacency = np.eye(NODES)
    adjacency[edges[1], edges[0]] = 1
    first = params["hidden_0"]
    inside = x @ first["kernel"]
    if encoder == "gcn":
        root = 1 / np.sqrt(adjacency.sum(axis=1))
        share = root[:, None] * adjacency * root[None, :]
    else:
        score = (inside @ first["attention_to"])[:, None] + (inside @ first["attention_from"])[None, :]
        share = np.where(adjacency > 0, np.exp(np.where(score > 0, score, 0.2 * score)), 0)
        share /= share.sum(axis=1, keepdims=True)
    out = relu(share @ inside + first["bias"])
    for name in ("fairness_0", "fairness_1"):
        out = relu(out @ params[name]["kernel"] + params[name]["bias"])
    return (out @ params["output"]["kernel"] + params["output"]["bias"])[:, 0]


@pytest.mark.parametrize("encoder", ["gcn", "gat"])
def test_scores_are_those_of_dense_matrices(encoder):
    x, edges = made_up()
    model = bx.models.graph_with_fairness(x, edges, 5, (6, 3), encoder=encoder)
    params = model.init(jax.random.key(0))
    expected = dense_scores(params, x, edges, encoder)
    chosen = np.array([3, 0, 0, 11])
    np.testing.assert_allclose(jax.jit(model.apply)(params, chosen), expected[chosen], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("encoder", ["gcn", "gat"])
def test_names_of_nodes_and_order_of_edges_do_not_matter(encoder):
    x, edges = made_up(1)
    random = np.random.default_rng(0)
    names = random.permutation(NODES)
    renamed = names[edges[:, random.permutation(edges.shape[1])]]
    model = bx.models.graph_with_fairness(x, edges, 5, (4,), encoder=encoder)
    other = bx.models.graph_with_fairness(x[np.argsort(names)], renamed, 5, (4,), encoder=encoder)
    params = model.init(jax.random.key(0))
    everyone = np.arange(NODES)
    np.testing.assert_allclose(
        other.apply(params, names[everyone]), model.apply(params, everyone), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("encoder", ["gcn", "gat"])
def test_fairness_layers_follow_in_a_graph(encoder):
    random = np.random.default_rng(2)
    number = 80
    group = np.arange(number) % 2
    x = random.normal(size=(number, 3)).astype(np.float32)
    x[:, 1] += group
    y = (x[:, 0] + x[:, 1] > 0.5).astype(int)
    first = random.integers(0, number, 100)
    pairs = np.stack([first, (first + 2 * random.integers(1, 40, 100)) % number])  # within groups, as people are
    edges = np.unique(np.concatenate([pairs, pairs[::-1]], axis=1), axis=1)
    model = bx.models.graph_with_fairness(x, edges, 16, (16,), encoder=encoder, dropout=0.1)
    data = bx.Batch(jnp.arange(number), jnp.asarray(y), jnp.asarray(group))
    fairness = bx.losses.fairness(bx.objectives.squared_disparity, model, num_groups=2, variant="fairbinn_sum")

    @jax.jit
    def train(eta):
        made = bx.fairbinn(
            bx.losses.logistic(model), Partial(optax.adam, learning_rate=1e-2), fairness, rule="accumulated",
            follower_optimizer=Partial(optax.adam, learning_rate=1e-4), fairness_weight=eta,
        )  # fmt: skip
        return bx.fit(jax.random.key(0), made, model.init(jax.random.key(1)), data, num_epochs=150,
                      sampler=bx.full_batch(), rows=jnp.arange(60)).steps  # fmt: skip

    fair, unfair = train(1000.0), train(0.0)
    assert unfair.loss[-1] < 0.8 * unfair.loss[0]
    assert fair.fairness[-1] < 0.3 * unfair.fairness[-1]


def test_wrong_graphs():
    x, edges = made_up()
    make = bx.models.graph_with_fairness
    with pytest.raises(ValueError, match="edges"):
        make(x, edges + 100)
    with pytest.raises(ValueError, match=r"edges \[2, E\]"):
        make(x, edges.T)
    with pytest.raises(ValueError, match="encoder"):
        make(x, edges, encoder="sage")
    with pytest.raises(ValueError, match="dropout"):
        make(x, edges, dropout=1.5)
    with pytest.raises(ValueError, match="fairness must give"):
        make(x, edges, fairness=())
    model = make(x, edges)
    with pytest.raises(ValueError, match="numbers of nodes"):
        model.apply(model.init(jax.random.key(0)), x)


def test_images_have_fairness_layers_before_the_output():
    plain = bx.models.resnet18((8, 8, 3), 1, width=8, blocks=(1,))
    model = bx.models.resnet18((8, 8, 3), 1, width=8, blocks=(1,), fairness=(5,))
    params = model.init(jax.random.key(0))
    assert params["fairness_0"]["kernel"].shape == (8, 5)
    assert params["output"]["kernel"].shape == (5, 1)
    assert set(params) - {"fairness_0"} == set(jax.eval_shape(plain.init, jax.random.key(0)))
    labels = bx.follower_layers("fairness").value(params)
    assert sum(label == "follower" for label in jax.tree.leaves(labels)) == 2
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    assert jax.jit(model.apply)(params, images).shape == (4,)
