"""What a predictor does to groups: rates with counts and intervals, gaps with bounds and noise floors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from badrjax import metrics
from badrjax.checks import check_same_length
from badrjax.datasets import Dataset
from badrjax.groups import Groups, encode_groups, group_count, group_mean
from badrjax.learners.settings import Task
from badrjax.metrics.summaries import largest_difference
from badrjax.results import wilson_interval
from badrjax.uncertainty import Bootstrap, bootstrap, noise_floor_from_counts, permutation_floor

GAPS = ("demographic_parity", "equal_opportunity", "predictive_equality", "equalized_odds")
RATES = ("positive_rate", "true_positive_rate", "false_positive_rate", "accuracy", "balanced_accuracy")
ERRORS = ("mean_prediction", "mean_error", "rmse")
"""By group of a regression: the mean predicted value, the mean of prediction less target, and the error."""


SHARES = ("positive_rate", "true_positive_rate", "false_positive_rate", "accuracy", "share predicted 1")
"""Numbers that are shares of rows."""
OVERALL: Mapping[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced accuracy", "F1", "share predicted 1"),
    "regression": ("root mean squared error", "mean absolute error", "R2", "mean prediction"),
}


FEWEST = 10
"""Rows that a rate must be over, in every group compared, for a bootstrap interval: with fewer it shows no spread."""


class Estimate(NamedTuple):
    """A number with its 95% interval over rows; arrays `f[K]` for groups.

    Shares of rows have Wilson's interval (1927), which is right for few rows and for shares of 0 and 1; other numbers
    that of the bootstrap, NaN where it is over fewer than `FEWEST` rows.
    """

    value: Any
    low: Any
    high: Any


class Gap(NamedTuple):
    """A largest difference between groups.

    Attributes:
        value: as measured; NaN where fewer than two groups can be compared.
        low, high: of the 95% interval, which excludes 0 even at parity; NaN where a group that is compared has fewer
            than `FEWEST` rows for its rate.
        upper_bound: one-sided, 95%: a threshold is met where this is at or below it; NaN as these.
        floor: what it comes to on average where groups are treated alike, at these counts.
        floor_95: what it stays below then in 95% of samples.
    """

    value: float
    low: float
    high: float
    upper_bound: float
    floor: float
    floor_95: float


class Partition(NamedTuple):
    """Groups of one attribute, or of an intersection of several.

    Attributes:
        name: `"sex"`, `"sex & race"`.
        group_names: one a group.
        counts: rows of each group, `int[K]`.
        positives: of these labelled 1, `int[K]` (`None` for a regression).
        base: share labelled 1, or mean target, `f[K]`.
        by_group: estimates `f[K]` by name.
        gaps: by name.
    """

    name: str
    group_names: tuple[str, ...]
    counts: Int[np.ndarray, "K"]
    positives: Int[np.ndarray, "K"] | None
    base: Float[np.ndarray, "K"]
    by_group: Mapping[str, Estimate]
    gaps: Mapping[str, Gap]


class Measures(NamedTuple):
    """What was measured on some rows.

    Attributes:
        num_rows: of these.
        overall: estimates by name.
        partitions: single attributes first, then intersections.
    """

    num_rows: int
    overall: Mapping[str, Estimate]
    partitions: tuple[Partition, ...]


MERGED = "groups trained on"
"""The partition of a dataset's own groups, where these are no longer the intersections of its attributes."""


def partitions_of_dataset(dataset: Dataset) -> dict[str, Groups]:
    """`partitions_of` its attributes, and its own groups where small ones were merged."""
    found = partitions_of(dataset.attributes)
    if dataset.group_names not in (groups.names for groups in found.values()):
        found[MERGED] = Groups(np.asarray(dataset.group, np.int32), dataset.group_names, dataset.num_groups)
    return found


def partitions_of(attributes: Mapping[str, Groups]) -> dict[str, Groups]:
    """Single attributes, and the intersections of two or more of them that occur, by name."""
    found = {}
    for size in range(1, len(attributes) + 1):
        for names in itertools.combinations(attributes, size):
            columns = [np.array(attributes[name].names)[attributes[name].ids] for name in names]
            # A single attribute keeps the order of its values, numbers by size.
            found[" & ".join(names)] = attributes[names[0]] if size == 1 else encode_groups(*columns)
    return found


