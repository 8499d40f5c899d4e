"""A gap beside what exact parity would show on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from badrjax import metrics
from badrjax.checks import check_positive_integer, unknown_name
from badrjax.results.resampling import check_seed
from badrjax.results.rows import checked_outputs
from badrjax.uncertainty import noise_floor

Difference = Literal["demographic_parity", "equal_opportunity", "predictive_equality", "equalized_odds"]
_DIFFERENCES: dict[str, Callable[..., Any]] = {
    "demographic_parity": metrics.demographic_parity_difference,
    "equal_opportunity": metrics.equal_opportunity_difference,
    "predictive_equality": metrics.predictive_equality_difference,
    "equalized_odds": metrics.equalized_odds_difference,
}


class GapBesideFloor(NamedTuple):
    """A gap and its floor, each a mean over seeds.

    Attributes:
        gap: as measured.
        floor: expected at exact parity with the same counts.
        quantile: 95% quantile at exact parity; a gap beyond it is a sign of disparity.
        below: whether the gap is below the floor.
    """

    gap: float
    floor: float
    quantile: float
    below: bool


def gap_beside_floor(
    labels: Any,
    predictions: Any,
    groups: Any,
    num_groups: int,
    *,
    seed: int,
    difference: Difference = "equalized_odds",
    rows: Any = None,
    num_samples: int = 2000,
) -> GapBesideFloor:
    """One of the four differences beside its `badrjax.noise_floor`.

    Args:
        labels: 0 or 1, `int[n]`.
        predictions: 0 or 1, `int[n]` or `int[S, n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: number of groups.
        seed: of the draws, a whole number `>= 0`.
        difference: which of the four.
        rows: what names each row, `int[n]`: a repeated row is one witness, so the floor counts it once.
        num_samples: draws.

    Raises:
        TypeError: for a seed that is no whole number, or labels or predictions that are no classes.
        ValueError: for an unknown difference, or arrays that do not fit.
    """
    seed = check_seed(seed)
    if difference not in _DIFFERENCES:
        raise unknown_name("difference", difference, _DIFFERENCES)
    (predictions,) = checked_outputs(predictions=np.atleast_2d(np.asarray(predictions)))
    labels, groups = np.asarray(labels), np.asarray(groups)
    once = np.unique(np.arange(len(labels)) if rows is None else np.asarray(rows), return_index=True)[1]
    # Outside vmap, so that values are checked and not only shapes.
    gaps = [float(_DIFFERENCES[difference](labels, one, groups, num_groups)) for one in predictions]

    def floor_of(one: jax.Array) -> tuple[jax.Array, jax.Array]:
        floors = noise_floor(
            jax.random.key(seed), labels[once], one[once], groups[once], num_groups, num_samples=num_samples
        )
        floor = getattr(floors, difference)
        return floor.mean, floor.quantile

    means, quantiles = jax.lax.map(floor_of, jnp.asarray(predictions))
    gap, floor = float(np.mean(gaps)), float(jnp.mean(means))
    return GapBesideFloor(gap, floor, float(jnp.mean(quantiles)), gap < floor)


def balanced_accuracy_gap_floor(
    num_positive: Any,
    num_negative: Any,
    *,
    true_positive_rate: float,
    true_negative_rate: float,
    seed: int,
    num_samples: int = 20000,
) -> float:
    """Expected gap in balanced accuracy between groups that share their rates, from the counts a paper reports.

    Args:
        num_positive: distinct test rows labelled 1 of each group, `int[K]`, at least 1.
        num_negative: those labelled 0, `int[K]`, at least 1.
        true_positive_rate: that all groups share, in `[0, 1]`.
        true_negative_rate: likewise.
        seed: of the draws, a whole number `>= 0`.
        num_samples: draws.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for counts below 1, fewer than two groups, or rates outside `[0, 1]`.
    """
    generator = np.random.default_rng(check_seed(seed))
    check_positive_integer(num_samples=num_samples)
    positive, negative = np.asarray(num_positive, int), np.asarray(num_negative, int)
    if positive.ndim != 1 or positive.shape != negative.shape or positive.size < 2:
        raise ValueError(f"counts must be one a group, for two groups or more, got {positive} and {negative}")
    if positive.min() < 1 or negative.min() < 1:
        raise ValueError(f"every group needs rows of both labels, got {positive} and {negative}")
    true_positive = generator.binomial(positive, true_positive_rate, (num_samples, positive.size)) / positive
    true_negative = generator.binomial(negative, true_negative_rate, (num_samples, negative.size)) / negative
    return float(np.mean(np.ptp((true_positive + true_negative) / 2, axis=1)))
