r"""Projecting conflicting gradients (PCGrad)."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from badrjax.bargaining.gram import HIGHEST, checked, correlation_of, finite_where, uniform
from badrjax.checks import unknown_name


def pcgrad_weights(
    key: Key[Array, ""],
    gram: Float[Array, "K K"],
    present: Bool[Array, "K"] | None = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Array, "K"]:
    r"""Weights of the PCGrad update (Yu et al. 2020, algorithm 1).

    Each player's gradient starts as `v_i = g_i` and meets the others in a random order of its own; where it conflicts
    with one, `<v_i, g_j> < 0`, it is projected onto the normal plane of that one's original gradient,

        v_i <- v_i - <v_i, g_j> / |g_j|^2 g_j,

    and the update is the mean (or sum) of the `v_i`. Two players in conflict have a closed form:
    `((1 - g12 / g11) g_1 + (1 - g12 / g22) g_2) / 2`. Two gradients that are opposed cancel to 0.

    The weights are constants: they pass no derivative to `gram`.

    Args:
        key: a typed key, consumed by the orders.
        gram: symmetric positive semidefinite `f[K, K]`.
        present: `bool[K]`; absent players get weight 0 and take no part. `None` means all.
        reduction: `"mean"` over the players present, or `"sum"` as in the paper.

    Returns:
        `f[K]`, `>= 0` to rounding; all 0 when nobody is present, NaN where a present player's inner products are not
        finite. A zero gradient is projected off nobody and keeps its own weight.

    Raises:
        ValueError: for a matrix that is not square, `present` of another length, or an unknown reduction.
    """
    gram, present = checked(gram, present)
    if reduction not in ("mean", "sum"):
        raise unknown_name("reduction", reduction, ["mean", "sum"])
    gram = jax.lax.stop_gradient(gram)
    total = _projected(gram, present, _orders(key, gram.shape[0]))
    share = uniform(present, gram.dtype) if reduction == "mean" else present.astype(gram.dtype)
    weights = jnp.where(present, jnp.max(share) * total, 0.0)
    return jnp.where(finite_where(present, gram), weights, jnp.where(present, jnp.nan, 0.0))


def _orders(key: Key[Array, ""], num_players: int) -> Int[Array, "K K"]:
    """Row i is the order in which player i meets all players; absent ones are met without effect."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_players))
    return jax.vmap(lambda own: jax.random.permutation(own, num_players))(keys)


def _projected(gram: Array, present: Array, orders: Array) -> Array:
    """Weights of the sum of the projected gradients."""
    # In units of the norms a coefficient is a cosine: nothing over- or underflows before the last division.
    correlation, norm = correlation_of(gram, present)
    safe = jnp.where(norm > 0, norm, 1.0)

    def project(player: Array, order: Array) -> Array:
        def meet(units: Array, other: Array) -> tuple[Array, None]:
            along = jnp.dot(units, correlation[other], precision=HIGHEST)
            takes_off = (other != player) & (norm[other] > 0) & (along < 0)
            return units.at[other].add(jnp.where(takes_off, -along, 0.0)), None

        own = (jnp.arange(gram.shape[0]) == player).astype(gram.dtype)
        units, _ = jax.lax.scan(meet, own, order)
        return jnp.where(own > 0, units, units * (jnp.where(norm[player] > 0, norm[player], 0.0) / safe))

    players = jnp.arange(gram.shape[0])
    coefficients = jax.vmap(project)(players, orders)
    return jnp.sum(jnp.where(present[:, None], coefficients, 0.0), axis=0)
