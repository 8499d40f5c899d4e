r"""FairLAB: an augmented Lagrangian under a performance budget, for many requirements on intersecting groups.

After Fontana, Naretto and Monreale, "Optimizing and Tuning Fairness in Machine Learning: An Augmented Lagrangian Method
with a Performance Budget". Each requirement `(F, a, tau)` becomes constraints `gap <= tau` on all pairs of values of
the attribute (or intersection) `a`. A *learner* is a value with the pairs that contain it.

    w_best = w_1,  p* = P(w_1)
    each round: 1. constraints on performance, P >= p* - beta (the budget) and P >= p* + step (the aspiration)
                2. the outputs in groups that are satisfied stay within delta of the last model's (W1)
                3. a learner is drawn by the softmax of its largest violation
                4. local fit from the last model: loss + augmented Lagrangian of these constraints; the iterate with
                   the best local score LS is kept
                5. p* = max(p*, P); the best model by the score S is kept

Gradients see smooth rates, `mapping(logit_scale * logits)` in place of predictions; multipliers and scores see hard
ones. Both loops are one state machine: an epoch of `badrjax.fit` is a local epoch, and what happens between rounds is
in `end_epoch`.
"""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.batches import Batch, check_batch
from badrjax.checks import check_class_range, check_weight, is_concrete, unknown_name
from badrjax.constraints import SCORE_WEIGHTS, FairnessConstraints, check_constraints
from badrjax.functions import Static, as_partial
from badrjax.groups import as_float
from badrjax.lagrangian import AugmentedLagrangian, augmented_lagrangian
from badrjax.losses import cross_entropy_of_scores
from badrjax.methods.base import Method, optimiser_pytree
from badrjax.methods.fairlab_problem import (
    ActiveSet,
    Aspiration,
    Keep,
    Measure,
    Multipliers,
    Numbers,
    Problem,
    Proximity,
    Rules,
    Score,
    Selection,
)
from badrjax.methods.fairlab_rounds import end_epoch, first_state, is_done
from badrjax.methods.fairlab_step import step
from badrjax.surrogates import entmax15

PROTOCOLS: dict[str, dict[str, Any]] = {
    "default": {
        "selection": "violation", "active_set": "satisfied", "multipliers": "projected", "score": "squared",
        "aspiration": "off", "proximity": "wasserstein", "group_loss": False,
        "keep": "within_budget", "performance_penalty": 50.0,
    },
    "paper": {
        "selection": "violation", "active_set": "satisfied", "multipliers": "projected", "score": "squared",
        "aspiration": "constraint", "proximity": "wasserstein", "group_loss": False,
        "keep": "score", "performance_penalty": 2.0,
    },
    "code": {
        "selection": "violation", "active_set": "satisfied", "multipliers": "monotone", "score": "linear",
        "aspiration": "off", "proximity": "class_means", "group_loss": True,
        "keep": "score", "performance_penalty": 2.0,
    },
}  # fmt: skip
"""What each protocol sets; any of it can be given to `fairlab` on its own."""


