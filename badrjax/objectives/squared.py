r"""Squared disparities: by how much mean probabilities of groups differ from the overall one, as a sum of squares.

The fairness loss of FairBiNN (Yazdani-Jahromi et al., NeurIPS 2024), as its text means it and as its code has it.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from badrjax.checks import check_class_range, check_classes, unknown_name
from badrjax.groups import group_count, group_mean
from badrjax.objectives.rows import Rows, checked_classes, checked_rows, has_classes

Metric = Literal["demographic_parity", "equal_opportunity", "equalized_odds"]
METRICS = ("demographic_parity", "equal_opportunity", "equalized_odds")
VARIANTS = ("fairbinn", "fairbinn_sum")


def squared_disparity(
    scores: Float[Array, "n"],
    labels: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    metric: Metric = "demographic_parity",
    variant: str | None = None,
) -> Float[Array, ""]:
    r"""Sum over groups of the squared distance of their mean probability from that of all rows.

    With `p_g` the mean of `\sigma(s)` over group g and `p` that over all rows it is

        `\sum_g (p_g - p)^2`

    over the rows that the metric compares: all (demographic parity), those labelled 1 (equal opportunity), or the sum
    of this and of the same for those labelled 0 (equalised odds). For two groups with shares `q_0` and `q_1` of the
    rows it is `(q_0^2 + q_1^2) (p_0 - p_1)^2`.

    `variant="fairbinn"` is the published code's demographic parity, which is another loss: only the first group is
    compared, `(p_0 - p)^2 / 2`, and probabilities go through a second sigmoid, `\sigma(\sigma(s))`, a range of
    (0.5, 0.731). `"fairbinn_sum"` has the sum of its K pairs of terms in place of their mean, `K (p_0 - p)^2`, as the
    code for graphs and images.

    Args:
        scores: logits, `f[n]`.
        labels: classes 0 or 1, `int[n]` or `bool[n]`; demographic parity checks them and does not use them (floats
            pass).
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups, 2 or more.
        weight: frequencies `>= 0`, `f[n]`: a row of weight w counts as w rows, 0 is padding.
        metric: one of `METRICS` (static).
        variant: `None`, `"fairbinn"` or `"fairbinn_sum"` (static); the last two are of demographic parity only.

    Returns:
        A scalar `>= 0`, 0 at equal means. A group without rows to compare takes no part (the published code is NaN
        there); 0 with derivative 0 where none or one has any, and for the variants where the first has none. Under
        tracing, what would raise below gives NaN.

    Raises:
        TypeError: for scores that are not floats, ids that are not integers, or labels that are no classes where the
            metric needs them.
        ValueError: for an unknown metric or variant, a variant of another metric, fewer than two groups, other shapes
            than `[n]`, unequal lengths, or (outside tracing) classes other than 0 and 1, ids outside the range or
            negative weights.
    """
    _check_choice(metric, variant, num_groups)
    rows = checked_rows(scores, labels, groups, num_groups, weight, None)
    if metric != "demographic_parity":
        check_classes(labels=labels)
    if has_classes(labels):
        check_class_range(labels, 2, weight=weight)
        positive, rows = checked_classes(labels, rows)
    probability = jax.nn.sigmoid(rows.scores)
    if variant is not None:
        value = _of_first_group(jax.nn.sigmoid(probability), rows, num_groups)
        value *= 0.5 if variant == "fairbinn" else float(num_groups)
    elif metric == "demographic_parity":
        value = _disparity(probability, rows, rows.weight, num_groups)
    else:
        value = _disparity(probability, rows, jnp.where(positive, rows.weight, 0.0), num_groups)
        if metric == "equalized_odds":
            value += _disparity(probability, rows, jnp.where(positive, 0.0, rows.weight), num_groups)
    return jnp.where(rows.valid, value, jnp.nan)


def _disparity(
    probability: Float[Array, "n"], rows: Rows, weight: Float[Array, "n"], num_groups: int
) -> Float[Array, ""]:
    away, present = _away(probability, rows, weight, num_groups)
    # One group alone is the overall mean, up to rounding.
    return jnp.where(jnp.sum(present) >= 2, jnp.sum(away**2), 0.0)


def _of_first_group(probability: Float[Array, "n"], rows: Rows, num_groups: int) -> Float[Array, ""]:
    away, present = _away(probability, rows, rows.weight, num_groups)
    return jnp.where(jnp.sum(present) >= 2, away[0] ** 2, 0.0)


def _away(
    probability: Float[Array, "n"], rows: Rows, weight: Float[Array, "n"], num_groups: int
) -> tuple[Float[Array, "K"], Shaped[Array, "K"]]:
    """Group means less the overall one, 0 for groups without rows, and which have any."""
    count = group_count(rows.groups, num_groups, weight)
    means = group_mean(probability, rows.groups, num_groups, weight)
    total = jnp.sum(count)
    overall = jnp.sum(count * means) / jnp.where(total > 0, total, 1.0)
    present = count > 0
    return jnp.where(present, means - overall, 0.0), present


def _check_choice(metric: str, variant: str | None, num_groups: int) -> None:
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if variant is not None and variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    if variant is not None and metric != "demographic_parity":
        raise ValueError(f"variant={variant!r} is of demographic_parity only, got metric={metric!r}")
    if num_groups < 2:
        raise ValueError(
            f"num_groups must be 2 or more, got {num_groups}: with one value of the sensitive attribute there is "
            "nothing to compare"
        )
