r"""Weights for K conflicting gradients from their Gram matrix, and how to apply them.

Three steps are kept apart: `gramian(gradients)`, a rule that turns `[K, K]` into weights `[K]`, and
`combine(gradients, weights)`. Rules see no model, so they are small, testable and cheap under `vmap`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Gram matrices and group contractions in full float32: accelerators round products to fewer bits by default.
_HIGHEST = jax.lax.Precision.HIGHEST


class NashSolution(NamedTuple):
    """Nash bargaining weights with what certifies them.

    Attributes:
        weights: `f[K]`; positive for present players, 0 for absent ones. When infeasible, `present / sum(present)`.
        feasible: `bool[]`, whether `weights` solve `M a = 1 / a` to the accuracy the dtype allows.
        residual: `f[]`, `max_i |a_i (M a)_i - 1|` over present players, at the last iterate.
        num_steps: `int32[]`, Newton steps taken.
    """

    weights: Float[Array, "K"]
    feasible: Bool[Array, ""]
    residual: Float[Array, ""]
    num_steps: Int[Array, ""]


def gramian(gradients: Any) -> Float[Array, "K K"]:
    """Gram matrix `M_jk = <g_j, g_k>` of a pytree (or array) whose leaves lead with the axis of the K players.

    Half-precision leaves are multiplied in float32.

    Raises:
        ValueError: unless every leaf leads with the same K.
    """
    leaves = jax.tree.leaves(gradients)
    leading = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(leading) != 1 or () in leading:
        raise ValueError(f"the leaves of gradients must all lead with an axis of length K, got {sorted(leading)}")
    products = [_gram(jnp.reshape(leaf, (leaf.shape[0], -1))) for leaf in leaves]
    return sum(products[1:], products[0])


def combine(gradients: Any, weights: Float[Array, "K"]) -> Any:
    """`sum_k weights_k g_k`, a pytree like `gradients` without its leading axis."""
    return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1, precision=_HIGHEST), gradients)


def alignment(gradients: Float[Array, "K n"], update: Float[Array, "n"]) -> Float[Array, "K"]:
    """Inner products `<g_k, u>` `f[K]` of K gradients with an aggregate `u`; `<= 0` is a conflict with player k."""
    return jnp.matmul(gradients, update, precision=_HIGHEST)


def nash_weights(gram: Float[Array, "K K"], present: Bool[Array, "K"] | None = None) -> NashSolution:
    r"""Nash bargaining weights: the `a > 0` with `M a = 1 / a`, elementwise.

    They minimise the strictly convex, self-concordant `a'Ma/2 - sum log a`, here by damped Newton steps on the
    correlation matrix `C = D^-1 M D^-1`, `D = diag(M)^(1/2)`, so that the scales of the gradients do not matter.
    A solution exists exactly when some direction has a positive inner product with every gradient (Gordan); at it,
    `a'Ma = K` and player k gains `1 / a_k`.

    An iterate `b` with `b_i (C b)_i > 0` for every i proves that such a direction exists. So a lane is feasible when
    its residual is at the rounding level of the sums it is made of, `32 eps max_i sum_j |a_i M_ij a_j|`, and is
    below 1 by more than that rounding: a margin the dtype cannot decide counts as infeasible.

    Derivatives follow the implicit rule `(M + diag(1/a^2)) da = -dM a`, and are exactly 0 where infeasible.

    Args:
        gram: symmetric positive semidefinite `f[K, K]`.
        present: `bool[K]`; absent players get weight 0 and take no part. `None` means all.

    Returns:
        A `NashSolution`. Infeasible: no common direction, a present player with a zero (or NaN) gradient, or no
        player present (weights 0).

    Raises:
        ValueError: for a matrix that is not square, or `present` of another length.
    """
    gram, present = _checked(gram, present)
    return _nash(gram, present)


def nash_weights_from_gradients(
    gradients: Float[Array, "K n"], present: Bool[Array, "K"] | None = None
) -> NashSolution:
    """`nash_weights` of `gradients @ gradients.T`, for gradients too small or large for their Gram matrix.

    Rows are brought to unit norm first (and the weights back at the end), so norms from 1e-30 to 1e30 work in
    float32, where squares would underflow below 1e-19 and overflow above 1e19.

    Args:
        gradients: `f[K, n]`, one row a player.
        present: `bool[K]`; `None` means all.

    Returns:
        A `NashSolution`; errors as `nash_weights`.
    """
    gradients = jnp.asarray(gradients)
    if gradients.ndim != 2:
        raise ValueError(f"gradients must be [K, n], got shape {gradients.shape}")
    # The result does not depend on this scale, so neither need its derivative.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(gradients), axis=1, initial=0.0))
    usable = _present(present, gradients.shape[0]) & (largest > 0) & (largest < jnp.inf)
    # A zero row counts as no gradient, and keeps NaN out of the derivative by the other rows.
    gradients = jnp.where(usable[:, None], gradients, 0.0)
    safe = jnp.where(usable, largest, 1.0)[:, None]
    scaled = gradients / safe
    length = jnp.sqrt(jnp.where(usable, jnp.sum(scaled**2, axis=1), 1.0))[:, None]
    solution = nash_weights(_gram(scaled / length), present)
    scale = jnp.where(solution.feasible, safe[:, 0] * length[:, 0], 1.0)
    return solution._replace(weights=solution.weights / scale)


def min_norm_weights(gram: Float[Array, "K K"], present: Bool[Array, "K"] | None = None) -> Float[Array, "K"]:
    r"""Weights of the shortest vector in the gradients' convex hull: `min s'Ms` over the simplex (MGDA).

    A minimum of 0 certifies that the gradients have no common descent direction. Solved by a primal-dual interior
    point method with a fixed number of steps on the correlation matrix, `min y'Cy` with `sum_i y_i / D_i = 1`.

    Args:
        gram: symmetric positive semidefinite `f[K, K]`.
        present: `bool[K]`; absent players get weight 0. `None` means all.

    Returns:
        `f[K]`, `>= 0` with sum 1 (all 0 when nobody is present). Where a present gradient is zero, the weight is
        shared by such gradients: they are the shortest vector.

    Raises:
        ValueError: for a matrix that is not square, or `present` of another length.
    """
    gram, present = _checked(gram, present)
    correlation, norm = _correlation(gram, present)
    zero = present & (norm == 0)
    cost = jnp.min(jnp.where(present & (norm > 0), norm, jnp.inf)) / jnp.where(norm > 0, norm, 1.0)
    cost = jnp.where(present & (norm > 0), cost, 1.0)
    solution = jnp.where(present, _simplex_quadratic(correlation, cost, present), 0.0) * cost
    total = jnp.sum(solution)
    solution = solution / jnp.where(total > 0, total, 1.0)
    return jnp.where(jnp.any(zero), _uniform(zero, gram.dtype), solution)


def _gram(rows: Array) -> Array:
    rows = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    return jnp.matmul(rows, rows.T, precision=_HIGHEST)


def _checked(gram: Array, present: Array | None) -> tuple[Array, Array]:
    gram = jnp.asarray(gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or gram.shape[0] == 0:
        raise ValueError(f"gram must be a square matrix [K, K], got shape {gram.shape}; see badrjax.gramian")
    dtype = gram.dtype if jnp.issubdtype(gram.dtype, jnp.inexact) else jnp.result_type(float)
    return gram.astype(jnp.promote_types(dtype, jnp.float32)), _present(present, gram.shape[0])


def _present(present: Array | None, num_players: int) -> Array:
    if present is None:
        return jnp.ones(num_players, bool)
    present = jnp.asarray(present)
    if present.shape != (num_players,):
        raise ValueError(f"present must be bool[{num_players}] for {num_players} players, got shape {present.shape}")
    return present.astype(bool)


def _uniform(present: Array, dtype: Any) -> Array:
    share = present.astype(dtype)
    return share / jnp.maximum(jnp.sum(share), 1.0)


def _correlation(gram: Array, present: Array) -> tuple[Array, Array]:
    """`C` with unit diagonal, identity in rows and columns of absent or zero gradients, and the norms `D`."""
    diagonal = jnp.diagonal(gram)
    taking_part = present & (diagonal > 0)
    norm = jnp.where(taking_part, jnp.sqrt(jnp.where(taking_part, diagonal, 1.0)), 0.0)
    safe = jnp.where(taking_part, norm, 1.0)
    both = taking_part[:, None] & taking_part[None, :]
    # One division after the other: the product of two tiny norms may underflow.
    scaled = gram / safe[:, None] / safe[None, :]
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    return jnp.where(both, jnp.where(identity > 0, 1.0, scaled), identity), norm


@jax.custom_jvp
def _nash(gram: Array, present: Array) -> NashSolution:
    correlation, norm = _correlation(gram, present)
    scaled, num_steps = _newton(correlation)
    gains = scaled * jnp.matmul(correlation, scaled, precision=_HIGHEST)
    gains = jnp.where(norm > 0, gains, 0.0)  # a player with a zero gradient gains nothing
    residual = jnp.max(jnp.where(present, jnp.abs(gains - 1), 0.0))
    absolute = scaled * jnp.matmul(jnp.abs(correlation), scaled, precision=_HIGHEST)
    rounding = jnp.finfo(gram.dtype).eps * jnp.max(jnp.where(present, absolute, 0.0))
    solvable = jnp.any(present) & jnp.all(jnp.where(present, (norm > 0) & (norm < jnp.inf), True))
    feasible = solvable & (residual <= 32 * rounding) & (residual + 2 * rounding < 1)
    weights = scaled / jnp.where(norm > 0, norm, 1.0)
    weights = jnp.where(feasible, jnp.where(present, weights, 0.0), _uniform(present, gram.dtype))
    return NashSolution(weights, feasible, residual, num_steps)


@_nash.defjvp
def _nash_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[NashSolution, NashSolution]:
    gram, present = primals
    solution = _nash(gram, present)
    moving = solution.feasible & present
    weights = jnp.where(moving, solution.weights, 0.0)
    # In Newton's multiplicative coordinates, da = a * t with (diag(a) M diag(a) + I) t = -a * (dM a).
    both = moving[:, None] & moving[None, :]
    scaled = weights[:, None] * jnp.where(both, gram, 0.0) * weights[None, :]
    push = -weights * jnp.matmul(jnp.where(both, tangents[0], 0.0), weights, precision=_HIGHEST)
    step = _solve_spd(scaled + jnp.eye(gram.shape[0], dtype=gram.dtype), push)
    change = jnp.where(moving, weights * step, 0.0)
    no_tangent = jax.custom_derivatives.zero_from_primal
    return solution, NashSolution(
        change,
        no_tangent(solution.feasible, symbolic_zeros=False),
        jnp.zeros_like(solution.residual),
        no_tangent(solution.num_steps, symbolic_zeros=False),
    )


def _newton(correlation: Array) -> tuple[Array, Array]:
    """Damped Newton in multiplicative coordinates `b <- b (1 - t s)` with `(B C B + I) s = b * (C b) - 1`.

    The matrix has no eigenvalue below 1, so its Cholesky factor always exists, and the self-concordant step
    `t = 1 / (1 + decrement)` keeps `b` positive by itself.
    """
    size, dtype = correlation.shape[0], correlation.dtype
    most_steps = 30 if jnp.finfo(dtype).bits <= 32 else 64
    enough = jnp.sqrt(jnp.finfo(dtype).eps)  # the step after a decrement d leaves about d^2

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, decrement, count = carry
        return (decrement > enough) & (count < most_steps)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        b, _, count = carry
        # First to the minimum along the ray of b, where b'Cb = K: Newton alone needs about K steps to get there.
        length = jnp.sum(b * jnp.matmul(correlation, b, precision=_HIGHEST))
        b = b * jnp.sqrt(size / jnp.maximum(length, size / 16))
        scaled = b[:, None] * correlation * b[None, :]
        slope = jnp.sum(scaled, axis=1) - 1
        move = _solve_spd(scaled + jnp.eye(size, dtype=dtype), slope)
        decrement = jnp.sqrt(jnp.maximum(jnp.dot(move, slope, precision=_HIGHEST), 0.0))
        rate = jnp.where(decrement < 0.25, 1.0, 1 / (1 + decrement))
        moved = b * (1 - rate * move)
        # Past 1/sqrt(eps) the matrix is singular in this dtype and the factor NaN: stop at the last finite iterate.
        finite = jnp.all(jnp.isfinite(moved))
        return jnp.where(finite, moved, b), jnp.where(finite, decrement, 0.0), count + 1

    start = (jnp.ones(size, dtype), jnp.asarray(jnp.inf, dtype), jnp.zeros((), jnp.int32))
    b, _, count = jax.lax.while_loop(unfinished, step, start)
    return b, count


def _solve_spd(matrix: Array, right: Array) -> Array:
    factor = jax.lax.linalg.cholesky(matrix)
    half = jax.lax.linalg.triangular_solve(factor, right[:, None], left_side=True, lower=True)
    return jax.lax.linalg.triangular_solve(factor, half, left_side=True, lower=True, transpose_a=True)[:, 0]


def _simplex_quadratic(matrix: Array, cost: Array, present: Array) -> Array:
    """`argmin y'Cy/2` over `y >= 0`, `cost'y = 1`, absent players decoupled, by a primal-dual interior point method."""
    size, dtype = matrix.shape[0], matrix.dtype
    cost = jnp.where(present, cost, 0.0)
    count = jnp.maximum(jnp.sum(present), 1).astype(dtype)
    num_steps = 20 if jnp.finfo(dtype).bits <= 32 else 40

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        y, z, level = carry
        target = 0.1 * jnp.sum(jnp.where(present, y * z, 0.0)) / count
        dual = jnp.matmul(matrix, y, precision=_HIGHEST) - level * cost - z
        gap = jnp.where(present, target / y - z, 0.0)
        factor = matrix + jnp.diag(z / y)
        to_cost, to_rest = _solve_spd(factor, cost), _solve_spd(factor, gap - dual)
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