def fairlab(
    model: Any,
    optimizer: Any,
    constraints: FairnessConstraints,
    validation: Batch,
    *,
    protocol: Literal["default", "paper", "code"] = "default",
    budget: float | Array = 0.05,
    performance_bound: float | Array | None = None,
    proximity_bound: float | Array = 0.02,
    penalty: float | Array = 2.0,
    performance_penalty: float | Array | None = None,
    multiplier_step: float | Array = 2.0,
    multiplier_patience: int | Array = 2,
    max_multiplier: float | Array = 1000.0,
    rounds: int | Array = 30,
    patience: int | Array = 5,
    local_epochs: int | Array = 30,
    local_patience: int | Array = 5,
    temperature: float | Array = 0.05,
    active_tolerance: float | Array = 0.05,
    aspiration_step: float | Array = 0.005,
    reward_weight: float | Array = 1.0,
    selection: Selection | None = None,
    active_set: ActiveSet | None = None,
    multipliers: Multipliers | None = None,
    keep: Keep | None = None,
    score: Score | None = None,
    score_weight: float | Array | None = None,
    aspiration: Aspiration | None = None,
    proximity: Proximity | None = None,
    group_loss: bool | None = None,
    logit_scale: float | Array = 10.0,
    f1_average: str = "weighted",
    measure: Measure = "hard",
    mapping: Any = entmax15,
    loss: Any = cross_entropy_of_scores,
    cell_sizes: Float[Array, "C"] | None = None,
    block_size: int = 4096,
) -> Method:
    r"""FairLAB as a `Method`; the module's text has the algorithm.

    `state.params` is the best model so far, see `keep`. It changes when a local fit ends: while `state.round` is 0 it
    is the start. Give `fit` `num_epochs >= rounds * local_epochs` (it stops early by itself), and start it from a
    trained model (`badrjax.erm`), whose F1 is then the first `p*`, from which the budget is taken until a model does
    better. Batches must carry the constraints' cells as groups; where a row has another cell, or a label other than 0
    and 1, nothing is scored and the start is kept.

    `protocol="paper"` is the text, with two signs mended: learners are drawn with `exp(nu / T)`, not `exp(-T nu)`, and
    the active set holds the groups that are satisfied, not the violated ones. `protocol="code"` is the published
    follow-up code, with multipliers that never fall (so it does not end at a Karush-Kuhn-Tucker point), nothing
    penalised before the first of them moves, a loss by groups, and mean outputs for distances. `"default"` is the
    paper's without the aspiration: as a constraint it implies the budget, which then binds nothing.

    Args:
        model: with `apply(params, x, *, key=None)`; logits `f[n]`, or two columns that are reduced to their difference.
        optimizer: an optax transformation or `Partial(optax.adam, learning_rate=...)`; its state is made anew for each
            local fit.
        constraints: of `badrjax.fairness_constraints`. The thresholds are leaves.
        validation: rows on which iterates are scored and `p*` is taken, with the constraints' cells as groups.
        protocol: sets the options that are `None`.
        budget: `beta >= 0`, how much of `p*` may be given up. It takes no part where the bound is fixed, or with
            `protocol="code"`, which has no `p*`.
        performance_bound: a fixed lower bound of F1 in place of `p* - beta`; `-inf` for none. `protocol="code"` has
            such a bound or, with `None`, none.
        proximity_bound: `delta >= 0`.
        penalty, multiplier_step, multiplier_patience: see `badrjax.augmented_lagrangian`.
        performance_penalty: the penalty of the constraints on performance, `> 0`. A learner has many pairs, whose
            penalties add up against the one budget, so it takes a larger one to be kept.
        max_multiplier: `> 0`; multipliers stop there, and the info counts those that do.
        rounds, patience: most rounds, and how many without a better S end the run.
        local_epochs, local_patience: the same of epochs of a local fit, and LS.
        temperature: `T > 0`.
        active_tolerance: by how much a group may exceed its threshold and still count as satisfied.
        aspiration_step: what `p*` is asked to rise by.
        reward_weight: of the aspiration's shortfall in the loss, for `aspiration="reward"`.
        selection: `"violation"`, `exp(nu / T)` among the violated learners; `"as_printed"`, `exp(-T nu)` among all.
        active_set: `"satisfied"` or, as printed, `"violated"`.
        multipliers: `"projected"`, `max(0, mu + rho g)`; or `"monotone"`, of clamped violations, as coded.
        keep: which model is kept: `"within_budget"`, the best score among those within the budget on the validation
            rows, and the nearest to it while there is none; or by the `"score"` alone, which knows nothing of it.
        score: `"squared"`, `lambda P - (1 - lambda) sum max(0, F - tau)^2`; or `"linear"`, `P - weight sum max(0, F -
            tau)`, with a requirement's worst pair, as coded. LS has the constraints in force in place of all.
        score_weight: `lambda` in `[0, 1]`, or the linear weight `>= 0`; `None` is 0.5, or 10 for `"linear"`.
        aspiration: `"constraint"`, `"reward"` (a term of the loss) or `"off"`. It never counts in LS.
        proximity: `"wasserstein"` between the outputs; `"class_means"`, the change of their mean, as coded; `"off"`.
        group_loss: add the coded mean of the groups' losses, weighted by `1 - n_g / n`.
        logit_scale: `> 0`, sharpness of the smooth rates: 10 in the code; 1 gives denser gradients.
        f1_average: `"weighted"`, `"macro"` or `"binary"`.
        measure: what multipliers and scores see: `"hard"` predictions, or `"soft"` probabilities.
        mapping: from two scores to probabilities, for the smooth rates.
        loss: `(scores f[n], labels) -> f[n]`.
        cell_sizes: weight of each cell in the training part, `f[C]` (`badrjax.group_count`). With them the rows of a
            batch are weighted to the training part's share of each cell, which `badrjax.group_stratified` and
            `group_balanced` batches need.
        block_size: rows at a time in passes over all rows.

    Returns:
        A `Method` whose state is `FairLABState`, with `FairLABInfo` a step and `FairLABEpochInfo` an epoch.

    Raises:
        ValueError: (outside tracing) for numbers out of range, unknown options, validation rows or cell sizes that do
            not fit the constraints.
        TypeError: for constraints of another kind, or an optimizer that is neither form.
    """
    check_constraints(constraints)
    given = {
        "selection": selection, "active_set": active_set, "multipliers": multipliers, "score": score,
        "aspiration": aspiration, "proximity": proximity, "group_loss": group_loss, "score_weight": score_weight,
        "keep": keep, "performance_penalty": performance_penalty,
    }  # fmt: skip
    chosen = _chosen(protocol, given)
    rolling = performance_bound is None and protocol != "code"
    rules = Rules(
        **{name: chosen[name] for name in _CHOICES}, measure=measure, f1_average=f1_average, rolling=rolling,
        group_loss=bool(chosen["group_loss"]), block_size=int(block_size),
    )  # fmt: skip
    _check_rules(rules)
    numbers = {
        "budget": budget,
        "performance_bound": -np.inf if performance_bound is None else performance_bound,
        "aspiration_step": aspiration_step, "reward_weight": reward_weight, "proximity_bound": proximity_bound,
        "active_tolerance": active_tolerance, "temperature": temperature, "score_weight": chosen["score_weight"],
        "logit_scale": logit_scale, "max_multiplier": max_multiplier,
    }  # fmt: skip
    counts = {"rounds": rounds, "local_epochs": local_epochs, "local_patience": local_patience, "patience": patience}
    _check_numbers(numbers, counts, rules)
    _check_validation(validation, constraints, cell_sizes)
    problem = Problem(
        apply=as_partial(model.apply),
        loss=Static(loss),
        mapping=Static(mapping),
        optimizer=optimiser_pytree(optimizer),
        constraints=constraints,
        lagrangian=_lagrangian_of(
            constraints, penalty, chosen["performance_penalty"], multiplier_step, multiplier_patience
        ),
        validation=validation,
        cell_sizes=None if cell_sizes is None else as_float(cell_sizes),
        numbers=Numbers(
            **{name: as_float(value) for name, value in numbers.items()},
            **{name: jnp.asarray(value, jnp.int32) for name, value in counts.items()},
        ),
        rules=Static(rules),
    )
    return Method(
        Partial(first_state, problem), Partial(step, problem), Partial(end_epoch, problem), Partial(is_done, problem)
    )


