"""The bootstrap over rows: resampled frequencies, so that any metric that takes a weight gets an interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from badrjax.checks import check_groups, check_same_length, check_vector, check_weight, is_concrete
from badrjax.groups import as_float, group_present
from badrjax.uncertainty.sampling import (
    check_ids,
    check_metric,
    check_sampling,
    encoded,
    finite_only,
    quantiles,
    sampled,
)


class Bootstrap(NamedTuple):
    """Intervals of a metric over rows; each entry is a pytree like the metric's result.

    Attributes:
        estimate: the metric at the weights given.
        low: lower end of the two-sided interval.
        high: upper end of the two-sided interval.
        lower_bound: one-sided bound, below the metric with the confidence asked for.
        upper_bound: one-sided bound, above the metric with the confidence asked for; a threshold is met where this
            is at or below it.
        standard_error: standard deviation of the finite resamples.
        num_finite: how many resamples were finite, `int32`; the others are in none of the entries above.
        samples: the metric of every resample along a leading axis `S`, those that are not finite too.
    """

    estimate: Any
    low: Any
    high: Any
    lower_bound: Any
    upper_bound: Any
    standard_error: Any
    num_finite: Any
    samples: Any


def bootstrap(
    key: Array,
    metric: Callable[[Float[Array, "n"]], Any],
    weight: Float[Array, "n"] | int,
    *,
    num_samples: int = 1000,
    confidence: float | Float[Array, ""] = 0.95,
    strata: Int[Array, "n"] | None = None,
    clusters: Int[Array, "n"] | None = None,
    num_clusters: int | None = None,
    max_draws: int | None = None,
    batch_size: int | None = None,
) -> Bootstrap:
    r"""Percentile intervals of a metric over the rows (Efron 1979), by resampled frequencies.

    A resample draws as many rows as there are, `N = \sum_i w_i`, with replacement, so that its frequencies are
    `Multinomial(N, w / N)`, and the metric is evaluated at them. A row of weight w counts as w rows of which each
    may be drawn. The quantiles of the metric over the resamples bound the interval. They reflect the rows drawn,
    not how a model was trained.

    A gap between groups is never negative, so that its interval excludes 0 even at parity, and resampling adds
    to it: compare it with `badrjax.noise_floor`. Resamples in which the metric is not finite (a group lost its
    positives) are counted in `num_finite` and left out; `strata` avoid them.

    All resamples are one program that is compiled at each call outside `jit`; under `jit` it is compiled once.
    A call takes memory for `n * batch_size` numbers, and `num_samples` results of the metric.

    Args:
        key: a typed key, consumed.
        metric: function of the frequencies `f[n]` to a pytree of numbers or arrays, such as
            `lambda weight: metrics.equalized_odds_difference(labels, predictions, groups, 4, weight)`.
        weight: frequencies `>= 0`, `f[n]`, or a number of rows of weight 1. Frequencies that are not whole are
            drawn in proportion, `N` being their rounded total: weights scaled to a total of 1 mean a single row.
        num_samples: static number of resamples `S`.
        confidence: coverage of the intervals, in `(0, 1)`.
        strata: any integers, `int[n]`, such as `2 * groups + labels`: each stratum keeps its total weight
            (where some totals are not whole, each is rounded up or down).
        clusters: ids in `[0, num_clusters)`, `int[n]`: all rows of a cluster are drawn together, as many clusters
            as have weight, each equally likely and its rows with the weight given. For repeated rows, or several
            rows of a person. A cluster must lie in one stratum.
        num_clusters: static number of clusters; needed with `clusters`.
        max_draws: static bound on `N`, needed where a traced `weight` totals more than `n`.
        batch_size: resamples evaluated at a time; `None` takes as many as make a million numbers. It changes no
            draw.

    Returns:
        `Bootstrap`, each entry a pytree like the metric's; NaN where no resample is finite (for the standard error:
        fewer than two). Under tracing no sample is finite if no row has weight, a weight is negative, or they total
        more than `max_draws`; a confidence outside the range gives no bounds.

    Raises:
        TypeError: for a key that is not typed, a metric that cannot be called, or strata or clusters that are
            not integers.
        ValueError: for sizes that are not positive, unequal lengths, `clusters` without `num_clusters`, or
            (outside tracing) negative weights, a total below half a row or above `max_draws` or 2^24, ids outside
            the range, a cluster in two strata, or a confidence outside `(0, 1)`.
    """
    check_sampling(key, num_samples, confidence, batch_size)
    check_metric(metric, "weight")
    weight = _frequencies(weight)
    _check_rows(weight, strata, clusters, num_clusters, max_draws)
    strata = None if strata is None else encoded(strata)
    units, unit_strata = _units(weight, strata, clusters, num_clusters)
    if clusters is None:
        num_draws = _num_draws(units, max_draws)
        spread = lambda times: times  # noqa: E731
    else:
        num_draws = units.shape[0]
        spread = lambda times: weight * times[jnp.asarray(clusters).astype(jnp.int32)]  # noqa: E731
    draw = _resampler(units, unit_strata, num_draws)
    estimate = jax.tree.map(as_float, metric(weight))
    samples = sampled(
        key, lambda one: metric(spread(draw(one))), num_samples, max(weight.shape[0], num_draws), batch_size
    )
    total = jnp.round(jnp.sum(units))
    fits = (total >= 1) & (total <= num_draws) & jnp.all(weight >= 0)
    return _summary(estimate, jax.tree.map(lambda leaf: jnp.where(fits, leaf, jnp.nan), samples), confidence)


def _summary(estimate: Any, samples: Any, confidence: Any) -> Bootstrap:
    kept, num_finite = finite_only(samples)
    tail = (1.0 - confidence) / 2.0
    low, high, lower_bound, upper_bound = quantiles(kept, [tail, 1.0 - tail, 1.0 - confidence, confidence])
    return Bootstrap(
        estimate=estimate,
        low=low,
        high=high,
        lower_bound=lower_bound,
        upper_bound=upper_bound,
        standard_error=jax.tree.map(_deviation, kept),
        num_finite=num_finite,
        samples=samples,
    )


def _deviation(leaf: Float[Array, "S *shape"]) -> Float[Array, "*shape"]:
    """Standard deviation of the entries that are not NaN (divided by one less than their number)."""
    several = jnp.sum(~jnp.isnan(leaf), axis=0) >= 2
    return jnp.where(several, jnp.nanstd(jnp.where(several, leaf, 0.0), axis=0, ddof=1), jnp.nan)


def _resampler(
    units: Float[Array, "m"], strata: Shaped[Array, "m"] | None, num_draws: int
) -> Callable[[Array], Float[Array, "m"]]:
    """A function of a key to the times each unit is drawn, `f[m]`, for units of given frequencies.

    The units lie side by side on a line, each as long as its frequency and the strata apart. The whole positions on
    the line are the draws: each is moved to a random place in the stratum that it lies in.
    """
    if units.shape[0] == 0 or num_draws == 0:
        return lambda key: jnp.zeros_like(units)
    order = None if strata is None else jnp.argsort(strata)
    ends = jnp.cumsum(units if order is None else units[order])
    number = jnp.round(ends[-1])
    slot = jnp.arange(num_draws, dtype=jnp.int32)
    middle = (slot.astype(ends.dtype) + 0.5) * (ends[-1] / jnp.maximum(number, 1.0))
    start, end = _strata_ends(None if strata is None else strata[order], ends, middle)
    # A stratum of whole length has as many whole places, each drawn by an exact integer; within a place the point only
    # matters where frequencies are not whole.
    places = jnp.maximum(jnp.round(end - start), 1.0)
    place_length = (end - start) / places

    def draw(key: Array) -> Float[Array, "m"]:
        place_key, point_key = jax.random.split(key)
        place = jax.random.randint(place_key, slot.shape, 0, places.astype(jnp.int32)).astype(ends.dtype)
        point = jax.random.uniform(point_key, slot.shape, ends.dtype)
        position = start + (place + point) * place_length
        # Rounded up, a point must reach neither the next place nor the next stratum.
        limit = jnp.minimum(start + (place + 1.0) * place_length, end)
        position = jnp.minimum(position, jnp.nextafter(limit, jnp.zeros_like(limit)))
        unit = jnp.minimum(jnp.searchsorted(ends, position, side="right"), ends.shape[0] - 1)
        unit = unit if order is None else order[unit]
        return jnp.zeros_like(units).at[unit].add(jnp.where(slot < number, 1.0, 0.0).astype(units.dtype))

    return draw


def _strata_ends(
    strata: Shaped[Array, "m"] | None, ends: Float[Array, "m"], positions: Float[Array, "draws"]
) -> tuple[Float[Array, "draws"], Float[Array, "draws"]]:
    """Where the stratum around each position begins and ends on the line of units sorted by stratum."""
    if strata is None:
        return jnp.zeros_like(positions), jnp.broadcast_to(ends[-1], positions.shape)
    unit = jnp.minimum(jnp.searchsorted(ends, positions, side="right"), ends.shape[0] - 1)
    first = jnp.searchsorted(strata, strata, side="left")
    last = jnp.searchsorted(strata, strata, side="right") - 1
    starts = jnp.where(first > 0, ends[jnp.maximum(first - 1, 0)], 0.0)
    return starts[unit], ends[last][unit]


def _units(
    weight: Float[Array, "n"], strata: Any, clusters: Any, num_clusters: int | None
) -> tuple[Float[Array, "m"], Shaped[Array, "m"] | None]:
    """Frequencies and strata of what is drawn: the rows, or clusters that have weight once each."""
    if clusters is None:
        return weight, strata
    assert num_clusters is not None  # _check_rows refused it
    clusters = jnp.asarray(clusters)
    units = group_present(clusters, num_clusters, weight).astype(weight.dtype)
    if strata is None:
        return units, None
    # Padding decides no cluster's stratum.
    strata = jnp.where(weight > 0, strata, jnp.iinfo(strata.dtype).min)
    return units, jax.ops.segment_max(strata, clusters.astype(jnp.int32), num_clusters)


def _frequencies(weight: Any) -> Float[Array, "n"]:
    if isinstance(weight, int | np.integer) and not isinstance(weight, bool):
        if weight < 1:
            raise ValueError(f"weight must be frequencies or a positive number of rows, got {weight}")
        return jnp.ones(int(weight), jnp.result_type(float))
    check_vector(weight=weight)
    check_weight(weight)
    return as_float(weight)


def _num_draws(units: Float[Array, "m"], max_draws: int | None) -> int:
    """Static number of draws that is at least the rounded total."""
    if not is_concrete(units):
        return units.shape[0] if max_draws is None else int(max_draws)
    total = int(np.round(np.sum(np.asarray(units), dtype=np.float64)))
    if total < 1:
        raise ValueError(
            f"weight totals {float(np.sum(np.asarray(units))):g}, not half a row, so there is nothing to resample; "
            "weights are frequencies, so undo a scaling to a total of 1"
        )
    if total > 2**24:
        raise ValueError(f"weight totals {total} rows and at most 2^24 are told apart in float32; resample fewer rows")
    if max_draws is not None and total > max_draws:
        raise ValueError(f"weight totals {total} rows, more than max_draws={max_draws}")
    return total


def _check_rows(weight: Any, strata: Any, clusters: Any, num_clusters: int | None, max_draws: int | None) -> None:
    if max_draws is not None and (
        isinstance(max_draws, bool) or not isinstance(max_draws, int | np.integer) or max_draws < 1
    ):
        raise ValueError(f"max_draws must be a positive Python int (it fixes a shape), got {max_draws!r}")
    check_ids(strata, "strata")
    check_vector(strata=strata, clusters=clusters)
    check_same_length(weight=weight, strata=strata, clusters=clusters)
    if is_concrete(weight) and not np.asarray(weight).any():
        raise ValueError("weight is 0 in every row, so there is nothing to resample")
    if (clusters is None) != (num_clusters is None):
        raise ValueError("clusters and num_clusters go together: give both or neither")
    if clusters is None or num_clusters is None:
        return
    check_groups(clusters, num_clusters, "clusters")
    if strata is not None and is_concrete(weight, strata, clusters):
        counted = np.asarray(weight) > 0
        pairs = np.unique(np.stack([np.asarray(clusters), np.asarray(strata)])[:, counted], axis=1)
        ids, times = np.unique(pairs[0], return_counts=True)
        if (times > 1).any():
            raise ValueError(
                f"cluster {ids[times > 1][0]} has rows in {times[times > 1][0]} strata and must lie in one"
            )
