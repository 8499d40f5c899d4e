"""FFVAE: a variational autoencoder whose code keeps each sensitive attribute in a block that can be left out."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.checks import check_groups, is_concrete, unknown_name
from badrjax.functions import Static
from badrjax.methods.base import Method, descend, optimiser_pytree
from badrjax.methods.ffvae_networks import (
    FFVAENetworks,
    FFVAEParams,
    FFVAESizes,
    check_features,
    check_params,
    ffvae_encoder,
    row_numbers,
)
from badrjax.models import as_model

Reconstruction = Literal["gaussian", "bernoulli"]
Blocks = Literal["gaussian", "point"]


class FFVAEState(NamedTuple):
    """Parameters, and the states of the optimisers of the autoencoder and of the discriminator."""

    params: FFVAEParams
    opt_state: Any
    discriminator_opt_state: Any


class FFVAEInfo(NamedTuple):
    """What one step saw, before it moved: means over the batch by weight; 0 for a batch of padding only.

    Attributes:
        loss: what the autoencoder descends on, `f[]`.
        reconstruction: `-log p(x | z, b)`, `f[]`.
        divergence: `KL(q(z, b | x) || p(z, b))`, `f[]`, `>= 0`.
        attribute_losses: `-log p(a_j | b_j)`, `f[J]`, `>= 0`.
        total_correlation: the discriminator's log odds on joint codes, its estimate of
            `KL(q(z, b) || q(z) prod_j q(b_j))`, `f[]`; the truth is `>= 0`, the estimate may be below.
        discriminator_loss: cross-entropy of the discriminator, `f[]`, `>= 0`; `log 2` when it cannot tell.
    """

    loss: Float[Array, ""]
    reconstruction: Float[Array, ""]
    divergence: Float[Array, ""]
    attribute_losses: Float[Array, "J"]
    total_correlation: Float[Array, ""]
    discriminator_loss: Float[Array, ""]


class FFVAETerms(NamedTuple):
    """The terms of the objective, row by row.

    Attributes:
        codes: sampled codes, `f[n, D]`.
        reconstruction: `-log p(x | z, b)`, `f[n]`.
        divergence: `KL(q(z, b | x) || p(z, b))`, `f[n]`.
        attribute_losses: `-log p(a_j | b_j)`, `f[n, J]`.
        log_odds: of the discriminator on the codes, `f[n]`.
    """

    codes: Float[Array, "n D"]
    reconstruction: Float[Array, "n"]
    divergence: Float[Array, "n"]
    attribute_losses: Float[Array, "n J"]
    log_odds: Float[Array, "n"]


class _Options(NamedTuple):
    reconstruction: Reconstruction
    blocks: Blocks


def ffvae(
    networks: FFVAENetworks,
    optimizer: Any,
    attributes_of_group: Int[Array, "C J"],
    *,
    alpha: Float[Array, ""] | float,
    gamma: Float[Array, ""] | float,
    discriminator_optimizer: Any = None,
    reconstruction: Reconstruction = "gaussian",
    blocks: Blocks = "gaussian",
) -> Method:
    r"""Flexibly fair variational autoencoder (Creager et al., 2019, ICML).

    An encoder `q(z, b | x)`, independent Gaussians around a standard normal prior, and a decoder `p(x | z, b)`, with a
    block `b_j` for each sensitive attribute `a_j`. One step descends on

        -E[log p(x | z, b)] - alpha sum_j E[log p(a_j | b_j)] + KL(q(z, b | x) || p(z, b))
            + gamma KL(q(z, b) || q(z) prod_j q(b_j))

    in the encoder and the decoder, one sample of the code a row. `p(a_j | b_j)` has no parameters: `sigmoid(b_j)` for
    a binary attribute, `softmax(b_j)` for another. The last term is the mean log odds of a discriminator, held fixed.
    Then the discriminator takes a step of its own, on the same codes, detached, against codes whose blocks are
    permuted over the batch (`independent_rows`). Train with `badrjax.fit` from `networks.init(key)`, then train any
    network on `badrjax.fair_features`, from which the blocks of the attributes that matter are dropped.

    A row of weight w draws one sample of its code, where w rows would draw w of them; and a row's random numbers go by
    its place among the rows that count. Apart from that sampling, weights are frequencies, and padding changes nothing.

    Args:
        networks: of `badrjax.ffvae_networks`.
        optimizer: of encoder and decoder, an optax transformation or `Partial(optax.adam, learning_rate=1e-3)`.
        attributes_of_group: value of each attribute in each group of `batch.group`, `int[C, J]` in `[0, C_j)`, a
            leaf. With `groups = badrjax.encode_groups(first, second)` and integer columns it is
            `np.stack([first, second], 1)[np.unique(groups.ids, return_index=True)[1]]`.
        alpha: weight of the attributes, `>= 0`, a leaf; 100 to 300 is usual.
        gamma: weight of the total correlation, `>= 0`, a leaf; 1 to 100 is usual.
        discriminator_optimizer: of the discriminator; `None` means another `optimizer`.
        reconstruction: `"gaussian"` with unit variance, for standardised features, constant `F/2 log 2 pi` included;
            or `"bernoulli"`, for features of 0 and 1.
        blocks: `"gaussian"`, the objective above; or `"point"`: `b_j` is its mean, without noise, and the divergence
            from the prior is that of `z` alone, as in published code of FFVAE.

    Returns:
        `Method(init, step)` with `FFVAEState` and `FFVAEInfo`. Inside `jit`, a row that counts and has a group or an
        attribute out of range makes the parameters NaN, since nothing can be raised there.

    Raises:
        ValueError: for alpha or gamma that is negative or not finite, an unknown reconstruction or blocks, or
            `attributes_of_group` of another shape or out of range; by a step outside `jit`, for groups outside
            `[0, C)` and, with `"bernoulli"`, features outside `[0, 1]`; by any step, for features that are not
            `[n, F]`.
        TypeError: for networks, parameters, attributes or optimizers of another kind.
    """
    if not isinstance(networks, FFVAENetworks):
        raise TypeError(f"networks must be FFVAENetworks, see badrjax.ffvae_networks, got {type(networks).__name__}")
    for name, value in (("alpha", alpha), ("gamma", gamma)):
        if is_concrete(value) and not np.all((np.asarray(value) >= 0) & np.isfinite(np.asarray(value))):
            raise ValueError(f"{name} must be 0 or more and finite, got {value}")
    if reconstruction not in ("gaussian", "bernoulli"):
        raise unknown_name("reconstruction", str(reconstruction), ("gaussian", "bernoulli"))
    if blocks not in ("gaussian", "point"):
        raise unknown_name("blocks", str(blocks), ("gaussian", "point"))
    _check_attributes(networks.sizes, attributes_of_group)
    encoder, decoder, discriminator = (as_model(network) for network in networks[:3])
    networks = FFVAENetworks(encoder, decoder, discriminator, networks.sizes)
    optimizer = optimiser_pytree(optimizer)
    other = optimizer if discriminator_optimizer is None else optimiser_pytree(discriminator_optimizer)
    options = Static(_Options(reconstruction, blocks))
    arrays = (jnp.asarray(attributes_of_group, jnp.int32), alpha, gamma)
    step = Partial(_step, options, networks, (optimizer, other), arrays)
    return Method(Partial(_init, (optimizer, other)), step)


def ffvae_terms(
    networks: FFVAENetworks,
    params: FFVAEParams,
    x: Float[Array, "n F"],
    attributes: Int[Array, "n J"],
    noise: Float[Array, "n D"],
    *,
    reconstruction: Reconstruction = "gaussian",
    blocks: Blocks = "gaussian",
) -> FFVAETerms:
    """The terms of the objective at codes `mean + exp(log_variance / 2) noise`, row by row.

    Args:
        networks: of `badrjax.ffvae_networks`.
        params: `FFVAEParams`.
        x: features, `f[n, F]`.
        attributes: value of each attribute, `int[n, J]` in `[0, C_j)`; the loss of another value is NaN.
        noise: standard normal, `f[n, D]`.
        reconstruction: as for `ffvae`.
        blocks: as for `ffvae`.
    """
    sizes = networks.sizes
    means, log_variances = ffvae_encoder(networks, params, x)
    random = np.arange(sizes.code_width) < (sizes.latent if blocks == "point" else sizes.code_width)
    log_variances = jnp.where(random[None], log_variances, 0.0)  # unused ones would reach gradients by overflowing
    codes = means + random[None] * jnp.exp(0.5 * log_variances) * noise
    divergence = 0.5 * jnp.sum((jnp.exp(log_variances) + means**2 - 1.0 - log_variances)[:, random], axis=1)
    decoded = networks.decoder.apply(params.decoder, codes).reshape(x.shape)
    if reconstruction == "gaussian":
        each = 0.5 * (x - decoded) ** 2 + 0.5 * math.log(2 * math.pi)
    else:
        each = jax.nn.softplus(decoded) - x * decoded
    losses = [_attribute_loss(codes[:, sizes.block(j)], attributes[:, j]) for j in range(len(sizes.cardinalities))]
    log_odds = networks.discriminator.apply(params.discriminator, codes)
    return FFVAETerms(codes, jnp.sum(each, axis=1), divergence, jnp.stack(losses, axis=1), log_odds)


def independent_rows(key: Array, weight: Float[Array, "n"], num_blocks: int) -> Int[Array, "J n"]:
    """For each block and row, the row whose block takes its place, `int32[J, n]`: one permutation a block.

    Rows lie side by side on a line, each as long as its weight; for each block they are laid out anew in a random
    order and turned by a random whole length. What lies over a random unit of row i then takes its place. Where
    weights are 0 and 1 this is a uniform permutation of the rows that count, and marginals stay as they are; where
    they are whole, row k comes to row i with probability `weight[k] / sum(weight)`, as when rows are repeated. Rows of
    weight 0 are never taken, and what the others get does not depend on them.
    """
    weight = jnp.asarray(weight)
    total, last = jnp.sum(weight), jnp.maximum(jnp.sum(weight > 0) - 1, 0)
    bits_key, turn_key = jax.random.split(key)
    draw = lambda row: jax.random.bits(jax.random.fold_in(bits_key, row), (num_blocks, 2), jnp.uint32)  # noqa: E731
    bits = jnp.moveaxis(jax.vmap(draw)(row_numbers(weight)), 0, -1)
    uniform = (bits[:, 0] >> 8).astype(weight.dtype) / 2**24  # below 1 in any precision
    turns = jnp.floor(jax.random.uniform(turn_key, (num_blocks,), weight.dtype) * total)

    def of_block(rank: Array, uniform: Array, turn: Array) -> Array:
        unit = jnp.floor(uniform * weight)
        # By its middle a unit is told from its neighbours whatever the rounding.
        place = turn + jnp.cumsum(weight) - weight + unit + 0.5 * jnp.minimum(1.0, weight - unit)
        place = jnp.where(place < total, place, place - total)
        order = jnp.lexsort((rank, weight == 0))
        found = jnp.searchsorted(jnp.cumsum(weight[order]), place, side="right")
        return order[jnp.minimum(found, last)].astype(jnp.int32)

    return jax.vmap(of_block)(bits[:, 1], uniform, turns)


def discriminator_loss(
    networks: FFVAENetworks, params: Any, joint: Float[Array, "n D"], product: Float[Array, "n D"], weight: Array
) -> Float[Array, ""]:
    """Cross-entropy of the discriminator between two samples of equal size, each counted half, `f[]`."""
    of_joint = networks.discriminator.apply(params, joint)
    of_product = networks.discriminator.apply(params, product)
    return _mean(0.5 * (jax.nn.softplus(-of_joint) + jax.nn.softplus(of_product)), weight)


def _init(optimizers: tuple[Partial, Partial], key: Any, params: FFVAEParams) -> FFVAEState:
    check_params(params)
    first, second = optimizers
    return FFVAEState(params, first().init(params[:2]), second().init(params.discriminator))


def _step(
    options: Static,
    networks: FFVAENetworks,
    optimizers: tuple[Partial, Partial],
    arrays: Any,
    key: Array,
    state: FFVAEState,
    batch: Batch,
) -> tuple[FFVAEState, FFVAEInfo]:
    attributes_of_group, alpha, gamma = arrays
    sizes, params = networks.sizes, state.params
    _check_batch(options.value, sizes, batch, attributes_of_group.shape[0])
    batch = fill_padding(batch)
    weight = jnp.asarray(frequencies(batch))
    noise_key, permute_key = jax.random.split(key)
    attributes = _attributes(attributes_of_group, batch.group)
    noise = _noise(noise_key, weight, sizes.code_width, batch.x)

    def objective(autoencoder: Any) -> tuple[Array, Any]:
        trial = FFVAEParams(autoencoder[0], autoencoder[1], params.discriminator)
        terms = ffvae_terms(networks, trial, batch.x, attributes, noise, **options.value._asdict())
        means = FFVAETerms(terms.codes, *(_mean(term, weight) for term in terms[1:]))
        weighted = alpha * jnp.sum(means.attribute_losses) + gamma * means.log_odds
        return (means.reconstruction + means.divergence + weighted).astype(terms.codes.dtype), means

    (loss, means), gradient = jax.value_and_grad(objective, has_aux=True)(tuple(params[:2]))
    autoencoder, opt_state = descend(optimizers[0], gradient, state.opt_state, tuple(params[:2]), weight)

    joint = jax.lax.stop_gradient(means.codes)
    product = _permuted(sizes, joint, independent_rows(permute_key, weight, len(sizes.cardinalities)))
    told, gradient = jax.value_and_grad(lambda p: discriminator_loss(networks, p, joint, product, weight))(
        params.discriminator
    )
    discriminator, other = descend(optimizers[1], gradient, state.discriminator_opt_state, params.discriminator, weight)
    info = FFVAEInfo(
        loss, means.reconstruction, means.divergence, means.attribute_losses, means.log_odds, discriminator_loss=told
    )
    return FFVAEState(FFVAEParams(autoencoder[0], autoencoder[1], discriminator), opt_state, other), info


def _permuted(sizes: FFVAESizes, codes: Array, rows: Array) -> Array:
    """Codes with each block taken from other rows; `z` stays, for only how rows are paired matters."""
    blocks = [codes[rows[j], sizes.block(j)] for j in range(len(sizes.cardinalities))]
    return jnp.concatenate([codes[:, : sizes.latent], *blocks], axis=1)


def _attribute_loss(logits: Array, values: Array) -> Array:
    logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
    num_values = logits.shape[1]
    # NaN from the logits on, so that gradients are NaN, too: averages over steps leave a NaN loss out.
    known = jnp.where((values >= 0) & (values < num_values), 1.0, jnp.nan).astype(logits.dtype)
    logits = logits * known[:, None]
    chosen = values[:, None] == jnp.arange(num_values)[None]
    return jax.nn.logsumexp(logits, axis=1) - jnp.sum(jnp.where(chosen, logits, 0.0), axis=1)


def _attributes(attributes_of_group: Array, group: Array) -> Array:
    num_groups = attributes_of_group.shape[0]
    inside = (group >= 0) & (group < num_groups)
    return jnp.where(inside[:, None], attributes_of_group[jnp.clip(group, 0, num_groups - 1)], -1)


def _noise(key: Array, weight: Array, width: int, x: Array) -> Array:
    """Standard normal numbers `f[n, width]`, which padding does not shift."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(key, row), (width,), dtype))(row_numbers(weight))


