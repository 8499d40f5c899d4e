"""An estimate with its standard error and degrees of freedom, and what Student's t makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from badrjax.extras import require


class Contrast(NamedTuple):
    """A difference with its uncertainty.

    Attributes:
        estimate: the difference.
        standard_error: `>= 0`; NaN where it is not known.
        degrees: degrees of freedom of its Student distribution.
    """

    estimate: float
    standard_error: float
    degrees: float


def over_seeds(differences: Any) -> Contrast:
    """Mean of one difference a seed, `f[S]`, with the standard error of a mean and `S - 1` degrees of freedom."""
    differences = np.asarray(differences, float)
    if differences.size == 0:
        return Contrast(float("nan"), float("nan"), float("nan"))
    mean = float(differences.mean())
    if differences.size < 2:
        return Contrast(mean, float("nan"), float("nan"))
    error = float(differences.std(ddof=1) / np.sqrt(differences.size))
    return Contrast(mean, error, differences.size - 1.0)


def add_rows(contrast: Contrast, row_error: float, num_rows: int) -> Contrast:
    r"""The same difference with the error of the test rows added to that of the seeds.

    Variances add, and the degrees of freedom are Welch and Satterthwaite's,
    `(v_s + v_r)^2 / (v_s^2 / (S - 1) + v_r^2 / (n - 1))`. What seeds and rows do together is in both, so that it
    counts twice: a little too wide, never too narrow.

    Args:
        contrast: over seeds, given the rows.
        row_error: standard error of the mean over seeds when rows are drawn anew.
        num_rows: distinct rows `n`.
    """
    seeds, rows = contrast.standard_error**2, row_error**2
    scale = seeds**2 / contrast.degrees + rows**2 / max(num_rows - 1, 1)
    degrees = (seeds + rows) ** 2 / scale if scale > 0 else contrast.degrees
    return Contrast(contrast.estimate, float(np.sqrt(seeds + rows)), float(degrees))


def interval(contrast: Contrast, level: float = 0.05) -> tuple[float, float]:
    """Both ends of the interval that misses with chance `level`; NaN where the error is not known."""
    stats = require("scipy.stats", "an interval")
    half_width = float(stats.t.isf(level / 2, contrast.degrees)) * contrast.standard_error
    return contrast.estimate - half_width, contrast.estimate + half_width


def p_value(contrast: Contrast) -> float:
    """Two-sided p-value of no difference; without any spread 1 at 0 and else 0, and NaN without a known error."""
    if np.isnan(contrast.standard_error):
        return float("nan")
    if contrast.standard_error == 0:
        return float(contrast.estimate == 0)
    stats = require("scipy.stats", "a p-value")
    return float(2 * stats.t.sf(abs(contrast.estimate) / contrast.standard_error, contrast.degrees))
