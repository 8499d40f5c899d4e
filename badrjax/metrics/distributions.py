"""Distances between the distributions of predictions in the groups, all pairs from one sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from badrjax.checks import unknown_name
from badrjax.groups import group_sum
from badrjax.metrics.numbers import numeric_rows

_Accumulate: TypeAlias = Callable[[Any, Array, Array, Array], Any]
_DISTANCES = ("kolmogorov_smirnov", "wasserstein")
# Entries of the largest array that a block of rows makes, its rows times the number of pairs.
_BLOCK_ENTRIES = 2**18


def distribution_difference(
    predictions: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    distance: str = "wasserstein",
) -> Float[Array, ""]:
    r"""Largest distance between the distributions of predictions in two groups, over all pairs that have rows.

    With `F_k` the distribution function of the predictions in group `k`, the distance of two groups is
    `\int |F_a(t) - F_b(t)| dt` (the exact 1-Wasserstein distance, in the unit of the predictions) or
    `\max_t |F_a(t) - F_b(t)|` (Kolmogorov and Smirnov's). Strong demographic parity, that predictions have the
    same distribution in all groups, holds where it is 0. Takes one sort of all rows, then `n K^2` steps for
    `"wasserstein"` and `n K` for `"kolmogorov_smirnov"`, and memory for `n + K^2` numbers.

    Args:
        predictions: numbers, `f[n]` or `int[n]`; booleans are refused, for they are classes.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.
        distance: `"wasserstein"` or `"kolmogorov_smirnov"`.

    Returns:
        A scalar `>= 0`, at most 1 for `"kolmogorov_smirnov"`; NaN if fewer than two groups have rows, or with a
        NaN prediction in a row that has weight, for `"wasserstein"` an infinite one too.

    Raises:
        TypeError: for predictions that are not numbers, or ids that are not integers.
        ValueError: for an unknown distance, unequal lengths, or (outside tracing) ids outside the range or
            negative weights.
    """
    if distance not in _DISTANCES:
        raise unknown_name("distance", distance, _DISTANCES)
    (predictions,), groups, weight = numeric_rows({"predictions": predictions}, groups, num_groups, weight)
    if predictions.shape[0] == 0:
        return jnp.full((), jnp.nan, weight.dtype)
    count = group_sum(weight, groups, num_groups)
    accumulate: _Accumulate
    if distance == "wasserstein":
        known, accumulate = jnp.isfinite(predictions), _add_areas
        widest = jnp.zeros((num_groups, num_groups), weight.dtype)
    else:
        known, accumulate = ~jnp.isnan(predictions), _keep_highest
        widest = jnp.zeros((), weight.dtype)
    known = jnp.all(known)
    # Padding joins the largest prediction, so that it adds neither mass nor length.
    predictions = jnp.where(weight > 0, predictions, jnp.max(jnp.where(weight > 0, predictions, -jnp.inf)))
    widest = _over_sorted_rows(accumulate, widest, predictions, groups, weight, count)
    return jnp.where(known & (jnp.sum(count > 0) >= 2), jnp.max(widest), jnp.nan)


def _over_sorted_rows(
    accumulate: _Accumulate,
    start: Any,
    predictions: Float[Array, "n"],
    groups: Int[Array, "n"],
    weight: Float[Array, "n"],
    count: Float[Array, "K"],
) -> Any:
    """Fold `accumulate(value, F, to_next, present)` over blocks of the rows sorted by prediction.

    `F` `f[rows, K]` are the groups' distribution functions at each row of the block, and `to_next` `f[rows]`
    the way from its prediction to the next one.
    """
    num_rows, num_groups = predictions.shape[0], count.shape[0]
    predictions, groups, weight = jax.lax.sort((predictions, groups, weight), num_keys=1, is_stable=False)
    # Equal predictions, infinite ones too, are 0 apart.
    moved = jnp.roll(predictions, -1).at[-1].set(predictions[-1])
    to_next = jnp.where(moved == predictions, 0.0, moved - predictions)

    size = max(min(num_rows, _BLOCK_ENTRIES // num_groups**2), 1)
    padding = -num_rows % size
    blocks = tuple(jnp.pad(column, (0, padding)).reshape(-1, size) for column in (groups, weight, to_next))
    ids = jnp.arange(num_groups, dtype=groups.dtype)
    whole = jnp.where(count > 0, count, 1.0)

    def step(carry: tuple[Array, Any], block: tuple[Array, ...]) -> tuple[tuple[Array, Any], None]:
        below, value = carry
        groups, weight, to_next = block
        mass = jnp.where(groups[:, None] == ids[None, :], weight[:, None], 0.0)
        up_to = below[None, :] + jnp.cumsum(mass, axis=0)
        return (up_to[-1], accumulate(value, up_to / whole[None, :], to_next, count > 0)), None

    # Without a checkpoint reverse mode would keep every block's differences, n K^2 numbers.
    (_, value), _ = jax.lax.scan(jax.checkpoint(step), (jnp.zeros_like(count), start), blocks)
    return value


def _add_areas(
    areas: Float[Array, "K K"], shares: Float[Array, "rows K"], to_next: Float[Array, "rows"], present: Bool[Array, "K"]
) -> Float[Array, "K K"]:
    """Add the area between each two distribution functions over the block's rows."""
    both = present[:, None] & present[None, :]
    apart = jnp.where(both[None], jnp.abs(shares[:, :, None] - shares[:, None, :]), 0.0)
    return areas + jnp.sum(apart * to_next[:, None, None], axis=0)


def _keep_highest(
    highest: Float[Array, ""], shares: Float[Array, "rows K"], to_next: Float[Array, "rows"], present: Bool[Array, "K"]
) -> Float[Array, ""]:
    """The larger of `highest` and the largest step between two distribution functions where a prediction ends."""
    above = jnp.max(jnp.where(present[None, :], shares, -jnp.inf), axis=1)
    below = jnp.min(jnp.where(present[None, :], shares, jnp.inf), axis=1)
    # At the last prediction both are 1, so rows that end no run of ties may be left out by their length of 0.
    return jnp.maximum(highest, jnp.max(jnp.where(to_next > 0, above - below, 0.0)))
