r"""Ways to go down two losses at once: weights `w` `f[2]` of the update `sum_k w_k grad L_k`.

A rule is a goal's derivative by the losses, one of the rules for conflicting gradients, or the Nash bargain
(`M a = 1/a`, M the Gram matrix of the gradients), throughout or for some steps with a goal after them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

import badrjax as bx
from badrjax.checks import unknown_name

GOALS: dict[str, Callable[..., Array]] = {
    "learning_to_reweight": bx.objectives.mean,
    "forml": bx.objectives.gap,
    "meta_group_dro": bx.objectives.worst,
}
"""The goals: the number, of both losses, that each descends."""

RULES = {
    "learning_to_reweight": "LtR",
    "forml": "FORML",
    "meta_group_dro": "Meta-gDRO",
    "nash": "NBS throughout",
    "nash_learning_to_reweight": "NBS, then LtR",
    "nash_forml": "NBS, then FORML",
    "nash_meta_group_dro": "NBS, then Meta-gDRO",
    "pcgrad": "PCGrad",
    "cagrad": "CAGrad",
    "mean": "GM, p = 1",
    "harmonic": "GM, p = -1",
}
"""All rules by name, with their titles."""

GRADIENT_RULES = ("pcgrad", "cagrad", "mean", "harmonic")
"""The rules of the paper's Figure 5; the others are those of its Figures 2(b) and 3."""

STEP_LENGTHS = ("bargain", "nash_mtl", "unit")
"""How long a bargain's update is: see `scaled_bargain`."""

RADIUS = 0.5
"""Of CAGrad's ball."""

_TWO_STAGE = "nash_"


class Situation(NamedTuple):
    """What rules see at a point.

    Attributes:
        losses: `f[2]`.
        gram: inner products of the gradients, `f[2, 2]`.
        lowest: a number that both losses stay above, `f[]`.
    """

    losses: Float[Array, "2"]
    gram: Float[Array, "2 2"]
    lowest: Float[Array, ""]


def goal_weights(goal: str, situation: Situation) -> Float[Array, "2"]:
    """The derivative of a goal of `GOALS` by the losses: `(1/2, 1/2)`, 1 on the worst, or that and -1 on the best.

    Losses that tie share: the gap's weights are both 0 then.
    """
    return jax.grad(GOALS[goal])(situation.losses)


def scaled_bargain(weights: Float[Array, "2"], gram: Float[Array, "2 2"], step_length: str) -> Float[Array, "2"]:
    r"""The bargain's weights for an update of another length.

    Args:
        weights: `a` with `M a = 1/a`; the update `G a` has length `\sqrt 2`.
        gram: `M`.
        step_length: `"bargain"` leaves that; `"unit"` makes the length 1; `"nash_mtl"` is what the code of Nash-MTL
            does, the solution for `M / |M|_F`, which is `\sqrt{|M|_F} a`, clipped to length 1.

    Returns:
        `f[2]`.

    Raises:
        ValueError: for an unknown `step_length`.
    """
    unit = 1 / jnp.sqrt(jnp.asarray(2.0, weights.dtype))
    if step_length == "bargain":
        return weights
    if step_length == "unit":
        return unit * weights
    if step_length == "nash_mtl":
        return jnp.minimum(jnp.sqrt(jnp.linalg.norm(gram)), unit) * weights
    raise unknown_name("step_length", step_length, STEP_LENGTHS)


def rule_weights(rule: str, key: Key[Array, ""], situation: Situation) -> Float[Array, "2"]:
    """Weights of a rule that does not bargain.

    The generalised means need positive losses, so theirs are counted from `lowest`. Their weights are in the
    proportions of the mean's derivative, `(L_k - lowest)^{p-1}`, and come to 1 in sum, so that one learning rate means
    the same for every p.

    Args:
        rule: a goal, or one of `GRADIENT_RULES`.
        key: of PCGrad's order, which does not matter for two losses.
        situation: losses and gradients here.

    Raises:
        ValueError: for an unknown rule.
    """
    if rule in GOALS:
        return goal_weights(rule, situation)
    if rule == "pcgrad":
        return bx.pcgrad_weights(key, situation.gram)
    if rule == "cagrad":
        return bx.cagrad_weights(situation.gram, RADIUS)
    if rule in ("mean", "harmonic"):
        power = 1.0 if rule == "mean" else -1.0
        weights = bx.generalized_mean_weights(situation.losses - situation.lowest, power)
        return weights / jnp.sum(weights)
    raise unknown_name("rule", rule, RULES)


def bargain_weights(
    otherwise: Callable[[Situation], Array], step_length: str, situation: Situation
) -> tuple[Float[Array, "2"], Bool[Array, ""]]:
    """Weights of the bargain, or those of `otherwise` where it fails, and whether there is one."""
    solution = bx.nash_weights(situation.gram)
    agreed = scaled_bargain(solution.weights, situation.gram, step_length)
    return jnp.where(solution.feasible, agreed, otherwise(situation)), solution.feasible


def num_bargaining(rule: str, num_steps: int, bargaining_steps: int, **_: Any) -> int:
    """In how many of its steps a run of a rule tries to bargain."""
    if rule == "nash":
        return num_steps
    return min(bargaining_steps, num_steps) if rule.startswith(_TWO_STAGE) else 0


def weights_at(
    rule: str,
    bargaining_steps: int,
    step_length: str,
    number: Int[Array, ""],
    key: Key[Array, ""],
    situation: Situation,
) -> tuple[Float[Array, "2"], Bool[Array, ""]]:
    """Weights of any rule of `RULES` at the step of a number, and whether they are a bargain's.

    `"nash"` bargains throughout and has weights 0 where no bargain exists. `"nash_<goal>"` bargains for the first
    `bargaining_steps` steps, with the goal's weights where no bargain exists, and follows the goal from then on.
    """
    if rule == "nash":
        return bargain_weights(lambda here: jnp.zeros_like(here.losses), step_length, situation)
    if rule.startswith(_TWO_STAGE):
        follow = partial(goal_weights, rule.removeprefix(_TWO_STAGE))
        bargain = partial(bargain_weights, follow, step_length)
        # The number of the step is the same for all lanes, so only one of both is computed.
        return jax.lax.cond(
            number < bargaining_steps, bargain, lambda here: (follow(here), jnp.zeros((), bool)), situation
        )
    return rule_weights(rule, key, situation), jnp.zeros((), bool)
