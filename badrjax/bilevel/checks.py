"""What BADR's functions refuse before they are traced."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from badrjax.batches import Batch, check_batch
from badrjax.checks import check_finite, is_concrete, unknown_name


def check_weights(weights: Any, num_groups: int, name: str = "weights") -> Array:
    """Weights `f[K]` as an array; `ValueError` for another shape or, outside tracing, off the simplex."""
    if np.shape(weights) != (num_groups,):
        raise ValueError(f"{name} must be one number for each of {num_groups} groups, got shape {np.shape(weights)}")
    if is_concrete(weights):
        values = np.asarray(weights, float)
        if not (np.isfinite(values).all() and (values >= 0).all() and abs(values.sum() - 1) <= 1e-4):
            raise ValueError(
                f"{name} must lie on the simplex (>= 0, sum 1), got {values}; badrjax.project_simplex takes them there"
            )
    return jnp.asarray(weights, jnp.result_type(float))


def check_data(data: Batch, num_groups: int) -> None:
    """Raise for rows that are no batch, hold values that are not finite, or lack a group (which)."""
    check_batch(data, num_groups)
    check_finite(data.x, "data.x")
    check_finite(data.y, "data.y")
    if not is_concrete(data):
        return
    weight = np.ones(np.shape(data.y)) if data.weight is None else np.asarray(data.weight)
    present = np.bincount(np.asarray(data.group), weight, num_groups) > 0
    if not present.all():
        absent = ", ".join(map(str, np.flatnonzero(~present)))
        raise ValueError(
            f"group {absent} of {num_groups} has no rows in data, so it has no risk to weigh; leave it out, merge it "
            "with another, or split the data so that each group has rows"
        )


def check_numbers(regularisation: Any, sharpness: Any, variant: str | None) -> None:
    """Raise for a penalty or sharpness that is no number in its range, or an unknown variant."""
    for name, value in (("regularisation", regularisation), ("sharpness", sharpness)):
        if np.ndim(value):
            raise ValueError(f"{name} must be one number and has shape {np.shape(value)}; use jax.vmap over several")
    if is_concrete(regularisation) and not np.asarray(regularisation) >= 0:
        raise ValueError(f"regularisation must be 0 or more, got {regularisation}")
    if is_concrete(sharpness) and not np.asarray(sharpness) > 0:
        raise ValueError(f"sharpness must be positive, got {sharpness}")
    if variant not in (None, "badr"):
        raise unknown_name("variant", str(variant), ("badr",))
