r"""BADR: bilevel adaptive rescalarisation in a single loop over parameters, adjoint vector and weights of groups.

The problem is that of `badrjax.bilevel`: group weights `lambda` on the simplex that make a fairness objective `Fair`
small at the minimiser of the weighted risk. Tanji, Vaiter and Laguel (2026) move all three variables at once, each
direction taken at the old values and on one batch B:

1. `w      <- w - a_w grad_w L(w, lambda; B)`, with `L = sum_s lambda_s F_s(w; B_s) + mu/2 ||w||^2`;
2. `v      <- v - a_v (grad Fair(w) + (Hess_w L + damping I) v)`, one step towards `H v = -grad Fair`;
3. `lambda <- P(lambda - a_lambda clip(h))`, `h_s = <grad F_s(w; B_s), v>`, P the projection onto the simplex.

With full batches it is BADR-GD; with `badrjax.group_balanced` batches, each `B_s` an unbiased sample of its group,
BADR-SGD. A constant over the coordinates of h is no direction on the simplex, so its mean is taken off before the clip.

A constant `a_lambda`, as published, lets `lambda` drift about its optimum. The default divides by the root of the sum
of all squared norms of h so far (AdaGrad-Norm, Ward et al. 2019), which needs no unit and settles; and the state keeps
an average of the weights and the best of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.bilevel.checks import check_data, check_weights
from badrjax.bilevel.problem import l2_penalty
from badrjax.checks import is_concrete
from badrjax.functions import Static, as_partial
from badrjax.groups import group_mean
from badrjax.methods.base import Method, optimiser_pytree
from badrjax.status import Status
from badrjax.surrogates import project_simplex


class BADRState(NamedTuple):
    """The three variables with their optimisers' states, and what is worth keeping of the weights.

    Attributes:
        params: `w`.
        adjoint: `v`, a pytree like `params`.
        weights: `lambda`, `f[K]`, the last.
        average_weights: mean of the weights so far, later ones counting more, `f[K]`.
        best_weights: those of the least `objective + |value - objective|` in the infos, `f[K]`. They say something
            where the run starts at a solution (`badr_setup`): from zero parameters and a zero adjoint the first step
            sees an objective of constant scores, often the least there is.
        best_value: that number, `f[]`; infinite before the first step.
        iteration: steps taken, `int32[]`.
        failed_at: the first step whose result was not finite, from 0, `int32[]`; -1 while there is none. From then on
            nothing moves.
        opt_states: of the three optimisers.
    """

    params: Any
    adjoint: Any
    weights: Float[Array, "K"]
    average_weights: Float[Array, "K"]
    best_weights: Float[Array, "K"]
    best_value: Float[Array, ""]
    iteration: Int[Array, ""]
    failed_at: Int[Array, ""]
    opt_states: Any


class BADRInfo(NamedTuple):
    """What one step saw, at the variables it started from.

    Attributes:
        loss: the weighted risk of the batch with its penalty, `f[]`.
        weights: `lambda`, `f[K]`.
        objective: `Fair(w)`, `f[]`.
        value: `Fair(w) + <v, grad_w L>`, `f[]`: `Fair(w*(lambda))` to first order, so that a `w` which lags behind its
            weights does not pass for fair.
        hypergradient_norm: of h less its mean, before the clip, `f[]`.
        clipped: 1 where the clip made h shorter, else 0, `f[]`.
        inner_grad_norm: of `grad_w L`, `f[]`.
        adjoint_residual: `|grad Fair + H v|` over `|grad Fair|`, `f[]`; 0 where both are 0.
        status: `int32[]`, a `Status`: `DIVERGED` from the first step that is not finite, see `BADRState.failed_at`.
    """

    loss: Float[Array, ""]
    weights: Float[Array, "K"]
    objective: Float[Array, ""]
    value: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]
    clipped: Float[Array, ""]
    inner_grad_norm: Float[Array, ""]
    adjoint_residual: Float[Array, ""]
    status: Int[Array, ""]


class _Problem(NamedTuple):
    losses: Partial
    objective: Partial
    optimizers: tuple[Partial, Partial, Partial]
    data: Batch | None
    start: tuple[Any, Any]  # weights and adjoint vector
    regularisation: Any
    damping: Any
    clip: Any
    averaging: Any


class _Directions(NamedTuple):
    """The three directions and what was seen on the way."""

    params: Any
    adjoint: Any
    weights: Array
    loss: Array
    objective: Array
    objective_norm: Array


class AdaGradNormState(NamedTuple):
    """Sum of the squared norms of all gradients so far, `f[]`."""

    total: Float[Array, ""]


def adagrad_norm(learning_rate: Float[Array, ""] | float) -> optax.GradientTransformation:
    r"""AdaGrad with one number for all coordinates (Ward et al. 2019): `-rate g_t / sqrt(\sum_{i <= t} \|g_i\|^2)`.

    The first step has the length `learning_rate`, whatever the unit of the gradient; gradients that stay as long make
    it fall with the root of t, and gradients that vanish leave it.

    Args:
        learning_rate: of the first step; may be traced.
    """

    def init(params: Any) -> AdaGradNormState:
        return AdaGradNormState(jnp.zeros((), jnp.result_type(*jax.tree.leaves(params))))

    def update(gradients: Any, state: AdaGradNormState, params: Any = None) -> tuple[Any, AdaGradNormState]:
        total = state.total + optax.tree.norm(gradients, squared=True).astype(state.total.dtype)
        scale = learning_rate / jnp.sqrt(jnp.where(total > 0, total, 1.0))
        return jax.tree.map(lambda g: (-scale * g).astype(g.dtype), gradients), AdaGradNormState(total)

    return optax.GradientTransformation(init, update)


def badr(
    losses: Any,
    optimizer: Any,
    objective: Any,
    *,
    num_groups: int,
    data: Batch | None = None,
    adjoint_optimizer: Any = None,
    weights_optimizer: Any = None,
    clip: Float[Array, ""] | float = 1.0,
    regularisation: Float[Array, ""] | float = 0.0,
    damping: Float[Array, ""] | float = 0.0,
    weights: Float[Array, "K"] | None = None,
    adjoint: Any = None,
    averaging: Float[Array, ""] | float = 3.0,
) -> Method:
    r"""BADR-GD and BADR-SGD; see the module.

    `badrjax.bilevel.problem(...)` has `losses`, `objective`, `data` and `regularisation` ready, and `badr_setup` takes
    starts and step sizes from it. As published, `optimizer = Partial(optax.sgd, learning_rate=0.1)` and
    `weights_optimizer = Partial(optax.sgd, learning_rate=1.0)`.

    Args:
        losses: `ExampleLosses`.
        optimizer: of `w`; an optax transformation or `Partial(optax.sgd, learning_rate=...)`, below 2 over the largest
            curvature of the weighted risk.
        objective: `(params, batch) -> f[]`, the fairness objective.
        num_groups: static number of groups K.
        data: rows of the objective, such as the training rows: the metric on the full batch, as published. `None` takes
            it on the batch of each step.
        adjoint_optimizer: of `v`; `None` is one like `optimizer`, so that both share a step size, as published.
        weights_optimizer: of `lambda`, before the projection; `None` is `adagrad_norm(0.1)`.
        clip: largest norm of h, `> 0`; `jnp.inf` for none.
        regularisation: `mu >= 0` of `mu/2 ||w||^2` over all leaves but those named `bias`.
        damping: `>= 0`, added to the diagonal of the Hessian in the adjoint system, which it biases: for a network,
            whose Hessian need not be positive definite.
        weights: where `lambda` starts, `f[K]` on the simplex; `None` is uniform.
        adjoint: where `v` starts, like `params`, such as a solution of `H v = -grad Fair`; `None` is zeros.
        averaging: `>= 0`: the average gives step t a share of `(averaging + 1) / (averaging + t)` (Shamir and Zhang
            2013); 0 counts all alike.

    Raises:
        ValueError: (outside tracing) for weights off the simplex, data that are not finite or lack a group (which), or
            numbers out of range.
        TypeError: for an optimizer that is neither form.
    """
    for name, value in (("regularisation", regularisation), ("damping", damping), ("averaging", averaging)):
        if is_concrete(value) and not np.all(np.asarray(value) >= 0):
            raise ValueError(f"{name} must be 0 or more, got {value}")
    if is_concrete(clip) and not np.all(np.asarray(clip) > 0):
        raise ValueError(f"clip must be positive (jnp.inf for none), got {clip}")
    if data is not None:
        check_data(data, num_groups)
    if weights is None:
        weights = jnp.full(num_groups, 1 / num_groups, jnp.result_type(float))
    weights = check_weights(weights, num_groups)
    optimizer = optimiser_pytree(optimizer)
    default = Partial(adagrad_norm, learning_rate=0.1)
    optimizers = (
        optimizer,
        optimizer if adjoint_optimizer is None else optimiser_pytree(adjoint_optimizer),
        optimiser_pytree(default if weights_optimizer is None else weights_optimizer),
    )
    problem = _Problem(
        as_partial(losses), as_partial(objective), optimizers, data, (weights, adjoint), regularisation, damping, clip,
        averaging,
    )  # fmt: skip
    return Method(Partial(_init, problem.start, optimizers), Partial(_step, Static(num_groups), problem))


def _init(start: tuple[Any, Any], optimizers: tuple[Partial, ...], key: Any, params: Any) -> BADRState:
    weights, adjoint = start
    if adjoint is None:
        adjoint = jax.tree.map(jnp.zeros_like, params)
    variables = (params, adjoint, weights)
    opt_states = tuple(optimizer().init(variable) for optimizer, variable in zip(optimizers, variables, strict=True))
    zero, never = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
    best = jnp.full((), jnp.inf, weights.dtype)
    return BADRState(params, adjoint, weights, weights, weights, best, zero, never, opt_states)


def _step(
    num_groups: Static, problem: _Problem, key: Any, state: BADRState, batch: Batch
) -> tuple[BADRState, BADRInfo]:
    batch = fill_padding(batch)
    directions = _directions(problem, num_groups.value, key, state, batch)
    hypergradient = directions.weights - jnp.mean(directions.weights)
    length = optax.safe_norm(hypergradient, 0.0)
    shrink = jnp.minimum(1.0, problem.clip / jnp.where(length > 0, length, 1.0)).astype(hypergradient.dtype)
    gradients = (directions.params, directions.adjoint, shrink * hypergradient)
    moved = _moved(problem.optimizers, gradients, state)
    info = _info(directions, length, shrink, state)
    # A w far from the solution at its weights tells little of them: how far counts against them.
    seen = jnp.maximum(info.value, 2 * info.objective - info.value)
    better = (seen < state.best_value) & jnp.isfinite(seen)
    share = (problem.averaging + 1) / (problem.averaging + state.iteration + 1)
    average = state.average_weights + share.astype(state.weights.dtype) * (moved.weights - state.average_weights)
    moved = moved._replace(
        average_weights=average,
        best_weights=jnp.where(better, state.weights, state.best_weights),
        best_value=jnp.where(better, seen, state.best_value).astype(state.best_value.dtype),
        iteration=state.iteration + 1,
    )
    real = jnp.sum(frequencies(batch)) > 0
    going = state.failed_at < 0
    sound = _all_finite((moved.params, moved.adjoint, moved.weights, moved.opt_states))
    kept = jax.tree.map(lambda new, old: jnp.where(real & going & sound, new, old), moved, state)
    failed_at = jnp.where(real & going & ~sound, state.iteration, state.failed_at)
    status = jnp.where(failed_at < 0, Status.SUCCESS, Status.DIVERGED).astype(jnp.int32)
    return kept._replace(failed_at=failed_at), info._replace(status=status)


def _directions(problem: _Problem, num_groups: int, key: Any, state: BADRState, batch: Batch) -> _Directions:
    """All three at the old variables: a forward-over-reverse pass over the batch, and one over the metric's rows."""

    def risks(params: Any) -> Array:
        values = problem.losses(params, batch, key)
        return group_mean(values, batch.group, num_groups, batch.weight)

    def slope(params: Any) -> tuple[Any, tuple[Array, Array]]:
        def weighted(params: Any) -> tuple[Array, Array]:
            of_groups = risks(params)
            total = jnp.sum(state.weights * of_groups) + l2_penalty(params, problem.regularisation)
            return total, of_groups

        (total, of_groups), gradient = jax.value_and_grad(weighted, has_aux=True)(params)
        return gradient, (total, of_groups)

    (gradient, (total, _)), (curved, (_, along)) = jax.jvp(slope, (state.params,), (state.adjoint,))
    rows = batch if problem.data is None else fill_padding(problem.data)
    value, of_objective = jax.value_and_grad(problem.objective)(state.params, rows)
    damping = problem.damping
    adjoint = jax.tree.map(
        lambda g, hv, v: g + hv + jnp.asarray(damping, v.dtype) * v, of_objective, curved, state.adjoint
    )
    return _Directions(
        gradient, adjoint, along.astype(state.weights.dtype), total, value, optax.tree.norm(of_objective)
    )


