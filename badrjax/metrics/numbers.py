"""Checks of rows that hold real numbers: targets and predictions of regression."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from badrjax.checks import check_groups, check_same_length, check_vector, check_weight
from badrjax.groups import as_frequencies


def numeric_rows(
    numbers: dict[str, Any], groups: Any, num_groups: int, weight: Any
) -> tuple[list[Array], Array, Array]:
    """Named columns of numbers and weights as floats of one dtype, and ids as `int32[n]`, all checked.

    What a row of weight 0 holds becomes 0. Integers take the float type of the other columns.

    Raises:
        TypeError: for columns that are not integers or floats, or ids that are not integers.
        ValueError: for unequal lengths, or (outside tracing) ids outside the range or negative weights.
    """
    for name, column in numbers.items():
        _check_numbers(column, name)
    check_vector(**numbers, groups=groups, weight=weight)
    check_same_length(**numbers, groups=groups, weight=weight)
    check_groups(groups, num_groups)
    check_weight(weight)
    columns = [jnp.asarray(column) for column in numbers.values()]
    dtype = jnp.result_type(*columns)
    dtype = jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float)
    groups = jnp.asarray(groups).astype(jnp.int32)
    weight = jnp.ones(groups.shape, dtype) if weight is None else as_frequencies(weight).astype(dtype)
    return [jnp.where(weight > 0, column.astype(dtype), 0.0) for column in columns], groups, weight


def _check_numbers(column: Any, name: str) -> None:
    dtype = column.dtype if hasattr(column, "dtype") else np.asarray(column).dtype
    if jax.dtypes.issubdtype(dtype, np.integer) or jax.dtypes.issubdtype(dtype, np.floating):
        return
    raise TypeError(
        f"{name} must hold numbers (floats or integers) and has {dtype}: these metrics are for regression; for "
        "classes use accuracy and the like, or turn them into numbers on purpose with astype(float)"
    )
