r"""The shortest vector in the gradients' convex hull (MGDA)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from badrjax.bargaining.gram import HIGHEST, checked, correlation_of, finite_where, solve_spd, uniform


def min_norm_weights(gram: Float[Array, "K K"], present: Bool[Array, "K"] | None = None) -> Float[Array, "K"]:
    r"""Weights of the shortest vector in the gradients' convex hull: `min s'Ms` over the simplex (MGDA).

    A minimum of 0 certifies that the gradients have no common descent direction. Solved by a primal-dual interior
    point method with a fixed number of steps on the correlation matrix, `min y'Cy` with `sum_i y_i / D_i = 1`.
    Derivatives are those of the steps taken, and NaN where the shortest vector has more than one combination.

    Args:
        gram: symmetric positive semidefinite `f[K, K]`.
        present: `bool[K]`; absent players get weight 0. `None` means all.

    Returns:
        `f[K]`, `>= 0` with sum 1 (all 0 when nobody is present). Where a present gradient is zero, the weight is
        shared by such gradients: they are the shortest vector. NaN where a present player's inner products are not
        finite.

    Raises:
        ValueError: for a matrix that is not square, or `present` of another length.
    """
    gram, present = checked(gram, present)
    correlation, norm = correlation_of(gram, present)
    zero = present & (jnp.diagonal(gram) == 0)
    cost = jnp.min(jnp.where(present & (norm > 0), norm, jnp.inf)) / jnp.where(norm > 0, norm, 1.0)
    cost = jnp.where(present & (norm > 0), cost, 1.0)
    solution = jnp.where(present, simplex_quadratic(correlation, cost, present), 0.0) * cost
    total = jnp.sum(solution)
    solution = solution / jnp.where(total > 0, total, 1.0)
    solution = jnp.where(jnp.any(zero), uniform(zero, gram.dtype), solution)
    sound = finite_where(present, gram) & jnp.all(jnp.where(present, jnp.diagonal(gram) >= 0, True))
    return jnp.where(sound, solution, jnp.where(present, jnp.nan, 0.0))


def simplex_quadratic(
    matrix: Float[Array, "K K"],
    cost: Float[Array, "K"],
    present: Bool[Array, "K"],
    linear: Float[Array, "K"] | None = None,
) -> Float[Array, "K"]:
    """`argmin y'Cy/2 + linear'y` over `y >= 0`, `cost'y = 1`, by a primal-dual interior point method of fixed length.

    Absent entries are decoupled. Suits entries of order 1.
    """
    slope = jnp.zeros_like(cost) if linear is None else linear
    size, dtype = matrix.shape[0], matrix.dtype
    cost = jnp.where(present, cost, 0.0)
    count = jnp.maximum(jnp.sum(present), 1).astype(dtype)
    num_steps = 20 if jnp.finfo(dtype).bits <= 32 else 40

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        y, z, level = carry
        target = 0.1 * jnp.sum(jnp.where(present, y * z, 0.0)) / count
        dual = jnp.matmul(matrix, y, precision=HIGHEST) + slope - level * cost - z
        gap = jnp.where(present, target / y - z, 0.0)
        # The ridge only slows the steps along directions that change nothing, where the matrix is singular.
        factor = matrix + jnp.diag(z / y + size * jnp.finfo(dtype).eps)
        to_cost, to_rest = solve_spd(factor, jnp.stack([cost, gap - dual], axis=1)).T
        miss = 1 - jnp.dot(cost, y)
        change = (miss - jnp.dot(cost, to_rest)) / jnp.maximum(jnp.dot(cost, to_cost), jnp.finfo(dtype).tiny)
        dy = to_rest + change * to_cost
        dz = jnp.where(present, gap - z / y * dy, 0.0)
        length = jnp.minimum(_step_length(y, dy), _step_length(z, dz))
        moved = (y + length * dy, z + length * dz, level + length * change)
        # At the solution of a rank-deficient problem the factor is singular: stay at the last finite iterate.
        finite = jnp.all(jnp.isfinite(moved[0]) & jnp.isfinite(moved[1])) & jnp.isfinite(moved[2])
        return jax.tree.map(partial(jnp.where, finite), moved, carry), None

    start = jnp.where(present, 1 / jnp.maximum(jnp.sum(cost), jnp.finfo(dtype).tiny), 1.0)
    carry = (start * jnp.ones(size, dtype), jnp.ones(size, dtype), jnp.zeros((), dtype))
    (y, _, _), _ = jax.lax.scan(step, carry, None, length=num_steps)
    return y


def _step_length(value: Array, change: Array) -> Array:
    shrinking = change < 0
    ratio = jnp.where(shrinking, -value / jnp.where(shrinking, change, -1.0), jnp.inf)
    return jnp.minimum(1.0, 0.995 * jnp.min(ratio))