def _moved(optimizers: tuple[Partial, ...], gradients: tuple[Any, ...], state: BADRState) -> BADRState:
    """The state after a step of each optimiser, the weights brought back onto the simplex."""
    moved, opt_states = [], []
    variables = (state.params, state.adjoint, state.weights)
    for optimizer, gradient, opt_state, variable in zip(
        optimizers, gradients, state.opt_states, variables, strict=True
    ):
        updates, opt_state = optimizer().update(gradient, opt_state, variable)
        moved.append(optax.apply_updates(variable, updates))
        opt_states.append(opt_state)
    params, adjoint, weights = moved
    return state._replace(
        params=params, adjoint=adjoint, weights=project_simplex(weights), opt_states=tuple(opt_states)
    )


def _info(directions: _Directions, length: Array, shrink: Array, state: BADRState) -> BADRInfo:
    lag = optax.tree.vdot(state.adjoint, directions.params)
    missed, whole = optax.tree.norm(directions.adjoint), directions.objective_norm
    return BADRInfo(
        loss=directions.loss,
        weights=state.weights,
        objective=directions.objective,
        value=directions.objective + lag,
        hypergradient_norm=length,
        clipped=(shrink < 1).astype(length.dtype),
        inner_grad_norm=optax.tree.norm(directions.params),
        adjoint_residual=jnp.where(missed == 0, 0.0, missed / jnp.where(whole > 0, whole, 1.0)),
        status=jnp.zeros((), jnp.int32),
    )


def _all_finite(tree: Any) -> Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
