"""The score by which models under requirements are compared."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

Score = Literal["squared", "linear"]
SCORE_WEIGHTS = {"squared": 0.5, "linear": 10.0}
"""The weight of a score where none is given: FairLAB's paper does not say its `lambda`, its code has 10."""


def penalised_score(
    performance: Float[Array, "*m"],
    violations: Float[Array, "*m R"],
    score: Score = "squared",
    weight: Any = None,
) -> Float[Array, "*m"]:
    r"""Performance `P` less what requirements are violated by, the score S of FairLAB.

        squared    S = lambda P - (1 - lambda) sum_r max(0, g_r)^2
        linear     S = P - weight sum_r max(0, g_r)

    Args:
        performance: `f[...]`, higher is better.
        violations: `g = gap - threshold`, `f[..., R]`; NaN (not measured) counts 0.
        score: `"squared"`, as the paper has it, or `"linear"`, as its code does.
        weight: `lambda` in `[0, 1]`, or the linear weight `>= 0`; `None` is that of `SCORE_WEIGHTS`.

    Returns:
        `f[...]`; `-inf` where the performance is NaN.

    Raises:
        KeyError: for another score; callers check the name and the weight.
    """
    weight = jnp.asarray(SCORE_WEIGHTS[score] if weight is None else weight, performance.dtype)
    excess = jnp.maximum(jnp.where(jnp.isnan(violations), 0.0, violations), 0.0)
    if score == "squared":
        found = weight * performance - (1.0 - weight) * jnp.sum(excess**2, axis=-1)
    else:
        found = performance - weight * jnp.sum(excess, axis=-1)
    return jnp.where(jnp.isnan(found), -jnp.inf, found)
