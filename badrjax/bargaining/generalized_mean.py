r"""The generalised mean of losses: weights from the losses alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from badrjax.bargaining.gram import as_present, uniform
from badrjax.checks import is_concrete
from badrjax.groups import as_float


def generalized_mean_weights(
    losses: Float[Array, "K"],
    p: float | Float[Array, ""],
    present: Bool[Array, "K"] | None = None,
) -> Float[Array, "K"]:
    r"""Derivative of the generalised mean `L_p = (1/K \sum_k L_k^p)^{1/p}` by the losses, `(1/K) (L_k / L_p)^{p-1}`.

    `p = 1` weighs all equally, `p -> 0` is the geometric mean, `p = -1` the harmonic; `p = inf` and `p = -inf` are
    the worst and the best loss, shared equally by those that tie. Only ratios of losses matter:
    `\sum_k w_k L_k = L_p`. Computed in logarithms, so losses from 1e-30 to 1e30 and `p = +-100` are fine in float32.
    Differentiable in the losses and in finite `p`.

    Args:
        losses: one loss a player, `f[K]`, positive and finite.
        p: the exponent, `f[]`, finite or infinite; may be traced.
        present: `bool[K]`; absent players get weight 0 and take no part, whatever their loss. `None` means all.

    Returns:
        `f[K]`, `>= 0`; all 0 when nobody is present. Under tracing NaN where a present loss is not positive and
        finite, or `p` is NaN.

    Raises:
        ValueError: for losses that are not a vector, `present` of another length, a `p` that is not one number, or
            (outside tracing) a present loss that is not positive and finite.
    """
    losses = as_float(losses)
    if losses.ndim != 1 or losses.shape[0] == 0:
        raise ValueError(f"losses must be f[K], one a player, got shape {losses.shape}")
    present = as_present(present, losses.shape[0])
    if jnp.ndim(p) != 0 or (is_concrete(p) and np.isnan(np.asarray(p))):
        raise ValueError(f"p must be one number (it may be infinite), got {p}")
    _check_positive(losses, present)
    p = jnp.asarray(p, losses.dtype)
    usable = present & (losses > 0) & (losses < jnp.inf)
    safe = jnp.where(usable, losses, 1.0)
    # Relative to the loss that dominates; the weights do not depend on it, so neither need their derivative.
    largest = jnp.max(jnp.where(usable, safe, 0.0))
    smallest = jnp.min(jnp.where(usable, safe, jnp.inf))
    anchor = jax.lax.stop_gradient(jnp.where(p > 0, largest, smallest))
    anchor = jnp.where(jnp.any(usable), anchor, 1.0)
    share = uniform(present, losses.dtype)
    # So large that losses one rounding apart are worlds apart: the worst or the best alone.
    infinite = jnp.abs(p) > 1 / jnp.finfo(losses.dtype).eps ** 2
    finite = jnp.where(infinite | jnp.isnan(p), 1.0, p)
    logs = jnp.where(usable, _log_ratio(safe, anchor), 0.0)
    weights = share * jnp.exp(jnp.where(usable, (finite - 1) * (logs - _log_mean(logs, finite, share)), 0.0))
    weights = jnp.where(infinite, uniform(usable & (losses == anchor), losses.dtype), weights)
    sound = jnp.all(usable | ~present) & ~jnp.isnan(p)
    return jnp.where(sound, weights, jnp.where(present, jnp.nan, 0.0))


def _check_positive(losses: Array, present: Array) -> None:
    if not is_concrete(losses, present):
        return
    values, taking_part = np.asarray(losses), np.asarray(present)
    # Subnormal numbers are 0 to XLA.
    bad = taking_part & ~((values >= jnp.finfo(values.dtype).tiny) & (values < np.inf))
    if bad.any():
        player = np.flatnonzero(bad)[0]
        raise ValueError(
            f"losses must be positive and finite for a generalised mean, but that of player {player} is "
            f"{values[player]}; shift them first, by a bound below all of them"
        )


def _log_ratio(losses: Array, anchor: Array) -> Array:
    """`log(losses / anchor)` without the overflow of the quotient, nor the cancellation of logs where they are near."""
    near = (losses > 0.5 * anchor) & (losses < 2 * anchor)
    close = jnp.log1p((jnp.where(near, losses, anchor) - anchor) / anchor)
    return jnp.where(near, close, jnp.log(losses) - jnp.log(anchor))


def _log_mean(logs: Array, p: Array, share: Array) -> Array:
    """`log (sum_k share_k exp(p logs_k))^(1/p)`, where `p logs <= 0`; the mean of the logs at `p = 0`."""
    mean = jnp.sum(share * logs)
    # So near 0 that the first two terms of the series are exact, to which the derivative by p belongs.
    tiny = jnp.abs(p) * jnp.max(jnp.abs(logs)) < jnp.finfo(logs.dtype).eps
    series = mean + p / 2 * jnp.sum(share * (logs - mean) ** 2)
    apart = jnp.where(tiny, 1.0, p)
    shrunk = jnp.sum(share * jnp.expm1(jnp.where(tiny, 0.0, apart * logs)))
    return jnp.where(tiny, series, jnp.log1p(shrunk) / apart)
