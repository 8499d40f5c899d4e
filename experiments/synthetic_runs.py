r"""A run of one rule from one start, `theta <- theta - rate * sum_k w_k grad L_k`, and the rows of the sweeps."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

import badrjax as bx
from badrjax.checks import unknown_name
from experiments import synthetic, synthetic_rules

NUDGE = 1e-9
"""How far a start is moved to see which results the last digits decide."""

_MARGIN = 1.0


class StepInfo(NamedTuple):
    """A step, measured where it begins.

    Attributes:
        theta: `f[2]`.
        losses: `f[2]`.
        aligned: whether the update has a positive inner product with both gradients, `bool[]`.
        bargained: whether the update is that of a bargain, `bool[]`.
        cosine: between the gradients, `f[]`; NaN where one is 0.
    """

    theta: Float[Array, "2"]
    losses: Float[Array, "2"]
    aligned: Bool[Array, ""]
    bargained: Bool[Array, ""]
    cosine: Float[Array, ""]


def descend(
    key: Key[Array, ""],
    start: Float[Array, "2"],
    rate: float | Float[Array, ""],
    *,
    rule: str,
    num_steps: int,
    bargaining_steps: int,
    step_length: Literal["bargain", "nash_mtl", "unit"] = "bargain",
    reading: Literal["A", "B"] = "A",
) -> tuple[Float[Array, "2"], StepInfo]:
    """A run of plain gradient descent, one program.

    Args:
        key: of the rules that draw.
        start: `f[2]`.
        rate: learning rate, `f[]`; may be traced.
        rule: one of `experiments.synthetic_rules.RULES`.
        num_steps: static.
        bargaining_steps: static; how long the rules of two stages bargain.
        step_length: of a bargain's update; see `experiments.synthetic_rules.scaled_bargain`.
        reading: of the scale; see `experiments.synthetic.SCALES`.

    Returns:
        The end `f[2]`, and a `StepInfo` whose leaves lead with `num_steps`.

    Raises:
        ValueError: for an unknown rule, step length or reading.
    """
    check_names(rule, step_length, reading)
    scale = synthetic.SCALES[reading]
    choose = partial(synthetic_rules.weights_at, rule, bargaining_steps, step_length)

    def step(theta: Array, number: Array) -> tuple[Array, StepInfo]:
        values, gradients = synthetic.losses(theta, scale), synthetic.gradients(theta, scale)
        gram = bx.gramian(gradients)
        lowest = jnp.asarray(scale * (synthetic.LOSS_FLOOR - _MARGIN), values.dtype)
        situation = synthetic_rules.Situation(values, gram, lowest)
        weights, bargained = choose(number, jax.random.fold_in(key, number), situation)
        update = bx.combine(gradients, weights)
        aligned = jnp.all(bx.alignment(gradients, update) > 0)
        return theta - rate * update, StepInfo(theta, values, aligned, bargained, _cosine(gram))

    return jax.lax.scan(step, start, jnp.arange(num_steps))


def numbers(
    key: Key[Array, ""], rate: Array, start_x: Array, start_y: Array, nudge: Array, **settings: Any
) -> dict[str, Array]:
    """What a run comes to, a row of a sweep.

    Args:
        key: of a random direction in which the start is moved, and of the run.
        rate: learning rate, `f[]`.
        start_x: `f[]`.
        start_y: `f[]`.
        nudge: how far the start is moved, `f[]`; 0 leaves it.
        **settings: see `descend`.

    Returns:
        `end_x`, `end_y`, `end_loss_1`, `end_loss_2`; shares of the steps that were `aligned`, `lowered` (both losses
        fell), `tried` (to bargain) and `bargained`; `bargained_aligned`, the share that was both; and `failed_margin`,
        the largest `1 + cos` between the gradients where no bargain was found (NaN where all were, or a gradient was
        0 each time), each `f[]`.
    """
    move_key, run_key = jax.random.split(key)
    angle = jax.random.uniform(move_key, maxval=2 * jnp.pi)
    start = jnp.stack([start_x + nudge * jnp.cos(angle), start_y + nudge * jnp.sin(angle)])
    end, info, losses = _followed(run_key, start, rate, settings)
    lowered = jnp.all(losses[1:] < losses[:-1], axis=1)
    tries = synthetic_rules.num_bargaining(**settings)
    tried = jnp.arange(settings["num_steps"]) < tries
    failed = tried & ~info.bargained
    # A step with a gradient of 0 has no cosine, and leaves the margin of the other failures as it is.
    margins = jnp.where(failed, 1 + info.cosine, jnp.nan)
    margin = jnp.nanmax(margins) if tries else margins[0]
    return {
        "end_x": end[0],
        "end_y": end[1],
        "end_loss_1": losses[-1, 0],
        "end_loss_2": losses[-1, 1],
        "aligned": jnp.mean(info.aligned),
        "lowered": jnp.mean(lowered),
        "tried": jnp.mean(tried),
        "bargained": jnp.mean(info.bargained),
        "bargained_aligned": jnp.mean(info.bargained & info.aligned),
        "failed_margin": margin,
    }


def path(key: Key[Array, ""], rate: Array, start_x: Array, start_y: Array, **settings: Any) -> dict[str, Array]:
    """The way of a run, a row of a sweep.

    Returns:
        `theta` and `losses` `f[num_steps + 1, 2]`, and of each step whether it was `aligned` and `bargained`,
        `bool[num_steps]`.
    """
    end, info, losses = _followed(key, jnp.stack([start_x, start_y]), rate, settings)
    of_steps = {"aligned": info.aligned, "bargained": info.bargained}
    return of_steps | {"theta": jnp.vstack([info.theta, end]), "losses": losses}


def check_names(rule: str, step_length: str, reading: str) -> None:
    """Raise `ValueError`, with the nearest known name, for one that is unknown."""
    for name, value, known in (
        ("rule", rule, synthetic_rules.RULES),
        ("step_length", step_length, synthetic_rules.STEP_LENGTHS),
        ("reading", reading, synthetic.SCALES),
    ):
        if value not in known:
            raise unknown_name(name, value, known)


def _followed(key: Array, start: Array, rate: Array, settings: dict[str, Any]) -> tuple[Array, StepInfo, Array]:
    """A run, with the losses of all its points, the end included."""
    end, info = descend(key, start, rate, **settings)
    last = synthetic.losses(end, synthetic.SCALES[settings.get("reading", "A")])
    return end, info, jnp.vstack([info.losses, last])


def _cosine(gram: Array) -> Array:
    """Between two gradients, from their Gram matrix."""
    lengths = jnp.sqrt(jnp.diagonal(gram))
    return gram[0, 1] / lengths[0] / lengths[1]
