"""Measures of accuracy and of group fairness as scikit-learn and fairlearn define them.

`labels` and `predictions` are classes: integers or booleans, 0 and 1 unless said otherwise. `weight` is a
frequency: a row of weight 0 takes no part, whatever label, prediction or score it holds. What cannot be
measured (a rate over no rows, an AUC with one class) is NaN, never a number that looks like a result.
Classes outside the range raise where the arrays are concrete and give NaN under tracing, so that labels
coded -1 and 1 never pass in silence.

Counts are added in float32: exact for whole weights up to a total of 2^24 (16.7 million), rounded above.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from badrjax.checks import check_same_length, check_scores, check_vector, unknown_name
from badrjax.confusion import checked_rows, confusion, confusion_by_group, one_group
from badrjax.groups import group_sum
from badrjax.ranking import sorted_auc

_AVERAGES = ("binary", "macro", "weighted")


def accuracy(
    labels: Int[Array, "n"], predictions: Int[Array, "n"], weight: Float[Array, "n"] | None = None
) -> Float[Array, ""]:
    """Weighted share of rows whose prediction is the label.

    Args:
        labels: classes `>= 0`, any number of them, `int[n]` or `bool[n]`.
        predictions: predicted classes, `int[n]` or `bool[n]`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        A scalar in `[0, 1]`; NaN if no row has weight.

    Raises:
        TypeError: for labels or predictions that are not classes (swapped with scores, say).
        ValueError: for unequal lengths, or (outside tracing) negative classes or weights.
    """
    return group_accuracy(labels, predictions, one_group(labels), 1, weight)[0]


def balanced_accuracy(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    weight: Float[Array, "n"] | None = None,
    *,
    num_classes: int | None = None,
) -> Float[Array, ""]:
    """Mean over the classes that occur among the labels of the share of their rows predicted right.

    Args:
        labels: classes in `[0, num_classes)`, `int[n]` or `bool[n]`.
        predictions: predicted classes, `int[n]` or `bool[n]`.
        weight: frequencies `>= 0`, `f[n]`.
        num_classes: static; `None` means 2, or as many as concrete labels and predictions show.

    Returns:
        A scalar in `[0, 1]`; with one class among the labels its recall, as in scikit-learn; NaN if no row has weight.

    Raises:
        TypeError: for labels or predictions that are not classes (swapped with scores, say).
        ValueError: for unequal lengths, or (outside tracing) classes out of range or negative weights.
    """
    counts = confusion(labels, predictions, weight, num_classes)
    recall = _ratio(jnp.diagonal(counts), jnp.sum(counts, axis=1))
    return _mean_of_known(recall)


def f1(
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    weight: Float[Array, "n"] | None = None,
    average: str = "binary",
    *,
    num_classes: int | None = None,
) -> Float[Array, ""]:
    """F1 score `2 TP / (2 TP + FP + FN)`.

    Args:
        labels: classes in `[0, num_classes)`, `int[n]` or `bool[n]`.
        predictions: predicted classes, `int[n]` or `bool[n]`.
        weight: frequencies `>= 0`, `f[n]`.
        average: `"binary"` is the score of class 1, 0 where it is neither a label nor predicted
            (scikit-learn's `zero_division=0`); `"macro"` the mean over the classes that are a label or
            predicted; `"weighted"` their mean by how often they are a label.
        num_classes: static; `None` means 2, or with `"macro"` and `"weighted"` as many as concrete labels and
            predictions show.

    Returns:
        A scalar in `[0, 1]`; NaN if no row has weight.

    Raises:
        TypeError: for labels or predictions that are not classes (swapped with scores, say).
        ValueError: for unequal lengths, an unknown `average`, `"binary"` with more than two classes, or
            (outside tracing) classes out of range or negative weights.
    """
    if average not in _AVERAGES:
        raise unknown_name("average", average, _AVERAGES)
    if average == "binary":
        if num_classes not in (None, 2):
            raise ValueError(f'average="binary" has two classes, got num_classes={num_classes}; use "macro"')
        num_classes = 2
    counts = confusion(labels, predictions, weight, num_classes)
    support = jnp.sum(counts, axis=1)
    scores = _ratio(2.0 * jnp.diagonal(counts), support + jnp.sum(counts, axis=0))
    if average == "macro":
        return _mean_of_known(scores)
    # A class that never occurs has no score; here it counts as 0, and not at all by support.
    scores = jnp.where(jnp.isnan(scores), 0.0, scores)
    if average == "binary":
        return jnp.where(jnp.sum(support) > 0, scores[1], jnp.nan)
    return _ratio(jnp.sum(support * scores), jnp.sum(support))


def auc(
    labels: Int[Array, "n"], scores: Float[Array, "n"], weight: Float[Array, "n"] | None = None
) -> Float[Array, ""]:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties counting half.

    This is `group_auc` with one group.

    Args:
        labels: 0 or 1, `int[n]` or `bool[n]`.
        scores: any increasing function of the chance of class 1, `f[n]`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        A scalar in `[0, 1]`; NaN with one class, or with a NaN score in a row that has weight.

    Raises:
        TypeError: for labels that are not classes or scores that are not floats (swapped, say).
        ValueError: for unequal lengths, or (outside tracing) labels other than 0 and 1, or negative weights.
    """
    return group_auc(labels, scores, one_group(labels), 1, weight)[0]


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
    return _difference(by_group(labels, predictions, groups, num_groups, weight).positive_rate)


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
    return _difference(by_group(labels, predictions, groups, num_groups, weight).true_positive_rate)


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
    return _difference(by_group(labels, predictions, groups, num_groups, weight).false_positive_rate)


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
    return jnp.maximum(_difference(rates.true_positive_rate), _difference(rates.false_positive_rate))


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
        base_rate=_ratio(positive, count),
        positive_rate=_ratio(false_positive + true_positive, count),
        true_positive_rate=_ratio(true_positive, positive),
        false_positive_rate=_ratio(false_positive, negative),
        accuracy=_ratio(true_negative + true_positive, count),
        balanced_accuracy=(_ratio(true_positive, positive) + _ratio(true_negative, negative)) / 2.0,
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

    Raises:
        TypeError: for labels or predictions that are not classes, or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) negative classes, ids outside the range or
            negative weights.
    """
    (labels, predictions), groups, weight = checked_rows(
        {"labels": labels, "predictions": predictions}, groups, num_groups, weight, None
    )
    right = group_sum(jnp.where(labels == predictions, weight, 0.0), groups, num_groups)
    return _ratio(right, group_sum(weight, groups, num_groups))


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


def _ratio(part: Float[Array, "..."], whole: Float[Array, "..."]) -> Float[Array, "..."]:
    """`part / whole`, NaN where there is no whole."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), jnp.nan)


def _mean_of_known(values: Float[Array, "C"]) -> Float[Array, ""]:
    known = ~jnp.isnan(values)
    return _ratio(jnp.sum(jnp.where(known, values, 0.0)), jnp.sum(known).astype(values.dtype))


def _difference(rates: Float[Array, "K"]) -> Float[Array, ""]:
    """Largest minus smallest of the known rates; NaN for fewer than two."""
    known = ~jnp.isnan(rates)
    largest = jnp.max(jnp.where(known, rates, -jnp.inf))
    smallest = jnp.min(jnp.where(known, rates, jnp.inf))
    return jnp.where(jnp.sum(known) >= 2, largest - smallest, jnp.nan)
