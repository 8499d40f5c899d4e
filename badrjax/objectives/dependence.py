"""Squared covariances of the scores with membership of a group: HSIC and disparate mistreatment."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from badrjax.checks import check_class_range, check_classes, is_concrete
from badrjax.groups import group_count, group_mean
from badrjax.objectives.rows import Rows, centred, checked_classes, checked_rows


def hsic(
    scores: Float[Array, "n"],
    labels: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    sharpness: float | Float[Array, ""] = 1.0,
    variant: str | None = None,
) -> Float[Array, ""]:
    r"""Hilbert-Schmidt independence criterion of score and group with linear kernels (Gretton et al., 2005).

    With `c_g = \sum_i (1[g_i = g] - n_g/n)(s_i - \bar s) / (n - 1)`, the sample covariance of the score with membership
    of group g, it is

        `(1/2) \sum_g c_g^2`,

    0 exactly if all groups have the same mean score. `"badr"` (Tanji et al., 2026) is
    `( \sum_i (g_i - \bar g)(s_i - \bar s) / (n - 1) )^2` with the ids `0..K-1` as numbers: it depends on how groups are
    numbered, and from three groups on it can be 0 without parity. For two groups both are the same. Neither is an
    approximation: there is no limit to take, and `sharpness` is not used.

    Args:
        scores: logits or predictions of any kind, `f[n]`.
        labels: not used, so that all objectives are called alike; any `[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups.
        weight: frequencies `>= 0`, `f[n]`: a row of weight w counts as w rows, also in `n - 1`; 0 is padding.
        sharpness: not used.
        variant: `None` or `"badr"` (static).

    Returns:
        A scalar `>= 0`. Absent groups take no part; those present keep their ids. 0 with derivative 0 if fewer than two
        groups are present. Under tracing, what would raise below gives NaN.

    Raises:
        TypeError: for scores that are not floats, or ids that are not integers.
        ValueError: for an unknown variant, other shapes than `[n]`, unequal lengths, or (outside tracing) ids outside
            the range, negative weights, or weights of two groups whose sum is at most 1.
    """
    rows = checked_rows(scores, labels, groups, num_groups, weight, variant)
    count = group_count(rows.groups, num_groups, rows.weight)
    total, several = jnp.sum(count), jnp.sum(count > 0) >= 2
    _check_total(total, several)
    enough = total > 1.0
    covariances = _membership_covariances(rows.scores, rows, num_groups, jnp.where(enough, total - 1.0, 1.0))
    value = _of_covariances(covariances, count, variant)
    return jnp.where(rows.valid & (enough | ~several), value, jnp.nan)


def disparate_mistreatment(
    scores: Float[Array, "n"],
    labels: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    sharpness: float | Float[Array, ""] = 1.0,
    variant: str | None = None,
) -> Float[Array, ""]:
    r"""Squared covariance of misclassification with membership of a group (Zafar et al., 2017).

    With `m_i = min(0, (2 y_i - 1) s_i)`, how far row i lies on the wrong side of the boundary, and
    `c_g = (1/n) \sum_i (1[g_i = g] - n_g/n)(m_i - \bar m)` it is

        `(1/2) \sum_g c_g^2`,

    0 exactly if all groups have the same mean `m`. Zafar et al. use `m` as a proxy of the overall misclassification
    rate, and bound `|c_1|` for two groups, where this is `c_1^2`. At a score of exactly 0 `m` counts half of its slope.

    `"badr"` is what the toolbox of Tanji et al. (2026) computes under this name,
    `( (1/n) \sum_i (g_i - \bar g)(s_i - \bar s) )^2` with the ids `0..K-1` as numbers: it ignores the labels,
    depends on how groups are numbered, and is `((n - 1)/n)^2` of theirs for HSIC. Neither is an approximation of a
    rate: there is no limit to take, and `sharpness` is not used.

    Args:
        scores: logits, `f[n]`.
        labels: classes 0 or 1, `int[n]` or `bool[n]`; for `"badr"` any `[n]`, not used.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups.
        weight: frequencies `>= 0`, `f[n]`: a row of weight w counts as w rows, 0 is padding.
        sharpness: not used.
        variant: `None` or `"badr"` (static).

    Returns:
        A scalar `>= 0`. Absent groups take no part; those present keep their ids. 0 with derivative 0 if fewer than two
        groups are present. Under tracing, what would raise below gives NaN.

    Raises:
        TypeError: for scores that are not floats, ids that are not integers, or (by default) float labels.
        ValueError: for an unknown variant, other shapes than `[n]`, unequal lengths, or (outside tracing) ids outside
            the range, negative weights, or (by default) classes other than 0 and 1.
    """
    if variant is None:
        check_classes(labels=labels)
    rows = checked_rows(scores, labels, groups, num_groups, weight, variant)
    values = rows.scores
    if variant is None:
        check_class_range(labels, 2, weight=weight)
        positive, rows = checked_classes(labels, rows)
        values = jnp.minimum(jnp.where(positive, values, -values), 0.0)
    count = group_count(rows.groups, num_groups, rows.weight)
    total = jnp.sum(count)
    covariances = _membership_covariances(values, rows, num_groups, jnp.where(total > 0, total, 1.0))
    return jnp.where(rows.valid, _of_covariances(covariances, count, variant), jnp.nan)


def _membership_covariances(
    values: Float[Array, "n"], rows: Rows, num_groups: int, denominator: Float[Array, ""]
) -> Float[Array, "K"]:
    """`sum_i w_i (1[g_i = g] - n_g/n)(v_i - mean v) / denominator` for each g: `n_g` times (mean of g - mean v)."""
    means = group_mean(centred(values, rows.weight), rows.groups, num_groups, rows.weight)
    count = group_count(rows.groups, num_groups, rows.weight)
    total = jnp.sum(count)
    mean = jnp.sum(count * means) / jnp.where(total > 0, total, 1.0)
    return count * (means - mean) / denominator


def _of_covariances(covariances: Float[Array, "K"], count: Float[Array, "K"], variant: str | None) -> Float[Array, ""]:
    """Half the sum of the squares, or the square of the covariance with the ids as numbers."""
    if variant == "badr":
        ids = jnp.arange(count.shape[0], dtype=covariances.dtype)
        total = jnp.sum(count)
        value = jnp.sum((ids - jnp.sum(count * ids) / jnp.where(total > 0, total, 1.0)) * covariances) ** 2
    else:
        value = jnp.sum(covariances**2) / 2.0
    return jnp.where(jnp.sum(count > 0) >= 2, value, 0.0)


def _check_total(total: Any, several: Any) -> None:
    if is_concrete(total, several) and bool(several) and float(total) <= 1.0:
        raise ValueError(
            f"weight sums to {float(total):g}, and a sample covariance divides by the sum less 1: weights are "
            "frequencies (a row of weight w counts as w rows), so multiply shares by the number of rows"
        )
