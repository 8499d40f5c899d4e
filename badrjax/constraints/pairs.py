"""Requirements as constraints on pairs of groups: a gap is within its threshold when every pair's is."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from badrjax.constraints.counts import CellCounts, group_rates
from badrjax.constraints.requirements import FairnessConstraints


def pair_gaps(constraints: FairnessConstraints, counts: CellCounts) -> Float[Array, "P"]:
    """The difference in rates between the two groups of each pair.

    Demographic parity compares positive rates, equal opportunity true positive rates, predictive equality false
    positive rates, and equalised odds takes the larger difference of the last two, or the one that can be assessed.

    Args:
        constraints: of P pairs.
        counts: of the constraints' cells, of hard predictions or of probabilities.

    Returns:
        `f[P]` in `[0, 1]`, differentiable in the counts; NaN (with derivative 0) where neither rate that the pair's
        metric compares is known in both groups.
    """
    rates, present = group_rates(counts, constraints.membership)
    of_group, known_of_group = jnp.stack(rates, axis=1), jnp.stack(present, axis=1)
    left, right = constraints.left, constraints.right
    known = constraints.compares & known_of_group[left] & known_of_group[right]
    gaps = jnp.where(known, jnp.abs(of_group[left] - of_group[right]), 0.0)
    return jnp.where(jnp.any(known, axis=1), jnp.max(gaps, axis=1), jnp.nan)


def pair_violations(constraints: FairnessConstraints, counts: CellCounts) -> Float[Array, "P"]:
    """`g = gap - threshold` of each pair, `f[P]`: at most 0 where the pair's requirement holds; NaN as `pair_gaps`."""
    return pair_gaps(constraints, counts) - constraints.thresholds[constraints.requirement]


def requirement_gaps(
    constraints: FairnessConstraints, gaps: Float[Array, "P"], pairs: Bool[Array, "P"] | None = None
) -> Float[Array, "R"]:
    """The largest of the pairs' values within each requirement.

    Args:
        constraints: of P pairs and R requirements.
        gaps: one number a pair, `f[P]`; NaN takes no part.
        pairs: which pairs take part, `bool[P]`; `None` means all.

    Returns:
        `f[R]`; NaN for a requirement without a pair that takes part.
    """
    counted = ~jnp.isnan(gaps) if pairs is None else ~jnp.isnan(gaps) & pairs
    numbers = jnp.arange(constraints.thresholds.shape[0], dtype=jnp.int32)
    return largest_known(gaps[None, :], counted[None, :] & (constraints.requirement[None, :] == numbers[:, None]))


def group_violations(constraints: FairnessConstraints, violations: Float[Array, "P"]) -> Float[Array, "V"]:
    """The largest violation among the pairs that contain each group, `f[V]`; NaN where none is known."""
    groups = jnp.arange(constraints.membership.shape[0], dtype=jnp.int32)[:, None]
    contains = (constraints.left[None, :] == groups) | (constraints.right[None, :] == groups)
    return largest_known(violations[None, :], contains & ~jnp.isnan(violations)[None, :])


def owned_pairs(constraints: FairnessConstraints, group: Int[Array, ""]) -> Bool[Array, "P"]:
    """Which pairs contain a group, `bool[P]`."""
    return (constraints.left == group) | (constraints.right == group)


def largest_known(values: Array, counted: Array) -> Array:
    """The largest of the values that count, along the last axis; NaN where none does."""
    found = jnp.max(jnp.where(counted, values, -jnp.inf), axis=-1)
    return jnp.where(jnp.any(counted, axis=-1), found, jnp.nan)
