r"""Hypergradient estimators for loops: pairs of pure functions that carry the adjoint vector from call to call.

All estimate `d_hyper outer - (d_params d_hyper inner)' v` with `v` near the solution of `H v = g`, where
`g = d_params outer`, and differ in how near, and at what price. `inner(params, hyper, batch)` and
`outer(params, hyper, batch)` are means over a batch, and each call may have batches of its own.

| estimator | `v` | Hessian products a call |
| --- | --- | --- |
| `implicit` | conjugate gradients from the last `v` to a tolerance | as many as it takes, fewer when warm |
| `neumann` | `num_terms` steps of `v <- v - step_size (H v - g)` from 0 | `num_terms` |
| `single_loop` | one such step from the last `v` | 1 |
| `unrolled` | implied by differentiating `num_steps` gradient steps | `num_steps` |

All but `unrolled` make one more for the residual in their info; compiled, it costs nothing where nobody reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.checks import is_concrete
from badrjax.functions import Static, as_partial
from badrjax.hypergradients.implicit_gradient import (
    AdjointSystem,
    HypergradientInfo,
    adjoint_system,
    check_not_negative,
    check_scalar,
    check_solver,
    float_leaves,
    solved,
    with_finite,
)
from badrjax.hypergradients.linear import norm, relative_residual
from badrjax.hypergradients.minimise import check_positive_integer
from badrjax.status import Status

Number = Float[Array, ""] | float
BatchObjective = Callable[[Any, Any, Any], Float[Array, ""]]


class Estimator(NamedTuple):
    """A hypergradient estimator as a pytree of pure functions, whose numbers are leaves.

    Attributes:
        init: `init(params, hyper) -> state`, the adjoint vector: zeros like `params`.
        estimate: `estimate(key, state, params, hyper, train, valid) -> (gradient, state, HypergradientInfo)`, with
            `gradient` a pytree like `hyper`, `train` the batch of `inner` and `valid` that of `outer`. The state keeps
            its structure, shapes and dtypes, so it can be carried by `lax.scan`; where an adjoint vector is not
            finite, the next call starts from zeros. None of the estimators here uses the key.
    """

    init: Callable[..., Any]
    estimate: Callable[..., Any]


def implicit(inner: BatchObjective, outer: BatchObjective, *, solver: Any = None, damping: Number = 0.0) -> Estimator:
    r"""`implicit_hypergradient` on batches, each linear solve started from the adjoint vector of the last.

    Args:
        inner: `inner(params, hyper, batch) -> f[]`.
        outer: `outer(params, hyper, batch) -> f[]`.
        solver: a lineax solver, part of the program; `None` is conjugate gradients, as for `implicit_hypergradient`. A
            looser `lineax.CG(rtol=1e-2, atol=1e-2)` suits noisy batches; a direct solver ignores the start.
        damping: `>= 0`, added to the diagonal of `H`; a leaf.

    Returns:
        An `Estimator`; its info is that of `implicit_hypergradient_with_info`.

    Raises:
        TypeError: for objectives that cannot be called, or a solver that holds arrays.
        ValueError: for a negative `damping`. Shapes and dtypes are checked at the first estimate.
    """
    check_not_negative("damping", damping)
    check_solver(solver)
    return _estimator(Partial(_implicit, Static(solver), as_partial(inner), as_partial(outer), damping))


def neumann(
    inner: BatchObjective,
    outer: BatchObjective,
    *,
    num_terms: int,
    step_size: Number,
    warm_start: bool = False,
) -> Estimator:
    r"""The truncated Neumann series `v = step_size \sum_{i < num_terms} (I - step_size H)^i g`.

    Biased: the residual is `|(I - step_size H)^{num_terms} g| / |g|` (Lorraine et al. 2020).

    Args:
        inner: `inner(params, hyper, batch) -> f[]`.
        outer: `outer(params, hyper, batch) -> f[]`.
        num_terms: static.
        step_size: below 2 over the largest curvature, or the series diverges; a leaf.
        warm_start: make the same steps from the last adjoint vector instead of 0.

    Returns:
        An `Estimator`. Its status is a success however many terms are missing, unless the residual grew and is above
        1 (`DIVERGED`: take a smaller step), `v' H v < 0` (`NOT_POSITIVE_DEFINITE`), or `NOT_FINITE`.

    Raises:
        TypeError: for objectives that cannot be called.
        ValueError: for a `num_terms` that is no positive integer or a `step_size` that is not positive.
    """
    check_positive_integer("num_terms", num_terms)
    _check_positive("step_size", step_size)
    config = Static((num_terms, bool(warm_start)))
    return _estimator(Partial(_steps, config, as_partial(inner), as_partial(outer), step_size))


def single_loop(inner: BatchObjective, outer: BatchObjective, *, step_size: Number) -> Estimator:
    r"""One step `v <- v - step_size (H v - g)` from the last adjoint vector, then the gradient with the new `v`.

    For loops that move `params`, `v` and `hyper` by one step each (SOBA, Dagreou et al. 2022; Amigo, Arbel and Mairal
    2022). As written there, SOBA takes its gradient with the old `v`; Amigo with the new one, as here.

    Args:
        inner: `inner(params, hyper, batch) -> f[]`.
        outer: `outer(params, hyper, batch) -> f[]`.
        step_size: below 2 over the largest curvature; a leaf.

    Returns:
        An `Estimator`, its status as of `neumann`.

    Raises:
        TypeError: for objectives that cannot be called. ValueError: for a `step_size` that is not positive.
    """
    return neumann(inner, outer, num_terms=1, step_size=step_size, warm_start=True)


def unrolled(inner: BatchObjective, outer: BatchObjective, *, num_steps: int, step_size: Number) -> Estimator:
    r"""Derivative of `outer` after `num_steps` gradient steps on `inner`, by reverse mode through the steps.

    `params` are held fixed as the start (Franceschi et al. 2017); the steps are not kept. At a stationary point it
    equals the Neumann series of as many terms. Only parameters are stored for each step, and each is run twice.

    Args:
        inner: `inner(params, hyper, batch) -> f[]`.
        outer: `outer(params, hyper, batch) -> f[]`.
        num_steps: static.
        step_size: of the gradient steps; a leaf.

    Returns:
        An `Estimator` that hands its state through. In its info, `relative_residual` is the derivative by the start
        over that by the end, `|d outer / d params_0| / |d outer / d params_N|` (the residual of the Neumann series at
        a stationary point, 0 once the start is forgotten); above 1 the status is `DIVERGED`.
        `inner_grad_norm` is taken after the steps.

    Raises:
        TypeError: for objectives that cannot be called.
        ValueError: for a `num_steps` that is no positive integer or a `step_size` that is not positive.
    """
    check_positive_integer("num_steps", num_steps)
    _check_positive("step_size", step_size)
    return _estimator(Partial(_unrolled, Static(num_steps), as_partial(inner), as_partial(outer), step_size))


def _estimator(estimate: Partial) -> Estimator:
    return Estimator(Partial(_init), estimate)


def _init(params: Any, hyper: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), float_leaves("params", params))


def _implicit(
    solver: Static,
    inner: Partial,
    outer: Partial,
    damping: Any,
    key: Any,
    state: Any,
    params: Any,
    hyper: Any,
    train: Any,
    valid: Any,
) -> tuple[Any, Any, HypergradientInfo]:
    system = _system(inner, outer, params, hyper, train, valid, damping)
    gradient, adjoint, info = solved(system, solver.value, guess=ravel_pytree(state)[0])
    return gradient, system.unravel(_restartable(adjoint)), info


def _steps(
    config: Static,
    inner: Partial,
    outer: Partial,
    step_size: Any,
    key: Any,
    state: Any,
    params: Any,
    hyper: Any,
    train: Any,
    valid: Any,
) -> tuple[Any, Any, HypergradientInfo]:
    num_terms, warm_start = config.value
    system = _system(inner, outer, params, hyper, train, valid)
    step_size = jnp.asarray(step_size, system.right.dtype)
    start = _restartable(ravel_pytree(state)[0]) if warm_start else jnp.zeros_like(system.right)

    def step(adjoint: Array, _: None) -> tuple[Array, Array]:
        miss = system.product(adjoint) - system.right
        return adjoint - step_size * miss, norm(miss)

    adjoint, misses = jax.lax.scan(step, start, None, length=num_terms)
    gradient = system.gradient(adjoint)
    info = _info_of_steps(system, adjoint, misses[0], num_terms)
    return gradient, system.unravel(_restartable(adjoint)), info._replace(status=with_finite(info.status, gradient))


def _unrolled(
    config: Static,
    inner: Partial,
    outer: Partial,
    step_size: Any,
    key: Any,
    state: Any,
    params: Any,
    hyper: Any,
    train: Any,
    valid: Any,
) -> tuple[Any, Any, HypergradientInfo]:
    params, hyper = float_leaves("params", params), float_leaves("hyper", hyper)
    check_scalar("inner", inner, params, hyper, train)
    check_scalar("outer", outer, params, hyper, valid)

    def step(carry: Any, hyper: Any) -> Any:
        slope = jax.grad(inner)(carry, hyper, train)
        return jax.tree.map(lambda p, g: p - jnp.asarray(step_size, p.dtype) * g, carry, slope)

    def run(start: Any, hyper: Any) -> Any:
        once = jax.checkpoint(step)
        return jax.lax.scan(lambda carry, _: (once(carry, hyper), None), start, None, length=config.value)[0]

    end, pull = jax.vjp(run, params, hyper)
    by_end, direct = jax.grad(outer, argnums=(0, 1))(end, hyper, valid)
    by_start, through = pull(by_end)
    gradient = jax.tree.map(jnp.add, direct, through)
    last, first = norm(ravel_pytree(by_end)[0]), norm(ravel_pytree(by_start)[0])
    left = jnp.where(first == 0, 0.0, first / last)
    slope = norm(ravel_pytree(jax.grad(inner)(end, hyper, train))[0])
    status = jnp.where(left > 1, Status.DIVERGED, Status.SUCCESS)
    finite = jnp.isfinite(slope) & jnp.isfinite(first) & jnp.isfinite(last)
    status = with_finite(jnp.where(finite, status, Status.NOT_FINITE), gradient)
    return gradient, state, HypergradientInfo(status, left, slope, jnp.asarray(config.value, jnp.int32))


def _system(
    inner: Partial, outer: Partial, params: Any, hyper: Any, train: Any, valid: Any, damping: Any = 0.0
) -> AdjointSystem:
    return adjoint_system(lambda p, h: inner(p, h, train), lambda p, h: outer(p, h, valid), params, hyper, damping)


def _info_of_steps(
    system: AdjointSystem, adjoint: Float[Array, "d"], first_miss: Float[Array, ""], num_steps: int
) -> HypergradientInfo:
    image = system.product(adjoint)
    left = relative_residual(image, system.right)
    grew = ~(left <= 1) & ~(norm(image - system.right) <= first_miss)
    bends_down = jnp.dot(adjoint, image, precision=jax.lax.Precision.HIGHEST) < 0
    status = jnp.where(grew, Status.DIVERGED, Status.SUCCESS)
    status = jnp.where(bends_down, Status.NOT_POSITIVE_DEFINITE, status)
    finite = jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(system.right)) & jnp.isfinite(system.inner_grad_norm)
    status = jnp.where(finite, status, Status.NOT_FINITE)
    return HypergradientInfo(status, left, system.inner_grad_norm, jnp.asarray(num_steps, jnp.int32))


def _restartable(adjoint: Float[Array, "d"]) -> Float[Array, "d"]:
    """Zeros in place of an adjoint vector that is not finite, so that one bad batch does not spoil the rest."""
    return jnp.where(jnp.all(jnp.isfinite(adjoint)), adjoint, 0.0)


def _check_positive(name: str, value: Any) -> None:
    if np.ndim(value):
        raise ValueError(f"{name} must be one number, got shape {np.shape(value)}; use jax.vmap over several")
    if is_concrete(value) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"{name} must be > 0, got {value}")
