"""Many tests at once: false discoveries (Benjamini-Hochberg), any false one (Holm), and signs across data sets."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from badrjax.extras import require


class SignTest(NamedTuple):
    """Signs of differences, one a cluster.

    Attributes:
        num_positive: clusters that agree on a positive difference.
        num_negative: on a negative one.
        num_tied: with a sum of signs of 0, which the test leaves out.
        p_value: two-sided, exact; 1 with no cluster left.
    """

    num_positive: int
    num_negative: int
    num_tied: int
    p_value: float


def benjamini_hochberg(p_values: Any) -> np.ndarray:
    """Adjusted p-values `f[m]` (Benjamini and Hochberg, 1995): at or below q for what is rejected at level q.

    Args:
        p_values: `f[m]` in `[0, 1]`; NaN is no test: it stays NaN and does not count.

    Raises:
        ModuleNotFoundError: without SciPy.
        ValueError: for more than one axis, or a p-value outside `[0, 1]`.
    """
    p_values = _checked(p_values)
    tested = ~np.isnan(p_values)
    adjusted = np.full(p_values.shape, np.nan)
    if tested.any():
        stats = require("scipy.stats", "adjusting p-values")
        adjusted[tested] = stats.false_discovery_control(p_values[tested], method="bh")
    return adjusted


def holm(p_values: Any) -> np.ndarray:
    """Adjusted p-values `f[m]` (Holm, 1979): at or below a level for what is rejected, with no false one by chance.

    Args:
        p_values: `f[m]` in `[0, 1]`; NaN is no test: it stays NaN and does not count.

    Raises:
        ValueError: for more than one axis, or a p-value outside `[0, 1]`.
    """
    p_values = _checked(p_values)
    order, remaining = _steps(p_values)
    adjusted = np.full(p_values.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * remaining), 1.0)
    return adjusted


def holm_levels(p_values: Any, level: float = 0.05) -> np.ndarray:
    """At which level to form each interval `f[m]`, so that it excludes 0 exactly where Holm's procedure rejects.

    The smallest p-value is tested at `level / m`, the next at `level / (m - 1)`, and so on; all that come after the
    first that is not rejected keep its level.

    Args:
        p_values: `f[m]` in `[0, 1]`; NaN is no test and gets NaN.
        level: of the family, in `(0, 1)`.

    Raises:
        ValueError: for more than one axis, a p-value outside `[0, 1]`, or a level outside `(0, 1)`.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    p_values = _checked(p_values)
    order, remaining = _steps(p_values)
    steps = level / remaining
    kept = np.flatnonzero(p_values[order] > steps)
    if kept.size:
        steps[kept[0] :] = steps[kept[0]]
    levels = np.full(p_values.shape, np.nan)
    levels[order] = steps
    return levels


def sign_test(differences: Any, clusters: Sequence[Hashable] | None = None) -> SignTest:
    """Whether differences are as often above 0 as below, one vote a cluster.

    Data sets that share their rows are no two witnesses: a cluster votes for the sign that more of its members have,
    and abstains where they are split.

    Args:
        differences: `f[m]`, finite.
        clusters: what each belongs to, m of them; `None` is one each.

    Raises:
        ModuleNotFoundError: without SciPy.
        ValueError: for differences that are not finite numbers along one axis, or another number of clusters.
    """
    stats = require("scipy.stats", "the sign test")
    differences = np.asarray(differences, float)
    if differences.ndim != 1 or not np.isfinite(differences).all():
        raise ValueError(f"differences must be finite, one a data set, got {differences!r}")
    clusters = list(range(differences.size)) if clusters is None else list(clusters)
    if len(clusters) != differences.size:
        raise ValueError(f"clusters must name one for each of {differences.size} differences, got {len(clusters)}")
    votes = dict.fromkeys(clusters, 0.0)
    for cluster, difference in zip(clusters, differences, strict=True):
        votes[cluster] += np.sign(difference)
    signs = np.sign(list(votes.values()))
    above, below = int(np.sum(signs > 0)), int(np.sum(signs < 0))
    p_value = float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0
    return SignTest(above, below, len(signs) - above - below, p_value)


def _steps(p_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the tests in ascending order, and how many are left at each."""
    order = np.argsort(p_values, kind="stable")[: int(np.sum(~np.isnan(p_values)))]
    return order, np.arange(order.size, 0, -1.0)


def _checked(p_values: Any) -> np.ndarray:
    p_values = np.asarray(p_values, float)
    if p_values.ndim != 1 or np.any((p_values < 0) | (p_values > 1)):
        raise ValueError(f"p_values must lie in [0, 1] along one axis, got {p_values!r}")
    return p_values
