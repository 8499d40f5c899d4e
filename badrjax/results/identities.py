"""What printed numbers must satisfy among themselves, and which therefore cannot be right."""

from __future__ import annotations

from typing import Any

import numpy as np

# Equal up to rounding errors of sums of a few decimals.
_ROUNDING = 1e-9


def worst_from_gap(overall: Any, gap: Any) -> np.ndarray:
    """The worst group's balanced accuracy, `overall - gap / 2`, for two groups of equal size with balanced labels.

    An "AUC" taken from predicted labels is balanced accuracy, and then overall is the mean of the two groups: of
    overall, gap and worst only two are free. It holds seed by seed, hence for means over seeds.

    Args:
        overall: balanced accuracy over both groups, any shape.
        gap: the better group's minus the worse group's, of the same shape.
    """
    return np.asarray(overall, float) - np.asarray(gap, float) / 2


def breaks_worst_identity(overall: Any, gap: Any, worst: Any, *, decimals: int = 3) -> np.ndarray:
    """Which printed triples break `worst = overall - gap / 2` by more than their rounding: one number is a misprint.

    Args:
        overall: as printed, any shape.
        gap: as printed.
        worst: as printed.
        decimals: to which all three are rounded; together they may be off by `1.25 * 10^-decimals`.

    Returns:
        Booleans of the same shape.
    """
    slack = 1.25 * 10.0**-decimals
    return np.abs(np.asarray(worst, float) - worst_from_gap(overall, gap)) > slack + _ROUNDING


def rows_behind(mean: float, *, num_rows: int, num_seeds: int = 5) -> float:
    """How many rows, summed over seeds, a printed rate or difference of rates is made of.

    A drop from 0.033 to 0.011 with 18 rows a group and five seeds is one from 3 rows to 1.

    Args:
        mean: the rate, a mean over seeds.
        num_rows: rows that each seed's rate is of.
        num_seeds: seeds.
    """
    return mean * num_rows * num_seeds