def measure(
    key: Array,
    task: Task,
    labels: Shaped[np.ndarray, "n"],
    predicted: Shaped[np.ndarray, "n"],
    partitions: Mapping[str, Groups],
    *,
    num_samples: int = 1000,
) -> Measures:
    """Accuracy and gaps of predictions, overall and by partition.

    Args:
        key: a typed key, consumed.
        task: `"classification"` or `"regression"`.
        labels: 0 and 1 `int[n]`, or targets `f[n]`.
        predicted: classes or values, of the same kind.
        partitions: groups of the rows by name, see `partitions_of`.
        num_samples: of the bootstrap and of the noise floors.

    Returns:
        `Measures`.

    Raises:
        ValueError: for unequal lengths, or labels of another kind.
    """
    interval_key, floor_key = jax.random.split(key)
    check_same_length(labels=labels, predicted=predicted, **{name: part.ids for name, part in partitions.items()})
    sizes = tuple(part.num_groups for part in partitions.values())
    compiled = _MEASURED[task]
    rows, weight = _rows(task, labels, predicted, [part.ids for part in partitions.values()])
    intervals, floors, counts = compiled(interval_key, floor_key, rows, weight, sizes, len(labels), num_samples)
    # In this order, for `jit` sorts names.
    overall = {name: Estimate(*(float(getattr(intervals, end)[0][name]) for end in _ENDS)) for name in OVERALL[task]}
    found = zip(partitions.items(), range(len(partitions)), floors, counts, strict=True)
    parts = tuple(_partition(name, part, place, intervals, floor, count) for (name, part), place, floor, count in found)
    for name in SHARES:
        if name in overall:
            overall[name] = Estimate(*(float(end[0]) for end in wilson([overall[name].value], [len(labels)])))
    return Measures(len(labels), overall, parts)


def wilson(shares: Any, counts: Any) -> Estimate:
    """Wilson's 95% intervals of shares of some rows; NaN where there are none.

    Args:
        shares: in `[0, 1]` or NaN, `f[K]`.
        counts: rows that each is over, `f[K]`.

    Returns:
        The shares with the ends of their intervals, `f[K]` each.
    """
    ends = np.full((2, np.size(shares)), np.nan)
    for place, (share, count) in enumerate(zip(np.ravel(shares), np.ravel(counts), strict=True)):
        if count > 0:
            ends[:, place] = wilson_interval(float(share), int(count))
    return Estimate(np.asarray(shares, float), *ends)


_ENDS = ("estimate", "low", "high")


class _Rows(NamedTuple):
    """Labels, predictions and the group of each row in each partition, `int[P, n]`."""

    labels: Array
    predicted: Array
    groups: Array


class _Counts(NamedTuple):
    """Of the groups of a partition: rows, rows labelled 1 (NaN for targets), and the mean label."""

    rows: Array
    positive: Array
    base: Array


class _Floors(NamedTuple):
    """By name of a gap: its mean and its 95% quantile at parity."""

    mean: dict[str, Array]
    quantile: dict[str, Array]


def _rows(task: Task, labels: Any, predicted: Any, ids: list[np.ndarray]) -> tuple[_Rows, Array]:
    """Rows with their frequencies. Rows of classes that are alike become one, which resamples as they would."""
    groups = np.stack(ids).astype(np.int32)
    if task == "regression":
        values = (np.asarray(values, np.float32) for values in (labels, predicted))
        return _Rows(*map(jnp.asarray, (*values, groups))), jnp.ones(groups.shape[1])
    table = np.concatenate([np.stack([labels, predicted]).astype(np.int32), groups])
    distinct, counts = np.unique(table, axis=1, return_counts=True)
    return _Rows(*map(jnp.asarray, (distinct[0], distinct[1], distinct[2:]))), jnp.asarray(counts, jnp.float32)


@partial(jax.jit, static_argnames=("sizes", "num_draws", "num_samples"))
def _measured_classes(
    key: Array, floor_key: Array, rows: _Rows, weight: Array, sizes: tuple[int, ...], num_draws: int, num_samples: int
) -> Any:
    labels, predicted, groups = rows

    def measured(weight: Array) -> Any:
        overall = {
            "accuracy": metrics.accuracy(labels, predicted, weight),
            "balanced accuracy": metrics.balanced_accuracy(labels, predicted, weight),
            "F1": metrics.f1(labels, predicted, weight),
            "share predicted 1": jnp.sum(weight * predicted) / jnp.sum(weight),
        }
        parts = []
        for ids, size in zip(groups, sizes, strict=True):
            rates = metrics.by_group(labels, predicted, ids, size, weight)
            compared = (rates.positive_rate, rates.true_positive_rate, rates.false_positive_rate)
            parity, opportunity, equality = map(largest_difference, compared)
            gaps = (parity, opportunity, equality, jnp.maximum(opportunity, equality))
            parts.append(({rate: getattr(rates, rate) for rate in RATES}, dict(zip(GAPS, gaps, strict=True))))
        return overall, parts

    intervals = bootstrap(key, measured, weight, num_samples=num_samples, max_draws=num_draws)
    whole = metrics.by_group(labels, predicted, jnp.zeros_like(labels), 1, weight)
    shared = whole.true_positive_rate[0], whole.false_positive_rate[0]
    floors, counts = [], []
    for place, (ids, size) in enumerate(zip(groups, sizes, strict=True)):
        rates = metrics.by_group(labels, predicted, ids, size, weight)
        found = noise_floor_from_counts(
            jax.random.fold_in(floor_key, place), rates.num_positive, rates.num_negative, *shared,
            num_samples=num_samples,
        )  # fmt: skip
        floors.append(_Floors(*({gap: getattr(getattr(found, gap), end) for gap in GAPS} for end in _Floors._fields)))
        counts.append(_Counts(rates.count, rates.num_positive, rates.base_rate))
    return _without_samples(intervals), floors, counts


