"""What is read off runs: the epoch that is reported, the text of an interval, and how stages are drawn."""

from __future__ import annotations

import numpy as np

from badrjax import results
from badrjax.plotting import COLOURS

STAGES = {"one stage": ("--", COLOURS[1]), "two stages": ("-", COLOURS[0])}
"""Line style and colour by stage, the same in all figures."""


def best_epoch(scores: np.ndarray) -> int:
    """Position of the epoch with the best mean score over seeds, `f[S, E]`; the last where no score is finite.

    A seed that diverged at some epoch would make the mean of the others jump there, so it takes no part, unless all
    did.
    """
    scores = np.asarray(scores, float)
    known = np.isfinite(scores)
    if not known.any():
        return scores.shape[1] - 1
    if known.all(axis=1).any():
        return int(np.argmax(scores[known.all(axis=1)].mean(axis=0)))
    total, number = np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0)
    return int(np.argmax(np.divide(total, number, out=np.full(scores.shape[1], -np.inf), where=number > 0)))


def interval_text(values: np.ndarray, form: str = ".3f", *, nothing: str | None = None) -> str:
    """Mean of one value a seed with Student's 95% half-width, and how many diverged.

    Args:
        values: `f[S]`.
        form: of the mean; the half-width has no sign.
        nothing: the text where no value is finite; how many diverged if not given.
    """
    interval = results.mean_interval(values)
    diverged = f"{interval.num_diverged} diverged" if interval.num_diverged else ""
    if interval.num_finite == 0:
        return diverged if nothing is None else nothing
    half_width = f" ±{interval.half_width:{form.lstrip('+')}}" if interval.num_finite > 1 else ""
    return f"{interval.mean:{form}}{half_width}" + (f" ({diverged})" if diverged else "")
