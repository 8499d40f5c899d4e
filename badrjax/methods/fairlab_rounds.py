"""FairLAB's two nested loops as one state machine over local epochs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from badrjax.batches import Batch
from badrjax.constraints import CellCounts, group_violations, owned_pairs, pair_gaps, pair_violations, requirement_gaps
from badrjax.constraints.counts import positive_share
from badrjax.lagrangian import AugmentedLagrangianState
from badrjax.methods.fairlab_problem import (
    Measured,
    Problem,
    Rank,
    local_rank_of,
    measure,
    performance_bound,
    performance_of,
    rank_of,
    violations_of,
)


class Candidate(NamedTuple):
    """A model with what it does.

    Attributes:
        params: its parameters.
        train, validation: counts of its predictions there.
        rank: by which it was chosen; the worst before there is one.
    """

    params: Any
    train: CellCounts
    validation: CellCounts
    rank: Rank


class FairLABState(NamedTuple):
    """State between two steps; `state.params` is the best model so far, not the one that is being trained.

    Attributes:
        best: the best model on the validation rows, by `keep`; it changes when a local fit ends.
        incumbent: what the last local fit returned: where this one started, and the reference of the proximities.
        local_params: the iterate.
        opt_state: the optimiser's, made anew for each local fit.
        multipliers: of all constraints, `AugmentedLagrangianState`.
        local: the best iterate of this local fit by LS.
        local_epoch: epochs of this local fit, `int32[]`.
        local_stalled: consecutive ones that did not improve on LS, `int32[]`.
        learner: the group whose pairs are in force, `int32[]`.
        in_force: which constraints are, `bool[P+2+V]`.
        saved: multipliers that each of a pair's two learners left behind, `f[P, 2]`.
        best_performance: `p*`, the best F1 of an incumbent on the validation rows, `f[]`.
        round: local fits that ended, `int32[]`.
        stalled: consecutive ones that did not improve on S, `int32[]`.
    """

    best: Candidate
    incumbent: Any
    local_params: Any
    opt_state: Any
    multipliers: AugmentedLagrangianState
    local: Candidate
    local_epoch: Int[Array, ""]
    local_stalled: Int[Array, ""]
    learner: Int[Array, ""]
    in_force: Bool[Array, "P+2+V"]
    saved: Float[Array, "P 2"]
    best_performance: Float[Array, ""]
    round: Int[Array, ""]
    stalled: Int[Array, ""]

    @property
    def params(self) -> Any:
        """Parameters of the best model so far."""
        return self.best.params


class FairLABEpochInfo(NamedTuple):
    """What an epoch ended with; V groups, R requirements.

    Attributes:
        round: local fits that had ended before it, `int32[]`.
        learner: the group whose pairs were in force, `int32[]`.
        local_epoch: its number within the local fit, from 0, `int32[]`.
        performance: F1 of the iterate on the validation rows, `f[]`.
        local_score: LS of the iterate, `f[]`; `-inf` where the iterate is not finite.
        positive_share: share of the validation rows predicted 1, `f[]`: at 0 or 1 the classifier is constant.
        train_gaps, validation_gaps: of the iterate, `f[R]`; NaN where not assessed.
        largest_multiplier: `f[]`.
        aspiration_multiplier, budget_multiplier: `f[]`.
        num_at_bound: multipliers that reached `max_multiplier`, `int32[]`: constraints that cannot be met together.
        round_ended: whether the local fit ended with it, `bool[]`.
        best_performance: `p*` after it, `f[]`.
        best_score: S of the best model after it, `f[]`.
        best_shortfall: how far that model's F1 is below what the budget leaves, `f[]`; 0 within it.
        best_gaps: of the best model on the validation rows, `f[R]`.
        num_violated: requirements that the best model violates there, or that cannot be measured, `int32[]`.
    """

    round: Int[Array, ""]
    learner: Int[Array, ""]
    local_epoch: Int[Array, ""]
    performance: Float[Array, ""]
    local_score: Float[Array, ""]
    positive_share: Float[Array, ""]
    train_gaps: Float[Array, "R"]
    validation_gaps: Float[Array, "R"]
    largest_multiplier: Float[Array, ""]
    aspiration_multiplier: Float[Array, ""]
    budget_multiplier: Float[Array, ""]
    num_at_bound: Int[Array, ""]
    round_ended: Bool[Array, ""]
    best_performance: Float[Array, ""]
    best_score: Float[Array, ""]
    best_shortfall: Float[Array, ""]
    best_gaps: Float[Array, "R"]
    num_violated: Int[Array, ""]


def first_state(problem: Problem, key: Array, params: Any) -> FairLABState:
    """The start: `w_best = w_1` and `p* = P(w_1)`. No training rows are at hand, so the first learner is chosen by the
    validation rows."""
    measured = measure(problem, params, params, problem.validation)
    performance = performance_of(problem, measured.counts)
    start = Candidate(params, measured.counts, measured.counts, rank_of(problem, measured.counts, performance))
    num_pairs, num_groups = problem.constraints.left.shape[0], problem.constraints.membership.shape[0]
    dtype = measured.distances.dtype
    zero = jnp.zeros((), jnp.int32)
    state = FairLABState(
        best=start,
        incumbent=params,
        local_params=params,
        opt_state=problem.optimizer().init(params),
        multipliers=problem.lagrangian.init(num_pairs + 2 + num_groups, dtype=dtype),
        local=start,
        local_epoch=zero,
        local_stalled=zero,
        learner=zero,
        in_force=jnp.zeros(num_pairs + 2 + num_groups, bool),
        saved=jnp.zeros((num_pairs, 2), dtype),
        best_performance=performance,
        round=zero,
        stalled=zero,
    )
    return _start_local_fit(problem, key, state)


def end_epoch(problem: Problem, key: Array, state: FairLABState, train: Batch) -> tuple[FairLABState, FairLABEpochInfo]:
    """Multipliers by the training rows, scores by the validation rows, and the next local fit where this one ends."""
    on_train = measure(problem, state.local_params, state.incumbent, train)
    on_validation = measure(problem, state.local_params, state.incumbent, problem.validation)
    multipliers = _updated_multipliers(problem, state, on_train)
    rank = local_rank_of(problem, on_validation, state.in_force, state.best_performance)
    iterate = Candidate(state.local_params, on_train.counts, on_validation.counts, rank)
    improved = rank.above(state.local.rank)
    ended = state._replace(
        multipliers=multipliers,
        local=_where(improved, iterate, state.local),
        local_epoch=state.local_epoch + 1,
        local_stalled=jnp.where(improved, 0, state.local_stalled + 1),
    )
    numbers = problem.numbers
    over = (ended.local_epoch >= numbers.local_epochs) | (ended.local_stalled >= numbers.local_patience)
    after = jax.lax.cond(over, lambda: _end_local_fit(problem, key, ended), lambda: ended)
    return after, _info(problem, state, multipliers, iterate, over, after)


def is_done(problem: Problem, state: FairLABState) -> Bool[Array, ""]:
    """Whether the rounds are over, or S has not improved for too long."""
    return (state.round >= problem.numbers.rounds) | (state.stalled >= problem.numbers.patience)


def _updated_multipliers(problem: Problem, state: FairLABState, on_train: Measured) -> AugmentedLagrangianState:
    violations = violations_of(problem, on_train.counts, on_train.distances, state.best_performance)
    if problem.rules.value.multipliers == "monotone":
        # Clamped violations cannot lower a multiplier.
        violations = jnp.maximum(violations, 0.0)
    moved = problem.lagrangian.update(state.multipliers, violations, state.in_force)
    bound = problem.numbers.max_multiplier.astype(moved.multipliers.dtype)
    return moved._replace(multipliers=jnp.minimum(moved.multipliers, bound))


def _end_local_fit(problem: Problem, key: Array, state: FairLABState) -> FairLABState:
    """The best iterate becomes the incumbent, is held against the best model, and a learner is chosen for the next."""
    performance = jnp.fmax(state.best_performance, performance_of(problem, state.local.validation))
    # Both by the same p*: a better one leaves less room to the model that was best so far, too.
    rank, best = (rank_of(problem, model.validation, performance) for model in (state.local, state.best))
    better = rank.above(best)
    state = state._replace(
        best=_where(better, state.local._replace(rank=rank), state.best._replace(rank=best)),
        incumbent=state.local.params,
        saved=_saved_multipliers(problem, state),
        best_performance=performance,
        round=state.round + 1,
        stalled=jnp.where(better, 0, state.stalled + 1),
    )
    return _start_local_fit(problem, key, state)


def _start_local_fit(problem: Problem, key: Array, state: FairLABState) -> FairLABState:
    violations = pair_violations(problem.constraints, state.local.train)
    learner = _choose_learner(problem, key, violations)
    # A learner goes on from its own multipliers; those of performance and proximity are about another p* and another
    # reference now.
    loaded = jnp.where(_sides(problem, learner), state.saved, 0.0).sum(axis=1)
    rest = jnp.zeros(state.in_force.shape[0] - loaded.shape[0], loaded.dtype)
    multipliers = problem.lagrangian.init(state.in_force.shape[0], multipliers=jnp.concatenate([loaded, rest]))
    zero = jnp.zeros((), jnp.int32)
    worst_rank = Rank(
        *(jnp.full_like(leaf, worst) for leaf, worst in zip(state.local.rank, (jnp.inf, -jnp.inf), strict=True))
    )
    return state._replace(
        local_params=state.incumbent,
        opt_state=problem.optimizer().init(state.incumbent),
        multipliers=multipliers,
        local=state.local._replace(rank=worst_rank),
        local_epoch=zero,
        local_stalled=zero,
        learner=learner,
        in_force=_in_force(problem, learner, violations),
    )


def _choose_learner(problem: Problem, key: Array, violations: Float[Array, "P"]) -> Int[Array, ""]:
    """A group drawn by the softmax of its largest violation, among the violated ones where there are any."""
    worst = group_violations(problem.constraints, violations)
    amount = jnp.maximum(jnp.where(jnp.isnan(worst), 0.0, worst), 0.0)
    temperature = problem.numbers.temperature.astype(amount.dtype)
    if problem.rules.value.selection == "as_printed":
        chances = -temperature * amount
    else:
        violated = amount > 0
        open_to_choice = jnp.where(jnp.any(violated), violated, ~jnp.isnan(worst) | jnp.all(jnp.isnan(worst)))
        chances = jnp.where(open_to_choice, amount / temperature, -jnp.inf)
    return jax.random.categorical(key, chances).astype(jnp.int32)


def _in_force(problem: Problem, learner: Array, violations: Float[Array, "P"]) -> Bool[Array, "P+2+V"]:
    """The learner's pairs, the constraints on performance, and the proximities of the active groups."""
    rules, numbers = problem.rules.value, problem.numbers
    worst = group_violations(problem.constraints, violations)
    if rules.active_set == "satisfied":
        active = worst <= numbers.active_tolerance
    else:  # as printed: tau - F <= tolerance
        active = -worst <= numbers.active_tolerance
    budget = jnp.asarray(True) if rules.rolling else numbers.performance_bound > -jnp.inf
    return jnp.concatenate(
        [
            owned_pairs(problem.constraints, learner),
            jnp.stack([jnp.asarray(rules.aspiration == "constraint"), budget]),
            active & (rules.proximity != "off"),
        ]
    )


