"""Whether a gap is held below a threshold, by its upper bound over test rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from badrjax.results import verdicts
from badrjax.results.resampling import check_seed
from badrjax.results.rows import Metric, checked_outputs, checked_rows, finite_seeds, metric_by_seed, resample_rows


class ThresholdCheck(NamedTuple):
    """A metric against the most that it may be.

    Attributes:
        threshold: the most.
        estimate: mean over the finite seeds.
        upper_bound: one-sided 95% bound of that mean over test rows.
        met: whether the bound is at or below the threshold, and at most a tenth of the seeds diverged.
        share_met: share of all seeds whose own upper bound is at or below it; one that diverged does not meet it.
        share_below: share of all seeds whose figure itself is, whatever the rows leave open.
        num_seeds: those that diverged among them.
        num_diverged: seeds with outputs or a metric that is not finite.
        floor: what the metric comes to at exact parity, as given; NaN where it was not.
    """

    threshold: float
    estimate: float
    upper_bound: float
    met: bool
    share_met: float
    share_below: float
    num_seeds: int
    num_diverged: int
    floor: float


def check_threshold(
    metric: Metric,
    outputs: Any,
    threshold: float,
    *,
    seed: int,
    floor: float | None = None,
    rows: Any = None,
    weight: Any = None,
    strata: Any = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> ThresholdCheck:
    """Whether a metric is at or below a threshold beyond the chance of the test rows.

    It is where the one-sided upper bound is, by a bootstrap over distinct rows. Resampling widens gaps between small
    groups, so a bound errs towards not met; a threshold near the floor cannot be met on so few rows at all.

    Args:
        metric: function of outputs `[n]` and weights `f[n]` to a scalar, in JAX, see `compare_methods`.
        outputs: predictions or scores, `[S, n]`, or `[n]` for a single seed.
        threshold: the most that the metric may be.
        seed: of the bootstrap, a whole number `>= 0`.
        floor: the metric at exact parity, see `gap_beside_floor`, to be shown beside it.
        rows: what names each row, `int[n]`; copies share it.
        weight: frequencies `>= 0`, `f[n]`.
        strata: integers `int[n]` within which rows are drawn.
        num_resamples: of the bootstrap.
        confidence: of the bound, in `(0, 1)`.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for arrays that do not fit, or a threshold that is not finite.
    """
    seed = check_seed(seed)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be finite, got {threshold}")
    (outputs,) = checked_outputs(outputs=np.atleast_2d(np.asarray(outputs)))
    clusters, num_rows, weight, strata = checked_rows(outputs.shape[1], rows, weight, strata, num_resamples)
    finite = finite_seeds(outputs)
    figures = np.full(len(finite), np.nan)
    if finite.any():
        figures[finite] = np.asarray(metric_by_seed(metric, jnp.asarray(outputs[finite]), weight), float)
    known = np.isfinite(figures)
    estimate, bound, bounds = float("nan"), float("nan"), np.zeros(0)
    if known.any():
        kept = jnp.asarray(outputs[known])

        def statistic(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
            each = metric_by_seed(metric, kept, weight)
            return jnp.mean(each), each

        result = resample_rows(
            jax.random.key(seed),
            statistic,
            weight,
            jnp.asarray(clusters),
            num_rows,
            strata=strata,
            num_seeds=len(kept),
            num_resamples=num_resamples,
            confidence=confidence,
        )
        estimate, bound, bounds = float(result.estimate[0]), float(result.upper_bound[0]), result.upper_bound[1]
    diverged = int(np.sum(~known))
    return ThresholdCheck(
        threshold=float(threshold),
        estimate=estimate,
        upper_bound=bound,
        met=bool(bound <= threshold and diverged <= verdicts.MOST_DIVERGED * known.size),
        share_met=float(np.sum(np.asarray(bounds) <= threshold) / known.size),
        share_below=float(np.sum(figures[known] <= threshold) / known.size),
        num_seeds=known.size,
        num_diverged=diverged,
        floor=float("nan") if floor is None else float(floor),
    )


def constant_predictions(labels: Any, weight: Any = None) -> np.ndarray:
    """The more frequent label for every row, `int[n]`: the predictor that meets any constraint on rates.

    A table of constrained methods has it as a row, for what it reaches takes no learning.

    Args:
        labels: 0 or 1, `int[n]`; 0 where they are as frequent.
        weight: frequencies `>= 0`, `f[n]`.

    Raises:
        ValueError: for labels other than 0 and 1, or another number of weights.
    """
    labels = np.asarray(labels)
    weight = np.ones(labels.shape) if weight is None else np.asarray(weight, float)
    if labels.ndim != 1 or weight.shape != labels.shape or not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1 along one axis, with as many weights")
    return np.full(labels.shape, int(np.sum(weight * labels) > np.sum(weight) / 2))
