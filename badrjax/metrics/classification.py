"""Accuracy, balanced accuracy, F1 and AUC as scikit-learn defines them, of all rows together."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from badrjax.checks import unknown_name
from badrjax.confusion import confusion, one_group
from badrjax.metrics.group_rates import group_accuracy, group_auc
from badrjax.metrics.summaries import mean_of_known, ratio

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
    recall = ratio(jnp.diagonal(counts), jnp.sum(counts, axis=1))
    return mean_of_known(recall)


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
    scores = ratio(2.0 * jnp.diagonal(counts), support + jnp.sum(counts, axis=0))
    if average == "macro":
        return mean_of_known(scores)
    # A class that never occurs has no score; here it counts as 0, and not at all by support.
    scores = jnp.where(jnp.isnan(scores), 0.0, scores)
    if average == "binary":
        return jnp.where(jnp.sum(support) > 0, scores[1], jnp.nan)
    return ratio(jnp.sum(support * scores), jnp.sum(support))


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
