"""The hypervolume of two or three objectives, exactly."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from badrjax.checks import is_concrete
from badrjax.pareto.points import checked_points


def hypervolume(
    points: Float[Array, "n m"], reference: Float[Array, "m"], valid: Bool[Array, "n"] | None = None
) -> Float[Array, ""]:
    r"""Volume of what the points dominate, up to a reference point (Zitzler and Thiele, 1999).

    `\lambda(\bigcup_i [p_i, r])`, the Lebesgue measure of the union of boxes between each point and the reference.
    Points that are not better than the reference in every objective add nothing, nor do dominated ones and copies.
    Two objectives are sorted, O(n log n); three are swept along the third, O(n^2) operations in O(n) memory, also in
    the derivative.

    The derivative by a coordinate of a point is minus the area of the face that it alone dominates. Where points tie
    in a coordinate it is a one-sided one: finite, and 0 for a dominated point.

    Args:
        points: `f[n, m]`, to be minimised, with `m` 2 or 3.
        reference: `f[m]`, a point that every solution of interest beats; scale the objectives to compare fronts.
        valid: `bool[n]`; a row that is not valid, or has NaN, adds nothing. `None` means all.

    Returns:
        A scalar `>= 0`; 0 with no valid point, infinity for a coordinate of minus infinity. A NaN in a traced
        reference gives NaN.

    Raises:
        ValueError: unless points are `[n, 2]` or `[n, 3]`, `reference` is `[m]` and `valid` has one entry a row, and
            (outside tracing) for a NaN or infinite reference.
    """
    points, usable = checked_points(points, valid)
    num_objectives = points.shape[1]
    if num_objectives not in (2, 3):
        raise ValueError(
            f"points have {num_objectives} objectives, and hypervolume offers 2 and 3; choose columns, or compare "
            "fronts by igd_plus, which takes any number"
        )
    if np.shape(reference) != (num_objectives,):
        raise ValueError(
            f"reference must have one entry an objective, shape ({num_objectives},), got shape {np.shape(reference)}"
        )
    if is_concrete(reference) and not np.isfinite(np.asarray(reference)).all():
        raise ValueError(f"reference must be finite, got {np.asarray(reference)}")
    reference = jnp.asarray(reference, points.dtype)
    if points.shape[0] == 0:
        return jnp.zeros((), points.dtype)
    inside = usable & jnp.all(points < reference[None, :], axis=1)
    # Everything else moves to the reference, where it spans nothing and has no derivative.
    points = jnp.where(inside[:, None], points, reference[None, :])
    volume = _volume(points, reference) if num_objectives == 3 else _area(_sorted(points, 0, 1), reference)
    return jnp.where(jnp.any(jnp.isnan(reference)), jnp.nan, volume)


def _sorted(points: Array, *objectives: int) -> Array:
    """Points in ascending order of the first of the objectives, ties by the next."""
    return points[jnp.lexsort([jax.lax.stop_gradient(points)[:, i] for i in reversed(objectives)])]


def _area(points: Float[Array, "n 2"], corner: Float[Array, "2"]) -> Float[Array, ""]:
    """The area of points in ascending order of the first objective: a slab for each that is lower than all before."""
    first, second = points[:, 0], points[:, 1]
    height = jax.lax.stop_gradient(second)
    before = jnp.concatenate([jax.lax.stop_gradient(corner[1:2]), jax.lax.cummin(height)[:-1]])
    lower = height < before
    # The slab reaches up to the last point that had one. Gathered by its position, so that the derivative goes to
    # one point where the minimum is tied.
    position = jax.lax.cummax(jnp.where(lower, jnp.arange(lower.shape[0]), -1))
    last = jnp.concatenate([jnp.full(1, -1, position.dtype), position[:-1]])
    ceiling = jnp.where(last >= 0, second[jnp.maximum(last, 0)], corner[1])
    return jnp.sum(jnp.where(lower, (corner[0] - first) * (ceiling - second), 0.0))


def _volume(points: Float[Array, "n 3"], corner: Float[Array, "3"]) -> Float[Array, ""]:
    """Slices between one third objective and the next, each as high as that and as wide as the area so far."""
    # Ties in this order leave a dominating point before those that it dominates.
    points = _sorted(points, 2, 0, 1)
    levels = jnp.concatenate([points[:, 2], corner[2:]])
    flat = points[:, :2]
    order = jnp.lexsort([jax.lax.stop_gradient(flat)[:, i] for i in (1, 0)])
    flat = flat[order]

    # Recomputed in the reverse pass, for storing every step would take O(n^2) memory.
    @jax.checkpoint
    def area_up_to(level: Array) -> Array:
        second = jnp.where(order <= level, flat[:, 1], corner[1])
        return _area(jnp.stack([flat[:, 0], second], axis=1), corner[:2])

    areas = jax.lax.map(area_up_to, jnp.arange(points.shape[0]))
    # Between two infinite levels there is nothing, and infinity less infinity would be NaN.
    level = (levels[1:] == levels[:-1]) & jnp.isinf(levels[1:])
    heights = jnp.where(level, 0.0, jnp.where(level, 0.0, levels[1:]) - jnp.where(level, 0.0, levels[:-1]))
    # No height of an unbounded area is nothing; elsewhere a tie keeps its derivative.
    return jnp.sum(heights * jnp.where((heights == 0) & jnp.isinf(areas), 0.0, areas))
