"""Counts and rates of every group, with the accuracy, balanced accuracy and AUC within it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from badrjax.checks import check_same_length, check_scores, check_vector
from badrjax.confusion import checked_rows, confusion_by_group
from badrjax.groups import group_sum
from badrjax.metrics.summaries import ratio
from badrjax.ranking import sorted_auc


class GroupRates(NamedTuple):
    """What happened in each group: counts and rates, each `f[K]`, a rate NaN where it is over no rows.

    Attributes:
        count: total weight.
        num_positive: weight of the rows labelled 1.
        num_negative: weight of the rows labelled 0.
        base_rate: share labelled 1.
        positive_rate: share predicted 1.
        true_positive_rate: share predicted 1 among those labelled 1.
        false_positive_rate: share predicted 1 among those labelled 0.
        accuracy: share predicted right.
        balanced_accuracy: mean of the true positive and the true negative rate.
    """

    # The plain word hides tuple.count, which nobody needs here.
    count: Float[Array, "K"]  # type: ignore[assignment]
    num_positive: Float[Array, "K"]
    num_negative: Float[Array, "K"]
    base_rate: Float[Array, "K"]
    positive_rate: Float[Array, "K"]
    true_positive_rate: Float[Array, "K"]
    false_positive_rate: Float[Array, "K"]
    accuracy: Float[Array, "K"]
    balanced_accuracy: Float[Array, "K"]

    @property
    def left_out(self) -> dict[str, tuple[int, ...]]:
        """Ids of the groups in which a rate is undefined, for each rate by name (host: concrete arrays)."""
        rates = {name: np.asarray(getattr(self, name)) for name in self._fields[3:]}
        if self.count.ndim != 1:
            raise ValueError(f"left_out is of one set of rates, and these have shape {self.count.shape}; index first")
        return {name: tuple(np.flatnonzero(np.isnan(rate)).tolist()) for name, rate in rates.items()}


def by_group(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> GroupRates:
    """Counts and rates of every group; `.left_out` tells which groups lack which rate.

    Arguments and errors as in `demographic_parity_difference`.

    Returns:
        `GroupRates`, each entry `f[K]`.
    """
    counts = confusion_by_group(labels, predictions, groups, num_groups, weight, 2)
    (true_negative, false_positive), (false_negative, true_positive) = jnp.moveaxis(counts, 0, -1)
    negative, positive = true_negative + false_positive, false_negative + true_positive
    count = negative + positive
    return GroupRates(
        count=count,
        num_positive=positive,
        num_negative=negative,
        base_rate=ratio(positive, count),
        positive_rate=ratio(false_positive + true_positive, count),
        true_positive_rate=ratio(true_positive, positive),
        false_positive_rate=ratio(false_positive, negative),
        accuracy=ratio(true_negative + true_positive, count),
        balanced_accuracy=(ratio(true_positive, positive) + ratio(true_negative, negative)) / 2.0,
    )


def group_accuracy(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    """`accuracy` of each group, `f[K]`, NaN where a group has no rows.

    Args:
        labels: classes `>= 0`, any number of them, `int[n]` or `bool[n]`.
        predictions: predicted classes, `int[n]` or `bool[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        `f[K]` in `[0, 1]` or NaN.

    Raises:
        TypeError: for labels or predictions that are not classes, or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) negative classes, ids outside the range or
            negative weights.
    """
    (labels, predictions), groups, weight = checked_rows(
        {"labels": labels, "predictions": predictions}, groups, num_groups, weight, None
    )
    right = group_sum(jnp.where(labels == predictions, weight, 0.0), groups, num_groups)
    return ratio(right, group_sum(weight, groups, num_groups))


def group_balanced_accuracy(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    """Mean of the true positive and the true negative rate of each group, `f[K]`.

    Arguments and errors as in `demographic_parity_difference`.

    Returns:
        `f[K]`, NaN where a group lacks rows of either class: half of it would not compare with the other
        groups'.
    """
    return by_group(labels, predictions, groups, num_groups, weight).balanced_accuracy


def group_auc(
    labels: Int[Array, "n"],
    scores: Float[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    r"""Area under the ROC curve within each group, ties counting half, from one sort for all groups.

    In a group with positives `P` and negatives `N` it is the Mann-Whitney statistic
    `\sum_{i in P, j in N} w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / (\sum_P w \sum_N w)`. Takes `n log n`
    steps and memory for `n` numbers, whatever the number of groups. Sums run as trees within a group, so
    that float32 keeps about six digits with any number of rows. Scores are compared in JAX's precision:
    float64 scores that agree in float32 tie unless 64-bit types are enabled.

    Args:
        labels: 0 or 1, `int[n]` or `bool[n]`.
        scores: any increasing function of the chance of class 1, `f[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        `f[K]` in `[0, 1]`; NaN where a group has one class or no rows, or a NaN score in a row that has
        weight.

    Raises:
        TypeError: for labels that are not classes, scores that are not floats (swapped?) or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) labels other than 0 and 1, ids outside the
            range or negative weights.
    """
    check_scores(scores)
    check_vector(labels=labels, scores=scores)
    check_same_length(labels=labels, scores=scores)
    (labels,), groups, weight = checked_rows({"labels": labels}, groups, num_groups, weight, 2)
    scores = jnp.asarray(scores)
    if scores.shape[0] == 0:
        return jnp.full(num_groups, jnp.nan, weight.dtype)
    # Padding joins the rows of score 0 with no weight. A NaN score that counts makes its own weight NaN.
    scores = jnp.where(weight > 0, scores, 0.0)
    weight = jnp.where(jnp.isnan(scores), jnp.nan, weight)
    return sorted_auc(jnp.where(labels == 1, weight, -weight), scores, groups, num_groups)
