r"""The exact oracle: `V(lambda) = Fair(w*(lambda))` and its derivative, the lower problem solved to a stated norm.

With `H` the Hessian of the lower objective at its solution and `H v = -grad Fair(w*)`,

    `dV / dlambda_a = <grad R_a(w*), v>`

by the implicit function theorem. On the simplex a constant over the coordinates means nothing; `grad F_a` in place of
`grad R_a` gives another such constant.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.bilevel.problem import (
    Problem,
    columns_of,
    group_slopes,
    penalty,
    regularised_risks,
    second_order,
    upper_objective,
    weighted_hessian,
    weighted_risk,
)
from badrjax.hypergradients.linear import norm, solve_with_info
from badrjax.hypergradients.minimise import MinimiseInfo, newton, newton_loop
from badrjax.status import Status

_HIGHEST = jax.lax.Precision.HIGHEST


class OracleInfo(NamedTuple):
    """What certifies a value of the oracle.

    Attributes:
        status: `int32[]`, a `Status`; that of the lower problem where it failed, else of the adjoint solve.
        inner_grad_norm: norm of the lower gradient, `f[]`.
        relative_residual: of the adjoint system, `f[]`.
        num_steps: steps of the lower solver, `int32[]`.
    """

    status: Int[Array, ""]
    inner_grad_norm: Float[Array, ""]
    relative_residual: Float[Array, ""]
    num_steps: Int[Array, ""]


class Evaluation(NamedTuple):
    """The upper objective at some weights.

    Attributes:
        value: `V(lambda)`, `f[]`; NaN where the lower problem was not solved.
        gradient: `dV / dlambda`, `f[K]`, its mean taken off: the part along the simplex.
        params: `w*(lambda)`.
        sensitivity: `dw* / dlambda_a` as a pytree like `params` whose leaves lead with K, from which the next lower
            solve can start; `None` where no dense Hessian is formed.
        adjoint: `v`, the solution of `H v = -grad Fair(w*)`, a pytree like `params`.
        info: see `OracleInfo`.
    """

    value: Float[Array, ""]
    gradient: Float[Array, "K"]
    params: Any
    sensitivity: Any
    adjoint: Any
    info: OracleInfo


def default_minimiser(problem: Problem, weights: Float[Array, "K"]) -> Partial:
    """Newton's method with the Hessian of `weighted_hessian`, to 1e-10 (float64) or 1e-5 (float32)."""
    return newton(hessian=Partial(_hessian_at, problem, weights))


def solve_lower(
    problem: Problem, weights: Float[Array, "K"], params: Any, *, minimise: Any = None
) -> tuple[Any, MinimiseInfo]:
    """`w*(lambda)` from a start.

    Args:
        problem: see `badrjax.bilevel.problem`.
        weights: `lambda`, `f[K]`.
        params: where to start.
        minimise: `minimise(objective, params) -> (params, info)`, such as `badrjax.lbfgs()` for many parameters; `None`
            is Newton's method with a dense Hessian, for up to a few hundred.

    Returns:
        `(params, MinimiseInfo)`.
    """
    solver = default_minimiser(problem, weights) if minimise is None else minimise
    return solver(Partial(_risk_at, problem, weights), params)


