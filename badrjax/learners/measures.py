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
from badrjax.groups import Groups, encode_groups, group_count, group_mean
from badrjax.learners.settings import Task
from badrjax.metrics.summaries import largest_difference
from badrjax.uncertainty import Bootstrap, bootstrap, noise_floor_from_counts, permutation_floor

GAPS = ("demographic_parity", "equal_opportunity", "predictive_equality", "equalized_odds")
RATES = ("positive_rate", "true_positive_rate", "false_positive_rate", "accuracy", "balanced_accuracy")
ERRORS = ("mean_prediction", "mean_error", "rmse")
"""By group of a regression: the mean predicted value, the mean of prediction less target, and the error."""


OVERALL: Mapping[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced accuracy", "F1", "share predicted 1"),
    "regression": ("root mean squared error", "mean absolute error", "R2", "mean prediction"),
}


class Estimate(NamedTuple):
    """A number with its 95% bootstrap interval over rows; arrays `f[K]` for groups."""

    value: Any
    low: Any
    high: Any


class Gap(NamedTuple):
    """A largest difference between groups.

    Attributes:
        value: as measured; NaN where fewer than two groups can be compared.
        low, high: of the 95% interval, which excludes 0 even at parity.
        upper_bound: one-sided, 95%: a threshold is met where this is at or below it.
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
    attributes: Mapping[str, Groups],
    *,
    num_samples: int = 1000,
) -> Measures:
    """Accuracy and gaps of predictions, overall, by attribute and by intersection.

    Args:
        key: a typed key, consumed.
        task: `"classification"` or `"regression"`.
        labels: 0 and 1 `int[n]`, or targets `f[n]`.
        predicted: classes or values, of the same kind.
        attributes: sensitive attributes of the rows by name.
        num_samples: of the bootstrap and of the noise floors.

    Returns:
        `Measures`.

    Raises:
        ValueError: for unequal lengths, or labels of another kind.
    """
    interval_key, floor_key = jax.random.split(key)
    groups = partitions_of(attributes)
    check_same_length(labels=labels, predicted=predicted, **{name: part.ids for name, part in groups.items()})
    sizes = tuple(part.num_groups for part in groups.values())
    compiled = _MEASURED[task]
    rows, weight = _rows(task, labels, predicted, [part.ids for part in groups.values()])
    intervals, floors, counts = compiled(interval_key, floor_key, rows, weight, sizes, len(labels), num_samples)
    # In this order, for `jit` sorts names.
    overall = {name: Estimate(*(float(getattr(intervals, end)[0][name]) for end in _ENDS)) for name in OVERALL[task]}
    found = zip(groups.items(), range(len(groups)), floors, counts, strict=True)
    parts = tuple(_partition(name, part, place, intervals, floor, count) for (name, part), place, floor, count in found)
    return Measures(len(labels), overall, parts)


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


def _partition(
    name: str, groups: Groups, place: int, intervals: Bootstrap, floors: _Floors, counts: _Counts
) -> Partition:
    by_group = {
        rate: Estimate(*(np.asarray(getattr(intervals, end)[1][place][0][rate]) for end in _ENDS))
        for rate in (*RATES, *ERRORS)
        if rate in intervals.estimate[1][place][0]
    }
    gaps = {}
    for gap in (name for name in (*GAPS, *ERRORS) if name in intervals.estimate[1][place][1]):
        value, low, high, bound = (float(getattr(intervals, end)[1][place][1][gap]) for end in (*_ENDS, "upper_bound"))
        gaps[gap] = Gap(value, low, high, bound, float(floors.mean[gap]), float(floors.quantile[gap]))
    positives = np.asarray(counts.positive)
    known = None if np.isnan(positives).any() else positives.astype(int)
    return Partition(
        name, groups.names, np.asarray(counts.rows).astype(int), known, np.asarray(counts.base), by_group, gaps
    )
