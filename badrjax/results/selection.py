"""What the choice of the epoch does to a figure: last, selected on validation, selected on test."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from badrjax.checks import check_positive_integer
from badrjax.results.recording import Interval, mean_interval
from badrjax.results.resampling import (
    check_seed,
    checked_runs,
    memberships,
    shuffled_seeds,
    values_read,
    values_read_in_groups,
)
from badrjax.results.wilson import wilson_interval


class Selections(NamedTuple):
    """One metric under three rules for the epoch, each with its interval over seeds.

    Attributes:
        last: the last epoch.
        validation: each seed's epoch with its best validation score.
        test: the epoch with the best mean test score over a group of seeds, which all read.
        optimism: test minus validation, paired by seed: what looking at the test rows adds, where higher is better,
            and takes off (a negative number), where lower is.
    """

    last: Interval
    validation: Interval
    test: Interval
    optimism: Interval


class Bounds(NamedTuple):
    """A mean over seeds with both ends of its interval, and what the interval is over.

    Attributes:
        mean: over the finite seeds.
        low: lower end.
        high: upper end.
        over: `"seeds"`, or `"rows"` where all seeds agree.
    """

    mean: float
    low: float
    high: float
    over: Literal["seeds", "rows"]


def compare_selections(
    values: Any,
    validation_scores: Any,
    test_scores: Any,
    *,
    seed: int,
    group_size: int = 5,
    num_resamples: int = 2000,
    kind: Literal["student", "paper"] = "student",
) -> Selections:
    """A metric on the test rows at the last epoch, at the one selected on validation rows, and on test rows.

    The more seeds are averaged before an epoch is chosen, the less optimistic the choice is. So the third figure
    stands for groups of the paper's size: each seed is read at the best epoch of many random groups that it is in,
    and these are averaged.

    Args:
        values: the metric on the test rows, `f[S, E]`.
        validation_scores: what each seed's own epoch is selected by, `f[S, E]`, higher is better.
        test_scores: what the paper selects an epoch by, `f[S, E]`, higher is better.
        seed: of the groups, a whole number `>= 0`.
        group_size: seeds in a group; no more than `S` are taken.
        num_resamples: groups.
        kind: of the intervals, see `mean_interval`: `"student"`, or `"paper"` for the paper's own.

    Returns:
        `Selections`. A seed with any number that is not finite is left out of all four, and counted in each.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for arrays that are not `[S, E]`, or sizes below 1.
    """
    seed = check_seed(seed)
    check_positive_integer(group_size=group_size, num_resamples=num_resamples)
    values, validation, finite = checked_runs(values, "per_seed", validation_scores)
    _, test, finite_too = checked_runs(values, "group_mean", test_scores)
    finite &= finite_too
    if validation is None or test is None or not finite.any():
        nothing = mean_interval(np.full(len(values), np.nan), kind=kind)
        return Selections(nothing, nothing, nothing, nothing)
    values, validation, test = shuffled_seeds(seed, values[finite], validation[finite], test[finite])
    members = memberships(len(test), min(group_size, len(test)), num_resamples, seed)
    last = values[:, -1]
    own = values_read(values, "per_seed", validation)
    shared = values_read_in_groups(values, members, test)
    left_out = np.full(int(np.sum(~finite)), np.nan)
    return Selections(
        *(mean_interval(np.append(figure, left_out), kind=kind) for figure in (last, own, shared, shared - own))
    )


def seeds_or_rows(
    values: Any, *, num_rows: int, ci: float = 0.95, kind: Literal["student", "paper"] = "student"
) -> Bounds:
    """The interval of a share over seeds; where all seeds agree, Wilson's (1927) over the test rows.

    Seeds that all reach the same figure have no spread, which says nothing of how sure it is: then the rows that it
    was measured on decide.

    Args:
        values: shares in `[0, 1]`, `f[S]`, such as accuracies; for balanced accuracy only where both classes have as
            many rows. Those that are not finite diverged and are left out.
        num_rows: distinct rows that each share is of.
        ci: confidence level in `(0, 1)`.
        kind: of the interval over seeds, see `mean_interval`.

    Raises:
        ModuleNotFoundError: without SciPy.
        ValueError: for shares outside `[0, 1]`, fewer rows than 1, or what `mean_interval` refuses.
    """
    check_positive_integer(num_rows=num_rows)
    interval = mean_interval(values, ci=ci, kind=kind)
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if np.any((finite < 0) | (finite > 1)):
        raise ValueError("values must be shares in [0, 1]; Wilson's interval is for nothing else")
    if finite.size < 2 or np.ptp(finite) > 1e-12:
        return Bounds(interval.mean, interval.mean - interval.half_width, interval.mean + interval.half_width, "seeds")
    return Bounds(interval.mean, *wilson_interval(float(finite[0]), num_rows, ci=ci), "rows")
