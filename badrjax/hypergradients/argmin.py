r"""A differentiable arg-min: the solution of an inner problem as a function of all it depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.functions import Static, as_partial
from badrjax.hypergradients.implicit_gradient import check_not_negative, check_scalar, check_solver, float_leaves
from badrjax.hypergradients.linear import solve_or_nan
from badrjax.hypergradients.minimise import MinimiseInfo, newton


def argmin(
    objective: Callable[[Any, Any], Float[Array, ""]],
    params: Any,
    hyper: Any,
    *,
    minimise: Callable[..., Any] | None = None,
    solver: Any = None,
    damping: Float[Array, ""] | float = 0.0,
) -> Any:
    r"""`params*(hyper) = argmin_params objective(params, hyper)`, differentiable by `hyper` to any order.

    The derivative is that of the stationary point, `dparams* = -H^{-1} (d_params d_hyper objective) dhyper` (Bengio
    2000; Blondel et al. 2022), however the point was found: forward and reverse mode, and Hessians through it. Call it
    under `jit`: outside, each call compiles anew.

    Args:
        objective: `objective(params, hyper) -> f[]`, a strictly convex function (or one with a positive definite
            Hessian at the solution). Arrays it closes over, or that are bound to it as a `Partial`, are
            differentiated like `hyper`.
        params: where to start, a pytree of float32 or float64 arrays. The derivative by it is 0.
        hyper: pytree of any arrays; integers and keys among them are constants.
        minimise: `minimise(objective_of_params, params) -> (params, info)`; `None` is `newton()`. One of your own must
            not close over traced numbers: bind them, `Partial(minimise, step_size)`.
        solver: a lineax solver for the tangents, as for `implicit_hypergradient`; `None` is conjugate gradients.
        damping: `>= 0`, added to the diagonal of `H` in the tangents only, which it biases.

    Returns:
        A pytree like `params`: what `minimise` left, whether or not it met its tolerance (`argmin_with_info` tells).
        Derivatives are those of the formula there, and NaN where its linear solve fails: such a failure has no
        other way to show.

    Raises:
        TypeError: for leaves of `params` that are not all float32 or all float64, or a `solver` that is none.
        ValueError: when the objective does not return one number, `params` is empty, or `damping` is negative.
    """
    return argmin_with_info(objective, params, hyper, minimise=minimise, solver=solver, damping=damping)[0]


def argmin_with_info(
    objective: Callable[[Any, Any], Float[Array, ""]],
    params: Any,
    hyper: Any,
    *,
    minimise: Callable[..., Any] | None = None,
    solver: Any = None,
    damping: Float[Array, ""] | float = 0.0,
) -> tuple[Any, MinimiseInfo]:
    """`argmin` with what its minimiser tells, which has derivative 0.

    Args:
        objective: as for `argmin`, as are all others.
        params: see there.
        hyper: see there.
        minimise: see there.
        solver: see there.
        damping: see there.

    Returns:
        `(pytree like params, MinimiseInfo)`, or whatever info a `minimise` of your own returns.

    Raises:
        TypeError: as `argmin`. ValueError: too.
    """
    check_not_negative("damping", damping)
    check_solver(solver)
    params = float_leaves("params", params)
    hyper = jax.tree.map(jnp.asarray, hyper)
    check_scalar("objective", objective, params, hyper)
    # What the objective closes over becomes an argument, so that no derivative is lost with it.
    function, constants = jax.closure_convert(objective, params, hyper)
    minimise = newton() if minimise is None else as_partial(minimise)
    return _argmin(Partial(_applied, Static(function), constants), minimise, Static(solver), damping, params, hyper)


def _applied(function: Static, constants: Any, params: Any, hyper: Any) -> Any:
    return function.value(params, hyper, *constants)


@jax.custom_jvp
def _argmin(
    objective: Partial, minimise: Partial, solver: Static, damping: Any, params: Any, hyper: Any
) -> tuple[Any, Any]:
    return minimise(lambda p: objective(p, hyper), params)


@_argmin.defjvp
def _argmin_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    objective, _, solver, damping, _, hyper = primals
    # Through itself, so that the next derivative sees the solution move.
    solution, info = _argmin(*primals)
    flat, unravel = ravel_pytree(solution)

    def slope(point: Array, objective: Partial, hyper: Any) -> Array:
        return ravel_pytree(jax.grad(objective)(unravel(point), hyper))[0]

    _, pushed = jax.jvp(lambda o, h: slope(flat, o, h), (objective, hyper), (tangents[0], tangents[-1]))
    _, product = jax.linearize(lambda point: slope(point, objective, hyper), flat)
    change = solve_or_nan(lambda v: product(v) + jnp.asarray(damping, v.dtype) * v, -pushed, solver.value)
    still = jax.tree.map(lambda leaf: jax.custom_derivatives.zero_from_primal(leaf, symbolic_zeros=False), info)
    return (solution, info), (unravel(change), still)
