"""From counts by label and cell to the numbers of the tables: F1, gaps, their bounds and noise floors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import badrjax as bx
from badrjax.constraints import (
    CellCounts,
    FairnessConstraints,
    f1_of_counts,
    group_rates,
    pair_gaps,
    penalised_score,
    requirement_gaps,
)
from experiments.fairlab_methods import Point

_RESAMPLES = 500


class Measures(NamedTuple):
    """What a model does on a set of rows, under R requirements.

    Attributes:
        f1: weighted, macro and binary F1.
        positive: share predicted 1.
        gaps: of each requirement, `f[R]`.
        bounds: one-sided 95% upper bounds of the gaps by resampling rows, `f[R]`.
        floors: what the gaps come to at exact parity on as many rows, with the same overall rates, `f[R]`.
        rates: positive rate of each group, `f[V]`.
    """

    f1: dict[str, float]
    positive: float
    gaps: np.ndarray
    bounds: np.ndarray
    floors: np.ndarray
    rates: np.ndarray


def gaps_of(constraints: FairnessConstraints, counts: CellCounts) -> np.ndarray:
    """The gap of each requirement, `f[R]`."""
    return np.asarray(_gaps(constraints, _on_device(counts)), float)


def measure(constraints: FairnessConstraints, counts: CellCounts, seed: int) -> Measures:
    """All numbers of a model on the rows that were counted; the seed is of the bootstrap and of the floors."""
    counts = _on_device(counts)
    rates, present = group_rates(counts, constraints.membership)
    key = jax.random.key(seed)
    return Measures(
        {name: float(f1_of_counts(counts, name)) for name in ("weighted", "macro", "binary")},
        float(jnp.sum(counts.positive) / jnp.sum(counts.total)),
        np.asarray(_gaps(constraints, counts), float),
        np.asarray(_upper_bounds(key, constraints, counts), float),
        _floors(jax.random.fold_in(key, 1), constraints, counts),
        np.where(present.positive, rates.positive, np.nan),
    )


def score(constraints: FairnessConstraints, counts: CellCounts) -> float:
    """S of the paper, `P / 2 - sum_r max(0, F_r - tau_r)^2 / 2`, by which a method's point is chosen on validation."""
    violations = jnp.asarray(gaps_of(constraints, counts)) - constraints.thresholds
    return float(penalised_score(f1_of_counts(_on_device(counts)), violations))


def choose(constraints: FairnessConstraints, points: Sequence[Point]) -> Point:
    """The point with the best score on the validation rows; the first of equals."""
    return max(points, key=lambda point: score(constraints, point.counts["validation"]))


def constant(counts: CellCounts) -> CellCounts:
    """What predicting the commoner label always does on the same rows."""
    total = np.asarray(counts.total)
    return CellCounts(total, total * float(total[1].sum() >= total[0].sum()))


def trade_off(constraints: FairnessConstraints, counts: CellCounts) -> tuple[float, float]:
    """Two costs in `[0, 1]`: 1 - F1, and the largest excess of a gap over its threshold, on the scale of the gap.

    With one requirement the second is the gap itself.
    """
    gaps, thresholds = gaps_of(constraints, counts), np.asarray(constraints.thresholds)
    worst = gaps[0] if gaps.size == 1 else np.nanmax(gaps - thresholds) + thresholds.max()
    return 1.0 - float(f1_of_counts(_on_device(counts))), float(np.clip(worst, 0.0, 1.0))


def _on_device(counts: CellCounts) -> CellCounts:
    return CellCounts(*(jnp.asarray(leaf, jnp.float32) for leaf in counts))


@jax.jit
def _gaps(constraints: FairnessConstraints, counts: CellCounts) -> jax.Array:
    return requirement_gaps(constraints, pair_gaps(constraints, counts))


@jax.jit
def _upper_bounds(key: jax.Array, constraints: FairnessConstraints, counts: CellCounts) -> jax.Array:
    """95% quantiles of the gaps over rows drawn with replacement: draws of the counts of label, cell and prediction."""
    negative = jnp.maximum(counts.total - counts.positive, 0.0)
    kinds = jnp.stack([negative, counts.positive])  # [2, 2, C]
    size = jnp.sum(counts.total)

    def of_draw(key: jax.Array) -> jax.Array:
        drawn = jax.random.multinomial(key, size, kinds.ravel() / size).reshape(kinds.shape)
        return _gaps(constraints, CellCounts(drawn[0] + drawn[1], drawn[1]))

    gaps = jax.lax.map(of_draw, jax.random.split(key, _RESAMPLES))
    return jnp.nanquantile(gaps, 0.95, axis=0)


def _floors(key: jax.Array, constraints: FairnessConstraints, counts: CellCounts) -> np.ndarray:
    """Expected gaps at exact parity, see `badrjax.noise_floor_from_counts`, requirement by requirement."""
    labelled = np.asarray(jnp.matmul(constraints.membership.astype(jnp.float32), counts.total.T))
    rows, positive = np.asarray(counts.total).sum(axis=1), np.asarray(counts.positive).sum(axis=1)
    true_rate, false_rate = float(positive[1] / rows[1]), float(positive[0] / rows[0])
    floors: list[Any] = []
    for number, name in enumerate(constraints.requirement_names):
        pairs = np.asarray(constraints.requirement) == number
        groups = np.unique(np.concatenate([constraints.left[pairs], constraints.right[pairs]]))
        floor = bx.noise_floor_from_counts(
            key, jnp.asarray(labelled[groups, 1]), jnp.asarray(labelled[groups, 0]), true_rate, false_rate,
            num_samples=500,
        )  # fmt: skip
        found = floor.demographic_parity if name.startswith("demographic_parity") else floor.equalized_odds
        floors.append(float(found.mean))
    return np.asarray(floors)
