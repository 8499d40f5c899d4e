"""Calibration of probabilities within each group: reliability curves, calibration errors and Brier scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from badrjax.checks import check_same_length, check_scores, check_vector, is_concrete, unknown_name
from badrjax.confusion import checked_rows
from badrjax.groups import group_sum
from badrjax.metrics.summaries import largest_difference, ratio

_STRATEGIES = ("uniform", "quantile")


class GroupCalibration(NamedTuple):
    """Reliability curves of the groups, each entry `f[K, B]` for `B` bins, a mean NaN in a bin without rows.

    Attributes:
        count: total weight.
        mean_predicted: mean predicted probability.
        observed: share labelled 1.
    """

    # The plain word hides tuple.count, which nobody needs here.
    count: Float[Array, "K B"]  # type: ignore[assignment]
    mean_predicted: Float[Array, "K B"]
    observed: Float[Array, "K B"]


def calibration_by_group(
    labels: Int[Array, "n"],
    probabilities: Float[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    *,
    num_bins: int = 10,
    strategy: str = "uniform",
) -> GroupCalibration:
    """Mean predicted probability against the share labelled 1, by group and bin of the probability.

    A bin holds the probabilities above its lower edge and up to its upper edge, the first one 0 too, as in
    scikit-learn's `calibration_curve`. All groups share the edges, so that their curves compare.

    Args:
        labels: 0 or 1, `int[n]` or `bool[n]`.
        probabilities: predicted chances of class 1, in `[0, 1]`, `f[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.
        num_bins: static number of bins `B`.
        strategy: `"uniform"` for edges `0, 1/B, ..., 1`, `"quantile"` for the quantiles of all rows together
            (NumPy's method `"inverted_cdf"`, by which a weight is a number of repetitions).

    Returns:
        `GroupCalibration`, each entry `f[K, B]`; under tracing all means are NaN, and all counts of rows, if a row
        that has weight holds a label other than 0 and 1 or a probability outside `[0, 1]`.

    Raises:
        TypeError: for labels that are not classes, probabilities that are not floats or ids that are not integers.
        ValueError: for unequal lengths, an unknown strategy, no bins, or (outside tracing) labels other than 0
            and 1, probabilities outside `[0, 1]`, ids outside the range or negative weights.
    """
    if strategy not in _STRATEGIES:
        raise unknown_name("strategy", strategy, _STRATEGIES)
    if isinstance(num_bins, bool) or not isinstance(num_bins, int | np.integer) or num_bins < 1:
        raise ValueError(f"num_bins must be a positive Python int (it fixes a shape), got {num_bins!r}")
    labels, probabilities, groups, weight = _checked(labels, probabilities, groups, num_groups, weight)
    edges = _uniform_edges if strategy == "uniform" else _quantile_edges
    inner = edges(probabilities, weight, num_bins)
    cell = groups * num_bins + jnp.searchsorted(inner, probabilities, side="left").astype(groups.dtype)

    def total(values: Float[Array, "n"]) -> Float[Array, "K B"]:
        return group_sum(values, cell, num_groups * num_bins).reshape(num_groups, num_bins)

    count = total(weight)
    return GroupCalibration(
        count, ratio(total(weight * probabilities), count), ratio(total(weight * labels.astype(weight.dtype)), count)
    )


def group_calibration_error(
    labels: Int[Array, "n"],
    probabilities: Float[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    *,
    num_bins: int = 10,
    strategy: str = "uniform",
) -> Float[Array, "K"]:
    r"""Expected calibration error of each group, `\sum_b (n_b / n) |mean_predicted_b - observed_b|`.

    The bins are those of `calibration_by_group` (Naeini, Cooper and Hauskrecht 2015). It grows with the number
    of bins and as a group gets smaller, also where predictions are perfectly calibrated. Arguments and errors as in
    `calibration_by_group`.

    Returns:
        `f[K]` in `[0, 1]`, NaN where a group has no rows.
    """
    curves = calibration_by_group(
        labels, probabilities, groups, num_groups, weight, num_bins=num_bins, strategy=strategy
    )
    apart = jnp.where(curves.count == 0, 0.0, curves.count * jnp.abs(curves.mean_predicted - curves.observed))
    return ratio(jnp.sum(apart, axis=1), jnp.sum(curves.count, axis=1))


def calibration_difference(
    labels: Int[Array, "n"],
    probabilities: Float[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    *,
    num_bins: int = 10,
    strategy: str = "uniform",
) -> Float[Array, ""]:
    """Largest minus smallest `group_calibration_error` over the groups that have rows.

    Arguments and errors as in `calibration_by_group`.

    Returns:
        A scalar in `[0, 1]`; NaN if fewer than two groups have rows.
    """
    return largest_difference(
        group_calibration_error(labels, probabilities, groups, num_groups, weight, num_bins=num_bins, strategy=strategy)
    )


def group_brier(
    labels: Int[Array, "n"],
    probabilities: Float[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    r"""Brier score of each group, the mean of `(probability - label)^2`.

    Arguments and errors as in `calibration_by_group`.

    Returns:
        `f[K]` in `[0, 1]`, NaN where a group has no rows.
    """
    labels, probabilities, groups, weight = _checked(labels, probabilities, groups, num_groups, weight)
    squared = (probabilities - labels.astype(probabilities.dtype)) ** 2
    return ratio(group_sum(weight * squared, groups, num_groups), group_sum(weight, groups, num_groups))


def _checked(
    labels: Any, probabilities: Any, groups: Any, num_groups: int, weight: Any
) -> tuple[Array, Array, Array, Array]:
    """Labels, probabilities, ids and weights, checked, with probability 0 in padding."""
    check_scores(probabilities, "probabilities")
    check_vector(labels=labels, probabilities=probabilities)
    check_same_length(labels=labels, probabilities=probabilities)
    probabilities = jnp.asarray(probabilities)
    probabilities = probabilities.astype(jnp.promote_types(probabilities.dtype, jnp.float32))
    given = jnp.ones(probabilities.shape, probabilities.dtype) if weight is None else weight
    (labels,), groups, weight = checked_rows({"labels": labels}, groups, num_groups, given, 2)
    outside = ~((probabilities >= 0) & (probabilities <= 1)) & (jnp.asarray(given) > 0)
    if is_concrete(outside) and (rows := np.flatnonzero(np.asarray(outside))).size:
        raise ValueError(
            f"probabilities must lie in [0, 1], but row {rows[0]} has {np.asarray(probabilities)[rows[0]]}; turn "
            "logits into probabilities with jax.nn.sigmoid"
        )
    weight = jnp.where(jnp.any(outside), jnp.nan, weight.astype(probabilities.dtype))
    return labels, jnp.where(jnp.asarray(given) > 0, probabilities, 0.0), groups, weight


def _uniform_edges(probabilities: Float[Array, "n"], weight: Float[Array, "n"], num_bins: int) -> Float[Array, "B-1"]:
    # Rounded once, from double precision, so that a probability of 0.3 meets the edge 0.3 in every precision.
    return jnp.asarray(np.linspace(0.0, 1.0, num_bins + 1)[1:-1], probabilities.dtype)


def _quantile_edges(probabilities: Float[Array, "n"], weight: Float[Array, "n"], num_bins: int) -> Float[Array, "B-1"]:
    """The smallest probabilities at which at least `1/B, 2/B, ...` of the weight is reached."""
    if probabilities.shape[0] == 0:
        return jnp.zeros(num_bins - 1, probabilities.dtype)
    probabilities, weight = jax.lax.sort((probabilities, weight), num_keys=1, is_stable=False)
    reached = jnp.cumsum(weight)
    # Multiplied before it is divided, so that whole counts that B divides are met exactly.
    wanted = reached[-1] * jnp.arange(1, num_bins, dtype=weight.dtype) / num_bins
    position = jnp.searchsorted(reached, wanted, side="left")
    return probabilities[jnp.minimum(position, probabilities.shape[0] - 1)]
