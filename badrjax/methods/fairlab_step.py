"""A step of FairLAB: the task's loss and the augmented Lagrangian of the constraints in force."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.constraints import group_rates
from badrjax.constraints.pairs import largest_known
from badrjax.methods.base import descend, mean_loss
from badrjax.methods.fairlab_problem import (
    Problem,
    counts_of,
    distances_of,
    logits_of,
    performance_of,
    probabilities_of,
    violations_of,
    with_cell_sizes,
)
from badrjax.methods.fairlab_rounds import FairLABState


class FairLABInfo(NamedTuple):
    """What a step saw.

    Attributes:
        loss: the task's loss on the batch, `f[]`.
        lagrangian: what the constraints add to it, `f[]`.
        performance: smooth F1 of the batch, `f[]`.
        largest_violation: of the pairs in force, by smooth rates of the batch, `f[]`; NaN where none is measured.
        largest_distance: of the proximities in force, `f[]`; NaN where none is.
        gradient_norm: `f[]`.
    """

    loss: Float[Array, ""]
    lagrangian: Float[Array, ""]
    performance: Float[Array, ""]
    largest_violation: Float[Array, ""]
    largest_distance: Float[Array, ""]
    gradient_norm: Float[Array, ""]


def step(problem: Problem, key: Any, state: FairLABState, batch: Batch) -> tuple[FairLABState, FairLABInfo]:
    """A step of the optimiser on the loss and the augmented Lagrangian of the constraints in force."""
    batch = with_cell_sizes(problem, fill_padding(batch))
    near = problem.rules.value.proximity != "off"
    reference = probabilities_of(problem, logits_of(problem, state.incumbent, batch.x)) if near else None

    def objective(params: Any) -> tuple[Array, tuple[Array, ...]]:
        logits = logits_of(problem, params, batch.x, key)
        probabilities = probabilities_of(problem, logits)
        counts = counts_of(problem, probabilities, batch)
        if reference is None:
            distances = jnp.full(problem.constraints.membership.shape[0], jnp.nan, logits.dtype)
        else:
            distances = distances_of(problem, probabilities, reference, batch, counts)
        violations = violations_of(problem, counts, distances, state.best_performance)
        task = _task_loss(problem, logits, batch)
        added = _lagrangian(problem, state, violations)
        return task + added, (task, added, performance_of(problem, counts), violations)

    (_, seen), gradient = jax.value_and_grad(objective, has_aux=True)(state.local_params)
    params, opt_state = descend(problem.optimizer, gradient, state.opt_state, state.local_params, frequencies(batch))
    task, added, performance, violations = seen
    num_pairs = problem.constraints.left.shape[0]
    known = state.in_force & ~jnp.isnan(violations)
    pairs = largest_known(violations[:num_pairs], known[:num_pairs])
    distance = largest_known(violations[num_pairs + 2 :], known[num_pairs + 2 :])
    info = FairLABInfo(
        task, added, performance, pairs, distance + problem.numbers.proximity_bound, optax.tree.norm(gradient)
    )
    return state._replace(local_params=params, opt_state=opt_state), info


def _task_loss(problem: Problem, logits: Array, batch: Batch) -> Float[Array, ""]:
    """The mean loss, with `group_loss` besides that by groups."""
    weight = frequencies(batch)
    values = problem.loss.value(logits, batch.y).astype(logits.dtype)
    loss = mean_loss(values, weight)
    if not problem.rules.value.group_loss:
        return loss
    total = jnp.sum(weight)
    return loss + _loss_by_groups(problem, values, batch, jnp.where(total > 0, total, 1.0))


def _loss_by_groups(problem: Problem, values: Array, batch: Batch, total: Array) -> Float[Array, ""]:
    """Mean of the groups' losses, weighted by `1 - n_g / n`, so that small groups weigh more; of groups with rows."""
    # A sum by cell of any value is the "positive" mass.
    sums = counts_of(problem, values, batch)
    means, present = group_rates(sums, problem.constraints.membership)
    member = problem.constraints.membership.astype(values.dtype)
    share = jnp.matmul(member, jnp.sum(sums.total, axis=0), precision="highest") / total
    weights = jnp.where(present.positive, 1.0 - share, 0.0)
    largest = jnp.sum(weights)
    return jnp.sum(weights * means.positive) / jnp.where(largest > 0, largest, 1.0)


def _lagrangian(problem: Problem, state: FairLABState, violations: Float[Array, "P+2+V"]) -> Float[Array, ""]:
    rules = problem.rules.value
    num_pairs = problem.constraints.left.shape[0]
    if rules.multipliers == "monotone":
        # As coded: clamped violations, their sum besides, and nothing before the first multiplier moves.
        clamped = jnp.maximum(violations, 0.0)
        in_force = state.in_force & ~jnp.isnan(violations)
        added = problem.lagrangian.value(state.multipliers, clamped, state.in_force)
        added = added + jnp.sum(jnp.where(in_force, clamped, 0.0))
        added = jnp.where(jnp.any(state.in_force & (state.multipliers.multipliers > 0)), added, 0.0)
    else:
        added = problem.lagrangian.value(state.multipliers, violations, state.in_force)
    if rules.aspiration == "reward":
        shortfall = violations[num_pairs]
        shortfall = jnp.where(jnp.isnan(shortfall), 0.0, jnp.maximum(shortfall, 0.0))
        added = added + problem.numbers.reward_weight * shortfall
    return added
