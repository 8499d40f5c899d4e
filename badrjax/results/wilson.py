"""Wilson's interval of a share."""

from __future__ import annotations

from typing import NamedTuple

from badrjax.extras import require


class WilsonInterval(NamedTuple):
    """Ends of an interval of a share, in `[0, 1]`."""

    low: float
    high: float


def wilson_interval(share: float, num_rows: int, *, ci: float = 0.95) -> WilsonInterval:
    """The interval of Wilson (1927), right for few rows and for shares of 0 and 1, where a bootstrap has no width.

    Args:
        share: of the rows, in `[0, 1]`.
        num_rows: that it is over, `>= 1`.
        ci: confidence level in `(0, 1)`.

    Returns:
        Its ends.

    Raises:
        ModuleNotFoundError: without SciPy.
        ValueError: for a share, a number of rows or a level outside their range.
    """
    stats = require("scipy.stats", "Wilson's interval")
    found = stats.binomtest(round(share * num_rows), num_rows).proportion_ci(ci, method="wilson")
    return WilsonInterval(float(found.low), float(found.high))
