"""What any gap between groups comes to by chance: group ids permuted among like rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from badrjax.checks import check_groups, check_same_length, check_vector, check_weight
from badrjax.uncertainty.sampling import Floor, check_ids, check_metric, check_sampling, encoded, floor_of, sampled


def permutation_floor(
    key: Array,
    metric: Callable[[Int[Array, "n"]], Any],
    groups: Int[Array, "n"],
    strata: Int[Array, "n"] | None = None,
    weight: Float[Array, "n"] | None = None,
    *,
    num_samples: int = 1000,
    confidence: float | Float[Array, ""] = 0.95,
    batch_size: int | None = None,
) -> Floor:
    """What a metric comes to where groups do not matter: its mean and quantile over permuted group ids.

    Within each stratum the ids are dealt anew to the rows, so that every group keeps its number of rows in every
    stratum. With the labels as strata this is the floor of what compares groups given the label (equal
    opportunity, the gap in AUC or in balanced accuracy); without strata that of demographic parity. Unlike
    `noise_floor` it serves any metric.

    A row of weight w moves as one, not as w rows: where weights stand for repeated rows, repeat them, or put
    the weight into the strata so that groups keep their total weight.

    Args:
        key: a typed key, consumed.
        metric: function of group ids `int[n]` to a pytree of numbers or arrays, such as
            `lambda groups: jnp.ptp(metrics.group_auc(labels, scores, groups, 4))`.
        groups: ids, `int[n]`.
        strata: any integers, `int[n]`; `None` is one stratum.
        weight: only tells padding: rows of weight 0 keep their ids, and no other row gets them.
        num_samples: static number of permutations `S`.
        confidence: which quantile, in `(0, 1)`.
        batch_size: permutations evaluated at a time; `None` takes as many as make a million numbers. It changes
            no draw.

    Returns:
        `Floor`, each entry a pytree like the metric's; NaN where no sample is finite.

    Raises:
        TypeError: for a key that is not typed, a metric that cannot be called, or ids that are not integers.
        ValueError: for sizes that are not positive, unequal lengths, or (outside tracing) negative ids or weights
            or a confidence outside `(0, 1)`.
    """
    check_sampling(key, num_samples, confidence, batch_size)
    check_metric(metric, "groups")
    check_ids(strata, "strata")
    check_vector(groups=groups, strata=strata, weight=weight)
    check_same_length(groups=groups, strata=strata, weight=weight)
    check_groups(groups, jnp.iinfo(jnp.int32).max)
    check_weight(weight)
    groups = jnp.asarray(groups)
    stratum = jnp.zeros(groups.shape, jnp.int32) if strata is None else encoded(strata)
    padding = jnp.zeros(groups.shape, bool) if weight is None else ~(jnp.asarray(weight) > 0)
    place = jnp.lexsort((stratum, padding))
    waiting = groups[place]
    # Strata by number, in the order of `place`; padding is a stratum of its own.
    opens = (jnp.diff(stratum[place]) != 0) | (jnp.diff(padding[place].astype(jnp.int32)) != 0)
    number = jnp.concatenate([jnp.zeros(groups.shape, jnp.int32)[:1], jnp.cumsum(opens, dtype=jnp.int32)])

    def permuted(key: Array) -> Any:
        # Rows that draw the same bits (one pair in 2^32) keep their order.
        bits = jax.random.bits(key, groups.shape, jnp.uint32)
        dealt = groups.at[place].set(waiting[jnp.lexsort((bits, number))])
        return metric(jnp.where(padding, groups, dealt))

    return floor_of(sampled(key, permuted, num_samples, groups.shape[0], batch_size), confidence)
