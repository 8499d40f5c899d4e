"""Whether one method is better than another: paired seeds, with and without the chance of the test rows."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from badrjax.results.contrasts import Contrast, add_rows, interval, over_seeds, p_value
from badrjax.results.resampling import check_seed
from badrjax.results.rows import (
    Metric,
    checked_outputs,
    checked_rows,
    finite_seeds,
    metric_by_seed,
    resample_rows,
)

Better = Literal["higher", "lower"]


class Claim(NamedTuple):
    """That a first method is better than a second; differences are positive where it is.

    Attributes:
        seeds: the mean difference over paired seeds, given the split and its test rows.
        wide: the same with the chance of the test rows added (or that of the splits, for splits drawn anew).
        tolerance: how much worse would not matter.
        num_seeds: pairs, those that diverged among them.
        num_diverged: pairs of which either is not finite; they are in neither interval.
        num_rows: distinct test rows that were resampled; 0 where none were.
    """

    seeds: Contrast
    wide: Contrast
    tolerance: float
    num_seeds: int
    num_diverged: int
    num_rows: int = 0


def compare_methods(
    metric: Metric,
    first: Any,
    second: Any,
    *,
    seed: int,
    tolerance: float,
    better: Better = "higher",
    rows: Any = None,
    weight: Any = None,
    strata: Any = None,
    num_resamples: int = 2000,
) -> Claim:
    """A claim that the first method is better, on one split, from what both predicted for the same rows.

    Seed s of both methods must share its initial weights, order and split, and outputs must come from the last epoch
    or one selected on validation rows. Over seeds given the split, the interval is Student's over paired differences.
    Over seeds and rows, the variance of the mean difference under a bootstrap of distinct test rows is added, with a
    repeated row drawn together with its copies. The metric is computed anew from weights in every resample, so any
    metric of the package that takes a weight will do: balanced accuracy, the worst group's, a gap between groups.

    Args:
        metric: function of outputs `[n]` and weights `f[n]` to a scalar, in JAX, such as
            `lambda predictions, weight: metrics.balanced_accuracy(labels, predictions, weight)`.
        first: predictions or scores of the first method, `[S, n]`.
        second: those of the second, `[S, n]`.
        seed: of the bootstrap, a whole number `>= 0`.
        tolerance: how much worse would not matter, see `tolerance`.
        better: `"higher"`, or `"lower"` for errors and gaps.
        rows: what names each row, `int[n]`, such as the indices of the test split: copies share it. `None` means that
            all differ.
        weight: frequencies `>= 0`, `f[n]`.
        strata: integers `int[n]` within which rows are drawn, such as `2 * groups + labels` for a test set with a
            fixed number of each. `None` draws from all rows.
        num_resamples: of the bootstrap.

    Returns:
        `Claim`; NaN in its contrasts with fewer than two pairs of finite seeds.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for arrays that do not fit, or a tolerance below 0.
    """
    seed, sign = check_seed(seed), _sign(better, tolerance)
    first, second = checked_outputs(first=first, second=second)
    clusters, num_rows, weight, strata = checked_rows(first.shape[1], rows, weight, strata, num_resamples)
    finite = finite_seeds(first) & finite_seeds(second)
    differences = np.full(len(finite), np.nan)
    if finite.any():
        pair = jnp.asarray(first[finite]), jnp.asarray(second[finite])
        differences[finite] = sign * np.asarray(paired_differences(metric, *pair, weight), float)
    known = np.isfinite(differences)
    seeds = over_seeds(differences[known])
    wide = seeds
    if known.sum() > 1:
        pair = jnp.asarray(first[known]), jnp.asarray(second[known])
        error = resample_rows(
            jax.random.key(seed),
            lambda weight: jnp.mean(paired_differences(metric, *pair, weight)),
            weight,
            jnp.asarray(clusters),
            num_rows,
            strata=strata,
            num_seeds=2 * int(known.sum()),
            num_resamples=num_resamples,
        ).standard_error
        wide = add_rows(seeds, float(error), num_rows)
    return Claim(seeds, wide, tolerance, known.size, int(np.sum(~known)), num_rows)


def compare_over_splits(
    differences: Any, *, num_train: int, num_test: int, tolerance: float, better: Better = "higher"
) -> Claim:
    r"""A claim from one difference a split, where every split was drawn anew from the same rows.

    Training sets of different splits overlap, so that their differences are correlated, and the error of a mean is
    too small. Nadeau and Bengio (2003) take `s^2 (1 / J + n_{test} / n_{train})` for its variance, with `J - 1`
    degrees of freedom. The interval over seeds in the claim is the one without the correction.

    Args:
        differences: first method's metric minus the second's, `f[J]`, one a split; those that are not finite diverged.
        num_train: rows in a training set.
        num_test: rows in a test set.
        tolerance: how much worse would not matter.
        better: `"higher"`, or `"lower"` for errors and gaps.

    Raises:
        ValueError: for differences that are not one a split, sizes below 1, or a tolerance below 0.
    """
    sign = _sign(better, tolerance)
    differences = np.asarray(differences, float)
    if differences.ndim != 1 or differences.size == 0:
        raise ValueError(f"differences must be one a split, got shape {differences.shape}")
    if num_train < 1 or num_test < 1:
        raise ValueError(f"num_train and num_test must be at least 1, got {num_train} and {num_test}")
    known = np.isfinite(differences)
    count = int(known.sum())
    plain = over_seeds(sign * differences[known])
    corrected = plain.standard_error * np.sqrt(1 + count * num_test / num_train)
    wide = plain._replace(standard_error=float(corrected))
    return Claim(plain, wide, tolerance, known.size, known.size - count)


def paired_differences(metric: Metric, first: jax.Array, second: jax.Array, weight: jax.Array) -> jax.Array:
    """The metric of the first method minus that of the second, `f[S]`, at the same weights."""
    return metric_by_seed(metric, first, weight) - metric_by_seed(metric, second, weight)


def wider_p_value(claim: Claim) -> float:
    """The larger of the two p-values: both intervals are about the same estimate, so the wider decides."""
    return float(np.maximum(p_value(claim.seeds), p_value(claim.wide)))


def wider_interval(claim: Claim, level: float = 0.05) -> tuple[float, float]:
    """The wider of the two intervals, each of which misses with chance `level`; NaN where either is not known."""
    lows, highs = zip(interval(claim.seeds, level), interval(claim.wide, level), strict=True)
    return float(np.min(lows)), float(np.max(highs))


def _sign(better: str, tolerance: float) -> float:
    if better not in ("higher", "lower"):
        raise ValueError(f"better must be 'higher' or 'lower', got {better!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    return 1.0 if better == "higher" else -1.0
