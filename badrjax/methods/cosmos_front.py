"""The front of a model that COSMOS trained: its scores at a preference, a table over many, and a rule to pick one."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.batches import Batch, check_batch, frequencies, map_blocks
from badrjax.checks import check_positive_integer, is_concrete, unknown_name
from badrjax.constraints import (
    SCORE_WEIGHTS,
    FairnessConstraints,
    cell_counts,
    check_constraints,
    f1_of_counts,
    pair_gaps,
    penalised_score,
    requirement_gaps,
)
from badrjax.functions import as_partial
from badrjax.losses import binary_logits
from badrjax.methods.cosmos_preferences import preference_inputs


class COSMOSFront(NamedTuple):
    """What a model does at each of m preferences.

    Attributes:
        preferences: `f[m, K]`.
        performance: F1 of its hard predictions, `f[m]` in `[0, 1]`; NaN where a score is NaN, or no row counts.
        gaps: hard gap of each requirement, of its worst pair, `f[m, R]` in `[0, 1]`; NaN where it cannot be measured.
    """

    preferences: Float[Array, "m K"]
    performance: Float[Array, "m"]
    gaps: Float[Array, "m R"]


class SelectedPreference(NamedTuple):
    """The preference that a rule picked.

    Attributes:
        position: among the preferences, `int32[]`.
        preference: `f[K]`.
        scores: of all preferences, `f[m]`; `-inf` where the performance is NaN.
    """

    position: Int[Array, ""]
    preference: Float[Array, "K"]
    scores: Float[Array, "m"]


def scores_at(model: Any, params: Any, x: Float[Array, "n F"], preference: Float[Array, "K"]) -> Float[Array, "n"]:
    """Logits of class 1 at a preference, without dropout; a prediction is `scores > 0`.

    Args:
        model: that `badrjax.cosmos` trained, on `F + K` inputs.
        params: its parameters.
        x: features, `f[n, F]`.
        preference: `f[K]` on the simplex; map over several with `jax.vmap`.

    Returns:
        `f[n]`.

    Raises:
        ValueError: for features or a preference of another rank, or a model with more than two columns.
    """
    return binary_logits(model.apply(params, preference_inputs(x, preference), key=None))


def cosmos_front(
    model: Any,
    params: Any,
    batch: Batch,
    constraints: FairnessConstraints,
    preferences: Float[Array, "m K"],
    *,
    f1_average: str = "weighted",
    block_size: int = 4096,
) -> COSMOSFront:
    """F1 and the gap of each requirement at each preference, of hard predictions.

    Args:
        model: that `badrjax.cosmos` trained, on `F + K` inputs.
        params: its parameters.
        batch: rows to measure on, with the constraints' cells as groups.
        constraints: of R requirements, `K = 1 + R`.
        preferences: on the simplex, `f[m, K]`; `badrjax.preference_rays(K)` has some.
        f1_average: `"weighted"`, `"macro"` or `"binary"`.
        block_size: rows at a time, each at all preferences.

    Returns:
        `COSMOSFront`.

    Raises:
        ValueError: (outside tracing) for preferences that are not m points on the simplex, rows that do not fit the
            constraints, an unknown average, or a block size that is not positive.
        TypeError: for constraints of another kind, or labels that are not classes.
    """
    check_constraints(constraints)
    check_batch(batch, constraints.membership.shape[-1], "batch")
    if jnp.issubdtype(batch.y.dtype, jnp.inexact):
        raise TypeError("batch.y must hold classes 0 and 1: the gaps are in rates of predictions")
    check_positive_integer(block_size=block_size)
    _check_preferences(preferences, 1 + constraints.thresholds.shape[-1])
    preferences = jnp.asarray(preferences)
    return _front(as_partial(model.apply), params, batch, constraints, preferences, f1_average, int(block_size))


def select_preference(
    constraints: FairnessConstraints,
    front: COSMOSFront,
    *,
    score: Literal["squared", "linear"] = "squared",
    score_weight: float | Float[Array, ""] | None = None,
) -> SelectedPreference:
    r"""The preference with the best score S, by which `badrjax.fairlab` compares models too.

    With F1 `P`, the gap `F_r` of each requirement and its threshold `tau_r`

        squared    S = lambda P - (1 - lambda) sum_r max(0, F_r - tau_r)^2
        linear     S = P - weight sum_r max(0, F_r - tau_r)

    in which a requirement that could not be measured counts 0. Of equal scores the first is taken. Pick on a front of
    validation rows, then measure that one preference on the test rows.

    Args:
        constraints: of R requirements, whose thresholds are read.
        front: of `badrjax.cosmos_front`, on rows that neither trained the model nor test it.
        score: `"squared"` or `"linear"`.
        score_weight: `lambda` in `[0, 1]`, or the linear weight `>= 0`; `None` is 0.5, or 10 for `"linear"`.

    Returns:
        `SelectedPreference`.

    Raises:
        ValueError: (outside tracing) for an unknown score, a weight out of range, a front with other requirements, or
            one without a preference whose performance is known.
        TypeError: for constraints of another kind.
    """
    check_constraints(constraints)
    if score not in SCORE_WEIGHTS:
        raise unknown_name("score", score, tuple(SCORE_WEIGHTS))
    weight = SCORE_WEIGHTS[score] if score_weight is None else score_weight
    _check_score_weight(score, weight)
    if front.gaps.shape[-1] != constraints.thresholds.shape[-1]:
        raise ValueError(
            f"front has gaps of {front.gaps.shape[-1]} requirements and constraints have "
            f"{constraints.thresholds.shape[-1]}; measure it with cosmos_front under the same constraints"
        )
    if is_concrete(front.performance) and np.isnan(np.asarray(front.performance)).all():
        raise ValueError("front has no preference whose performance is known: the model diverged, or no row counts")
    violations = front.gaps - constraints.thresholds[None, :].astype(front.gaps.dtype)
    scores = penalised_score(front.performance, violations, score, weight)
    best = jnp.argmax(scores).astype(jnp.int32)
    return SelectedPreference(best, front.preferences[best], scores)


@partial(jax.jit, static_argnames=("f1_average", "block_size"))
def _front(
    apply: Partial,
    params: Any,
    batch: Batch,
    constraints: FairnessConstraints,
    preferences: Array,
    f1_average: str,
    block_size: int,
) -> COSMOSFront:
    num_cells = constraints.membership.shape[1]

    def decided(block: Batch, preference: Array) -> Array:
        logits = binary_logits(apply(params, preference_inputs(block.x, preference), key=None))
        # A score of NaN is no decision: it must reach the rates.
        return jnp.where(jnp.isnan(logits), jnp.nan, (logits > 0).astype(logits.dtype))

    def of_preference(preference: Array) -> tuple[Array, Array]:
        decisions = map_blocks(
            lambda block: decided(block, preference), batch, block_size=min(block_size, batch.y.shape[0])
        )
        counts = cell_counts(decisions, batch.y, batch.group, num_cells, frequencies(batch))
        return f1_of_counts(counts, f1_average), requirement_gaps(constraints, pair_gaps(constraints, counts))

    return COSMOSFront(preferences, *jax.vmap(of_preference)(preferences))


def _check_preferences(preferences: Any, num_objectives: int) -> None:
    if np.ndim(preferences) != 2 or np.shape(preferences)[1] != num_objectives:
        raise ValueError(
            f"preferences must be rows of {num_objectives} numbers (the task, then the requirements), "
            f"[m, {num_objectives}], and have shape {np.shape(preferences)}; give one preference as preference[None]"
        )
    if not is_concrete(preferences):
        return
    values = np.asarray(preferences, np.float64)
    if not (np.all(values >= 0) and np.allclose(values.sum(axis=1), 1.0, atol=1e-3)):
        raise ValueError("preferences must lie on the simplex, >= 0 and of sum 1; divide each by its sum")


def _check_score_weight(score: str, weight: Any) -> None:
    if np.ndim(weight):
        raise ValueError(f"score_weight must be one number and has shape {np.shape(weight)}; use jax.vmap over several")
    if not is_concrete(weight):
        return
    value = np.asarray(weight)
    if score == "squared" and not 0 <= value <= 1:
        raise ValueError(f"score_weight must lie in [0, 1] for the squared score, got {weight}")
    if score == "linear" and not 0 <= value < np.inf:
        raise ValueError(f"score_weight must be >= 0 and finite for the linear score, got {weight}")
