"""What every function of points asks of them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from badrjax.groups import as_float


def checked_points(
    points: Any, valid: Any = None, name: str = "points", valid_name: str = "valid"
) -> tuple[Float[Array, "n m"], Bool[Array, "n"]]:
    """Points as floats of at least 32 bits, and which rows take part: valid ones without NaN.

    Raises:
        ValueError: unless points are `[n, m]` with `m >= 1`, and `valid` has one entry a row.
    """
    if np.ndim(points) != 2 or np.shape(points)[1] == 0:
        raise ValueError(
            f"{name} must be [n, m], one row a solution and one column an objective, got shape {np.shape(points)}"
        )
    points = as_float(points)
    usable = ~jnp.any(jnp.isnan(points), axis=1)
    if valid is None:
        return points, usable
    if np.shape(valid) != points.shape[:1]:
        raise ValueError(f"{valid_name} must be bool[{points.shape[0]}] like {name}, got shape {np.shape(valid)}")
    return points, usable & jnp.asarray(valid).astype(bool)