def _chosen(protocol: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the protocol sets, but for what is given."""
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, tuple(PROTOCOLS))
    chosen = PROTOCOLS[protocol] | {name: value for name, value in given.items() if value is not None}
    return {"score_weight": SCORE_WEIGHTS.get(chosen["score"])} | chosen


def _lagrangian_of(
    constraints: FairnessConstraints, penalty: Any, of_performance: Any, multiplier_step: Any, patience: Any
) -> AugmentedLagrangian:
    """Over all constraints; those of performance have a penalty of their own, and a step in proportion to it."""
    augmented_lagrangian(penalty=penalty, multiplier_step=multiplier_step, patience=patience)  # checks the numbers
    _check("performance_penalty", of_performance, lambda value: (value > 0) & np.isfinite(value), "must be > 0")
    num_groups, num_pairs = constraints.membership.shape[-2], constraints.left.shape[-1]
    places = jnp.zeros(num_pairs + 2 + num_groups, bool).at[num_pairs : num_pairs + 2].set(True)
    penalty, of_performance, step = (as_float(value) for value in (penalty, of_performance, multiplier_step))
    relative = jnp.where(penalty > 0, of_performance / jnp.where(penalty > 0, penalty, 1.0), 1.0)
    return augmented_lagrangian(
        penalty=jnp.where(places, of_performance, penalty),
        multiplier_step=jnp.where(places, step * relative, step),
        patience=patience,
    )


_CHOICES = {
    "keep": ("within_budget", "score"),
    "selection": ("violation", "as_printed"),
    "active_set": ("satisfied", "violated"),
    "multipliers": ("projected", "monotone"),
    "score": ("squared", "linear"),
    "aspiration": ("constraint", "reward", "off"),
    "proximity": ("wasserstein", "class_means", "off"),
}


def _check_rules(rules: Rules) -> None:
    options = _CHOICES | {"measure": ("hard", "soft"), "f1_average": ("binary", "macro", "weighted")}
    for name, known in options.items():
        if getattr(rules, name) not in known:
            raise unknown_name(name, getattr(rules, name), known)
    if rules.block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {rules.block_size}")


def _check_numbers(numbers: dict[str, Any], counts: dict[str, Any], rules: Rules) -> None:
    for name in ("budget", "aspiration_step", "reward_weight", "proximity_bound", "active_tolerance"):
        _check(name, numbers[name], lambda value: (value >= 0) & np.isfinite(value), "must be >= 0 and finite")
    for name in ("temperature", "logit_scale", "max_multiplier"):
        _check(name, numbers[name], lambda value: (value > 0) & np.isfinite(value), "must be > 0 and finite")
    _check(
        "performance_bound", numbers["performance_bound"], lambda value: value <= 1, "must be at most 1, the best F1"
    )
    if rules.score == "squared":
        _check("score_weight", numbers["score_weight"], lambda value: (value >= 0) & (value <= 1), "must lie in [0, 1]")
    else:
        _check("score_weight", numbers["score_weight"], lambda value: value >= 0, "must be >= 0")
    for name, value in counts.items():
        if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        _check(name, value, lambda value: value >= 1, "must be at least 1")


def _check(name: str, value: Any, holds: Any, text: str) -> None:
    if np.ndim(value):
        raise ValueError(f"{name} must be one number and has shape {np.shape(value)}; use jax.vmap over several")
    if is_concrete(value) and not holds(np.asarray(value)):
        raise ValueError(f"{name} {text}, got {value}")


def _check_validation(validation: Any, constraints: FairnessConstraints, cell_sizes: Any) -> None:
    num_cells = constraints.membership.shape[-1]
    check_batch(validation, num_cells, "validation")
    if jnp.issubdtype(validation.y.dtype, jnp.inexact):
        raise TypeError("validation.y must hold classes 0 and 1: the gaps are in rates of predictions")
    check_class_range(validation.y, 2, "validation.y", validation.weight)
    weight = validation.weight
    if weight is not None and is_concrete(weight) and not np.asarray(weight).any():
        raise ValueError("validation has no row with weight, so no model can be scored")
    if cell_sizes is not None and np.shape(cell_sizes) != (num_cells,):
        raise ValueError(
            f"cell_sizes must have one weight a cell, shape ({num_cells},), and has shape {np.shape(cell_sizes)}"
        )
    check_weight(cell_sizes, "cell_sizes")
    if cell_sizes is not None and is_concrete(cell_sizes) and not np.asarray(cell_sizes).any():
        raise ValueError("cell_sizes are all 0; give the training part's, badrjax.group_count(train.group, num_cells)")