@partial(jax.jit, static_argnames=("sizes", "num_draws", "num_samples"))
def _measured_values(
    key: Array, floor_key: Array, rows: _Rows, weight: Array, sizes: tuple[int, ...], num_draws: int, num_samples: int
) -> Any:
    targets, predicted, groups = rows

    def of_groups(ids: Array, size: int, weight: Array) -> dict[str, Array]:
        count = group_count(ids, size, weight)
        means = (group_mean(values, ids, size, weight) for values in (predicted, predicted - targets))
        known = [jnp.where(count > 0, mean, jnp.nan) for mean in means]
        errors = (*known, metrics.group_rmse(targets, predicted, ids, size, weight))
        return dict(zip(ERRORS, errors, strict=True))

    def measured(weight: Array) -> Any:
        overall = {
            "root mean squared error": metrics.rmse(targets, predicted, weight),
            "mean absolute error": metrics.mean_absolute_error(targets, predicted, weight),
            "R2": metrics.r2(targets, predicted, weight),
            "mean prediction": jnp.sum(weight * predicted) / jnp.sum(weight),
        }
        by_group = [of_groups(ids, size, weight) for ids, size in zip(groups, sizes, strict=True)]
        return overall, [(errors, jax.tree.map(largest_difference, errors)) for errors in by_group]

    intervals = bootstrap(key, measured, weight, num_samples=num_samples, max_draws=num_draws)
    floors, counts = [], []
    for place, (ids, size) in enumerate(zip(groups, sizes, strict=True)):
        gaps = partial(_gaps_of, of_groups, size, weight)
        found = permutation_floor(jax.random.fold_in(floor_key, place), gaps, ids, num_samples=num_samples)
        floors.append(_Floors(found.mean, found.quantile))
        count = group_count(ids, size)
        counts.append(_Counts(count, jnp.full(size, jnp.nan), group_mean(targets, ids, size)))
    return _without_samples(intervals), floors, counts


def _gaps_of(of_groups: Any, size: int, weight: Array, ids: Array) -> Any:
    return jax.tree.map(largest_difference, of_groups(ids, size, weight))


_MEASURED: dict[str, Any] = {"classification": _measured_classes, "regression": _measured_values}


def _without_samples(intervals: Bootstrap) -> Bootstrap:
    return intervals._replace(samples=None, num_finite=None, standard_error=None, lower_bound=None)


def _rows_of_rates(counts: _Counts) -> dict[str, np.ndarray]:
    """Rows that each rate of a group is over, and for balanced accuracy the fewer of both classes."""
    rows, positive = np.asarray(counts.rows), np.asarray(counts.positive)
    negative = rows - positive
    return {
        "positive_rate": rows, "accuracy": rows, "true_positive_rate": positive, "false_positive_rate": negative,
        "balanced_accuracy": np.minimum(positive, negative), **dict.fromkeys(ERRORS, rows),
    }  # fmt: skip


_RATES_OF_GAPS = {
    "demographic_parity": ("positive_rate",), "equal_opportunity": ("true_positive_rate",),
    "predictive_equality": ("false_positive_rate",),
    "equalized_odds": ("true_positive_rate", "false_positive_rate"), **{error: (error,) for error in ERRORS},
}  # fmt: skip


def _partition(
    name: str, groups: Groups, place: int, intervals: Bootstrap, floors: _Floors, counts: _Counts
) -> Partition:
    by_group = {
        rate: Estimate(*(np.asarray(getattr(intervals, end)[1][place][0][rate]) for end in _ENDS))
        for rate in (*RATES, *ERRORS)
        if rate in intervals.estimate[1][place][0]
    }
    over = _rows_of_rates(counts)
    for rate, estimate in by_group.items():
        if rate in SHARES:
            by_group[rate] = wilson(estimate.value, over[rate])
        else:
            few = over[rate] < FEWEST
            by_group[rate] = Estimate(estimate.value, *(np.where(few, np.nan, end) for end in estimate[1:]))
    gaps = {}
    for gap in (name for name in (*GAPS, *ERRORS) if name in intervals.estimate[1][place][1]):
        value, low, high, bound = (float(getattr(intervals, end)[1][place][1][gap]) for end in (*_ENDS, "upper_bound"))
        compared = [over[rate][over[rate] > 0] for rate in _RATES_OF_GAPS[gap]]
        if min(rows.min(initial=np.inf) for rows in compared) < FEWEST:
            low = high = bound = float("nan")
        gaps[gap] = Gap(value, low, high, bound, float(floors.mean[gap]), float(floors.quantile[gap]))
    positives = np.asarray(counts.positive)
    known = None if np.isnan(positives).any() else positives.astype(int)
    return Partition(
        name, groups.names, np.asarray(counts.rows).astype(int), known, np.asarray(counts.base), by_group, gaps
    )
