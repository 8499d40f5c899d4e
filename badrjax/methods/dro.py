"""Distributionally robust optimisation over the rows of a batch: its worst tail, or the chi-square ball around it."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.checks import is_concrete, unknown_name
from badrjax.functions import Static
from badrjax.methods.base import Method
from badrjax.methods.erm import Reduction, reweighted

Ball = Literal["tail", "chi_square"]
_HALVINGS = 40  # of an interval of float32's digits, with some to spare


def dro(
    losses: Any,
    optimizer: Any,
    *,
    fraction: Float[Array, ""] | float = 0.4,
    ball: Ball = "tail",
    reduction: Reduction = "mean",
    whole_rows: bool = False,
) -> Method:
    r"""Steps on the worst case over a ball of weights around those of the batch.

    `ball="tail"` is the conditional value at risk: with rows sorted by falling loss, the first `fraction * sum(weight)`
    of the weight counts, the last row by its fractional part. The Nash-Meta-Learning code runs the sum over whole rows
    of it under the name DRO. `ball="chi_square"` is what its paper cites, Hashimoto et al. 2018:

        max_q sum_i q_i l_i   over   sum_i p_i (q_i / p_i - 1)^2 <= 2 (1 / fraction - 1)^2,

    `p` the batch's weights and `fraction` the share of the smallest group that is to be safe.

    Args:
        losses: `ExampleLosses`.
        optimizer: as for `erm`.
        fraction: in `(0, 1]`, a leaf; 1 is `erm`.
        ball: over which weights.
        reduction: of the losses that count, see `erm`. The code's `"sum"` makes its step `0.4 n` times larger than
            that of the mean, so its column is partly a learning-rate effect.
        whole_rows: round the tail down to whole rows, as the code does.

    Raises:
        ValueError: for a fraction outside `(0, 1]`, an unknown ball or reduction, or `whole_rows` without a tail.
    """
    if is_concrete(fraction) and not np.all((np.asarray(fraction) > 0) & (np.asarray(fraction) <= 1)):
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    if ball not in ("tail", "chi_square"):
        raise unknown_name("ball", str(ball), ("tail", "chi_square"))
    if ball == "chi_square":
        if whole_rows:
            raise ValueError("whole_rows rounds a tail, and ball='chi_square' has none; leave it out")
        return reweighted(losses, optimizer, Partial(_chi_square_rule, fraction), reduction)
    return reweighted(losses, optimizer, Partial(_tail_rule, Static(whole_rows), fraction), reduction)


def tail_weights(
    losses: Float[Array, "n"],
    fraction: Float[Array, ""] | float,
    weight: Float[Array, "n"],
    whole_rows: bool = False,
) -> Float[Array, "n"]:
    """How much of each row's weight lies in the worst `fraction` of the total, `f[n]` in `[0, weight]`."""
    order = jnp.argsort(jnp.where(weight > 0, -losses, jnp.inf))
    sorted_weight = weight[order]
    budget = fraction * jnp.sum(weight)
    budget = jnp.floor(budget) if whole_rows else budget
    before = jnp.cumsum(sorted_weight) - sorted_weight
    taken = jnp.clip(budget - before, 0.0, sorted_weight)
    return jnp.zeros_like(weight).at[order].set(taken)


def chi_square_weights(
    losses: Float[Array, "n"], fraction: Float[Array, ""] | float, weight: Float[Array, "n"]
) -> Float[Array, "n"]:
    r"""The worst weights in the chi-square ball, `f[n]` with the sum of `weight`.

    They are `q_i = p_i (l_i - eta)_+ / E[(l - eta)_+]` for the `eta` that minimises
    `C sqrt(E[(l - eta)_+^2]) + eta`, `C^2 = 1 + 2 (1 / fraction - 1)^2` (Hashimoto et al. 2018, equation 6): in closed
    form where it lies below every loss, else by bisection of the derivative. Where all losses are equal, or the ball is
    a point, they are `weight` itself.

    Args:
        losses: `f[n]`.
        fraction: in `(0, 1]`, the share of the smallest group.
        weight: frequencies; rows of weight 0 take no part.
    """
    total = jnp.sum(weight)
    share = weight / jnp.where(total > 0, total, 1.0)
    real = share > 0
    radius = jnp.sqrt(2.0) * (1.0 / fraction - 1.0)  # squared, the ball's
    mean = jnp.sum(share * losses)
    deviation = jnp.sqrt(jnp.sum(share * (losses - mean) ** 2))
    lowest = jnp.min(jnp.where(real, losses, jnp.inf))
    highest = jnp.max(jnp.where(real, losses, -jnp.inf))
    interior = mean - deviation / jnp.where(radius > 0, radius, 1.0)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        eta = 0.5 * (low + high)
        above = jnp.maximum(losses - eta, 0.0)
        first, second = jnp.sum(share * above), jnp.sum(share * above**2)
        rising = first**2 * (1.0 + radius**2) < second  # the derivative there is positive
        # Below the largest loss even by rounding, for its rows are all that counts in a large ball.
        return jnp.where(rising | (eta >= high), low, eta), jnp.where(rising, eta, high)

    below, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (lowest, highest))
    eta = jnp.where(interior <= lowest, interior, below)
    excess = jnp.where(real, share * jnp.maximum(losses - eta, 0.0), 0.0)
    mass = jnp.sum(excess)
    flat = (mass <= 0) | (radius <= 0) | (highest <= lowest)
    return jnp.where(flat, weight, total * excess / jnp.where(flat, 1.0, mass))


def _tail_rule(whole_rows: Static, fraction: Any, losses: Array, weight: Array) -> Array:
    return tail_weights(losses, fraction, weight, whole_rows.value)


def _chi_square_rule(fraction: Any, losses: Array, weight: Array) -> Array:
    return chi_square_weights(losses, fraction, weight)
