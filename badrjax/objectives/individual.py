"""Individual fairness across groups without ever forming the pairs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from badrjax.checks import is_concrete
from badrjax.groups import as_float, group_count, group_mean
from badrjax.objectives.rows import Rows, centred, checked_classes, checked_rows, has_classes


def individual_fairness(
    scores: Float[Array, "n"],
    labels: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    sharpness: float | Float[Array, ""] = 1.0,
    variant: str | None = None,
) -> Float[Array, ""]:
    r"""Mean squared difference of the scores of two rows of different groups, weighed by how near their labels are.

    The individual fairness penalty of Berk et al. (2017) for K groups, as normalised by Tanji et al. (2026):

        `(1/Z) \sum_{a<b} \sum_{i in a, j in b} exp(-|y_i - y_j|) (s_i - s_j)^2,  Z = \sum_{a \ne b} n_a n_b`.

    Z counts each pair twice, so this is half of the plain mean. It is 0 where all scores agree, and does not depend on
    how groups are numbered: `"badr"` and the default are the same. It is exact: there is no limit to take, and
    `sharpness` is not used.

    Sets of rows are described by weight, mean and sum of squares about the mean, and pooled by the update of Chan,
    Golub and LeVeque (1983): all terms are `>= 0` and none is a difference of larger ones. Class labels take `n + K`
    steps, from one set for each group and label. Real labels take `n log n log K` steps, and memory for some `n`
    numbers (`n log n` for reverse-mode derivatives): two different ids first differ in one binary digit, so for
    each digit the rows before each row in the order of the labels are pooled, decayed by `exp(-(y_k - y_j)) <= 1`.
    Measured against the double loop, the relative error is below 1e-6 in float32 and 1e-14 in float64, also for a
    group of 10 rows among 20,000.

    Args:
        scores: logits or predictions, `f[n]`.
        labels: classes 0 or 1, `int[n]` or `bool[n]`; or targets, `f[n]`, finite.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups.
        weight: frequencies `>= 0`, `f[n]`: a row of weight w counts as w rows, also in Z; 0 is padding.
        sharpness: not used.
        variant: `None` or `"badr"` (static).

    Returns:
        A scalar `>= 0`. Absent groups take no part. 0 with derivative 0 if fewer than two groups are present. Under
        tracing, what would raise below gives NaN.

    Raises:
        TypeError: for scores that are not floats, or ids that are not integers.
        ValueError: for an unknown variant, other shapes than `[n]`, unequal lengths, or (outside tracing) integer
            labels other than 0 and 1, labels that are not finite, ids outside the range or negative weights.
    """
    rows = checked_rows(scores, labels, groups, num_groups, weight, variant)
    _check_labels(labels, weight)
    # In shares of the total, so that products of weights do not overflow.
    total = jnp.sum(rows.weight)
    shares = rows.weight / jnp.where(total > 0, total, 1.0)
    rows = rows._replace(weight=shares)
    if has_classes(labels):
        positive, rows = checked_classes(labels, rows)
        rows = rows._replace(scores=centred(rows.scores, shares))
        pairs = _across_groups_by_class(rows, positive, num_groups)
    else:
        # Distances of labels are rounded to the wider of both dtypes.
        labels = jnp.asarray(labels, jnp.promote_types(as_float(labels).dtype, shares.dtype))
        rows = rows._replace(valid=rows.valid & jnp.all(jnp.isfinite(labels) | (shares == 0)))
        pairs = _across_groups_by_target(rows, jnp.where(jnp.isfinite(labels), labels, 0.0), num_groups)
    count = group_count(rows.groups, num_groups, shares)
    several = jnp.sum(count > 0) >= 2
    # Twice the sum over a < b.
    ordered = 2.0 * jnp.sum(count * _before(jnp.cumsum(count)))
    value = jnp.where(several, pairs / jnp.where(several, ordered, 1.0), 0.0)
    return jnp.where(rows.valid, value, jnp.nan)


class _Pool(NamedTuple):
    """A weighted set of scores: total weight, mean, and weighted sum of squares about the mean."""

    weight: Array
    mean: Array
    scatter: Array


def _pooled(left: _Pool, right: _Pool) -> _Pool:
    """The union of two sets."""
    weight = left.weight + right.weight
    # A weight that has decayed out of the normal range is none: its reciprocal need not be a number.
    whole = jnp.where(weight > jnp.finfo(weight.dtype).tiny, weight, 1.0)
    left_share, right_share = left.weight / whole, right.weight / whole
    between = left.weight * right_share * (left.mean - right.mean) ** 2
    return _Pool(weight, left_share * left.mean + right_share * right.mean, left.scatter + right.scatter + between)


def _squared_differences(one: _Pool, other: _Pool) -> Array:
    """Weighted sum of `(s_i - s_j)^2` over the rows i of one set and j of the other."""
    apart = one.weight * other.weight * (one.mean - other.mean) ** 2
    return one.weight * other.scatter + other.weight * one.scatter + apart


def _across_groups_by_class(rows: Rows, positive: Bool[Array, "n"], num_groups: int) -> Float[Array, ""]:
    """The sum over pairs, from a set for each label and group, `[2, K]`, and the union of the groups before."""
    cell = positive.astype(jnp.int32) * num_groups + rows.groups
    # An id outside the range, whose row has no weight, may lie beyond the last cell.
    cell = jnp.clip(cell, 0, 2 * num_groups - 1)
    weight = group_count(cell, 2 * num_groups, rows.weight)
    mean = group_mean(rows.scores, cell, 2 * num_groups, rows.weight)
    scatter = weight * group_mean((rows.scores - mean[cell]) ** 2, cell, 2 * num_groups, rows.weight)
    pools = _Pool(*(x.reshape(2, num_groups) for x in (weight, mean, scatter)))
    before = jax.tree.map(_before, jax.lax.associative_scan(_pooled, pools, axis=1))
    same = _squared_differences(pools, before)
    other = _squared_differences(pools, jax.tree.map(lambda x: x[::-1], before))
    return jnp.sum(same) + jnp.exp(-1.0).astype(same.dtype) * jnp.sum(other)


def _across_groups_by_target(rows: Rows, labels: Float[Array, "n"], num_groups: int) -> Float[Array, ""]:
    """The sum over pairs, a binary digit of the ids after the other.

    Two different ids agree in all digits above one, in which they differ: at that digit, and no other, their rows are
    in one block and on two sides of it.
    """

    def at_digit(total: Array, digit: Array) -> tuple[Array, None]:
        block, side = rows.groups >> (digit + 1), (rows.groups >> digit) & 1
        return total + _across_sides(rows, labels, block, side), None

    digits = jnp.arange(int(num_groups - 1).bit_length(), dtype=jnp.int32)
    return jax.lax.scan(jax.checkpoint(at_digit), jnp.zeros((), rows.scores.dtype), digits)[0]


def _across_sides(
    rows: Rows, labels: Float[Array, "n"], block: Int[Array, "n"], side: Int[Array, "n"]
) -> Float[Array, ""]:
    """The sum over pairs of rows of one block and different sides."""
    position = jnp.arange(block.shape[0], dtype=jnp.int32)
    block, labels, order = jax.lax.sort((block, labels, position), num_keys=2)
    scores, weight, side = rows.scores[order], rows.weight[order], side[order]
    zeros = jnp.zeros((2, *scores.shape), scores.dtype)
    on_side = side[None, :] == jnp.arange(2)[:, None]
    single = _Pool(jnp.where(on_side, weight[None, :], 0.0), zeros, zeros)
    pools = _decayed_pools(single, scores, labels, block)
    # Up to a row is before it: the row itself is on its own side.
    opposite = jax.tree.map(lambda x: jnp.where(side == 0, x[1], x[0]), pools)
    return jnp.sum(_squared_differences(_Pool(weight, zeros[0], zeros[0]), opposite))


def _decayed_pools(
    single: _Pool, scores: Float[Array, "n"], labels: Float[Array, "n"], block: Int[Array, "n"]
) -> _Pool:
    """Pools `[2, n]` of the rows of the block up to each, decayed by the distances of their labels to its label.

    Means are counted from the score of that row: rows near by label are often near by score, and keep their digits.
    Each pass doubles how far back the pools reach. That does more work than `jax.lax.associative_scan`, which next to
    the sort is little, and compiles in a fraction of the time.
    """
    rows = scores.shape[0]
    position = jnp.arange(rows, dtype=jnp.int32)

    def double(pools: _Pool, step: Array) -> tuple[_Pool, None]:
        shift = jnp.left_shift(1, step)
        reaches = (position >= shift) & (jnp.roll(block, shift) == block)
        # Labels ascend within a block: the exponent is at most 0.
        decay = jnp.exp(jnp.where(reaches, jnp.roll(labels, shift) - labels, -jnp.inf)).astype(scores.dtype)[None, :]
        away = (jnp.roll(scores, shift) - scores)[None, :]
        left = jax.tree.map(lambda x: jnp.roll(x, shift, axis=1), pools)
        return _pooled(_Pool(left.weight * decay, left.mean + away, left.scatter * decay), pools), None

    # Without checkpoints, here and for each digit, the backward pass would store all there is in each pass.
    steps = jnp.arange(max(rows - 1, 0).bit_length(), dtype=jnp.int32)
    return jax.lax.scan(jax.checkpoint(double), single, steps)[0]


def _before(running: Array) -> Array:
    """Running totals up to the entry before, along the last axis: 0 for the first."""
    return jnp.pad(running[..., :-1], [(0, 0)] * (running.ndim - 1) + [(1, 0)])


def _check_labels(labels: Any, weight: Any) -> None:
    """Raise `ValueError` for concrete labels, in rows that have weight, other than 0 and 1 or finite floats."""
    if not is_concrete(labels, weight):
        return
    values = np.asarray(labels)
    counted = np.ones(values.shape, bool) if weight is None else np.asarray(weight) > 0
    classes = has_classes(values)
    wrong = counted & (((values != 0) & (values != 1)) if classes else ~np.isfinite(values))
    if not wrong.any():
        return
    row = np.flatnonzero(wrong)[0]
    if classes:
        raise ValueError(
            f"integer labels are classes 0 and 1, but row {row} has {values[row]}; if they are targets whose distances "
            "count, pass them as floats"
        )
    raise ValueError(f"labels must be finite, but row {row} has {values[row]}; drop the row or give it weight 0")
