"""One masked reduction by group, on which all group losses and rates are built, and the encoder of groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from badrjax.checks import check_groups, check_same_length, check_vector, check_weight

# Up to this many groups a masked sum is used: it is as fast as a scatter there, and it does not depend on the
# order in which a GPU happens to add. Above it the mask would cost n x K, and a scatter is taken.
_MASKED_SUM_MOST_GROUPS = 16
# A scatter adds row after row, and a million weights of 0.1 added so in float32 are off by one in a hundred.
# So rows are added in blocks of this many, then the blocks. For more groups than this a block has as many
# rows as there are groups, so that there are never more partial sums than rows.
_SCATTER_BLOCK_ROWS = 512


class Groups(NamedTuple):
    """Ids of (intersectional) groups with their names.

    Attributes:
        ids: `int32[n]` in `[0, num_groups)`.
        names: one string a group; for several attributes the values joined by `" & "`.
        num_groups: how many groups occur.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    num_groups: int


def encode_groups(*attributes: Sequence[Any] | np.ndarray) -> Groups:
    """Ids `0..K-1` for the values of one attribute, or for the intersections of several that occur.

    Host code. Ids follow the sorted order of the values (numbers by size), attribute by attribute, so they do
    not depend on the order of the rows.

    Args:
        *attributes: columns of equal length `n`, of strings, numbers or booleans.

    Returns:
        `Groups(ids, names, num_groups)`; only intersections that occur get an id.

    Raises:
        ValueError: for no attribute, unequal lengths, no rows, or missing values (which attribute and row).
        TypeError: for an attribute whose values cannot be ordered, such as strings mixed with numbers.
    """
    if not attributes:
        raise ValueError("encode_groups needs at least one attribute column")
    columns = [np.asarray(attribute) for attribute in attributes]
    for position, column in enumerate(columns):
        if column.ndim != 1 or column.shape[0] == 0:
            raise ValueError(f"attribute {position} must be a column with rows, got shape {column.shape}")
        if column.shape != columns[0].shape:
            raise ValueError(f"attribute {position} has {column.shape[0]} rows, attribute 0 has {columns[0].shape[0]}")
        missing = np.array([_is_missing(value) for value in column.tolist()])
        if missing.any():
            raise ValueError(
                f"attribute {position} has a missing value in row {np.flatnonzero(missing)[0]}; "
                "drop the row or give missing values a name of their own"
            )
    codes, values = zip(*(_codes(column, i) for i, column in enumerate(columns)), strict=True)
    sizes = [v.size for v in values]
    joint = np.ravel_multi_index(tuple(codes), sizes)
    present, ids = np.unique(joint, return_inverse=True)
    names = [
        " & ".join(str(v[i]) for v, i in zip(values, index, strict=True))
        for index in zip(*np.unravel_index(present, sizes), strict=True)
    ]
    return Groups(ids.astype(np.int32), tuple(names), len(names))


def group_sum(values: Shaped[Array, "n"], groups: Int[Array, "n"], num_groups: int) -> Float[Array, "K"]:
    """Sums of `values` `f[n]` by group, `f[K]`; rows with ids outside `[0, num_groups)` take no part.

    Half-precision values (and integers) are added, and returned, in float32: bfloat16 counts only to 256.
    """
    values = as_float(values)
    if num_groups > _MASKED_SUM_MOST_GROUPS:
        return _scatter_sum(values, groups, num_groups)
    member = groups[:, None] == jnp.arange(num_groups, dtype=groups.dtype)[None, :]
    return jnp.sum(jnp.where(member, values[:, None], jnp.zeros((), values.dtype)), axis=0)