def _sides(problem: Problem, learner: Array) -> Bool[Array, "P 2"]:
    """On which side of each pair a group is, if on any."""
    return jnp.stack([problem.constraints.left, problem.constraints.right], axis=1) == learner


def _saved_multipliers(problem: Problem, state: FairLABState) -> Float[Array, "P 2"]:
    num_pairs = problem.constraints.left.shape[0]
    of_pairs = state.multipliers.multipliers[:num_pairs, None]
    return jnp.where(_sides(problem, state.learner), of_pairs, state.saved)


def _info(
    problem: Problem,
    state: FairLABState,
    multipliers: AugmentedLagrangianState,
    iterate: Candidate,
    over: Array,
    after: FairLABState,
) -> FairLABEpochInfo:
    num_pairs = problem.constraints.left.shape[0]
    duals = jnp.where(state.in_force, multipliers.multipliers, 0.0)

    def gaps(counts: CellCounts) -> Array:
        return requirement_gaps(problem.constraints, pair_gaps(problem.constraints, counts))

    best_gaps = gaps(after.best.validation)
    return FairLABEpochInfo(
        round=state.round,
        learner=state.learner,
        local_epoch=state.local_epoch,
        performance=performance_of(problem, iterate.validation),
        local_score=iterate.rank.score,
        positive_share=positive_share(iterate.validation),
        train_gaps=gaps(iterate.train),
        validation_gaps=gaps(iterate.validation),
        largest_multiplier=jnp.max(duals),
        aspiration_multiplier=duals[num_pairs],
        budget_multiplier=duals[num_pairs + 1],
        num_at_bound=jnp.sum(duals >= problem.numbers.max_multiplier, dtype=jnp.int32),
        round_ended=over,
        best_performance=after.best_performance,
        best_score=after.best.rank.score,
        best_shortfall=jnp.maximum(
            performance_bound(problem, after.best_performance) - performance_of(problem, after.best.validation), 0.0
        ),
        best_gaps=best_gaps,
        num_violated=jnp.sum(~(best_gaps <= problem.constraints.thresholds), dtype=jnp.int32),
    )


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
