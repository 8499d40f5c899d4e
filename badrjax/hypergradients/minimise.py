"""Minimisers for inner problems: loops to a stated gradient norm, safe under `jit` and `vmap`.

A minimiser is a `jax.tree_util.Partial`, `minimise(objective, params) -> (params, MinimiseInfo)`, whose numbers are
leaves. Its own derivatives are those of its iterations; `badrjax.argmin` gives those of the solution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.functions import Static, as_partial
from badrjax.hypergradients.implicit_gradient import check_not_negative, check_scalar, float_leaves
from badrjax.hypergradients.linear import norm
from badrjax.status import Status

_HIGHEST = jax.lax.Precision.HIGHEST


class MinimiseInfo(NamedTuple):
    """How a minimisation ended.

    Attributes:
        status: `int32[]`, a `Status`: success where `grad_norm` is at most the tolerance, `MAX_STEPS`, or `NOT_FINITE`.
        grad_norm: `f[]`, Euclidean norm of the gradient at the parameters returned.
        num_steps: `int32[]`, steps tried.
    """

    status: Int[Array, ""]
    grad_norm: Float[Array, ""]
    num_steps: Int[Array, ""]


def newton(
    *,
    tolerance: Float[Array, ""] | float | None = None,
    max_steps: int = 100,
    damping: Float[Array, ""] | float = 0.0,
    hessian: Callable[[Any], Float[Array, "d d"]] | None = None,
) -> Partial:
    r"""Newton's method with an adaptive Levenberg shift, `(H + shift I) step = -gradient`, for small dense problems.

    A step is taken when the objective falls by a part of what its quadratic model foretells, and the shift then
    falls tenfold, down to 0; otherwise, and where `H + shift I` is not positive definite, it grows tenfold and the
    step is tried again (Nocedal and Wright 2006, section 10.3). Once the objective no longer resolves a fall, a
    smaller gradient counts. Forms the Hessian, `d x d`: for up to a few hundred parameters.

    Args:
        tolerance: of the gradient's norm; `None` is 1e-10 (float64) or 1e-5 (float32). It is absolute: make the
            objective a mean, not a sum.
        max_steps: most steps tried, those not taken among them: curved valleys can need more than the default.
        damping: the shift to start from, `>= 0`.
        hessian: `hessian(params) -> f[d, d]` of the objective, in the order of `ravel_pytree`, where it is known more
            cheaply; bind what it needs with `Partial`. `None` differentiates the objective twice.

    Returns:
        `minimise(objective, params) -> (params, MinimiseInfo)`. Parameters are those of the last step taken, and
        finite when the ones given were.

    Raises:
        ValueError: for a negative `tolerance` or `damping`, or `max_steps` that is no positive integer.
    """
    _check_budget(tolerance, max_steps)
    check_not_negative("damping", damping)
    return Partial(_newton, Static(max_steps), tolerance, damping, None if hessian is None else as_partial(hessian))


def lbfgs(
    *,
    tolerance: Float[Array, ""] | float | None = None,
    max_steps: int = 500,
    memory_size: int = 10,
) -> Partial:
    """Limited-memory BFGS with a zoom line search, optax's, to a stated gradient norm.

    Args:
        tolerance: of the gradient's norm; `None` is 1e-10 (float64) or 1e-5 (float32). It is absolute: make the
            objective a mean, not a sum.
        max_steps: most steps, each with up to 20 evaluations of the objective.
        memory_size: pairs of differences kept.

    Returns:
        `minimise(objective, params) -> (params, MinimiseInfo)`, as of `newton`.

    Raises:
        ValueError: for a negative `tolerance`, or a `max_steps` or `memory_size` that is no positive integer.
    """
    _check_budget(tolerance, max_steps)
    check_positive_integer("memory_size", memory_size)
    return Partial(_lbfgs, Static((max_steps, memory_size)), tolerance)


class NewtonState(NamedTuple):
    """Where Newton's method is.

    Attributes:
        params: `f[d]`.
        value: of the objective, `f[]`.
        slope: its gradient, `f[d]`.
        extra: what else was seen there.
        shift: of the Hessian's diagonal, `f[]`.
        num_steps: tried, `int32[]`.
    """

    params: Array
    value: Array
    slope: Array
    extra: Any
    shift: Array
    num_steps: Array


def _newton(
    config: Static, tolerance: Any, damping: Any, hessian_of: Any, objective: Callable[[Any], Array], params: Any
) -> tuple[Any, MinimiseInfo]:
    flat, unravel, function = _flattened(objective, params)
    tolerance = _tolerance(tolerance, flat.dtype)

    def hessian(state: NewtonState) -> Array:
        return jax.hessian(function)(state.params) if hessian_of is None else hessian_of(unravel(state.params))

    def look(point: Array) -> tuple[Array, Array, None]:
        return (*jax.value_and_grad(function)(point), None)

    end = newton_loop(look, hessian, flat, tolerance, config.value, damping)
    return unravel(end.params), _ended(end.value, end.slope, tolerance, end.num_steps)


def newton_loop(
    look: Callable[[Array], tuple[Array, Array, Any]],
    hessian_at: Callable[[NewtonState], Array],
    flat: Array,
    tolerance: Any,
    max_steps: int = 100,
    damping: Any = 0.0,
) -> NewtonState:
    """The loop of `newton` for vectors: `look(point) -> (value, slope, extra)`, the Hessian formed from a state."""

    def unfinished(state: NewtonState) -> Array:
        return (norm(state.slope) > tolerance) & (state.num_steps < max_steps)

    def step(state: NewtonState) -> NewtonState:
        hessian = hessian_at(state)
        move = _shifted_step(hessian, state.slope, state.shift)
        trial = state.params + move
        value, slope, extra = look(trial)
        bend = jnp.dot(move, jnp.matmul(hessian, move, precision=_HIGHEST), precision=_HIGHEST)
        foretold = -jnp.dot(state.slope, move, precision=_HIGHEST) - bend / 2
        taken = _falls(state, value, slope, foretold) & jnp.all(jnp.isfinite(trial)) & jnp.all(jnp.isfinite(slope))
        largest = jnp.max(jnp.abs(jnp.diagonal(hessian)))
        scale = jnp.where(largest > 0, largest, 1.0)
        smaller = jnp.where(state.shift > 1e-5 * scale, 0.1 * state.shift, 0.0)
        shift = jnp.where(taken, smaller, jnp.maximum(10 * state.shift, 1e-3 * scale))
        moved = NewtonState(trial, value, slope, extra, shift, state.num_steps)
        kept = jax.tree.map(lambda new, old: jnp.where(taken, new, old), moved, state)
        return kept._replace(shift=shift, num_steps=state.num_steps + 1)

    start = NewtonState(flat, *look(flat), jnp.asarray(damping, flat.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, start)


def _shifted_step(hessian: Array, slope: Array, shift: Array) -> Array:
    """`-(H + shift I)^{-1} slope`, NaN where that matrix is not positive definite."""
    factor = jax.scipy.linalg.cho_factor(hessian + shift * jnp.eye(slope.shape[0], dtype=slope.dtype), lower=True)
    return -jax.scipy.linalg.cho_solve(factor, slope)


def _falls(state: NewtonState, value: Array, slope: Array, foretold: Array) -> Array:
    """Whether the objective falls enough or, where rounding hides its fall, the gradient gets smaller."""
    unresolved = 32 * jnp.finfo(value.dtype).eps * jnp.abs(state.value)
    level = jnp.abs(value - state.value) <= unresolved
    return (value <= state.value - 1e-4 * foretold) | (level & (norm(slope) < norm(state.slope)))


class _LBFGSState(NamedTuple):
    params: Array
    value: Array
    slope: Array
    opt_state: Any
    num_steps: Array
    broken: Array


def _lbfgs(config: Static, tolerance: Any, objective: Callable[[Any], Array], params: Any) -> tuple[Any, MinimiseInfo]:
    max_steps, memory_size = config.value
    flat, unravel, function = _flattened(objective, params)
    tolerance = _tolerance(tolerance, flat.dtype)
    optimizer = optax.lbfgs(memory_size=memory_size)
    value_and_slope = optax.value_and_grad_from_state(function)

    def unfinished(state: _LBFGSState) -> Array:
        return (norm(state.slope) > tolerance) & (state.num_steps < max_steps) & ~state.broken

    def step(state: _LBFGSState) -> _LBFGSState:
        updates, opt_state = optimizer.update(
            state.slope, state.opt_state, state.params, value=state.value, grad=state.slope, value_fn=function
        )
        trial = optax.apply_updates(state.params, updates)
        value, slope = value_and_slope(trial, state=opt_state)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(trial))
        moved = state._replace(params=trial, value=value, slope=slope, opt_state=opt_state)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        return kept._replace(num_steps=state.num_steps + 1, broken=~finite)

    value, slope = jax.value_and_grad(function)(flat)
    zero = jnp.zeros((), jnp.int32)
    start = _LBFGSState(flat, value, slope, optimizer.init(flat), zero, ~jnp.isfinite(value))
    end = jax.lax.while_loop(unfinished, step, start)
    info = _ended(end.value, end.slope, tolerance, end.num_steps)
    failed = end.broken & (info.status != Status.SUCCESS)
    return unravel(end.params), info._replace(status=jnp.where(failed, Status.NOT_FINITE, info.status))


def _flattened(
    objective: Callable[[Any], Array], params: Any
) -> tuple[Array, Callable[[Array], Any], Callable[[Array], Array]]:
    params = float_leaves("params", params)
    check_scalar("objective", objective, params)
    flat, unravel = ravel_pytree(params)
    return flat, unravel, lambda v: objective(unravel(v)).astype(flat.dtype)


def _tolerance(tolerance: Any, dtype: Any) -> Array:
    default = 1e-10 if jnp.finfo(dtype).bits > 32 else 1e-5
    return jnp.asarray(default if tolerance is None else tolerance, dtype)


def _ended(value: Array, slope: Array, tolerance: Array, count: Array) -> MinimiseInfo:
    length = norm(slope)
    status = jnp.where(length <= tolerance, Status.SUCCESS, Status.MAX_STEPS)
    status = jnp.where(jnp.isfinite(length) & jnp.isfinite(value), status, Status.NOT_FINITE)
    return MinimiseInfo(status.astype(jnp.int32), length, count)


def _check_budget(tolerance: Any, max_steps: Any) -> None:
    check_not_negative("tolerance", tolerance)
    check_positive_integer("max_steps", max_steps)


def check_positive_integer(name: str, value: Any) -> None:
    """Raise `ValueError` unless the value is a positive Python integer (it fixes the program)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive Python int (it is part of the program), got {value!r}")
