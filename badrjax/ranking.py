"""The area under the ROC curve of every group from one sort."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped


@partial(jax.jit, static_argnames="num_groups")
def sorted_auc(
    signed: Float[Array, "n"], scores: Float[Array, "n"], groups: Int[Array, "n"], num_groups: int
) -> Float[Array, "K"]:
    """AUC by group, `f[K]`, from weights that are negative for class 0; NaN where a group lacks a class.

    Rows of weight 0 may hold any score but NaN; a NaN weight makes its group's AUC NaN. Jitted on its own, so that
    a user outside `jit` does not wait for each operation.

    Args:
        signed: weight of a row of class 1, minus the weight of one of class 0, `f[n]` with `n >= 1`.
        scores: NaN only where the weight is, `f[n]`.
        groups: ids, `int32[n]`; rows with ids outside `[0, num_groups)` take no part.
        num_groups: static number of groups `K`.
    """
    groups, order, signed = jax.lax.sort((groups, _ordinal(scores), signed), num_keys=2, is_stable=False)
    # maximum, unlike where, passes a NaN on.
    positive, negative = jnp.maximum(signed, 0.0), jnp.maximum(-signed, 0.0)
    new_group = _changes(groups)
    new_score = new_group | _changes(order)
    group_start, tie_start = _start(new_group), _start(new_score)
    positive_up_to, negative_up_to = _sums_from(group_start, positive, negative)

    # Sums up to the row just before each run of equal scores, 0 where that run opens its group.
    before, opens = jnp.maximum(tie_start - 1, 0), tie_start == group_start
    positive_below = jnp.where(opens, 0.0, positive_up_to[before])
    negative_below = jnp.where(opens, 0.0, negative_up_to[before])

    ids = jnp.arange(num_groups, dtype=groups.dtype)
    last = jnp.searchsorted(groups, ids, side="right") - 1
    all_negative = negative_up_to[last][jnp.clip(groups, 0, num_groups - 1)]
    outscored = (negative_below + negative_up_to) / 2.0 / jnp.where(all_negative > 0, all_negative, 1.0)
    # Each run of equal scores adds a trapezium under the ROC curve, at its last row. In their sum the rounding of the
    # running sums telescopes.
    tie_ends = jnp.roll(new_score, -1).at[-1].set(True)
    area = jnp.where(tie_ends, (positive_up_to - positive_below) * outscored, 0.0)
    (area_up_to,) = _sums_from(group_start, area)

    # For a group without rows, `last` is a row of another.
    both = (groups[last] == ids) & (positive_up_to[last] > 0) & (negative_up_to[last] > 0)
    auc = area_up_to[last] / jnp.where(both, positive_up_to[last], 1.0)
    # Neighbouring running sums are rounded apart, so that a step of nothing may come out below 0.
    return jnp.where(both, jnp.clip(auc, 0.0, 1.0), jnp.nan)


def _ordinal(scores: Float[Array, "n"]) -> Int[Array, "n"]:
    """Integers in the order of the scores, both zeros alike.

    Floats would do, but processors may take numbers below the normal range, which are apart, for 0.
    """
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    integer = jnp.int32 if scores.dtype == jnp.float32 else jnp.int64
    bits = jax.lax.bitcast_convert_type(scores, integer)
    # Floats are a sign and a magnitude: negative ones have the lowest bit pattern at -0.
    return jnp.where(bits >= 0, bits, jnp.iinfo(integer).min - bits)


def _changes(values: Shaped[Array, "n"]) -> Bool[Array, "n"]:
    """Which entries differ from the one before; the first does."""
    return (values != jnp.roll(values, 1)).at[0].set(True)


def _start(new: Bool[Array, "n"]) -> Int[Array, "n"]:
    """Position at which the run of each entry began."""
    return jax.lax.cummax(jnp.where(new, jnp.arange(new.shape[0], dtype=jnp.int32), 0))


def _sums_from(start: Int[Array, "n"], *values: Float[Array, "n"]) -> tuple[Float[Array, "n"], ...]:
    """Running sums of each of `values` from `start` on, added in pairs, pairs of pairs and so on.

    Such sums are off by the rounding of `log n` additions, where those row after row are by that of `n`. Doubling
    in a loop does more work than `jax.lax.associative_scan`, which next to the sort is little, and compiles in a
    quarter of the time.
    """
    rows = start.shape[0]
    position = jnp.arange(rows, dtype=jnp.int32)

    def double(step: int, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        shift = jnp.left_shift(1, step)
        reaches = position - shift >= start
        return tuple(total + jnp.where(reaches, jnp.roll(total, shift), 0.0) for total in sums)

    return jax.lax.fori_loop(0, (rows - 1).bit_length(), double, values)
