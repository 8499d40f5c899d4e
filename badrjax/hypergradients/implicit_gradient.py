r"""Derivatives through the solution of an inner problem, by the implicit function theorem.

Where `grad_params inner(params, hyper) = 0`, the solution moves by `-H^{-1} (d_params d_hyper inner) dhyper` with
`H` the Hessian of `inner` by `params`. So the total derivative of `outer` needs one linear solve with `H`, the adjoint
system `H v = d_params outer`, and one mixed product; neither matrix is formed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from badrjax.checks import is_concrete
from badrjax.hypergradients.linear import norm, solve_with_info
from badrjax.status import Status

Scalar = Callable[[Any, Any], Float[Array, ""]]


class HypergradientInfo(NamedTuple):
    """What certifies a hypergradient.

    Attributes:
        status: `int32[]`, a `Status`; see `badrjax.explain`.
        relative_residual: `f[]`, `|H v - g| / |g|` of the adjoint system `H v = g`; 0 if `g` and `v` are 0.
        inner_grad_norm: `f[]`, norm of the inner gradient at the parameters the outer objective was taken at. The
            formula holds where it is 0; its error is proportional to it.
        num_steps: `int32[]`, steps of the solver; 0 for a direct one.
    """

    status: Int[Array, ""]
    relative_residual: Float[Array, ""]
    inner_grad_norm: Float[Array, ""]
    num_steps: Int[Array, ""]


class AdjointSystem(NamedTuple):
    """The system `(H + damping I) v = g` on flat vectors, and what turns `v` into a hypergradient.

    Attributes:
        product: `v -> (H + damping I) v`, `f[d] -> f[d]`.
        right: `g`, the gradient of the outer objective by the parameters, `f[d]`.
        gradient: `v -> d_hyper outer - (d_params d_hyper inner)' v`, `f[d] ->` pytree like `hyper`.
        unravel: from `f[d]` to a pytree like `params`.
        inner_grad_norm: `f[]`.
    """

    product: Callable[[Float[Array, "d"]], Float[Array, "d"]]
    right: Float[Array, "d"]
    gradient: Callable[[Float[Array, "d"]], Any]
    unravel: Callable[[Float[Array, "d"]], Any]
    inner_grad_norm: Float[Array, ""]


def implicit_hypergradient(
    inner: Scalar,
    outer: Scalar,
    params: Any,
    hyper: Any,
    *,
    solver: Any = None,
    damping: Float[Array, ""] | float = 0.0,
) -> Any:
    r"""Total derivative of `outer(params*(hyper), hyper)` where `params*` is stationary for `inner(., hyper)`.

    `d_hyper outer - (d_params d_hyper inner)' (H + damping I)^{-1} d_params outer`, with `H` the Hessian of `inner`
    by `params` (Bengio 2000; Pedregosa 2016). Whatever the derivative is wanted by must be in `hyper`: what `inner`
    and `outer` close over counts as constant. Call it under `jit`: outside, each call compiles anew.

    Args:
        inner: `inner(params, hyper) -> f[]`, twice differentiable, which `params` minimises.
        outer: `outer(params, hyper) -> f[]`.
        params: pytree of float32 or of float64 arrays, the inner solution.
        hyper: pytree of float32 or float64 arrays.
        solver: any lineax solver. `None` is conjugate gradients to a relative residual of 1e-12 (float64) or 1e-6
            (float32) in at most `max(20, min(10 d, 1000))` steps; `lineax.Cholesky()` and `lineax.LU()` form the
            `d x d` matrix and suit a few hundred parameters. A solver's tolerances are relative to
            `|d_params outer|`.
        damping: `>= 0`, added to the diagonal of `H`: for a singular or indefinite `H`, at the price of a bias.

    Returns:
        A pytree like `hyper`: what the solver left, also where it missed its tolerance, and NaN where it broke down.
        `implicit_hypergradient_with_info` tells which. A singular system that is consistent is solved by its
        shortest solution (with conjugate gradients).

    Raises:
        TypeError: for leaves of `params` or `hyper` that are not float32 or float64.
        ValueError: when `inner` or `outer` does not return one number, `params` is empty, or `damping` is negative.
    """
    return implicit_hypergradient_with_info(inner, outer, params, hyper, solver=solver, damping=damping)[0]


def implicit_hypergradient_with_info(
    inner: Scalar,
    outer: Scalar,
    params: Any,
    hyper: Any,
    *,
    solver: Any = None,
    damping: Float[Array, ""] | float = 0.0,
    stationarity_tolerance: Float[Array, ""] | float | None = None,
) -> tuple[Any, HypergradientInfo]:
    r"""`implicit_hypergradient` with its `HypergradientInfo`, one status a lane under `vmap`.

    The status is a success when `|(H + damping I) v - g| / |g|`, computed anew at the end, is at most 1e-10
    (float64) or 1e-4 (float32), or the tolerance of `solver` if that is looser. `NOT_POSITIVE_DEFINITE` takes
    precedence: `v' H v` or `g' H g` shows that `params` is no minimum.

    Args:
        inner: as for `implicit_hypergradient`, as are `outer`, `params`, `hyper`, `solver` and `damping`.
        outer: see there.
        params: see there.
        hyper: see there.
        solver: see there.
        damping: see there.
        stationarity_tolerance: when given, an `inner_grad_norm` above it turns success into `NOT_STATIONARY`.

    Returns:
        `(pytree like hyper, HypergradientInfo)`.

    Raises:
        TypeError: as `implicit_hypergradient`. ValueError: too, or for a negative `stationarity_tolerance`.
    """
    check_not_negative("damping", damping)
    check_not_negative("stationarity_tolerance", stationarity_tolerance)
    if solver is not None and not isinstance(solver, lineax.AbstractLinearSolver):
        raise TypeError(f"solver must be a lineax solver such as lineax.CG(rtol, atol) or None, got {solver!r}")
    system = adjoint_system(inner, outer, params, hyper, damping)
    return solved(system, solver, stationarity_tolerance=stationarity_tolerance)[::2]


def solved(
    system: AdjointSystem,
    solver: Any,
    guess: Float[Array, "d"] | None = None,
    stationarity_tolerance: Float[Array, ""] | float | None = None,
) -> tuple[Any, Float[Array, "d"], HypergradientInfo]:
    """`(gradient, adjoint, info)` of an adjoint system by a lineax solver.

    Args:
        system: from `adjoint_system`.
        solver: a lineax solver; `None` is conjugate gradients.
        guess: the adjoint vector to start from, `f[d]`.
        stationarity_tolerance: see `implicit_hypergradient_with_info`.
    """
    adjoint, info = solve_with_info(system.product, system.right, solver, guess)
    status = jnp.where(jnp.isfinite(system.inner_grad_norm), info.status, Status.NOT_FINITE)
    if stationarity_tolerance is not None:
        moving = (status == Status.SUCCESS) & (system.inner_grad_norm > stationarity_tolerance)
        status = jnp.where(moving, Status.NOT_STATIONARY, status)
    gradient = system.gradient(adjoint)
    found = HypergradientInfo(
        with_finite(status, gradient), info.relative_residual, system.inner_grad_norm, info.num_steps
    )
    return gradient, adjoint, found


def adjoint_system(
    inner: Scalar, outer: Scalar, params: Any, hyper: Any, damping: Float[Array, ""] | float = 0.0
) -> AdjointSystem:
    """The adjoint system at `params`; its product is one linearisation of the inner gradient.

    Arguments and errors as of `implicit_hypergradient`.
    """
    params, hyper = float_leaves("params", params), float_leaves("hyper", hyper)
    check_scalar("inner", inner, params, hyper)
    check_scalar("outer", outer, params, hyper)
    flat, unravel = ravel_pytree(params)
    damping = jnp.asarray(damping, flat.dtype)
    slope, push = jax.linearize(lambda v: ravel_pytree(jax.grad(inner)(unravel(v), hyper))[0], flat)
    right, direct = jax.grad(outer, argnums=(0, 1))(params, hyper)

    def gradient(adjoint: Float[Array, "d"]) -> Any:
        by_hyper = jax.grad(inner, argnums=1)
        _, mixed = jax.jvp(lambda p: by_hyper(p, hyper), (params,), (unravel(adjoint),))
        return jax.tree.map(jnp.subtract, direct, mixed)

    return AdjointSystem(lambda v: push(v) + damping * v, ravel_pytree(right)[0], gradient, unravel, norm(slope))


def with_finite(status: Int[Array, ""], gradient: Any) -> Int[Array, ""]:
    """`status`, or `NOT_FINITE` where a success would come with a gradient that is not finite."""
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)] or [True]))
    return jnp.where((status == Status.SUCCESS) & ~finite, Status.NOT_FINITE, status).astype(jnp.int32)


def float_leaves(name: str, tree: Any) -> Any:
    """The tree with arrays for leaves.

    Raises:
        TypeError: for a leaf that is not float32 or float64, or `params` of both kinds.
        ValueError: for `params` without an entry.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    if name == "params" and not sum(np.size(leaf) for _, leaf in leaves):
        raise ValueError("params holds no numbers, so there is nothing to differentiate through")
    arrays = []
    for path, leaf in leaves:
        array = jnp.asarray(leaf)
        if array.dtype not in (jnp.float32, jnp.float64):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} must be float32 or float64 and has {array.dtype}; cast it, or if "
                "it is no variable (data, a key, a count) bind it to the functions with jax.tree_util.Partial"
            )
        # An explicit dtype is not weak, so that results have the same type on every call.
        arrays.append(jnp.asarray(array, array.dtype))
    if name == "params" and len({array.dtype for array in arrays}) > 1:
        raise TypeError("params mixes float32 and float64 leaves, so no tolerance suits all; cast them to one of both")
    return jax.tree.unflatten(structure, arrays)


