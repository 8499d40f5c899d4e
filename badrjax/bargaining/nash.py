r"""Nash bargaining: the weights `a > 0` with `M a = 1 / a`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from badrjax.bargaining.gram import HIGHEST, as_present, checked, correlation_of, rows_gramian, solve_spd, uniform
from badrjax.status import Status


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

    @property
    def status(self) -> Int[Array, ""]:
        """`Status.SUCCESS` where feasible, else `Status.NO_COMMON_DIRECTION`, `int32[]`, for `badrjax.explain`."""
        return jnp.where(self.feasible, Status.SUCCESS, Status.NO_COMMON_DIRECTION).astype(jnp.int32)


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
    gram, present = checked(gram, present)
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
    usable = as_present(present, gradients.shape[0]) & (largest > 0) & (largest < jnp.inf)
    # A zero row counts as no gradient, and keeps NaN out of the derivative by the other rows.
    gradients = jnp.where(usable[:, None], gradients, 0.0)
    safe = jnp.where(usable, largest, 1.0)[:, None]
    scaled = gradients / safe
    length = jnp.sqrt(jnp.where(usable, jnp.sum(scaled**2, axis=1), 1.0))[:, None]
    solution = nash_weights(rows_gramian(scaled / length), present)
    scale = jnp.where(solution.feasible, safe[:, 0] * length[:, 0], 1.0)
    return solution._replace(weights=solution.weights / scale)


@jax.custom_jvp
def _nash(gram: Array, present: Array) -> NashSolution:
    correlation, norm = correlation_of(gram, present)
    scaled, num_steps = _newton(correlation)
    gains = scaled * jnp.matmul(correlation, scaled, precision=HIGHEST)
    gains = jnp.where(norm > 0, gains, 0.0)  # a player with a zero gradient gains nothing
    residual = jnp.max(jnp.where(present, jnp.abs(gains - 1), 0.0))
    absolute = scaled * jnp.matmul(jnp.abs(correlation), scaled, precision=HIGHEST)
    rounding = jnp.finfo(gram.dtype).eps * jnp.max(jnp.where(present, absolute, 0.0))
    solvable = jnp.any(present) & jnp.all(jnp.where(present, (norm > 0) & (norm < jnp.inf), True))
    feasible = solvable & (residual <= 32 * rounding) & (residual + 2 * rounding < 1)
    weights = scaled / jnp.where(norm > 0, norm, 1.0)
    weights = jnp.where(feasible, jnp.where(present, weights, 0.0), uniform(present, gram.dtype))
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
    push = -weights * jnp.matmul(jnp.where(both, tangents[0], 0.0), weights, precision=HIGHEST)
    step = solve_spd(scaled + jnp.eye(gram.shape[0], dtype=gram.dtype), push)
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
        length = jnp.sum(b * jnp.matmul(correlation, b, precision=HIGHEST))
        b = b * jnp.sqrt(size / jnp.maximum(length, size / 16))
        scaled = b[:, None] * correlation * b[None, :]
        slope = jnp.sum(scaled, axis=1) - 1
        move = solve_spd(scaled + jnp.eye(size, dtype=dtype), slope)
        decrement = jnp.sqrt(jnp.maximum(jnp.dot(move, slope, precision=HIGHEST), 0.0))
        rate = jnp.where(decrement < 0.25, 1.0, 1 / (1 + decrement))
        moved = b * (1 - rate * move)
        # Past 1/sqrt(eps) the matrix is singular in this dtype and the factor NaN: stop at the last finite iterate.
        finite = jnp.all(jnp.isfinite(moved))
        return jnp.where(finite, moved, b), jnp.where(finite, decrement, 0.0), count + 1

    start = (jnp.ones(size, dtype), jnp.asarray(jnp.inf, dtype), jnp.zeros((), jnp.int32))
    b, _, count = jax.lax.while_loop(unfinished, step, start)
    return b, count