def _scatter_sum(values: Float[Array, "n"], groups: Int[Array, "n"], num_groups: int) -> Float[Array, "K"]:
    """`group_sum` by scattering each block of rows into sums of its own."""
    rows = groups.shape[0]
    block_rows = max(_SCATTER_BLOCK_ROWS, num_groups)
    blocks = max(-(-rows // block_rows), 1)
    groups = groups.astype(jnp.int32)
    block = jnp.arange(rows, dtype=jnp.int32) // block_rows
    # An id outside the range must not land in the neighbouring block.
    cell = jnp.where((groups >= 0) & (groups < num_groups), block * num_groups + groups, blocks * num_groups)
    return jnp.sum(jax.ops.segment_sum(values, cell, blocks * num_groups).reshape(blocks, num_groups), axis=0)


def group_count(groups: Int[Array, "n"], num_groups: int, weight: Float[Array, "n"] | None = None) -> Float[Array, "K"]:
    """Total weight of each group: its number of rows when `weight` is `None`.

    Args:
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        `f[K]`, 0 for a group without rows.

    Raises:
        ValueError: for unequal lengths, or (outside tracing) ids outside the range or negative weights.
        TypeError: for ids that are not integers.
    """
    check_vector(groups=groups, weight=weight)
    check_same_length(groups=groups, weight=weight)
    check_groups(groups, num_groups)
    check_weight(weight)
    groups = jnp.asarray(groups)
    ones = jnp.ones(groups.shape, jnp.result_type(float)) if weight is None else as_frequencies(weight)
    return group_sum(ones, groups, num_groups)


def group_mean(
    values: Shaped[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K"]:
    r"""Weighted mean of `values` in each group, `\sum_{i in k} w_i v_i / \sum_{i in k} w_i`.

    The mean of an empty group is 0 with derivative 0. A row of weight 0 takes no part, whatever its value:
    NaN in padding reaches neither the mean nor its gradient, and the derivative by such a weight is 0.

    Args:
        values: one number a row, `f[n]` (integers and booleans are taken as floats).
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        `f[K]`; under tracing NaN for a group with a weight that is negative or NaN.

    Raises:
        ValueError: for unequal lengths, or (outside tracing) ids outside the range or weights that are not frequencies.
        TypeError: for ids that are not integers.
    """
    check_vector(values=values)
    check_same_length(values=values, groups=groups, weight=weight)
    count = group_count(groups, num_groups, weight)
    values = as_float(values)
    if weight is not None:
        weight = as_frequencies(weight).astype(values.dtype)
        # Masked twice, so that neither the value nor the derivative sees what a row of weight 0 holds.
        values = jnp.where(weight > 0, weight * jnp.where(weight > 0, values, 0.0), 0.0)
    total = group_sum(values, jnp.asarray(groups), num_groups)
    count = count.astype(total.dtype)
    # An empty group divides 0 by 1; any other by its own weight, however small that is (or NaN).
    return total / jnp.where(count == 0, 1.0, count)


def group_present(
    groups: Int[Array, "n"], num_groups: int, weight: Float[Array, "n"] | None = None
) -> Shaped[Array, "K"]:
    """Which groups have any weight, ready for the reducers' `present`.

    Arguments and errors as in `group_count`.

    Returns:
        `bool[K]`.
    """
    # A group whose weight is NaN must not pass for an absent one.
    return group_count(groups, num_groups, weight) != 0


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA, which is neither equal nor unequal to itself
        return True


def _codes(column: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray]:
    """Position of each entry among the sorted distinct values, and these."""
    try:
        values, codes = np.unique(column, return_inverse=True)
    except TypeError as error:
        raise TypeError(
            f"attribute {position} mixes values that have no order ({error}); turn them into strings first"
        ) from error
    return codes, values


def as_frequencies(weight: Any) -> Array:
    """`weight` as floats: 0, with derivative 0, in padding and NaN where it is no frequency (negative, or NaN)."""
    weight = as_float(weight)
    return jnp.where(weight > 0, weight, jnp.where(weight == 0, 0.0, jnp.nan))


def unit_of(values: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The largest size among `values` as a unit to divide by (1 if they are all 0 or one is not finite), a constant."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(values), initial=0.0))
    # XLA may multiply by the reciprocal, so that must be a normal number too.
    tiny = jnp.finfo(values.dtype).tiny
    return jnp.where((largest > 0) & (largest < jnp.inf), jnp.clip(largest, tiny, 0.25 / tiny), 1.0)


def as_float(values: Any) -> Array:
    """`values` as floats of at least 32 bits."""
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        return values.astype(jnp.result_type(float))
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
