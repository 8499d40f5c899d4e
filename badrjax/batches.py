"""The weighted batch on which everything rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from badrjax.checks import (
    check_class_range,
    check_groups,
    check_positive_integer,
    check_same_length,
    check_weight,
    is_concrete,
)


class Batch(NamedTuple):
    """Rows of data with their groups and frequencies.

    `weight` is a frequency: a row of weight `w` stands for the row repeated `w` times, and 0 is padding that
    no result may depend on. Weights a method learns are another argument, never this one.

    Attributes:
        x: features, `f32[n, F]` (or any trailing shape the model takes).
        y: labels, `int[n]` for classes (0 and 1 when binary) or `float[n]` for regression.
        group: group ids in `[0, num_groups)`, `int[n]`.
        weight: frequencies `>= 0`, `f[n]`; `None` means ones.
    """

    x: Shaped[Array, "n ..."]
    y: Shaped[Array, "n"]
    group: Int[Array, "n"]
    weight: Float[Array, "n"] | None = None


def frequencies(batch: Batch) -> Float[Array, "n"]:
    """The batch's weights `f[n]`, ones where it has none."""
    if batch.weight is None:
        return jnp.ones(batch.y.shape[0], jnp.result_type(float))
    return batch.weight


def take(batch: Batch, rows: Int[Array, "m"]) -> Batch:
    """The rows at positions `rows` `int[m]`; a negative position is padding and comes back with weight 0.

    Padding repeats row 0, so that it holds no value the batch does not.

    Raises:
        TypeError: for `rows` that are not integers (a boolean mask, say).
        IndexError: (outside tracing) for a position beyond the last row.
    """
    length = batch.y.shape[0]
    # As NumPy: a maximum in JAX is traced inside jit, even that of a constant.
    if is_concrete(rows) and (largest := np.max(np.asarray(rows), initial=-1)) >= length:
        raise IndexError(f"rows must be below the number of rows {length}, but one is {largest}")
    rows = jnp.asarray(rows)
    if not jnp.issubdtype(rows.dtype, jnp.integer):
        raise TypeError(f"rows must be integer positions, got {rows.dtype}; turn a mask into positions first")
    valid = rows >= 0
    safe = jnp.where(valid, rows, 0)
    x, y, group, weight = (jnp.asarray(leaf)[safe] for leaf in batch._replace(weight=frequencies(batch)))
    return Batch(x, y, group, jnp.where(valid, weight, 0.0))


def map_blocks(function: Callable[[Batch], Any], data: Batch, *, block_size: int = 4096) -> Any:
    """`function(data)` for a function of rows, block after block, so that activations stay bounded.

    Args:
        function: takes a `Batch` of `block_size` rows (the last one padded with weight 0) and returns a pytree of
            arrays `[block_size, ...]` in which a row depends on its own input only.
        data: a `Batch` of n rows.
        block_size: rows at a time.

    Returns:
        A pytree of arrays `[n, ...]`.

    Raises:
        ValueError: for a block size that is not positive.
    """
    check_positive_integer(block_size=block_size)
    num_rows = data.y.shape[0]
    num_blocks = -(-num_rows // block_size)
    rows = jnp.arange(num_blocks * block_size)
    rows = jnp.where(rows < num_rows, rows, -1).reshape(num_blocks, block_size)
    blocks = jax.lax.map(lambda block: function(take(data, block)), rows)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], blocks)


def fill_padding(batch: Batch) -> Batch:
    """The batch with its rows of weight 0 as copies of the first row that counts.

    A weight of 0 is not enough to silence them: 0 times the NaN of a padded row is NaN in a gradient.
    """
    real = frequencies(batch) > 0
    first = jnp.argmax(real)

    def filled(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        return jnp.where(real.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, leaf[first[None]])

    return batch._replace(x=filled(batch.x), y=filled(batch.y), group=filled(batch.group))


def check_batch(batch: Batch, num_groups: int | None = None, name: str = "data") -> None:
    """Raise for what is no batch, before anything is traced.

    Raises:
        TypeError: for fields that are not arrays, or group ids that are not integers.
        ValueError: for unequal lengths, no rows, negative weights, negative classes, or ids outside
            `[0, num_groups)` (negative ones when `num_groups` is not known).
    """
    for field in ("x", "y", "group"):
        if not hasattr(getattr(batch, field), "dtype"):
            raise TypeError(
                f"{name}.{field} must be an array, got {type(getattr(batch, field)).__name__}; "
                "convert it with jnp.asarray (without groups, give everyone id 0)"
            )
    check_same_length(**{f"{name}.{field}": value for field, value in batch._asdict().items()})
    if batch.y.shape[0] == 0:
        raise ValueError(f"{name} has no rows")
    for field in ("group", "weight"):
        if np.ndim(getattr(batch, field)) > 1:  # of None it is 0
            raise ValueError(f"{name}.{field} must have one axis, got shape {np.shape(getattr(batch, field))}")
    check_weight(batch.weight, f"{name}.weight")
    if num_groups is None:
        check_groups(np.empty(0, batch.group.dtype), 1, f"{name}.group")  # are they integers?
        _check_not_negative(batch, name)
    else:
        check_groups(batch.group, num_groups, f"{name}.group")
    if not jnp.issubdtype(batch.y.dtype, jnp.inexact):
        check_class_range(batch.y, None, f"{name}.y", batch.weight)


def _check_not_negative(batch: Batch, name: str) -> None:
    if not is_concrete(batch.group, batch.weight):
        return
    ids = np.asarray(batch.group)
    # Samplers mark padding by -1, so such rows would silently not be trained on. Rows without weight are not anyway.
    negative = (ids < 0) & (True if batch.weight is None else np.asarray(batch.weight) > 0)
    if negative.any():
        row = np.flatnonzero(negative)[0]
        raise ValueError(
            f"{name}.group must hold ids >= 0, but row {row} has {ids[row]}; give unknown groups an id of their own "
            "(see badrjax.encode_groups) or leave those rows out"
        )