def check_scalar(name: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Raise `ValueError` unless `function(*arguments)` is one number."""
    result = jax.eval_shape(function, *arguments)
    if getattr(result, "shape", None) != () or not jnp.issubdtype(result.dtype, jnp.floating):
        raise ValueError(f"{name} must return one number, a float of shape (), got {result}; take a mean or sum")


def check_not_negative(name: str, value: Any) -> None:
    """Raise `ValueError` unless a value (`None` is skipped) is one number that, if concrete, is not negative or NaN."""
    if value is not None and np.ndim(value):
        raise ValueError(f"{name} must be one number, got shape {np.shape(value)}; use jax.vmap over several")
    if value is not None and is_concrete(value) and not np.all(np.asarray(value) >= 0):
        raise ValueError(f"{name} must be >= 0, got {value}")


def check_solver(solver: Any) -> None:
    """Raise `TypeError` unless `solver` is `None` or a lineax solver that can be part of a program."""
    if solver is None:
        return
    if not isinstance(solver, lineax.AbstractLinearSolver):
        raise TypeError(f"solver must be a lineax solver such as lineax.CG(rtol, atol) or None, got {solver!r}")
    try:
        hash(solver)
    except TypeError as error:
        raise TypeError(f"solver must hold Python numbers only, as it is part of the program ({error})") from error
