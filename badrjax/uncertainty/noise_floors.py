"""The gaps in rates to expect at exact parity, from the counts of the groups."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from badrjax.checks import check_same_length, check_vector, check_weight, is_concrete
from badrjax.groups import as_float
from badrjax.metrics import by_group
from badrjax.metrics.summaries import largest_difference, ratio
from badrjax.uncertainty.sampling import Floor, check_sampling, floor_of


class NoiseFloor(NamedTuple):
    """A `Floor` for each of the four differences, named as in `badrjax.metrics` without `_difference`."""

    demographic_parity: Floor
    equal_opportunity: Floor
    predictive_equality: Floor
    equalized_odds: Floor


def noise_floor(
    key: Array,
    labels: Int[Array, "n"],
    predictions: Int[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
    *,
    num_samples: int = 2000,
    confidence: float | Float[Array, ""] = 0.95,
) -> NoiseFloor:
    r"""Mean and quantile of the four differences at exact parity, for the counts at hand.

    Every group keeps its counts and gets the rates of all rows together, and what would be measured is drawn:
    with `n_{gy}` rows labelled y in group g, true positive rates `Binomial(n_{g1}, TPR) / n_{g1}`, false
    positive rates `Binomial(n_{g0}, FPR) / n_{g0}` and shares predicted 1 `Binomial(n_g, P) / n_g`, each over the
    groups that have such rows. For two groups and many rows the mean is about
    `\sqrt{2 p (1 - p) (1 / n + 1 / m) / \pi}`; for many small groups it is far from 0, and a measured difference
    below it is no sign of disparity. Counts that are not whole are rounded.

    Args:
        key: a typed key, consumed.
        labels: 0 or 1, `int[n]` or `bool[n]`.
        predictions: 0 or 1, `int[n]` or `bool[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.
        num_samples: static number of draws `S`.
        confidence: which quantile, in `(0, 1)`.

    Returns:
        `NoiseFloor`, each entry a `Floor` of scalars in `[0, 1]` (and `samples` `f[S]`); NaN where the difference
        itself is NaN: with fewer than two groups that have the rows it needs, for equalized odds either's.

    Raises:
        TypeError: for a key that is not typed, labels or predictions that are not classes, or ids that are not
            integers.
        ValueError: for unequal lengths, no samples, or (outside tracing) classes other than 0 and 1, ids outside
            the range, negative weights or a confidence outside `(0, 1)`.
    """
    check_sampling(key, num_samples, confidence)
    rates = by_group(labels, predictions, groups, num_groups, weight)
    everyone = by_group(labels, predictions, jnp.zeros(np.shape(groups), jnp.int32), 1, weight)
    return noise_floor_from_counts(
        key,
        rates.num_positive,
        rates.num_negative,
        everyone.true_positive_rate[0],
        everyone.false_positive_rate[0],
        num_samples=num_samples,
        confidence=confidence,
    )


def noise_floor_from_counts(
    key: Array,
    num_positive: Float[Array, "K"],
    num_negative: Float[Array, "K"],
    true_positive_rate: float | Float[Array, ""],
    false_positive_rate: float | Float[Array, ""],
    *,
    num_samples: int = 2000,
    confidence: float | Float[Array, ""] = 0.95,
) -> NoiseFloor:
    """`noise_floor` from the counts of the groups and the rates that they share, as a paper may report them.

    The shared share predicted 1 follows from the rates and the total counts.

    Args:
        key: a typed key, consumed.
        num_positive: rows labelled 1 in each group, `>= 0`, `f[K]` (not whole: rounded).
        num_negative: rows labelled 0 in each group, `>= 0`, `f[K]` (not whole: rounded).
        true_positive_rate: in `[0, 1]`; may be NaN if no group has rows labelled 1.
        false_positive_rate: in `[0, 1]`; may be NaN if no group has rows labelled 0.
        num_samples: static number of draws `S`.
        confidence: which quantile, in `(0, 1)`.

    Returns:
        As `noise_floor`; a difference whose rate is NaN or outside `[0, 1]` under tracing is NaN.

    Raises:
        TypeError: for a key that is not typed.
        ValueError: for unequal lengths, no samples, or (outside tracing) negative counts, or rates or a
            confidence outside their range.
    """
    check_sampling(key, num_samples, confidence)
    check_vector(num_positive=num_positive, num_negative=num_negative)
    check_same_length(num_positive=num_positive, num_negative=num_negative)
    check_weight(num_positive, "num_positive")
    check_weight(num_negative, "num_negative")
    positive, negative = jnp.round(as_float(num_positive)), jnp.round(as_float(num_negative))
    true_rate = _checked_rate(true_positive_rate, "true_positive_rate", positive)
    false_rate = _checked_rate(false_positive_rate, "false_positive_rate", negative)
    # A rate over no rows is NaN and takes no part in the share predicted 1.
    predicted = _times(true_rate, jnp.sum(positive)) + _times(false_rate, jnp.sum(negative))
    share = ratio(predicted, jnp.sum(positive + negative))

    counts, shared = jnp.stack([positive + negative, positive, negative]), jnp.stack([share, true_rate, false_rate])
    demographic, opportunity, equality = _gaps_at_parity(key, counts, shared, num_samples).T
    # maximum, unlike max over the known ones, passes a NaN on.
    odds = jnp.maximum(opportunity, equality)
    return NoiseFloor(*(floor_of(gaps, confidence) for gaps in (demographic, opportunity, equality, odds)))


def _gaps_at_parity(
    key: Array, count: Float[Array, "R K"], rate: Float[Array, "R"], num_samples: int
) -> Float[Array, "S R"]:
    """Largest difference between binomial rates of equal chance, for R rates, over the groups that have a count."""
    count = jnp.where((count > 0) & (count < jnp.inf), count, 0.0)
    # The gap is the same for the rows that are not drawn, and jax.random.binomial is inexact near chance 1.
    rare = jnp.where(jnp.isnan(rate), 0.0, jnp.minimum(rate, 1.0 - rate))
    count = jnp.broadcast_to(count, (num_samples, *count.shape))
    drawn = jax.random.binomial(key, count, jnp.broadcast_to(rare[:, None], count.shape), count.shape, count.dtype)
    return jnp.where(jnp.isnan(rate)[None, :], jnp.nan, largest_difference(ratio(drawn, count)))


def _times(rate: Float[Array, ""], count: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(count > 0, rate * count, 0.0)


def _checked_rate(rate: Any, name: str, count: Float[Array, "K"]) -> Float[Array, ""]:
    """A rate as a float, NaN outside `[0, 1]`, which raises where it is concrete and there are rows."""
    if np.ndim(rate):
        raise ValueError(f"{name} must be one rate that all groups share, got shape {np.shape(rate)}")
    inside = (jnp.asarray(rate) >= 0) & (jnp.asarray(rate) <= 1)
    if is_concrete(rate, count) and not inside and np.asarray(count).any():
        raise ValueError(f"{name} must lie in [0, 1] where there are rows for it, got {rate}")
    return jnp.where(inside, jnp.asarray(rate, count.dtype), jnp.nan)
