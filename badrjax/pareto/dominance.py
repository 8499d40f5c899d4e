"""Which points are dominated, and the front of those that are not."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from badrjax.checks import is_concrete
from badrjax.pareto.points import checked_points

# Rows compared with all others at once: enough to keep a processor busy, and memory stays linear in n.
_BLOCK_ROWS = 64


class Front(NamedTuple):
    """The points that are not dominated, in ascending order of the first objective, then of the second, ....

    Attributes:
        indices: rows of the original points, `int[k]`.
        points: these rows, `f[k, m]`.
    """

    indices: np.ndarray
    points: np.ndarray


def dominated(points: Float[Array, "n m"], valid: Bool[Array, "n"] | None = None) -> Bool[Array, "n"]:
    """Which points are dominated: another valid point is `<=` in every objective and `<` in some.

    Equal points do not dominate each other. Two objectives are sorted, O(n log n); more are compared pair by pair,
    O(n^2 m) operations in O(n m) memory.

    Args:
        points: `f[n, m]`, to be minimised. Infinities are compared like any number.
        valid: `bool[n]`; a row that is not valid, or has NaN, dominates nothing. `None` means all.

    Returns:
        `bool[n]`, True for rows that are not valid: they are not on the front.

    Raises:
        ValueError: unless points are `[n, m]` with `m >= 1` and `valid` has one entry a row.
    """
    points, usable = checked_points(points, valid)
    if points.shape[0] == 0:
        return jnp.zeros(0, bool)
    # A point that is infinite everywhere dominates nothing.
    points = jnp.where(usable[:, None], points, jnp.inf)
    beaten = _dominated_by_sorting(points) if points.shape[1] == 2 else _dominated_by_pairs(points)
    return beaten | ~usable


def front(points: Float[Array, "n m"], valid: Bool[Array, "n"] | None = None) -> Bool[Array, "n"]:
    """Which points are on the Pareto front: valid, without NaN, and not dominated. Equal points are all on it.

    Args:
        points: `f[n, m]`, to be minimised.
        valid: `bool[n]`; `None` means all.

    Returns:
        `bool[n]`; arguments, costs and errors as `dominated`.
    """
    return ~dominated(points, valid)


def front_points(points: Float[Array, "n m"], valid: Bool[Array, "n"] | None = None) -> Front:
    """The Pareto front as its rows in order, ready for a table or a plot.

    Host code, for the number of rows depends on the values; they are compared in their own precision.

    Args:
        points: `f[n, m]`, to be minimised.
        valid: `bool[n]`; `None` means all.

    Returns:
        A `Front`, without rows when no point is valid.

    Raises:
        TypeError: for traced points; there `front` gives a mask.
        ValueError: as `dominated`.
    """
    if not is_concrete(points, valid):
        raise TypeError("front_points needs values, and these are being traced; use front, which gives a mask")
    rows = np.asarray(points)
    with jax.enable_x64(True):  # of these lines alone: NumPy's doubles would be rounded
        mask = front(jnp.asarray(rows), None if valid is None else jnp.asarray(valid))
        indices = np.flatnonzero(np.asarray(mask))
    indices = indices[np.lexsort(rows[indices].T[::-1])]
    return Front(indices, rows[indices])


def _dominated_by_sorting(points: Float[Array, "n 2"]) -> Bool[Array, "n"]:
    first, second = points[:, 0], points[:, 1]
    order = jnp.lexsort((second, first))
    first, second = first[order], second[order]
    # Where the run of equal first objectives begins, which is at its least second one.
    begin = jnp.searchsorted(first, first, side="left")
    least_before = jax.lax.cummin(second)[jnp.maximum(begin - 1, 0)]
    beaten = ((begin > 0) & (least_before <= second)) | (second[begin] < second)
    return jnp.zeros(order.shape, bool).at[order].set(beaten)


def _dominated_by_pairs(points: Float[Array, "n m"]) -> Bool[Array, "n"]:
    def beaten(point: Array) -> Array:
        no_worse = jnp.all(points <= point[None, :], axis=1)
        better = jnp.any(points < point[None, :], axis=1)
        return jnp.any(no_worse & better)

    return jax.lax.map(beaten, points, batch_size=_BLOCK_ROWS)
