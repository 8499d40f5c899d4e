r"""Meta-reweighting of training examples, in one stage or with a bargaining stage before it.

Each step asks how the validation losses of the groups would change if one example counted more, and trains on the
examples whose weight helps. With training losses `l_i`, an optimiser step `params'(eps)` on `sum_i eps_i grad l_i`,
and validation losses `L_k` of K groups (or group x label cells):

1. `g_k = d L_k(params'(eps)) / d eps` at `eps = 0`, a vector over the batch: one jvp of the losses each.
2. A protocol `beta` combines them, `u = sum_k beta_k g_k`. The goal gives `beta = d F(L_1..L_K) / d L` of an
   objective `F` over group losses; in the bargaining stage it is the Nash solution of `G = [g_1..g_K]`, or the
   goal's where the bargain has none.
3. `w = max(-u, 0)`, brought to unit L2 norm; the optimiser steps on `sum_i w_i l_i(params)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.bargaining import alignment, combine, nash_weights_from_gradients
from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.functions import Static, as_partial
from badrjax.hypergradients import alignments_from, linearised_losses
from badrjax.methods.base import Method, descend, mean_loss, optimiser_pytree
from badrjax.methods.meta_options import (
    Diagnostics,
    Fallback,
    LookaheadDropout,
    LookaheadStep,
    check_options,
    check_stages,
)
from badrjax.methods.upper_level import (
    Cells,
    UpperLevel,
    check_lookahead,
    check_validation,
    optimizer_lookahead,
    resolve_goal,
    sgd_lookahead,
    upper_level,
)


class MetaState(NamedTuple):
    """Parameters, the optimiser's state, and where in training we are (`int32[]` counters of epochs and batches).

    `previous` is the last aggregate `u`, `f[n]`, for a method that falls back on it; else `None`.
    """

    params: Any
    opt_state: Any
    epoch: Int[Array, ""]
    batch: Int[Array, ""]
    previous: Float[Array, "n"] | None = None


class MetaInfo(NamedTuple):
    """What one step saw; C is the number of bargaining cells. Fields that were not measured are NaN.

    Attributes:
        loss: mean training loss of the batch, `f[]`.
        cell_losses: validation losses at the looked-ahead parameters, `f[C]`.
        protocol: the `beta` over cells that was used, `f[C]`.
        used_share: share of the batch that got a positive weight, `f[]`.
        alignment: `<g_k, u>`, `f[C]`; `<= 0` is a conflict with cell k.
        aligned: 1 when no cell is in conflict, else 0, `f[]`.
        realised_aligned: 1 when the clipped weights too lower every cell's loss to first order, else 0, `f[]`:
            clipping can undo alignment.
        bargaining: 1 in the bargaining stage, else 0, `f[]`.
        feasible: 1 when the bargain had a solution, else 0; NaN outside the stage, `f[]`.
        residual: of the bargain, `f[]`; NaN outside the stage.
    """

    loss: Float[Array, ""]
    cell_losses: Float[Array, "C"]
    protocol: Float[Array, "C"]
    used_share: Float[Array, ""]
    alignment: Float[Array, "C"]
    aligned: Float[Array, ""]
    realised_aligned: Float[Array, ""]
    bargaining: Float[Array, ""]
    feasible: Float[Array, ""]
    residual: Float[Array, ""]


class MetaEpochInfo(NamedTuple):
    """How many epochs are over, `int32[]`."""

    epoch: Int[Array, ""]


class _Settings(NamedTuple):
    """What is part of the program and not a number."""

    num_groups: int
    cells: Cells
    bargains: bool
    lookahead: LookaheadStep
    lookahead_dropout: LookaheadDropout
    validation_dropout: bool
    diagnostics: Diagnostics
    batch_size: int | None  # where a failed bargain reuses the aggregate of the batch before


class _Problem(NamedTuple):
    """The numbers and functions of a method."""

    losses: Partial
    validation_losses: Partial
    optimizer: Partial
    goal: Partial
    validation: Batch
    bargaining_epochs: Any
    bargain: Partial


class _Update(NamedTuple):
    """The aggregate `u` over the batch with what was measured on the way."""

    aggregate: Array
    protocol: Array
    alignment: Array
    hypergradients: Array
    feasible: Array
    residual: Array


def meta_reweighting(
    losses: Any,
    optimizer: Any,
    validation: Batch,
    goal: Any,
    *,
    num_groups: int,
    bargaining_epochs: Int[Array, ""] | int | None = None,
    cells: Cells = "groups",
    validation_losses: Any = None,
    lookahead: LookaheadStep = "optimizer",
    lookahead_dropout: LookaheadDropout = "same",
    validation_dropout: bool = False,
    diagnostics: Diagnostics = "epoch",
    bargain: Any = None,
    fallback: Fallback = "goal",
    batch_size: int | None = None,
) -> Method:
    """The method behind `learning_to_reweight`, `forml`, `meta_group_dro` and `nash_meta`; see the module.

    Args:
        losses: `ExampleLosses` of the training rows.
        optimizer: an optax transformation or `Partial(optax.sgd, learning_rate=...)`.
        validation: a small `Batch` in which every group (and cell) occurs.
        goal: a name in `GOALS`, or an objective `(losses f[K], *, present) -> f[]` over group losses.
        num_groups: static number of sensitive groups K.
        bargaining_epochs: epochs of bargaining before the goal; `None` leaves that stage out of the program.
        cells: who bargains: the sensitive `"groups"` (the paper's text) or the group x label `"cells"` (its code;
            cell `2 k + y`). The goal always sees groups.
        validation_losses: `ExampleLosses` of the validation rows; `None` means `losses`. The published code uses
            `badrjax.losses.cross_entropy_with_f1`.
        lookahead: the step whose derivative is taken: the `"optimizer"`'s own, with its momentum and weight decay
            (the code), or plain `"sgd"` from the current parameters (the paper's text). The derivative of any
            optimiser by the gradient at zero is used, so Nesterov momentum is right too.
        lookahead_dropout: dropout masks of the losses that are differentiated by their weights: the `"same"` as in
            the training step, which shares its forward pass, `"fresh"` ones (the code), or `"off"`.
        validation_dropout: whether validation losses are computed with dropout (the code does).
        diagnostics: when alignments are measured: on the first batch of each `"epoch"`, every `"step"`, every n-th
            batch of an epoch (an integer), or `"off"`. Bargaining steps need them anyway and always report them;
            elsewhere each costs K more forward passes.
        bargain: `(gradients f[C, n], present bool[C]) -> NashSolution`, asked for the weights of the C cells in the
            bargaining stage; `None` means `badrjax.nash_weights_from_gradients`. Anything with `weights`, `feasible`
            and `residual` will do.
        fallback: what a batch whose bargain has no solution uses: the `"goal"`'s protocol, or the aggregate `u` of the
            `"previous"` batch, entry by entry, as the published code does under the LtR goal; the first batch of a run
            has none before it and uses the goal's.
        batch_size: static number of rows of every batch; needed with `fallback="previous"`, and only there.

    Raises:
        ValueError: for an unknown goal or option, ids outside `[0, num_groups)`, an empty validation group or cell
            (which), labels not 0/1 with `cells="cells"`, a negative `bargaining_epochs`, an optimiser whose update
            has no derivative at a zero gradient, a `bargain` without `bargaining_epochs`, or a `batch_size` without
            its fallback or the other way round; at the first step, for batches of another size.
    """
    check_options(
        cells=cells,
        lookahead=lookahead,
        lookahead_dropout=lookahead_dropout,
        diagnostics=diagnostics,
        fallback=fallback,
    )
    check_stages(fallback, batch_size, bargaining_epochs, bargain)
    if not isinstance(diagnostics, str):
        diagnostics = "step" if diagnostics == 1 else int(diagnostics)
    check_validation(validation, num_groups, cells)
    optimizer = optimiser_pytree(optimizer)
    if lookahead == "optimizer":
        check_lookahead(optimizer)
    losses = as_partial(losses)
    settings = _Settings(
        num_groups,
        cells,
        bargaining_epochs is not None,
        lookahead,
        lookahead_dropout,
        validation_dropout,
        diagnostics,
        batch_size,
    )
    problem = _Problem(
        losses,
        losses if validation_losses is None else as_partial(validation_losses),
        optimizer,
        resolve_goal(goal),
        validation,
        bargaining_epochs,
        as_partial(nash_weights_from_gradients if bargain is None else bargain),
    )
    init = Partial(_init, Static(batch_size), optimizer)
    return Method(init, Partial(_step, Static(settings), problem), Partial(_end_epoch))


def _init(batch_size: Static, optimizer: Partial, key: Any, params: Any) -> MetaState:
    start = jnp.zeros((), jnp.int32)
    # NaN: there is no batch before the first.
    previous = None if batch_size.value is None else jnp.full(batch_size.value, jnp.nan, jnp.result_type(float))
    return MetaState(params, optimizer().init(params), start, start, previous)


def _end_epoch(key: Any, state: MetaState, train: Batch) -> tuple[MetaState, MetaEpochInfo]:
    epoch = state.epoch + 1
    return state._replace(epoch=epoch, batch=jnp.zeros_like(state.batch)), MetaEpochInfo(epoch)


def _step(settings: Static, problem: _Problem, key: Any, state: MetaState, batch: Batch) -> tuple[MetaState, MetaInfo]:
    config: _Settings = settings.value
    train_key, virtual_key, validation_key = _keys(key, config)
    batch, validation = fill_padding(batch), fill_padding(problem.validation)
    weight = frequencies(batch)
    values, push = linearised_losses(lambda p: problem.losses(p, batch, virtual_key), state.params)
    # Models in half precision are reweighted in float32.
    weight = weight.astype(jnp.promote_types(values.dtype, jnp.float32))
    lookahead = sgd_lookahead(state.params)
    if config.lookahead == "optimizer":
        lookahead = optimizer_lookahead(problem.optimizer, state.opt_state, state.params)
    upper = upper_level(
        problem.validation_losses,
        problem.goal,
        lookahead,
        validation,
        config.num_groups,
        config.cells,
        validation_key,
    )
    stage = _stage(config, problem, state)
    update = _aggregate(config, problem.bargain, upper, state.params, stage, push, weight)
    update, previous = _fall_back(state.previous, update, weight)
    weights = _clipped_unit(update.aggregate, weight)
    if config.lookahead_dropout == "same":
        (gradient,) = jax.linear_transpose(push, state.params)((weight * weights).astype(values.dtype))
    else:
        values, pull_losses = jax.vjp(lambda p: problem.losses(p, batch, train_key), state.params)
        (gradient,) = pull_losses((weight * weights).astype(values.dtype))
    params, opt_state = descend(problem.optimizer, gradient, state.opt_state, state.params, weight)
    info = _info(config, values, upper, update, weights, weight, stage)
    return MetaState(params, opt_state, state.epoch, state.batch + 1, previous), info


def _keys(key: Any, config: _Settings) -> tuple[Any, Any, Any]:
    """Keys of the training, lookahead and validation masks."""
    if key is None:
        return None, None, None
    train, virtual, validation = jax.random.split(key, 3)
    virtual = {"same": train, "fresh": virtual, "off": None}[config.lookahead_dropout]
    return train, virtual, validation if config.validation_dropout else None


def _stage(config: _Settings, problem: _Problem, state: MetaState) -> Array:
    """0 bargains, 1 follows the goal and measures, 2 follows the goal."""
    if isinstance(config.diagnostics, int):
        measure = state.batch % config.diagnostics == 0
    else:
        measure = (state.batch == 0) if config.diagnostics == "epoch" else jnp.asarray(config.diagnostics == "step")
    goal = jnp.where(measure, 1, 2).astype(jnp.int32)
    return jnp.where(state.epoch < problem.bargaining_epochs, 0, goal) if config.bargains else goal


def _aggregate(
    config: _Settings,
    bargain: Partial,
    upper: UpperLevel,
    params: Any,
    stage: Array,
    push: Callable[[Any], Array],
    weight: Array,
) -> _Update:
    """The aggregate `u` by the branch of this stage, so that each step pays only for what it uses."""
    beta = upper.protocol
    num_cells = beta.shape[0]
    unknown = jnp.full((), jnp.nan, weight.dtype)

    def measured(protocol_of: Callable[[Array], tuple[Array, Array, Array]]) -> _Update:
        directions = jax.vmap(upper.pull)(jnp.eye(num_cells, dtype=beta.dtype))
        hypergradients = alignments_from(push, params, directions, weight=weight).astype(weight.dtype)
        # A row of frequency w counts as w rows in every inner product over the batch.
        counted = hypergradients * jnp.sqrt(weight)[None, :]
        protocol, feasible, residual = protocol_of(counted)
        aggregate = combine(hypergradients, protocol)
        aligned = alignment(counted, aggregate * jnp.sqrt(weight))
        return _Update(aggregate, protocol, aligned, hypergradients, feasible, residual)

    def bargained(counted: Array) -> tuple[Array, Array, Array]:
        solution = bargain(counted, upper.present)
        protocol = jnp.where(solution.feasible, solution.weights, beta)
        return protocol, solution.feasible.astype(weight.dtype), solution.residual

    def goal_only() -> _Update:
        aggregate = jnp.where(weight > 0, push(upper.pull(beta)), 0.0).astype(weight.dtype)
        missing = jnp.full((num_cells, *weight.shape), jnp.nan, weight.dtype)
        return _Update(aggregate, beta, missing[:, 0], missing, unknown, unknown)

    branches = [lambda: measured(bargained), lambda: measured(lambda _: (beta, unknown, unknown)), goal_only]
    wanted = [config.bargains, config.diagnostics != "off", config.diagnostics != "step"]
    kept = [i for i, want in enumerate(wanted) if want]
    if len(kept) == 1:
        return branches[kept[0]]()
    index = sum(((stage > i).astype(jnp.int32) for i in kept[:-1]), jnp.zeros((), jnp.int32))
    return jax.lax.switch(index, [branches[i] for i in kept])


def _fall_back(previous: Array | None, update: _Update, weight: Array) -> tuple[_Update, Array | None]:
    """The update with the aggregate of the batch before where the bargain failed, and the aggregate to keep."""
    if previous is None:
        return update, None
    if previous.shape != weight.shape:
        raise ValueError(f"batch_size is {previous.shape[0]} and the batch has {weight.shape[0]} rows; they must agree")
    stale = (update.feasible == 0) & ~jnp.isnan(previous[0])  # outside the bargaining stage it is NaN
    aggregate = jnp.where(stale, previous.astype(update.aggregate.dtype), update.aggregate)
    counted = update.hypergradients * jnp.sqrt(weight)[None, :]
    aligned = jnp.where(stale, alignment(counted, aggregate * jnp.sqrt(weight)), update.alignment)
    real = jnp.sum(weight) > 0
    kept = jnp.where(real, aggregate.astype(previous.dtype), previous)
    return update._replace(aggregate=aggregate, alignment=aligned), kept


def _clipped_unit(aggregate: Array, weight: Array) -> Array:
    """`max(-u, 0)` with unit L2 norm over the rows repeated by their weight; all 0 where `u >= 0`."""
    clipped = jnp.maximum(-aggregate, 0.0)
    largest = jnp.max(clipped, initial=0.0)
    clipped = clipped / jnp.where(largest > 0, largest, 1.0)  # squares of tiny numbers would underflow
    square = jnp.sum(weight * clipped**2)
    return clipped / jnp.sqrt(jnp.where(square > 0, square, 1.0))


def _info(
    config: _Settings,
    values: Array,
    upper: UpperLevel,
    update: _Update,
    weights: Array,
    weight: Array,
    stage: Array,
) -> MetaInfo:
    total = jnp.sum(weight)
    safe_total = jnp.where(total > 0, total, 1.0)
    realised = alignment(update.hypergradients, weight * weights)

    def all_present(gains: Array) -> Array:
        return jnp.where(stage < 2, jnp.all(gains | ~upper.present).astype(weight.dtype), jnp.nan)

    return MetaInfo(
        loss=mean_loss(values, weight),
        cell_losses=upper.losses,
        protocol=update.protocol,
        used_share=jnp.sum(jnp.where(weights > 0, weight, 0.0)) / safe_total,
        alignment=update.alignment,
        aligned=all_present(update.alignment > 0),
        realised_aligned=all_present(realised < 0),
        bargaining=(stage == 0).astype(weight.dtype) if config.bargains else jnp.zeros((), weight.dtype),
        feasible=update.feasible,
        residual=update.residual,
    )