def evaluate(
    problem: Problem,
    weights: Float[Array, "K"],
    params: Any,
    *,
    minimise: Any = None,
    solver: Any = None,
    columns: Float[Array, "d n"] | None = None,
) -> Evaluation:
    """The oracle: solves the lower problem from `params`, and the adjoint system at its solution.

    Args:
        problem: see `badrjax.bilevel.problem`.
        weights: `lambda`, `f[K]`; not checked here.
        params: where to start the lower solver.
        minimise: as for `solve_lower`.
        solver: a lineax solver of the adjoint system; `None` is Cholesky's of the dense Hessian for a linear model, and
            conjugate gradients with products for others.
        columns: what `prepare` returned, where the caller evaluates often.
    """
    params = _promoted(params)
    dense = isinstance(solver, lineax.Cholesky) or (problem.linear and solver is None)
    product: Any
    if dense and columns is None:
        columns = columns_of(problem, params)
    if dense and minimise is None:
        params, lower, slopes, hessian = _solve_densely(problem, weights, params, columns)
    else:
        params, lower = solve_lower(problem, weights, params, minimise=minimise)
        if dense:
            slopes = group_slopes(problem, params, columns)
            hessian = second_order(problem, weights, columns)(params)[2]
    flat, unravel = ravel_pytree(params)
    value, slope = jax.value_and_grad(lambda v: upper_objective(problem, unravel(v)))(flat)
    if dense:
        product, solver = Partial(_multiply, hessian), lineax.Cholesky()
    else:
        _, product = jax.linearize(jax.grad(lambda v: weighted_risk(problem, unravel(v), weights)), flat)
    adjoint, linear = solve_with_info(product, -slope, solver)
    sensitivity = None
    if dense:
        by_group = slopes + _penalty_slope(problem, params)[None]
        gradient = jnp.matmul(by_group, adjoint, precision=_HIGHEST)
        sensitivity = jax.vmap(unravel)(-_solve_spd(hessian, by_group.T).T)
    else:
        _, gradient = jax.jvp(lambda v: regularised_risks(problem, unravel(v)), (flat,), (adjoint,))
    status = jnp.where(lower.status != Status.SUCCESS, lower.status, linear.status).astype(jnp.int32)
    info = OracleInfo(status, lower.grad_norm, linear.relative_residual, lower.num_steps)
    solved = lower.status != Status.NOT_FINITE
    value, gradient = jnp.where(solved, value, jnp.nan), gradient - jnp.mean(gradient)
    return Evaluation(value, gradient, params, sensitivity, unravel(adjoint), info)


def prepare(problem: Problem, params: Any) -> Float[Array, "d n"] | None:
    """What does not depend on weights, for loops around `evaluate`: features by parameter, or `None`."""
    return columns_of(problem, _promoted(params))


def _promoted(params: Any) -> Any:
    # float32 parameters beside float64 data would change their type on the way.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.result_type(float))), params)


def _solve_densely(
    problem: Problem, weights: Array, params: Any, columns: Array | None
) -> tuple[Any, MinimiseInfo, Array, Array]:
    """The lower solution, the slopes of the risks there, and the Hessian up to what the last step moved, some 1e-7.

    Newton's method to half of the digits, and one more step with the Hessian that the adjoint system needs anyhow.
    """
    flat, unravel = ravel_pytree(params)
    fine = jnp.finfo(flat.dtype).bits > 32
    tolerance = 1e-10 if fine else 1e-5
    seen = second_order(problem, weights, columns)
    # float32 leaves little between what a step resolves and what the mean over rows rounds to.
    near = newton_loop(lambda v: seen(unravel(v)), lambda state: state.extra, flat, 1e-7 if fine else 1e-4)
    moved = near.params - _solve_spd(near.extra, near.slope)
    slopes = group_slopes(problem, unravel(moved), columns)
    slope = jnp.matmul(weights.astype(flat.dtype), slopes, precision=_HIGHEST) + _penalty_slope(problem, unravel(moved))
    better = norm(slope) <= jnp.maximum(norm(near.slope), tolerance)
    length = jnp.where(better, norm(slope), norm(near.slope))
    status = jnp.where(length <= tolerance, Status.SUCCESS, Status.MAX_STEPS)
    status = jnp.where(jnp.isfinite(length) & jnp.isfinite(near.value), status, Status.NOT_FINITE).astype(jnp.int32)
    point = jnp.where(better, moved, near.params)
    return unravel(point), MinimiseInfo(status, length, near.num_steps + 1), slopes, near.extra


def _penalty_slope(problem: Problem, params: Any) -> Array:
    return ravel_pytree(jax.grad(lambda p: penalty(problem, p))(params))[0]


def _solve_spd(matrix: Any, right: Array) -> Array:
    """`A^{-1} b`, NaN where the matrix is not positive definite."""
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix, lower=True), right)


def _multiply(matrix: Array, vector: Array) -> Array:
    return jnp.matmul(matrix, vector, precision=_HIGHEST)


def _risk_at(problem: Problem, weights: Array, params: Any) -> Array:
    return weighted_risk(problem, params, weights)


def _hessian_at(problem: Problem, weights: Array, params: Any) -> Array:
    return weighted_hessian(problem, params, weights)
