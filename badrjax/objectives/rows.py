"""What the objectives of scores share: rows that have been checked, with padding cleared."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from badrjax.checks import (
    check_groups,
    check_same_length,
    check_scores,
    check_vector,
    check_weight,
    is_concrete,
    unknown_name,
)
from badrjax.groups import as_float, as_frequencies

VARIANTS = ("badr",)


class Rows(NamedTuple):
    """Rows without what padding held.

    Attributes:
        scores: `f[n]`, 0 in padding.
        groups: ids, `int32[n]`.
        weight: frequencies `>= 0` in the dtype of the scores, `f[n]`.
        valid: false if a traced row that has weight holds what would have raised outside tracing.
    """

    scores: Float[Array, "n"]
    groups: Int[Array, "n"]
    weight: Float[Array, "n"]
    valid: Bool[Array, ""]


def checked_rows(scores: Any, labels: Any, groups: Any, num_groups: int, weight: Any, variant: str | None) -> Rows:
    """All arguments but the values of the labels checked, and padding cleared.

    Raises:
        TypeError: for scores that are not floats or ids that are not integers.
        ValueError: for an unknown `variant`, other shapes than `[n]`, or (outside tracing) ids outside the range or
            negative weights.
    """
    if variant is not None and variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    check_scores(scores)
    check_vector(scores=scores, labels=labels, groups=groups, weight=weight)
    check_same_length(scores=scores, labels=labels, groups=groups, weight=weight)
    check_groups(groups, num_groups)
    check_weight(weight)
    scores = as_float(scores)
    groups = jnp.asarray(groups)
    # The bound would wrap round in a narrow type that does not hold it.
    groups = groups if groups.dtype.itemsize >= 4 else groups.astype(jnp.int32)
    weight = jnp.ones(scores.shape, scores.dtype) if weight is None else as_frequencies(weight).astype(scores.dtype)
    outside = (groups < 0) | (groups >= num_groups)
    wrong = ~(weight >= 0) | (outside & (weight > 0))
    weight = jnp.where(wrong, 0.0, weight)
    # Cleared here once: what padding holds then reaches neither the value nor a derivative.
    return Rows(jnp.where(weight > 0, scores, 0.0), groups.astype(jnp.int32), weight, ~jnp.any(wrong))


def checked_sharpness(sharpness: Any, dtype: Any) -> Float[Array, ""]:
    """`sharpness` as a number of `dtype`; NaN for a traced one that is not positive.

    Raises:
        ValueError: for anything but one number, or (outside tracing) one that is not positive and finite.
    """
    if np.ndim(sharpness):
        raise ValueError(f"sharpness must be one number, got shape {np.shape(sharpness)}; use jax.vmap over several")
    if is_concrete(sharpness) and not 0.0 < float(sharpness) < np.inf:
        raise ValueError(f"sharpness must be positive and finite, got {float(sharpness):g}")
    sharpness = jnp.asarray(sharpness, dtype)
    return jnp.where(sharpness > 0, sharpness, jnp.nan)


def checked_classes(labels: Any, rows: Rows) -> tuple[Bool[Array, "n"], Rows]:
    """Which rows are labelled 1, and `rows` no longer valid if one that has weight is labelled neither 0 nor 1."""
    labels = jnp.asarray(labels)
    wrong = (labels != 0) & (labels != 1) & (rows.weight > 0)
    return labels == 1, rows._replace(valid=rows.valid & ~jnp.any(wrong))


def has_classes(labels: Any) -> bool:
    """Whether labels are classes (integers or booleans) and not targets (floats)."""
    dtype = labels.dtype if hasattr(labels, "dtype") else np.asarray(labels).dtype
    return bool(dtype == np.bool_ or jax.dtypes.issubdtype(dtype, np.integer))


def centred(values: Float[Array, "n"], weight: Float[Array, "n"]) -> Float[Array, "n"]:
    """`values` less a constant near their weighted mean, for functions that shifts leave alone.

    Sums of numbers far from 0 would lose the digits in which they differ. The constant takes no part in derivatives.
    """
    total = jnp.sum(weight)
    mean = jnp.sum(weight * values) / jnp.where(total > 0, total, 1.0)
    return values - jax.lax.stop_gradient(mean)