def _mean(values: Array, weight: Array) -> Array:
    """Means over rows by weight; rows of weight 0 take no part, even where they hold NaN."""
    total = jnp.sum(weight)
    share = (weight / jnp.where(total > 0, total, 1.0)).astype(values.dtype)
    share = share.reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.sum(jnp.where(share > 0, share * values, 0.0), axis=0)


def _check_attributes(sizes: FFVAESizes, attributes: Any) -> None:
    num_attributes = len(sizes.cardinalities)
    if np.ndim(attributes) != 2 or np.shape(attributes)[0] < 1 or np.shape(attributes)[1] != num_attributes:
        raise ValueError(
            f"attributes_of_group must be int[C, {num_attributes}], a row a group and a column for each of the "
            f"networks' cardinalities, got {np.shape(attributes)}"
        )
    dtype = attributes.dtype if hasattr(attributes, "dtype") else np.asarray(attributes).dtype
    if not jax.dtypes.issubdtype(dtype, np.integer):
        raise TypeError(
            f"attributes_of_group must hold integers, got {dtype}; encode values with badrjax.encode_groups"
        )
    if not is_concrete(attributes):
        return
    values, limits = np.asarray(attributes), np.asarray(sizes.cardinalities)
    for group, j in np.argwhere((values < 0) | (values >= limits)):
        raise ValueError(
            f"attributes_of_group must hold values in [0, {limits[j]}) for attribute {j}, as its cardinality says, but "
            f"group {group} has {values[group, j]}"
        )


def _check_batch(options: _Options, sizes: FFVAESizes, batch: Batch, num_groups: int) -> None:
    check_features(sizes, batch.x, "batch.x")
    if not is_concrete(batch):
        return
    real = np.asarray(frequencies(batch)) > 0
    check_groups(np.where(real, batch.group, 0), num_groups, "batch.group")
    outside = ~((np.asarray(batch.x) >= 0) & (np.asarray(batch.x) <= 1)).all(axis=1)
    if options.reconstruction == "bernoulli" and (outside & real).any():
        raise ValueError(
            "batch.x must lie in [0, 1] with reconstruction='bernoulli'; use 'gaussian' for other features"
        )
