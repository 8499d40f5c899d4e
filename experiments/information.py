r"""How much the features of a few rows say about a target, in as many ways as a short description leaves open.

For a feature with levels `a` and a target `t`, from counts, in nats,

    I(a; t) = H(a) + H(t) - H(a, t),    H(p) = - \sum_i p_i \log p_i,

which is normalised by the mean of `H(a)` and `H(t)`, or left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice, permutations
from typing import NamedTuple

import numpy as np

from badrjax.extras import require

NEIGHBOURS = 3
TARGETS = ("label", "group", "group x label")


class Estimator(NamedTuple):
    """One reading of "normalised mutual information of the validation rows".

    Attributes:
        rows: `"validation"`, or `"all"` rows of the dataset.
        levels: how a feature becomes discrete: see `LEVELS`; `"neighbours"` estimates from distances instead.
        target: one of `TARGETS`.
        normalised: whether by the mean of both entropies.
        summary: of the features' values: their `"mean"` or `"median"`, or the `"mean / F"` or `"median / F"`, divided
            by the number of features once more.
    """

    rows: str
    levels: str
    target: str
    normalised: bool
    summary: str


SUMMARIES: Mapping[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(values.mean()),
    "median": lambda values: float(np.median(values)),
    "mean / F": lambda values: float(values.mean() / values.size),
    "median / F": lambda values: float(np.median(values) / values.size),
}
LEVELS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "values": lambda column: np.unique(column, return_inverse=True)[1],
    "2 bins": lambda column: equal_width(column, 2),
    "5 bins": lambda column: equal_width(column, 5),
    "10 bins": lambda column: equal_width(column, 10),
}


def estimates(x: np.ndarray, label: np.ndarray, group: np.ndarray, rows: np.ndarray) -> dict[Estimator, float]:
    """Every estimator on one dataset.

    Args:
        x: features `f[n, F]`; their scale does not matter.
        label: integers from 0, `int[n]`.
        group: integers from 0, `int[n]`.
        rows: positions of the validation rows, `int[m]`.

    Raises:
        ModuleNotFoundError: without scikit-learn.
    """
    targets = dict(zip(TARGETS, (label, group, group * (label.max() + 1) + label), strict=True))
    found = {}
    for part, chosen in (("validation", rows), ("all", slice(None))):
        of_part = {name: target[chosen] for name, target in targets.items()}
        columns = np.ascontiguousarray(x[chosen].T)
        by_kind = counted(columns, of_part, LEVELS)
        if part == "validation":  # neighbours among all rows take minutes
            by_kind |= {("neighbours", name, False): neighbours(columns.T, of_part[name]) for name in TARGETS}
        for (levels, target, normalised), of_features in by_kind.items():
            for summary, of in SUMMARIES.items():
                found[Estimator(part, levels, target, normalised, summary)] = of(of_features)
    return found


def counted(
    columns: np.ndarray, targets: Mapping[str, np.ndarray], levels: Mapping[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[tuple[str, str, bool], np.ndarray]:
    """Information of each feature with each target from counts, 0 for a constant feature.

    Args:
        columns: features `f[F, n]`.
        targets: integers from 0 by name, `int[n]`.
        levels: functions to integers from 0 by name.

    Returns:
        By levels, target and whether it is normalised, `f[F]`.
    """
    both = {(name, target): np.zeros((len(columns), 2)) for name in levels for target in targets}
    for j in np.flatnonzero(np.ptp(columns, axis=1) > 0):
        for name, to_levels in levels.items():
            found = to_levels(columns[j])
            for target, values in targets.items():
                both[name, target][j] = mutual_information(found, values)
    by_kind = {}
    for (name, target), values in both.items():
        information, scale = values.T
        by_kind[name, target, False] = information
        by_kind[name, target, True] = np.divide(information, scale, out=np.zeros_like(scale), where=scale > 0)
    return by_kind


def neighbours(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Information of each feature `f[n, F]` with a target `int[n]` from distances to neighbours, in nats, `f[F]`.

    0 for a constant feature, and for all where some row is the only one of its kind.
    """
    from sklearn.feature_selection import mutual_info_classif  # takes a second, which other estimators need not
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    values = np.zeros(x.shape[1])
    varied = np.ptp(x, axis=0) > 0
    if varied.any() and np.bincount(target)[target].min() > 1:
        # A few rows at a time: on a busy machine, threads that wait for each other take minutes.
        with threadpool_limits(1):
            values[varied] = mutual_info_classif(
                x[:, varied], target, discrete_features=False, n_neighbors=NEIGHBOURS, random_state=0
            )
    return values


def mutual_information(levels: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Mutual information of two columns of integers from 0, `int[n]`, and the mean of their entropies, in nats."""
    width = int(target.max()) + 1
    joint = np.bincount(levels * width + target, minlength=(int(levels.max()) + 1) * width).reshape(-1, width)
    ends = entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0))
    # Rounding may leave an independent pair a little below 0.
    return max(ends - entropy(joint.ravel()), 0.0), ends / 2


def entropy(counts: np.ndarray) -> float:
    """Entropy of counts `int[L]`, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def equal_width(column: np.ndarray, number: int) -> np.ndarray:
    """Which of so many bins of equal width between the least and the largest value each is in, `int[n]`."""
    low, high = float(column.min()), float(column.max())
    if low == high:
        return np.zeros(column.shape, int)
    return np.minimum((number * (column.astype(float) - low) / (high - low)).astype(int), number - 1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; NaN where either is constant or there are fewer than three."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(require("scipy.stats", "a rank correlation").spearmanr(first, second).statistic)


def typical_factor(ours: np.ndarray, theirs: np.ndarray) -> float:
    """By what factor numbers are off, `exp` of the root mean square of log ratios; infinite where one of ours is 0."""
    if np.any(ours <= 0):
        return float("inf")
    return float(np.exp(np.sqrt(np.mean(np.log(ours / theirs) ** 2))))


def chance_of_correlation(ours: np.ndarray, theirs: np.ndarray, *, most: int = 5040) -> float:
    """How often the best of several rank correlations is at least as high when the order of `theirs` is shuffled.

    Args:
        ours: numbers of several estimators on the same datasets, `f[H, n]`.
        theirs: printed numbers, `f[n]`.
        most: permutations; all where there are no more.

    Returns:
        Share in `(0, 1]`; NaN for fewer than three datasets or where every estimator is constant.
    """
    varied = ours[np.ptp(ours, axis=1) > 0]
    if len(varied) == 0 or len(theirs) < 3:
        return float("nan")
    ranks = np.stack([_standard_ranks(values) for values in varied])
    orders = np.array(list(islice(permutations(range(len(theirs))), most)))
    highest = (ranks @ _standard_ranks(theirs)[orders].T).max(axis=0)
    return float(np.mean(highest >= highest[0] - 1e-9))  # the first order is the one that was printed


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, of mean 0 and length 1, so that products of them are Spearman's correlations."""
    ranks = require("scipy.stats", "a rank correlation").rankdata(values)
    centred = ranks - ranks.mean()
    return centred / np.linalg.norm(centred)
