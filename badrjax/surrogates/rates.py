"""Rates by group and F1 of probabilities in place of predictions, so that they have derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from badrjax.checks import check_same_length, check_scores, unknown_name
from badrjax.confusion import checked_rows, one_group
from badrjax.groups import as_float, group_mean, group_present
from badrjax.surrogates.simplex import entmax15

_AVERAGES = ("binary", "macro", "weighted")


class Rates(NamedTuple):
    """One number (or mask) a group for each of three rates, each `[K]`.

    Attributes:
        positive: share predicted 1.
        true_positive: share predicted 1 among those labelled 1.
        false_positive: share predicted 1 among those labelled 0.
    """

    positive: Array
    true_positive: Array
    false_positive: Array


def soft_rates(
    scores: Float[Array, "n *columns"],
    labels: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    mapping: Callable[[Array], Array] = entmax15,
) -> Rates:
    r"""Rates of each group with the probability `p_i = mapping([0, s_i])_1` in place of the prediction `[s_i > 0]`.

    `positive = E[p | k]`, `true_positive = E[p | k, y = 1]`, `false_positive = E[p | k, y = 0]`, as weighted means.
    How sharp the step is belongs to the mapping: `lambda z: entmax15(10 * z)` is certain where the logit is beyond
    0.2, and as the factor grows the rates tend to the hard ones of `badrjax.metrics.by_group` (where no score is
    exactly 0). Rows on which the mapping is certain have derivative 0.

    A group that lacks the rows of a rate has 0 there, with derivative 0. That is a filler, not a rate: pass
    `rates_present(...)` on to whatever compares groups, e.g.
    `objectives.gap(rates.positive, present.positive)`.

    Args:
        scores: logits of class 1, `f[n]`, to which the mapping sees 0 stacked; or `f[n, 2]`, used as they are.
        labels: 0 or 1, `int[n]` or `bool[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.
        mapping: from `f[n, 2]` to probabilities along the last axis: `entmax15`, `sparsemax`, `jax.nn.softmax`, ...

    Returns:
        `Rates` of `f[K]` in `[0, 1]`; NaN where a row that counts has a NaN score, and everywhere (derivatives
        too) if under tracing a row that has weight has a label other than 0 and 1.

    Raises:
        TypeError: for scores that are not floats or labels that are not classes (swapped?), or ids that are
            not integers.
        ValueError: for unequal lengths, scores or a mapping of another shape, or (outside tracing) labels other
            than 0 and 1, ids outside the range or negative weights.
    """
    check_scores(scores)
    check_same_length(scores=scores, labels=labels)
    (labels,), groups, counted = checked_rows({"labels": labels}, groups, num_groups, weight, 2)
    positive = _probabilities(scores, weight, mapping, 2)[:, 1]
    # Where labels are wrong the weights are NaN, which a mean takes for no weight.
    right = _one_or_nan(counted).astype(positive.dtype)
    return Rates(*(group_mean(positive, groups, num_groups, rows) * right for rows in _needed_rows(labels, counted)))


def rates_present(
    labels: Int[Array, "n"], groups: Int[Array, "n"], num_groups: int, weight: Float[Array, "n"] | None = None
) -> Rates:
    """Which groups have the rows that each of `soft_rates` needs: any, labelled 1, labelled 0.

    Args:
        labels: 0 or 1, `int[n]` or `bool[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        `Rates` of `bool[K]`; all True if under tracing a row that has weight has a label other than 0 and 1, so that
        the NaN which `soft_rates` has then reaches whatever reduces it.

    Raises:
        TypeError: for labels that are not classes, or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) labels other than 0 and 1, ids outside the range or
            negative weights.
    """
    (labels,), groups, counted = checked_rows({"labels": labels}, groups, num_groups, weight, 2)
    return Rates(*(group_present(groups, num_groups, rows) for rows in _needed_rows(labels, counted)))


def soft_f1(
    scores: Float[Array, "n *columns"],
    labels: Int[Array, "n"],
    weight: Float[Array, "n"] | None = None,
    average: str = "binary",
    mapping: Callable[[Array], Array] = entmax15,
) -> Float[Array, ""]:
    r"""F1 score `2 TP / (2 TP + FP + FN)` of soft counts: probabilities in place of predictions.

    With `p = mapping(scores)` and weights `w`, class `c` has `TP = \sum w_i p_ic [y_i = c]`,
    `FP = \sum w_i p_ic [y_i != c]` and `FN = \sum w_i (1 - p_ic) [y_i = c]`. With a mapping to the corners of the
    simplex it is `badrjax.metrics.f1`.

    Args:
        scores: logits of class 1, `f[n]`, to which the mapping sees 0 stacked; or `f[n, C]`, used as they are.
        labels: classes in `[0, C)`, `int[n]` or `bool[n]`.
        weight: frequencies `>= 0`, `f[n]`.
        average: `"binary"` is the score of class 1, 0 (with derivative 0) where it is neither a label nor has any
            predicted mass; `"macro"` the mean over the classes that are a label or have predicted mass (with
            softmax all have); `"weighted"` their mean by how often they are a label.
        mapping: from `f[n, C]` to probabilities along the last axis: `entmax15`, `sparsemax`, `jax.nn.softmax`, ...

    Returns:
        A scalar in `[0, 1]`; NaN (with derivative 0) if no row has weight, NaN if a row that has weight has a NaN
        score or, under tracing, a label out of range.

    Raises:
        TypeError: for scores that are not floats or labels that are not classes (swapped?).
        ValueError: for unequal lengths, an unknown `average`, `"binary"` with more than two columns, scores or a
            mapping of another shape, or (outside tracing) labels out of range or negative weights.
    """
    if average not in _AVERAGES:
        raise unknown_name("average", average, _AVERAGES)
    check_scores(scores)
    check_same_length(scores=scores, labels=labels)
    num_classes = np.shape(scores)[1] if np.ndim(scores) == 2 else 2
    if average == "binary" and num_classes != 2:
        raise ValueError(f'average="binary" has two classes, and scores have {num_classes} columns; use "macro"')
    (labels,), _, counted = checked_rows({"labels": labels}, one_group(labels), 1, weight, num_classes)
    predicted = _probabilities(scores, weight, mapping, num_classes)
    counted = counted.astype(predicted.dtype)[:, None]
    # A row without weight may not even have a NaN derivative by its weight.
    predicted = jnp.where(counted == 0, 0.0, predicted)
    actual = labels[:, None] == jnp.arange(num_classes, dtype=labels.dtype)[None, :]
    support = jnp.sum(jnp.where(actual, counted, 0.0), axis=0)
    true_positive = jnp.sum(jnp.where(actual, counted * predicted, 0.0), axis=0)
    return f1_from_masses(true_positive, support, jnp.sum(counted * predicted, axis=0), average)


def f1_from_masses(
    true_positive: Float[Array, "C"], support: Float[Array, "C"], mass: Float[Array, "C"], average: str
) -> Float[Array, ""]:
    """F1 from `TP`, `TP + FN` and `TP + FP` of each class, as `soft_f1` averages it; NaN where no row has weight."""
    if average not in _AVERAGES:
        raise unknown_name("average", average, _AVERAGES)
    occurs = ~(support + mass <= 0)  # NaN counts, to show
    scores = 2.0 * true_positive / jnp.where(occurs, support + mass, 1.0)
    rows = jnp.sum(support)
    if average == "binary":
        score = scores[1]
    elif average == "macro":
        score = jnp.sum(scores) / jnp.maximum(jnp.sum(occurs), 1).astype(scores.dtype)
    else:
        score = jnp.sum(support * scores) / jnp.where(rows == 0, 1.0, rows)
    return jnp.where(rows == 0, jnp.nan, score)


def _probabilities(
    scores: Array, weight: Array | None, mapping: Callable[[Array], Array], num_classes: int
) -> Float[Array, "n C"]:
    """What the mapping makes of the scores, with those of rows without weight out of reach."""
    scores = as_float(scores)
    if scores.ndim == 1:
        scores = jnp.stack([jnp.zeros_like(scores), scores], axis=-1)
    if scores.ndim != 2 or scores.shape[1] != num_classes or num_classes < 2:
        wanted = "[n, 2]" if num_classes == 2 else "[n, C] with a column a class"
        raise ValueError(f"scores must be logits [n] or {wanted}, got shape {scores.shape}; squeeze [n, 1]")
    if weight is not None:
        scores = jnp.where(jnp.asarray(weight)[:, None] == 0, 0.0, scores)
    mapped = mapping(scores)
    if mapped.shape != scores.shape:
        raise ValueError(f"mapping must keep the shape {scores.shape} and gave {mapped.shape}")
    return mapped


def _needed_rows(labels: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Weights of the rows that the three rates are over."""
    return weight, jnp.where(labels == 1, weight, 0.0), jnp.where(labels == 0, weight, 0.0)


def _one_or_nan(weight: Array) -> Array:
    return jnp.where(jnp.any(jnp.isnan(weight)), jnp.nan, 1.0)
