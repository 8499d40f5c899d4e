"""Symmetric linear systems given by their product with a vector, with a status in place of an exception.

`lineax.linear_solve` honours `throw=False` in the primal solve only, so derivatives here go through
`jax.lax.custom_linear_solve`, whose tangent and transposed solves are the same primal solve again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax
from jaxtyping import Array, Float, Int

from badrjax.groups import unit_of
from badrjax.status import Status

_HIGHEST = jax.lax.Precision.HIGHEST

Product = Callable[[Float[Array, "d"]], Float[Array, "d"]]


class LinearInfo(NamedTuple):
    """How a linear solve ended.

    Attributes:
        status: `int32[]`, a `Status`.
        relative_residual: `|A v - b| / |b|`, `f[]`; 0 if `A v = b` exactly, NaN where `v` is not finite.
        num_steps: `int32[]`, iterations taken; 0 for a direct solver.
    """

    status: Int[Array, ""]
    relative_residual: Float[Array, ""]
    num_steps: Int[Array, ""]


def default_solver(size: int, dtype: Any) -> lineax.CG:
    """Conjugate gradients to a relative residual of 1e-12 (float64) or 1e-6 (float32).

    At most `max(20, min(10 d, 1000))` steps for `d` unknowns.
    """
    tolerance = 1e-12 if jnp.finfo(dtype).bits > 32 else 1e-6
    most_steps = max(20, min(10 * size, 1000))
    # lineax would put the true residual in place of the recursive one every ten steps. In float32 that loses the
    # conjugacy of the directions before the tolerance is met, and the iterates then grow without end already at a
    # condition of 100. The true residual is what decides about the status, at the end.
    return lineax.CG(rtol=tolerance, atol=tolerance, norm=norm, stabilise_every=None, max_steps=most_steps)


def solve_with_info(
    product: Product, right: Float[Array, "d"], solver: Any = None, guess: Float[Array, "d"] | None = None
) -> tuple[Float[Array, "d"], LinearInfo]:
    """`v` with `A v = b` for a symmetric `A`, and how the solve ended.

    Derivatives of `v` by whatever `product` and `right` depend on are exact, to any order.

    Args:
        product: the linear map `v -> A v`, `f[d] -> f[d]`.
        right: `b`, `f[d]`.
        solver: a lineax solver; `None` is `default_solver`. It sees the system scaled to `|b| = 1`.
        guess: where an iterative solver starts, `f[d]`; zeros by default, or where it is not finite.

    Returns:
        `(f[d], LinearInfo)`; what the solver left, whatever the status.
    """
    solve = partial(_solve, solver=solver, guess=None if guess is None else jax.lax.stop_gradient(guess))
    return jax.lax.custom_linear_solve(product, right, solve, symmetric=True, has_aux=True)


def solve_or_nan(product: Product, right: Float[Array, "d"], solver: Any = None) -> Float[Array, "d"]:
    """As `solve_with_info` without the info: NaN wherever the status is not success."""

    def solve(product: Product, right: Array) -> Array:
        solution, info = _solve(product, right, solver=solver, guess=None)
        return jnp.where(info.status == Status.SUCCESS, solution, jnp.nan)

    return jax.lax.custom_linear_solve(product, right, solve, symmetric=True)


def norm(vector: Float[Array, "d"]) -> Float[Array, ""]:
    """Euclidean norm whose squares neither overflow nor underflow."""
    scale = unit_of(vector)
    return scale * jnp.sqrt(jnp.sum((vector / scale) ** 2))


def relative_residual(image: Float[Array, "d"], right: Float[Array, "d"]) -> Float[Array, ""]:
    """`|A v - b| / |b|` from `image = A v`; 0 for 0 / 0."""
    miss = norm(image - right)
    return jnp.where(miss == 0, 0.0, miss / norm(right))


def _solve(
    product: Product, right: Float[Array, "d"], *, solver: Any, guess: Float[Array, "d"] | None
) -> tuple[Float[Array, "d"], LinearInfo]:
    dtype, size = right.dtype, right.shape[0]
    solver = default_solver(size, dtype) if solver is None else solver
    length = norm(right)
    unit = right / jnp.where(length > 0, length, 1.0)
    pushed = product(unit)
    curvature = norm(pushed)
    # Tolerances become relative, whatever the units of the problem. lineax takes a curvature below
    # `100 eps d` for 0; with this scale that is `eps` times the curvature along the right-hand side.
    scale = 100 * size / jnp.where(curvature > 0, curvature, 1.0)
    to_solution = jnp.where(length > 0, length, 1.0) * scale
    options = {} if guess is None else {"y0": jnp.where(jnp.all(jnp.isfinite(guess)), guess, 0.0) / to_solution}
    operator = lineax.FunctionLinearOperator(
        lambda v: scale * product(v), jax.ShapeDtypeStruct((size,), dtype), lineax.positive_semidefinite_tag
    )
    found = lineax.linear_solve(operator, unit, solver, options=options, throw=False)
    finite = jnp.isfinite(length) & jnp.isfinite(curvature)
    # An iterative solver stops at once on NaN, and would leave its start.
    solution = jnp.where(finite, found.value * to_solution, jnp.nan)
    solution = jnp.where(length == 0, 0.0, solution)
    image = product(solution)
    residual = relative_residual(image, right)
    met = residual <= _accepted_residual(solver, size, dtype)
    bends_down = (jnp.dot(unit, pushed, precision=_HIGHEST) < 0) | _not_positive(solution, image, met)
    # A Cholesky factor breaks down where the matrix is not positive definite, singular or not.
    bends_down |= isinstance(solver, lineax.Cholesky) & ~jnp.all(jnp.isfinite(solution))
    status = jnp.where(met, Status.SUCCESS, _status_of(found.result, solution))
    status = jnp.where(bends_down & (length > 0), Status.NOT_POSITIVE_DEFINITE, status)
    status = jnp.where(finite, status, Status.NOT_FINITE)
    num_steps = jnp.asarray(found.stats.get("num_steps", 0), jnp.int32)
    return solution, LinearInfo(status.astype(jnp.int32), residual, num_steps)


def _accepted_residual(solver: Any, size: int, dtype: Any) -> Any:
    """The largest relative residual of a success: a looser tolerance of the solver's own counts."""
    inner = getattr(solver, "inner_solver", solver)
    own = 2 * size**0.5 * (getattr(inner, "rtol", 0.0) + getattr(inner, "atol", 0.0))
    return jnp.maximum(1e-10 if jnp.finfo(dtype).bits > 32 else 1e-4, own)


def _not_positive(solution: Array, image: Array, met: Array) -> Array:
    """Whether the solution shows that the matrix is not positive definite."""
    # Scaled: the product of two vectors of norm 1e30 is not finite in float32.
    largest = jnp.max(jnp.abs(solution), initial=0.0)
    along = jnp.dot(solution / jnp.where(largest > 0, largest, 1.0), image, precision=_HIGHEST)
    return (along < 0) | ((along == 0) & met & (largest > 0))


def _status_of(result: Any, solution: Float[Array, "d"]) -> Int[Array, ""]:
    """A status for the outcome that lineax reports where the residual is too large."""
    results = lineax.RESULTS
    ran_out = (result == results.max_steps_reached) | (result == results.stagnation)
    # What lineax calls a success is one of the recursive residual, whose end is that of the precision.
    ran_out |= (result == results.successful) & jnp.all(jnp.isfinite(solution))
    status = jnp.where(ran_out, Status.MAX_STEPS, Status.SINGULAR)
    return jnp.where(result == results.nonfinite_input, Status.NOT_FINITE, status)
