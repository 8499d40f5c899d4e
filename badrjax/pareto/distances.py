"""How far a set of points falls short of a reference front."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from badrjax.pareto.points import checked_points

_BLOCK_ROWS = 64


def igd_plus(
    points: Float[Array, "n m"],
    reference_front: Float[Array, "r m"],
    valid: Bool[Array, "n"] | None = None,
    reference_valid: Bool[Array, "r"] | None = None,
) -> Float[Array, ""]:
    r"""Inverted generational distance plus: how far the points fall short of a reference front, on average.

    `mean_z min_p || max(p - z, 0) ||_2` over reference points `z` (Ishibuchi, Masuda, Tanigaki and Nojima, 2015).
    A point that is at least as good as `z` in every objective has distance 0 from it, so a set that dominates
    another is never worse. O(n r m) operations in O((n + r) m) memory. Scale the objectives first.

    Args:
        points: `f[n, m]`, to be minimised.
        reference_front: `f[r, m]`, such as the front of all methods' points together.
        valid: `bool[n]`; a row that is not valid, or not finite, takes no part. `None` means all.
        reference_valid: `bool[r]`, the same for the reference front.

    Returns:
        A scalar `>= 0`, 0 where every reference point is reached, with a finite derivative there; infinity with no
        valid point, and NaN with no valid reference point.

    Raises:
        ValueError: unless both are two-dimensional with equal numbers of objectives, and masks have one entry a row.
    """
    points, usable, targets, wanted = _checked(points, reference_front, valid, reference_valid)

    def shortfall(target: Array) -> Array:
        return _least_length(points - target[None, :], usable)

    return _mean(_map_rows(shortfall, targets), wanted)


def generational_distance_plus(
    points: Float[Array, "n m"],
    reference_front: Float[Array, "r m"],
    valid: Bool[Array, "n"] | None = None,
    reference_valid: Bool[Array, "r"] | None = None,
) -> Float[Array, ""]:
    r"""Generational distance plus: how far each point falls short of the nearest reference point, on average.

    `mean_p min_z || max(p - z, 0) ||_2` over points `p` (Ishibuchi, Masuda, Tanigaki and Nojima, 2015). It says
    nothing of how well the front is covered: one good point has 0. See `igd_plus` for that.

    Args:
        points: `f[n, m]`, to be minimised.
        reference_front: `f[r, m]`.
        valid: `bool[n]`; a row that is not valid, or not finite, takes no part. `None` means all.
        reference_valid: `bool[r]`, the same for the reference front.

    Returns:
        A scalar `>= 0`; NaN with no valid point, else infinity with no valid reference point.

    Raises:
        ValueError: as `igd_plus`.
    """
    points, usable, targets, wanted = _checked(points, reference_front, valid, reference_valid)

    def shortfall(point: Array) -> Array:
        return _least_length(point[None, :] - targets, wanted)

    return _mean(_map_rows(shortfall, points), usable)


def _checked(
    points: Array, reference_front: Array, valid: Array | None, reference_valid: Array | None
) -> tuple[Array, Array, Array, Array]:
    points, usable = checked_points(points, valid)
    targets, wanted = checked_points(reference_front, reference_valid, "reference_front", "reference_valid")
    if points.shape[1] != targets.shape[1]:
        raise ValueError(
            f"points have {points.shape[1]} objectives and reference_front {targets.shape[1]}; they must agree"
        )
    return *_finite(points, usable), *_finite(targets.astype(points.dtype), wanted)


def _finite(points: Array, usable: Array) -> tuple[Array, Array]:
    """Points with 0 in rows that take no part, so that no derivative sees what these hold."""
    usable = usable & jnp.all(jnp.isfinite(points), axis=1)
    return jnp.where(usable[:, None], points, 0.0), usable


def _least_length(differences: Float[Array, "n m"], usable: Bool[Array, "n"]) -> Float[Array, ""]:
    """Least length of the positive parts, infinity if there is none, with derivative 0 at 0."""
    squares = jnp.sum(jnp.maximum(differences, 0.0) ** 2, axis=1)
    least = jnp.min(jnp.where(usable, squares, jnp.inf), initial=jnp.inf)
    return jnp.where(least > 0, jnp.sqrt(jnp.where(least > 0, least, 1.0)), 0.0)


def _map_rows(function: Callable[[Array], Array], rows: Array) -> Array:
    if rows.shape[0] == 0:
        return jnp.zeros(0, rows.dtype)
    # Recomputed in the reverse pass, for storing every row's differences would take O(n r) memory.
    return jax.lax.map(jax.checkpoint(function), rows, batch_size=_BLOCK_ROWS)


def _mean(values: Array, usable: Array) -> Array:
    number = jnp.sum(usable)
    total = jnp.sum(jnp.where(usable, values, 0.0))
    return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.nan)
