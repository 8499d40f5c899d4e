"""Classifiers of the nodes of one graph, with fairness layers between encoder and output: the graph form of FairBiNN.

The graph is part of the model, and an example is the number of a node: `Batch.x` is `int32[n]`. A node's score depends
on its neighbours' features and on no other example of the batch, so all methods take these models as any other. A step
encodes the whole graph, so one step an epoch (`badrjax.full_batch()`) is what costs least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.checks import check_groups, check_positive_integer, is_concrete, unknown_name
from badrjax.functions import Static
from badrjax.models.base import Model
from badrjax.models.dropout import dropout as drop_out

Encoder = Literal["gcn", "gat"]
_LEAK = 0.2


def graph_with_fairness(
    features: Float[Array, "N F"],
    edges: Int[Array, "2 E"],
    hidden: int = 64,
    fairness: Sequence[int] = (64,),
    *,
    encoder: Encoder = "gcn",
    dropout: float | Array = 0.0,
) -> Model:
    r"""One graph layer, then linear fairness layers with ReLU, then one logit.

    `"gcn"` is `D^{-1/2} (A + I) D^{-1/2} X W + b` (Kipf and Welling 2017); `"gat"` weights the neighbours and the node
    itself by the softmax of `leakyrelu(p . W x_i + q . W x_j)`, slope 0.2, one head (Velickovic et al. 2018). Layers
    are named `hidden_0`, `fairness_0`, ..., `output`. Weights, biases, p and q start uniform in
    `±1/sqrt(width of the input)` of their layer.

    Args:
        features: of all nodes.
        edges: from and to, both directions of each (`badrjax.datasets.Graph.edges`); nodes are joined to themselves
            here.
        hidden: width of the graph layer.
        fairness: widths of the fairness layers, at least one.
        encoder: `"gcn"` or `"gat"`.
        dropout: rate in `[0, 1)` after the graph layer; a leaf.

    Returns:
        A `Model` whose `apply` takes numbers of nodes `int[n]` and gives logits `f[n]`.

    Raises:
        ValueError: for widths that are not positive, no fairness layer, an unknown encoder, a rate outside `[0, 1)`, or
            edges of nodes that are not there.
    """
    if encoder not in ("gcn", "gat"):
        raise unknown_name("encoder", encoder, ("gcn", "gat"))
    if not fairness:
        raise ValueError("fairness must give the width of at least one layer")
    check_positive_integer(hidden=hidden, **{f"fairness[{i}]": width for i, width in enumerate(fairness)})
    if np.ndim(features) != 2 or np.ndim(edges) != 2 or np.shape(edges)[0] != 2:
        raise ValueError(f"features must be [N, F] and edges [2, E], got {np.shape(features)} and {np.shape(edges)}")
    if is_concrete(dropout) and not np.all((np.asarray(dropout) >= 0) & (np.asarray(dropout) < 1)):
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    num_nodes = features.shape[0]
    check_groups(jnp.asarray(edges).reshape(-1), num_nodes, "edges")
    loops = jnp.arange(num_nodes, dtype=jnp.int32)
    joined = jnp.concatenate([jnp.asarray(edges, jnp.int32), jnp.stack([loops, loops])], axis=1)
    widths = (features.shape[1], hidden, *fairness, 1)
    names = ("hidden_0", *(f"fairness_{i}" for i in range(len(fairness))), "output")
    rate = None if isinstance(dropout, int | float) and dropout == 0 else dropout
    config = Static((names, widths, encoder))
    return Model(Partial(_init, config), Partial(_apply, config, jnp.asarray(features), joined, rate))


def _init(config: Static, key: Array) -> Any:
    names, widths, encoder = config.value
    params = {}
    for name, inside, outside, layer_key in zip(
        names, widths[:-1], widths[1:], jax.random.split(key, len(names)), strict=True
    ):
        shapes = {"kernel": (inside, outside), "bias": (outside,)}
        if name == "hidden_0" and encoder == "gat":
            shapes |= {"attention_to": (outside,), "attention_from": (outside,)}
        keys = jax.random.split(layer_key, len(shapes))
        bound = 1 / math.sqrt(inside)
        params[name] = {
            leaf: jax.random.uniform(leaf_key, shape, jnp.result_type(float), -bound, bound)
            for (leaf, shape), leaf_key in zip(shapes.items(), keys, strict=True)
        }
    return params


def _apply(
    config: Static, features: Array, edges: Array, rate: Any, params: Any, x: Array, *, key: Any = None
) -> Array:
    names, _, encoder = config.value
    if not jnp.issubdtype(x.dtype, jnp.integer) or x.ndim != 1:
        raise ValueError(f"x must hold numbers of nodes, int[n], got {x.dtype} of shape {x.shape}")
    out = _encode(encoder, params["hidden_0"], features, edges)[x]
    if key is not None and rate is not None:
        out = drop_out(key, out, rate)
    for name in names[1:-1]:
        out = jax.nn.relu(_linear(params[name], out))
    return _linear(params["output"], out)[:, 0]


def _encode(encoder: Encoder, layer: Any, features: Array, edges: Array) -> Float[Array, "N H"]:
    inside = jnp.matmul(features, layer["kernel"])
    source, target = edges
    number = features.shape[0]
    if encoder == "gcn":
        degree = jnp.zeros(number, inside.dtype).at[target].add(1.0)
        share = jax.lax.rsqrt(degree[source] * degree[target])
    else:
        score = jnp.sum(inside * layer["attention_to"][None, :], axis=1)[target]
        score = jax.nn.leaky_relu(score + jnp.sum(inside * layer["attention_from"][None, :], axis=1)[source], _LEAK)
        highest = jax.lax.stop_gradient(jax.ops.segment_max(score, target, number))
        share = jnp.exp(score - highest[target])
        share = share / jax.ops.segment_sum(share, target, number)[target]
    summed = jax.ops.segment_sum(share[:, None] * inside[source], target, number)
    return jax.nn.relu(summed + layer["bias"][None, :])


def _linear(layer: Any, x: Array) -> Array:
    return jnp.matmul(x, layer["kernel"]) + layer["bias"][None, :]
