"""Errors of regression and their gaps between groups."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from badrjax.confusion import one_group
from badrjax.groups import group_mean, group_sum, unit_of
from badrjax.metrics.numbers import numeric_rows
from badrjax.metrics.summaries import largest_difference


def rmse(
    targets: Shaped[Array, "n"], predictions: Shaped[Array, "n"], weight: Float[Array, "n"] | None = None
) -> Float[Array, ""]:
    r"""Root mean squared error, `\sqrt{\sum_i w_i (y_i - p_i)^2 / \sum_i w_i}`.

    Args:
        targets: numbers, `f[n]` or `int[n]`; booleans are refused, for they are classes.
        predictions: numbers, `f[n]` or `int[n]`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        A scalar `>= 0`, with derivative 0 where it is 0; NaN if no row has weight.

    Raises:
        TypeError: for targets or predictions that are not numbers.
        ValueError: for unequal lengths, or (outside tracing) negative weights.
    """
    return group_rmse(targets, predictions, one_group(targets), 1, weight)[0]


def mean_absolute_error(
    targets: Shaped[Array, "n"], predictions: Shaped[Array, "n"], weight: Float[Array, "n"] | None = None
) -> Float[Array, ""]:
    r"""Mean absolute error, `\sum_i w_i |y_i - p_i| / \sum_i w_i`. Arguments and errors as in `rmse`.

    Returns:
        A scalar `>= 0`; NaN if no row has weight.
    """
    return group_mean_absolute_error(targets, predictions, one_group(targets), 1, weight)[0]


def r2(
    targets: Shaped[Array, "n"], predictions: Shaped[Array, "n"], weight: Float[Array, "n"] | None = None
) -> Float[Array, ""]:
    r"""Coefficient of determination, `1 - \sum_i w_i (y_i - p_i)^2 / \sum_i w_i (y_i - \bar y)^2`.

    `\bar y` is the weighted mean of the targets. Arguments and errors as in `rmse`.

    Returns:
        A scalar `<= 1`; NaN where all targets that have weight are equal, for then there is no variation to
        explain (scikit-learn gives 1 or 0 there), and if no row has weight.
    """
    (targets, predictions), groups, weight = numeric_rows(
        {"targets": targets, "predictions": predictions}, one_group(targets), 1, weight
    )
    counted = weight > 0
    # Compared, not read off the sum of squares: the mean of equal targets may be rounded away from them.
    highest = jnp.max(jnp.where(counted, targets, -jnp.inf), initial=-jnp.inf)
    lowest = jnp.min(jnp.where(counted, targets, jnp.inf), initial=jnp.inf)
    varies = ~(highest <= lowest) & jnp.any(counted)
    # In units of the targets' spread, whose square may neither overflow nor underflow. The ratio does not depend on it.
    away = jnp.where(counted, targets - lowest, 0.0)
    spread = unit_of(away)
    centred = away / spread
    total = group_mean((centred - group_mean(centred, groups, 1, weight)) ** 2, groups, 1, weight)[0]
    left = group_mean(((targets - predictions) / spread) ** 2, groups, 1, weight)[0]
    return jnp.where(varies, 1.0 - left / jnp.where(varies, total, 1.0), jnp.nan)


def group_rmse(
    targets: Shaped[Array, "n"],
    predictions: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    """`rmse` of each group.

    Args:
        targets: numbers, `f[n]` or `int[n]`; booleans are refused, for they are classes.
        predictions: numbers, `f[n]` or `int[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        `f[K]`, NaN where a group has no rows.

    Raises:
        TypeError: for targets or predictions that are not numbers, or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) ids outside the range or negative weights.
    """
    (targets, predictions), groups, weight = numeric_rows(
        {"targets": targets, "predictions": predictions}, groups, num_groups, weight
    )
    errors = targets - predictions
    # In units of the largest, whose square may neither overflow nor underflow.
    unit = unit_of(errors)
    squared = _mean_where_present((errors / unit) ** 2, groups, num_groups, weight)
    # The root has no finite derivative at 0, so it is not taken there.
    return unit * jnp.where(squared == 0, 0.0, jnp.sqrt(jnp.where(squared == 0, 1.0, squared)))


def group_mean_absolute_error(
    targets: Shaped[Array, "n"],
    predictions: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    """`mean_absolute_error` of each group, `f[K]`, NaN where a group has no rows.

    Arguments, returns and errors as in `group_rmse`.
    """
    (targets, predictions), groups, weight = numeric_rows(
        {"targets": targets, "predictions": predictions}, groups, num_groups, weight
    )
    return _mean_where_present(jnp.abs(targets - predictions), groups, num_groups, weight)


def rmse_difference(
    targets: Shaped[Array, "n"],
    predictions: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, ""]:
    """Largest minus smallest `rmse` over the groups that have rows. Arguments and errors as in `group_rmse`.

    Returns:
        A scalar `>= 0`; NaN if fewer than two groups have rows.
    """
    return largest_difference(group_rmse(targets, predictions, groups, num_groups, weight))


def mean_difference(
    predictions: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, ""]:
    """Largest minus smallest mean prediction over the groups that have rows: demographic parity in the mean.

    It does not look at targets. Predictions of equal means may still be distributed differently, which
    `distribution_difference` tells. Other arguments and errors as in `group_rmse`.

    Returns:
        A scalar `>= 0`; NaN if fewer than two groups have rows.
    """
    (predictions,), groups, weight = numeric_rows({"predictions": predictions}, groups, num_groups, weight)
    return largest_difference(_mean_where_present(predictions, groups, num_groups, weight))


def _mean_where_present(
    values: Float[Array, "n"], groups: Int[Array, "n"], num_groups: int, weight: Float[Array, "n"]
) -> Float[Array, "K"]:
    """`group_mean`, NaN where a group has no rows."""
    means = group_mean(values, groups, num_groups, weight)
    return jnp.where(group_sum(weight, groups, num_groups) > 0, means, jnp.nan)
