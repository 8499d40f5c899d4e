"""What FairLAB is bound to and what it measures: outputs, cell counts, violations and scores, as pure functions."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from badrjax.batches import Batch, frequencies, map_blocks
from badrjax.constraints import (
    CellCounts,
    FairnessConstraints,
    cell_counts,
    cell_factors,
    f1_of_counts,
    group_rates,
    pair_gaps,
    pair_violations,
    penalised_score,
    requirement_gaps,
)
from badrjax.constraints.scores import Score
from badrjax.functions import Static
from badrjax.lagrangian import AugmentedLagrangian
from badrjax.losses import binary_logits
from badrjax.transport import wasserstein1_by_group

Selection = Literal["violation", "as_printed"]
ActiveSet = Literal["satisfied", "violated"]
Multipliers = Literal["projected", "monotone"]
Aspiration = Literal["constraint", "reward", "off"]
Proximity = Literal["wasserstein", "class_means", "off"]
Measure = Literal["hard", "soft"]
Keep = Literal["within_budget", "score"]


class Rules(NamedTuple):
    """The choices that are part of the program; `badrjax.fairlab` describes them."""

    selection: Selection
    active_set: ActiveSet
    multipliers: Multipliers
    score: Score
    aspiration: Aspiration
    proximity: Proximity
    measure: Measure
    keep: Keep
    f1_average: str
    rolling: bool
    group_loss: bool
    block_size: int


class Numbers(NamedTuple):
    """The numbers, all leaves; `badrjax.fairlab` describes them."""

    budget: Array
    performance_bound: Array
    aspiration_step: Array
    reward_weight: Array
    proximity_bound: Array
    active_tolerance: Array
    temperature: Array
    score_weight: Array
    logit_scale: Array
    max_multiplier: Array
    rounds: Array
    local_epochs: Array
    local_patience: Array
    patience: Array


class Problem(NamedTuple):
    """Everything that FairLAB's functions are bound to; a pytree.

    Attributes:
        apply: of the model.
        loss: `(scores, labels) -> f[n]`, static.
        mapping: from two scores to probabilities, static.
        optimizer: a `Partial` that returns the optax transformation.
        constraints: `FairnessConstraints`.
        lagrangian: over P pairs, the aspiration, the budget, and V proximities, in this order.
        validation: on which iterates are scored.
        cell_sizes: weight of each cell in the training part, `f[C]`, or `None`.
        numbers: `Numbers`.
        rules: `Rules`, static.
    """

    apply: Partial
    loss: Static
    mapping: Static
    optimizer: Partial
    constraints: FairnessConstraints
    lagrangian: AugmentedLagrangian
    validation: Batch
    cell_sizes: Array | None
    numbers: Numbers
    rules: Static


class Measured(NamedTuple):
    """What a model does on a set of rows.

    Attributes:
        counts: of hard predictions (or of probabilities, by `measure`), by label and cell.
        distances: how far its outputs are from the reference model's in each group, `f[V]`; NaN where not measured.
    """

    counts: CellCounts
    distances: Float[Array, "V"]


def logits_of(problem: Problem, params: Any, x: Array, key: Any = None) -> Float[Array, "n"]:
    """Logits of class 1."""
    return binary_logits(problem.apply(params, x, key=key))


def probabilities_of(problem: Problem, logits: Float[Array, "n"]) -> Float[Array, "n"]:
    """What the smooth rates are made of: the mapping of the scaled logits."""
    scaled = logits * problem.numbers.logit_scale.astype(logits.dtype)
    return problem.mapping.value(jnp.stack([jnp.zeros_like(scaled), scaled], axis=-1))[:, 1]


def counts_of(problem: Problem, probabilities: Float[Array, "n"], batch: Batch) -> CellCounts:
    """Counts by label and cell; NaN where a row that counts has a cell or a label that there is not."""
    num_cells = problem.constraints.membership.shape[1]
    weight = frequencies(batch)
    outside = (batch.group < 0) | (batch.group >= num_cells) | ~((batch.y == 0) | (batch.y == 1))
    right = jnp.where(jnp.any(outside & (weight > 0)), jnp.nan, 1.0).astype(probabilities.dtype)
    counts = cell_counts(probabilities, batch.y, batch.group, num_cells, weight)
    return CellCounts(counts.total * right, counts.positive * right)


def with_cell_sizes(problem: Problem, batch: Batch) -> Batch:
    """The batch with its rows weighted so that each cell has its size in the training part, where that is known."""
    if problem.cell_sizes is None:
        return batch
    factors = cell_factors(counts_of(problem, jnp.zeros_like(frequencies(batch)), batch), problem.cell_sizes)
    return batch._replace(weight=frequencies(batch) * factors[batch.group].astype(frequencies(batch).dtype))


def distances_of(
    problem: Problem, probabilities: Float[Array, "n"], reference: Float[Array, "n"], batch: Batch, counts: CellCounts
) -> Float[Array, "V"]:
    """How far the outputs in each group are from those of the reference model on the same rows; NaN without rows.

    `"wasserstein"` is the distance of the two distributions. `"class_means"` is `sum_c |F_c - F_c'|` of the cumulated
    mean class probabilities, which for two classes is the change of the mean.
    """
    membership = problem.constraints.membership
    num_groups = membership.shape[0]
    known = jnp.any(membership & (jnp.sum(counts.total, axis=0) > 0)[None, :], axis=1)
    if problem.rules.value.proximity == "class_means":
        change, present = group_rates(counts_of(problem, probabilities - reference, batch), membership)
        return jnp.where(present.positive, jnp.abs(change.positive), jnp.nan)

    def within(groups_of_cell: Array) -> Array:
        """Distances in the groups of one partition, 0 in the groups of the others."""
        groups = groups_of_cell[batch.group]
        found = wasserstein1_by_group(probabilities, reference, groups, num_groups, frequencies(batch))
        return jnp.where(known & _of_partition(groups_of_cell, num_groups), found, 0.0)

    found = jnp.sum(jax.vmap(within)(problem.constraints.partitions), axis=0)
    return jnp.where(known, found, jnp.nan)


def _of_partition(groups_of_cell: Int[Array, "C"], num_groups: int) -> Bool[Array, "V"]:
    """Which groups are of this partition."""
    return jnp.any(groups_of_cell[None, :] == jnp.arange(num_groups, dtype=groups_of_cell.dtype)[:, None], axis=1)


def measure(problem: Problem, params: Any, reference: Any, batch: Batch) -> Measured:
    """What a model does on all rows of a batch, block after block; `reference` is the parameters of the other model."""
    rules = problem.rules.value
    near = rules.proximity != "off"

    def outputs(block: Batch) -> tuple[Array, Array]:
        logits = logits_of(problem, params, block.x)
        other = logits_of(problem, reference, block.x) if near else logits
        return logits, other

    logits, other = map_blocks(outputs, batch, block_size=min(rules.block_size, batch.y.shape[0]))
    probabilities = probabilities_of(problem, logits)
    # A score of NaN is no decision: it must reach the rates.
    decided = jnp.where(jnp.isnan(logits), jnp.nan, (logits > 0).astype(logits.dtype))
    counts = counts_of(problem, decided if rules.measure == "hard" else probabilities, batch)
    if near:
        distances = distances_of(problem, probabilities, probabilities_of(problem, other), batch, counts)
    else:
        distances = jnp.full(problem.constraints.membership.shape[0], jnp.nan, probabilities.dtype)
    return Measured(counts, distances)


def performance_of(problem: Problem, counts: CellCounts) -> Float[Array, ""]:
    """F1 in the chosen average."""
    return f1_of_counts(counts, problem.rules.value.f1_average)


def violations_of(
    problem: Problem, counts: CellCounts, distances: Float[Array, "V"], best_performance: Float[Array, ""]
) -> Float[Array, "P+2+V"]:
    """Violations of the pairs, the aspiration, the budget and the proximities; NaN where not measured."""
    numbers = problem.numbers
    performance = performance_of(problem, counts)
    bound = performance_bound(problem, best_performance)
    of_performance = jnp.stack([best_performance + numbers.aspiration_step - performance, bound - performance])
    return jnp.concatenate(
        [
            pair_violations(problem.constraints, counts),
            of_performance.astype(distances.dtype),
            distances - numbers.proximity_bound.astype(distances.dtype),
        ]
    )


def performance_bound(problem: Problem, best_performance: Float[Array, ""]) -> Float[Array, ""]:
    """What the budget leaves: `p* - beta`, or the fixed bound."""
    numbers = problem.numbers
    return best_performance - numbers.budget if problem.rules.value.rolling else numbers.performance_bound


class Rank(NamedTuple):
    """By what models are compared: the smaller shortfall first, then the higher score.

    Attributes:
        shortfall: how far F1 is below what the budget leaves, `f[]`, `>= 0`; 0 for all with `keep="score"`.
        score: S or LS, `f[]`; `-inf` where it cannot be told.
    """

    shortfall: Float[Array, ""]
    score: Float[Array, ""]

    def above(self, other: Rank) -> Bool[Array, ""]:
        """Whether this one is better."""
        same = self.shortfall == other.shortfall
        return (self.shortfall < other.shortfall) | (same & (self.score > other.score))


def rank_of(problem: Problem, counts: CellCounts, best_performance: Float[Array, ""]) -> Rank:
    """S: performance less what the requirements are violated by."""
    gaps = requirement_gaps(problem.constraints, pair_gaps(problem.constraints, counts))
    return _rank(problem, counts, gaps - problem.constraints.thresholds, best_performance)


def local_rank_of(
    problem: Problem, measured: Measured, in_force: Bool[Array, "P+2+V"], best_performance: Float[Array, ""]
) -> Rank:
    """LS: the same over the constraints in force, without the aspiration, which no model is asked to meet."""
    num_pairs = problem.constraints.left.shape[0]
    violations = violations_of(problem, measured.counts, measured.distances, best_performance)
    violations = jnp.where(in_force, violations, jnp.nan)
    pairs, budget, near = violations[:num_pairs], violations[num_pairs + 1], violations[num_pairs + 2 :]
    if problem.rules.value.score == "linear":  # each requirement by its worst pair, the proximities as one more
        pairs = requirement_gaps(problem.constraints, pairs)
        near = jnp.max(jnp.where(jnp.isnan(near), 0.0, near), keepdims=True)
    return _rank(problem, measured.counts, jnp.concatenate([pairs, budget[None], near]), best_performance)


def _rank(problem: Problem, counts: CellCounts, violations: Array, best_performance: Array) -> Rank:
    performance = performance_of(problem, counts)
    score = penalised_score(performance, violations, problem.rules.value.score, problem.numbers.score_weight)
    shortfall = jnp.maximum(performance_bound(problem, best_performance) - performance, 0.0)
    if problem.rules.value.keep == "score":
        shortfall = jnp.zeros_like(shortfall)
    # Parameters that are not finite make rates that are not.
    known = ~jnp.isnan(shortfall) & jnp.all(jnp.isfinite(counts.positive))
    return Rank(jnp.where(known, shortfall, jnp.inf), jnp.where(known, score, -jnp.inf))
