"""Preferences of COSMOS: points on the simplex of the objectives, as inputs of a model, drawn, and spread out."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from badrjax.checks import check_positive_integer
from badrjax.groups import as_float


def preference_inputs(x: Float[Array, "n F"], preference: Float[Array, "K"]) -> Float[Array, "n F+K"]:
    """The features with the preference appended to every row: the input of a model that COSMOS trains.

    Args:
        x: features, `f[n, F]`.
        preference: one for all rows, `f[K]`.

    Returns:
        `f[n, F+K]` of the features' dtype (whole numbers become floats).

    Raises:
        ValueError: for features without rows and columns, or a preference that is no vector.
    """
    x, preference = jnp.asarray(x), jnp.asarray(preference)
    if x.ndim != 2:
        raise ValueError(f"x must have rows and columns, [n, F], and has shape {x.shape}; flatten further axes")
    if preference.ndim != 1:
        raise ValueError(
            f"preference must be one number an objective, [K], and has shape {preference.shape}; use jax.vmap over "
            "several"
        )
    x = x if jnp.issubdtype(x.dtype, jnp.inexact) else as_float(x)
    rows = jnp.broadcast_to(preference[None, :].astype(x.dtype), (x.shape[0], preference.shape[0]))
    return jnp.concatenate([x, rows], axis=1)


def preference_rays(num_objectives: int, num_rays: int = 25, *, margin: float = 0.0) -> Float[Array, "m K"]:
    r"""Preferences spread over the simplex, the same at every call (host code).

    For two objectives rays of the quarter circle, `(cos t, sin t) / (cos t + sin t)` at equal angles from `margin` to
    `\pi / 2 - margin`: without it from the first objective alone to the second alone. The published test rays are 25
    with a margin of 0.1, which leaves the corners out: there the first has 0.91 of the first objective.

    For more, in this order: the K corners, the centre, and quasi-random draws of a Dirichlet distribution with
    concentration 1/2 (the published one of training), which are squares of normal quantiles, brought to sum 1, at the
    points `1/2 + i (g^-1, ..., g^-K) mod 1` with `g^(K+1) = g + 1`. More rays only add to fewer.

    Args:
        num_objectives: `K >= 2`; 1 + the number of requirements for `badrjax.cosmos`.
        num_rays: `m`, at least 2 for two objectives and `K + 1` for more.
        margin: in radians, in `[0, \pi / 4)`; for two objectives only.

    Returns:
        `f[m, K]`, each row `>= 0` and of sum 1.

    Raises:
        ValueError: for fewer objectives or rays than that, or another margin.
    """
    check_positive_integer(num_objectives=num_objectives, num_rays=num_rays)
    if num_objectives < 2:
        raise ValueError(f"num_objectives must be at least 2, the task and one requirement, got {num_objectives}")
    fewest = 2 if num_objectives == 2 else num_objectives + 1
    if num_rays < fewest:
        raise ValueError(f"num_rays must be at least {fewest} for {num_objectives} objectives, got {num_rays}")
    if not 0 <= margin < np.pi / 4 or (margin and num_objectives > 2):
        raise ValueError(f"margin must lie in [0, pi / 4), and be 0 for more than two objectives, got {margin}")
    if num_objectives == 2:
        # Sines of the angles from both ends: the cosine of a right angle is 6e-17 and not 0 in floats.
        angles = margin + np.arange(num_rays) * ((np.pi / 2 - 2 * margin) / (num_rays - 1))
        rays = np.stack([np.sin(angles[::-1]), np.sin(angles)], axis=1)
    else:
        spread = _quasi_random(num_rays - fewest, num_objectives)
        rays = np.concatenate([np.eye(num_objectives), np.ones((1, num_objectives)), spread])
    return jnp.asarray(rays / rays.sum(axis=1, keepdims=True), jnp.result_type(float))


def draw_preference(key: Any, concentration: Float[Array, "K"]) -> Float[Array, "K"]:
    """A draw of the Dirichlet distribution, every entry positive and of sum 1 to rounding.

    Drawn by logarithms: with a small concentration the gamma variables themselves would all underflow, to 0 / 0.
    """
    logs = jax.random.loggamma(key, concentration, dtype=concentration.dtype)
    limits = jnp.finfo(concentration.dtype)
    # Half the range, so that no difference overflows; then exact zeros become the smallest normal number.
    drawn = jax.nn.softmax(jnp.clip(logs, limits.min / 2, limits.max / 2))
    return jnp.maximum(drawn, limits.tiny)


def _quasi_random(number: int, num_objectives: int) -> np.ndarray:
    """Squares of normal quantiles at the points of an additive recurrence, `[number, K]`."""
    ratio = 1.0
    for _ in range(60):  # a contraction, to full precision
        ratio = (1.0 + ratio) ** (1.0 / (num_objectives + 1))
    steps = ratio ** -np.arange(1.0, num_objectives + 1)
    points = (0.5 + np.arange(1, number + 1)[:, None] * steps) % 1.0
    points = np.clip(points, 1e-12, 1.0 - 1e-12)  # the quantile is finite inside only
    quantile = NormalDist().inv_cdf
    return np.array([[quantile(point) ** 2 for point in row] for row in points]).reshape(number, num_objectives)
