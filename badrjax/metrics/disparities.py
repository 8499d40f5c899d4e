"""Disparities between groups as fairlearn defines them: the largest difference in a rate."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from badrjax.metrics.group_rates import by_group
from badrjax.metrics.summaries import largest_difference


def demographic_parity_difference(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, ""]:
    """Largest minus smallest share predicted 1, `P(prediction = 1 | group)`, over the groups that have rows.

    Args:
        labels: 0 or 1, `int[n]` or `bool[n]`; checked but not used, so that all four differences are called alike.
        predictions: 0 or 1, `int[n]` or `bool[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        A scalar in `[0, 1]`; NaN if fewer than two groups have rows (fairlearn gives 0 for one).

    Raises:
        TypeError: for labels or predictions that are not classes, or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) classes other than 0 and 1, ids outside the
            range or negative weights.
    """
    return largest_difference(by_group(labels, predictions, groups, num_groups, weight).positive_rate)


def equal_opportunity_difference(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, ""]:
    """Largest minus smallest true positive rate over the groups that have rows labelled 1.

    A group without any takes no part. (fairlearn gives it the rate 0, so that it can make the difference 1.)
    Arguments and errors as in `demographic_parity_difference`.

    Returns:
        A scalar in `[0, 1]`; NaN if fewer than two groups have rows labelled 1.
    """
    return largest_difference(by_group(labels, predictions, groups, num_groups, weight).true_positive_rate)


def predictive_equality_difference(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, ""]:
    """Largest minus smallest false positive rate over the groups that have rows labelled 0.

    A group without any takes no part. (fairlearn, as `false_positive_rate_difference`, gives it the rate 0.)
    Arguments and errors as in `demographic_parity_difference`.

    Returns:
        A scalar in `[0, 1]`; NaN if fewer than two groups have rows labelled 0.
    """
    return largest_difference(by_group(labels, predictions, groups, num_groups, weight).false_positive_rate)


def equalized_odds_difference(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, ""]:
    """The larger of the differences in true and in false positive rates (fairlearn's worst case).

    These are `equal_opportunity_difference` and `predictive_equality_difference`, each over the groups it can
    assess. Equalized odds asks for both, so where either cannot be assessed the answer is NaN, not the other
    one: a bound on half of the condition must not pass for a bound on all of it. Arguments and errors as in
    `demographic_parity_difference`.

    Returns:
        A scalar in `[0, 1]`; NaN if fewer than two groups have rows labelled 1, or labelled 0.
    """
    rates = by_group(labels, predictions, groups, num_groups, weight)
    # maximum, unlike max over the known ones, passes a NaN on.
    return jnp.maximum(largest_difference(rates.true_positive_rate), largest_difference(rates.false_positive_rate))
