"""One number of a paper's table against many seeds of ours."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from badrjax.checks import check_positive_integer
from badrjax.results.resampling import (
    Epoch,
    check_seed,
    checked_runs,
    group_means,
    memberships,
    shuffled_seeds,
    values_read,
)

# What a mean of five seeds is assumed to be where a paper does not say.
ASSUMED_SEEDS = 5
# Differences below this are rounding errors of ours, not of the paper.
_ROUNDING = 1e-12
# Share of the draws, the outermost on one side, that tell how fast the tail falls beyond all of them.
_TAIL_SHARE = 0.02


class Printed(NamedTuple):
    """A mean as a paper prints it.

    Attributes:
        mean: the number.
        decimals: after the point; it stands for all numbers that round to it.
        num_seeds: of which it is the mean; `None` where the paper does not say, which is taken for 5.
    """

    mean: float
    decimals: int = 3
    num_seeds: int | None = None


class Cell(NamedTuple):
    """A printed mean beside ours.

    Attributes:
        printed: what the paper prints.
        mean: ours, over the finite seeds, by the paper's own selection of the epoch.
        difference: ours minus the paper's.
        p_value: two-sided; how often a paper of the same process would print a mean at least as far out.
        low: lower end of the 95% prediction interval for the paper's mean.
        high: its upper end.
        half_width: half its width.
        num_seeds: seeds run, those that diverged among them.
        num_diverged: seeds with a number that is not finite where the epoch is selected or read.
    """

    printed: Printed
    mean: float
    difference: float
    p_value: float
    low: float
    high: float
    half_width: float
    num_seeds: int
    num_diverged: int


def compare_cell(
    values: Any,
    printed: Printed,
    *,
    seed: int,
    epoch: Epoch = "last",
    scores: Any = None,
    num_resamples: int = 2000,
    min_seeds: int = 50,
) -> Cell:
    r"""Whether a printed mean of `n_p` seeds could be ours, by groups of `n_p` drawn from our N seeds.

    Groups are drawn without replacement, each reads its epoch as the paper did, and their spread about our mean is
    stretched by `\sqrt{(1 + n_p / N) / (1 - n_p / N)}`: groups from N seeds vary by `\sigma^2 / n_p (1 - n_p / N)`
    about our mean, and a mean of `n_p` other seeds by `\sigma^2 / n_p (1 + n_p / N)`. The p-value is twice the
    smaller tail `(1 + k) / (1 + B)`, k counting the groups at or beyond the printed mean, moved towards ours by its
    rounding. Beyond all groups it is continued by the tail of one more draw after the m outermost, were their excess
    over u exponential: `m / B (1 + (x - u) / \sum_i (x_i - u))^{-m}`, too cautious for lighter tails. A count alone
    cannot fall below `2 / (1 + B)`, more than a table of a hundred cells can reject at 5%. No spread is needed of the
    paper.

    Seeds that diverged are counted and left out: the comparison is with a paper whose seeds did not. With fewer than
    `2 n_p` others there is no p-value and no interval (NaN), and `ledger_table` calls the cell not reproduced.

    Args:
        values: `f[N]`, or `f[N, E]` with one value an epoch; the draws depend on
            the values and not on the order of the seeds.
        printed: the paper's mean, its decimals and its number of seeds `n_p`.
        seed: of the draws, a whole number `>= 0`.
        epoch: `"last"`; `"group_mean"`, the epoch with the best mean score over a group's seeds, which all read
            (with scores on test rows the rule of the Nash-Meta-Learning paper); or `"per_seed"`, each seed's own best
            (with scores on validation rows, early stopping). The first of epochs that tie.
        scores: `f[N, E]`, what the epoch is selected by; higher is better, so pass minus a loss.
        num_resamples: groups `B`.
        min_seeds: how many seeds at least.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for fewer than `min_seeds` or `2 n_p` seeds, shapes that do not fit, scores missing or given in
            vain, or a printed mean that is not finite.
    """
    seed = check_seed(seed)
    check_positive_integer(num_resamples=num_resamples, min_seeds=min_seeds)
    group_size = _checked_size(printed)
    values, scores, finite = checked_runs(values, epoch, scores)
    num_seeds, num_finite = len(values), int(finite.sum())
    needed = max(min_seeds, 2 * group_size)
    if num_seeds < needed:
        raise ValueError(f"a cell needs at least {needed} seeds, got {num_seeds}; run more, or lower min_seeds")
    values, scores = values[finite], None if scores is None else scores[finite]
    if num_finite < 2 * group_size:
        mean = float(values_read(values, epoch, scores).mean()) if num_finite else float("nan")
        unknown = float("nan")
        return Cell(printed, mean, mean - printed.mean, unknown, unknown, unknown, unknown, num_seeds,
                    num_seeds - num_finite)  # fmt: skip
    if scores is None:
        (values,) = shuffled_seeds(seed, values)
    else:
        values, scores = shuffled_seeds(seed, values, scores)
    members = memberships(num_finite, group_size, num_resamples, seed)
    groups = group_means(values, members, epoch, scores)
    # Where no epoch is selected by groups, the mean over all seeds is what the groups' mean estimates.
    centre = groups.mean() if epoch == "group_mean" else values_read(values, epoch, scores).mean()
    ratio = group_size / num_finite
    drawn = centre + (groups - centre) * np.sqrt((1 + ratio) / (1 - ratio))
    low, high = np.quantile(drawn, [0.025, 0.975])
    p_value = two_sided_tail(drawn, printed.mean, 0.5 * 10.0**-printed.decimals)
    return Cell(printed, float(centre), float(centre - printed.mean), p_value, float(low), float(high),
                float(high - low) / 2, num_seeds, num_seeds - num_finite)  # fmt: skip


def two_sided_tail(drawn: np.ndarray, mean: float, rounding: float) -> float:
    """Twice the smaller tail of draws `f[B]` at a mean that stands for all numbers within `rounding` of it."""
    above = _tail(drawn, mean - rounding)
    below = _tail(-drawn, -mean - rounding)
    return float(min(1.0, 2 * min(above, below)))


def _tail(drawn: np.ndarray, at: float) -> float:
    """Chance of a draw at or above a number: counted, and beyond all draws continued exponentially."""
    beyond = int(np.sum(drawn >= at - _ROUNDING))
    counted = (1 + beyond) / (1 + drawn.size)
    if beyond:
        return counted
    start = np.quantile(drawn, 1 - _TAIL_SHARE)
    outer = drawn[drawn >= start]
    excess = float(np.sum(outer - start))
    if excess > _ROUNDING:
        return float(min(counted, outer.size / drawn.size * (1 + (at - start) / excess) ** -outer.size))
    # The outermost groups agree, which says nothing of what lies beyond them; where all do, the number is not theirs.
    return 0.1 * counted if np.ptp(drawn) > _ROUNDING else 0.0


def _checked_size(printed: Printed) -> int:
    if not np.isfinite(printed.mean):
        raise ValueError(f"the printed mean must be finite, got {printed.mean}; list the cell as not run instead")
    if isinstance(printed.decimals, bool) or not isinstance(printed.decimals, int | np.integer) or printed.decimals < 0:
        raise ValueError(f"decimals must be a whole number >= 0, got {printed.decimals!r}")
    size = ASSUMED_SEEDS if printed.num_seeds is None else printed.num_seeds
    check_positive_integer(num_seeds=size)
    return size
