r"""Smooth objectives that compare rates of groups: demographic parity, equal opportunity, equalized odds.

With `sharpness` `\rho`, a predicted class `1[s > 0]` becomes `\sigma(\rho s)`, `\sigma` the logistic function, and the
largest of K numbers becomes `(1/\rho) log \sum_g exp(\rho v_g)`. That exceeds the largest by up to `log(K)/\rho`, an
offset which says nothing about fairness: the default leaves it out, `variant="badr"` keeps the formulas of Tanji,
Vaiter and Laguel (2026, BADR). Both have the same derivatives by the scores.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from badrjax.checks import check_class_range, check_classes
from badrjax.groups import group_count, group_mean
from badrjax.objectives.rows import Rows, centred, checked_classes, checked_rows, checked_sharpness, has_classes

# sqrt(x^2 + _SMOOTHING^2) stands for |x|, so that it has derivatives at 0.
_SMOOTHING = 1e-3


def demographic_parity(
    scores: Float[Array, "n"],
    labels: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    sharpness: float | Float[Array, ""] = 1.0,
    variant: str | None = None,
) -> Float[Array, ""]:
    r"""Largest distance of a group's rate from the mean of the rates, smoothed.

    `p_g` is the mean of `\sigma(\rho s)` over group g, or with float labels (a regression) the mean of `s`, and
    `\bar p` the mean of the `p_g`, each group counted once. With `d_g = sqrt((p_g - \bar p)^2 + 10^{-6})` it is

        `(1/\rho) log( (1/K) \sum_g exp(\rho (d_g - 10^{-3})) )`,

    0 at equal rates and `>= 0`. `"badr"` (Tanji et al., 2026) is `(1/\rho) log \sum_g exp(\rho d_g)`, larger by
    `log(K)/\rho + 10^{-3}`. As `\rho` grows both tend to the largest `|p_g - \bar p|` of the predictions `s > 0`, up to
    `10^{-3}`: with two groups half of `badrjax.metrics.demographic_parity_difference`.

    Args:
        scores: logits (of a regression: predictions), `f[n]`.
        labels: classes 0 or 1, `int[n]` or `bool[n]`; floats mean regression. Only that is used of them.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups.
        weight: frequencies `>= 0`, `f[n]`: a row of weight w counts as w rows, 0 is padding.
        sharpness: `\rho > 0`; may be traced and differentiated.
        variant: `None` or `"badr"` (static).

    Returns:
        A scalar. Absent groups take no part in `\bar p`, in K or in the sum. 0 with derivative 0 if fewer than two
        groups are present. Under tracing, what would raise below gives NaN.

    Raises:
        TypeError: for scores that are not floats, or ids that are not integers.
        ValueError: for an unknown variant, other shapes than `[n]`, unequal lengths, or (outside tracing) classes other
            than 0 and 1, ids outside the range, negative weights, or a sharpness that is not positive and finite.
    """
    rows = checked_rows(scores, labels, groups, num_groups, weight, variant)
    sharpness = checked_sharpness(sharpness, rows.scores.dtype)
    if has_classes(labels):
        check_class_range(labels, 2, weight=weight)
        _, rows = checked_classes(labels, rows)
        decisions = jax.nn.sigmoid(sharpness * rows.scores)
    else:
        decisions = centred(rows.scores, rows.weight)
    rates = group_mean(decisions, rows.groups, num_groups, rows.weight)
    present = group_count(rows.groups, num_groups, rows.weight) > 0
    away = _less_mean(rates, present)
    # sqrt(away^2 + c^2) - c without the difference, which near parity would leave rounding only.
    distance = away**2 / (jnp.sqrt(away**2 + _SMOOTHING**2) + _SMOOTHING)
    value = _log_mean_exp(sharpness * distance, present) / sharpness
    if variant == "badr":
        value += _log_number(present, value) / sharpness + _SMOOTHING
    return jnp.where(rows.valid, jnp.where(jnp.sum(present) >= 2, value, 0.0), jnp.nan)


def equal_opportunity(
    scores: Float[Array, "n"],
    labels: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    sharpness: float | Float[Array, ""] = 1.0,
    variant: str | None = None,
) -> Float[Array, ""]:
    r"""Largest minus smallest true positive rate, smoothed.

    With `p_g` the mean of `\sigma(\rho s)` over the rows of group g labelled 1 it is

        `(1/\rho) [ log( (1/K) \sum_g exp(\rho p_g) ) + log( (1/K) \sum_g exp(-\rho p_g) ) ]`,

    0 at equal rates and `>= 0`. `"badr"` (Tanji et al., 2026) has sums in place of the means and is larger by
    `2 log(K)/\rho`; for two groups at `\rho = 1` it is `2 log 2 + 2 log cosh((p_1 - p_0)/2)`. As `\rho` grows both tend
    to `badrjax.metrics.equal_opportunity_difference` (Hardt et al., 2016) of the predictions `s > 0`.

    Arguments and errors as in `demographic_parity`, but float labels raise `TypeError`.

    Returns:
        A scalar. K counts the groups that have rows labelled 1; the others take no part. 0 with derivative 0 if there
        are fewer than two. Under tracing, what would raise gives NaN.
    """
    positive, rows, sharpness = _checked(scores, labels, groups, num_groups, weight, sharpness, variant)
    return jnp.where(rows.valid, _rate_gap(rows, positive, num_groups, sharpness, variant), jnp.nan)


def equalized_odds(
    scores: Float[Array, "n"],
    labels: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    sharpness: float | Float[Array, ""] = 1.0,
    variant: str | None = None,
) -> Float[Array, ""]:
    r"""Mean of `equal_opportunity` and of the same for the rows labelled 0 (false positive rates).

    As `\rho` grows it tends to the mean of `badrjax.metrics.equal_opportunity_difference` and
    `predictive_equality_difference` of the predictions `s > 0`; `equalized_odds_difference` is the larger of the two.
    The offset of `"badr"` (Tanji et al., 2026) is `2 log(K)/\rho` for each rate, K the groups that have it.

    Arguments and errors as in `demographic_parity`, but float labels raise `TypeError`.

    Returns:
        A scalar. A rate that fewer than two groups have adds 0, and the other still counts half, so that the scale does
        not change from batch to batch. Under tracing, what would raise gives NaN.
    """
    positive, rows, sharpness = _checked(scores, labels, groups, num_groups, weight, sharpness, variant)
    true_positive = _rate_gap(rows, positive, num_groups, sharpness, variant)
    false_positive = _rate_gap(rows, ~positive, num_groups, sharpness, variant)
    return jnp.where(rows.valid, (true_positive + false_positive) / 2.0, jnp.nan)


def _checked(
    scores: Any, labels: Any, groups: Any, num_groups: int, weight: Any, sharpness: Any, variant: str | None
) -> tuple[Bool[Array, "n"], Rows, Float[Array, ""]]:
    """Which rows are labelled 1, the checked rows and the sharpness, for objectives that need class labels."""
    check_classes(labels=labels)
    rows = checked_rows(scores, labels, groups, num_groups, weight, variant)
    check_class_range(labels, 2, weight=weight)
    positive, rows = checked_classes(labels, rows)
    return positive, rows, checked_sharpness(sharpness, rows.scores.dtype)


def _rate_gap(
    rows: Rows, chosen: Bool[Array, "n"], num_groups: int, sharpness: Float[Array, ""], variant: str | None
) -> Float[Array, ""]:
    """Smooth gap of the rates among the chosen rows; 0 if fewer than two groups have any."""
    weight = jnp.where(chosen, rows.weight, 0.0)
    rates = group_mean(jax.nn.sigmoid(sharpness * rows.scores), rows.groups, num_groups, weight)
    present = group_count(rows.groups, num_groups, weight) > 0
    value = _soft_range(sharpness * rates, present) / sharpness
    if variant == "badr":
        value += 2.0 * _log_number(present, value) / sharpness
    return jnp.where(jnp.sum(present) >= 2, value, 0.0)


def _soft_range(values: Float[Array, "K"], present: Bool[Array, "K"]) -> Float[Array, ""]:
    """`log mean exp(v) + log mean exp(-v)`, which is `>= 0`, over the groups present.

    For `x = v - mean v` it is the logarithm of `(A + B)(A - B)`, A the mean of `cosh x` and B of `sinh x`. Near
    parity `A - 1 = mean 2 sinh(x/2)^2` is of second order in x like the result, and B of third: no digits are lost,
    where the sum of the two logarithms would keep only rounding.
    """
    values = _less_mean(values, present)
    near = jnp.max(jnp.abs(values)) <= 1.0
    small = jnp.where(near, values, 0.0)
    number = _number(present, values)
    excess = jnp.sum(2.0 * jnp.sinh(small / 2.0) ** 2) / number
    skewness = jnp.sum(jnp.sinh(small)) / number
    close = jnp.log1p(excess * (2.0 + excess) - skewness**2)
    return jnp.where(near, close, _log_mean_exp(values, present) + _log_mean_exp(-values, present))


def _log_mean_exp(values: Float[Array, "K"], present: Bool[Array, "K"]) -> Float[Array, ""]:
    """`log` of the mean of `exp(values)` over the groups present, exact to rounding for small values, too."""
    largest = jnp.max(jax.lax.stop_gradient(values), where=present, initial=-jnp.inf)
    largest = jnp.where(jnp.any(present), largest, 0.0)
    # Absent groups, here 0, are masked before the exponential, which could overflow for them.
    below = jnp.where(present, values - largest, 0.0)
    return largest + jnp.log1p(jnp.sum(jnp.expm1(below)) / _number(present, values))


def _less_mean(values: Float[Array, "K"], present: Bool[Array, "K"]) -> Float[Array, "K"]:
    """`values` less their mean over the groups present, 0 for the absent."""
    mean = jnp.sum(jnp.where(present, values, 0.0)) / _number(present, values)
    return jnp.where(present, values - mean, 0.0)


def _log_number(present: Bool[Array, "K"], like: Float[Array, "*any"]) -> Float[Array, ""]:
    return jnp.log(_number(present, like))


def _number(present: Bool[Array, "K"], like: Float[Array, "*any"]) -> Float[Array, ""]:
    """How many groups are present, 1 where none is, to divide by."""
    return jnp.maximum(jnp.sum(present), 1).astype(like.dtype)
