"""Reducers of the losses of K groups to one number to minimise.

Each takes `losses` `f[K]` and `present` `bool[K]`, and is over the groups that are present: an absent group
changes neither the value nor any derivative, whatever its loss (NaN and infinity too), and its own derivative
is exactly 0. With no group present the value is 0, with derivative 0. A NaN loss of a present group gives
NaN.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from badrjax.checks import is_concrete
from badrjax.groups import group_mean, group_present


def group_losses(
    example_losses: Float[Array, "n"],
    groups: Int[Array, "n"],
    num_groups: int,
    weight: Float[Array, "n"] | None = None,
) -> tuple[Float[Array, "K"], Bool[Array, "K"]]:
    """Mean loss of each group and which groups are present, ready for `worst(*group_losses(...))`.

    Args:
        example_losses: one loss an example, `f[n]`.
        groups: ids in `[0, num_groups)`, `int[n]`.
        num_groups: static number of groups `K`.
        weight: frequencies `>= 0`, `f[n]`.

    Returns:
        `(losses f[K], present bool[K])`; the loss of an absent group is 0.

    Raises:
        ValueError: (outside tracing) for ids outside the range, negative weights, or unequal lengths.
        TypeError: for ids that are not integers.
    """
    losses = group_mean(example_losses, groups, num_groups, weight)
    return losses, group_present(groups, num_groups, weight)


def mean(losses: Float[Array, "K"], present: Bool[Array, "K"] | None = None) -> Float[Array, ""]:
    """Mean loss over the groups present, each counted once (utilitarian).

    Args:
        losses: one loss a group, `f[K]`.
        present: which groups take part, `bool[K]` (counts `>= 0` are taken as present where positive).

    Returns:
        A scalar; 0 if no group is present.

    Raises:
        ValueError: unless both have one entry per group.
    """
    losses, present = _present_losses(losses, present)
    return jnp.sum(losses) / _number(present, losses.dtype)


def worst(losses: Float[Array, "K"], present: Bool[Array, "K"] | None = None) -> Float[Array, ""]:
    """Largest loss over the groups present (Rawls). Groups that tie for it share the derivative equally.

    Args:
        losses: one loss a group, `f[K]`.
        present: which groups take part, `bool[K]` (counts `>= 0` are taken as present where positive).

    Returns:
        A scalar; 0 if no group is present.

    Raises:
        ValueError: unless both have one entry per group.
    """
    return _largest(*_present_losses(losses, present))


def gap(losses: Float[Array, "K"], present: Bool[Array, "K"] | None = None) -> Float[Array, ""]:
    """Largest minus smallest loss over the groups present. Groups that tie share the derivative equally.

    Args:
        losses: one loss a group, `f[K]`.
        present: which groups take part, `bool[K]` (counts `>= 0` are taken as present where positive).

    Returns:
        A scalar `>= 0`; 0 if fewer than two groups are present.

    Raises:
        ValueError: unless both have one entry per group.
    """
    losses, present = _present_losses(losses, present)
    return _largest(losses, present) + _largest(-losses, present)


def variance(losses: Float[Array, "K"], present: Bool[Array, "K"] | None = None) -> Float[Array, ""]:
    """Population variance of the losses of the groups present (divided by their number, not by one less).

    Args:
        losses: one loss a group, `f[K]`.
        present: which groups take part, `bool[K]` (counts `>= 0` are taken as present where positive).

    Returns:
        A scalar `>= 0`; 0 if fewer than two groups are present.

    Raises:
        ValueError: unless both have one entry per group.
    """
    losses, present = _present_losses(losses, present)
    deviations = jnp.where(present, losses - mean(losses, present), 0.0)
    return jnp.sum(deviations**2) / _number(present, losses.dtype)


def cvar(
    losses: Float[Array, "K"], fraction: float | Float[Array, ""], present: Bool[Array, "K"] | None = None
) -> Float[Array, ""]:
    r"""Conditional value at risk: the mean of the worst `fraction` of the groups present.

    With `m = fraction * (groups present)` and losses `L_(1) >= L_(2) >= ...` it is
    `\sum_i clip(m - (i - 1), 0, 1) L_(i) / m`: the group at the boundary counts in part. A fraction of 1 is
    the mean; at and below one group (`m <= 1`) it is the worst. Groups of equal loss share their part
    equally, so that the derivative, like the value, does not depend on how groups are numbered. Takes
    `K log K` steps.

    Args:
        losses: one loss a group, `f[K]`.
        fraction: in `[0, 1]`; may be traced and differentiated (then clipped to the range).
        present: which groups take part, `bool[K]` (counts `>= 0` are taken as present where positive).

    Returns:
        A scalar between the mean and the worst; 0 if no group is present.

    Raises:
        ValueError: unless `losses` and `present` have one entry per group, or (outside tracing) for a
            fraction outside `[0, 1]`.
    """
    losses, present = _present_losses(losses, present)
    _check_range("fraction", fraction, 0.0, 1.0)
    number = _number(present, losses.dtype)
    most = jnp.clip(jnp.asarray(fraction, losses.dtype) * number, 1.0, number)
    # Ranks are constants of the derivative: by the envelope theorem only the weighted losses carry it.
    ranked = jnp.sort(jax.lax.stop_gradient(jnp.where(present, losses, -jnp.inf)))
    at_most = jnp.searchsorted(ranked, jax.lax.stop_gradient(losses), side="right")
    below = jnp.searchsorted(ranked, jax.lax.stop_gradient(losses), side="left")
    above = (losses.shape[0] - at_most).astype(losses.dtype)
    # Absent groups match nothing that counts; a tie of none would only divide by 0.
    tied = jnp.maximum(at_most - below, 1).astype(losses.dtype)
    share = jnp.clip(most - above, 0.0, tied) / tied / most
    return jnp.sum(jnp.where(present, share * losses, 0.0))


def alpha_fair(
    losses: Float[Array, "K"], alpha: float | Float[Array, ""], present: Bool[Array, "K"] | None = None
) -> Float[Array, ""]:
    r"""Sum over the groups present of `L^(1 + \alpha) / (1 + \alpha)`, for losses `L >= 0`.

    `\alpha = 0` is the sum of losses; a larger one weighs groups with large losses more, for its derivative
    is `L^\alpha` (0 at `L = 0`, or 1 with `\alpha = 0`: finite either way). This is the objective of q-FFL
    (Li et al., 2020) with equally weighted clients; its `q` is `\alpha`.

    Args:
        losses: one loss `>= 0` a group, `f[K]`; a negative one gives NaN under tracing.
        alpha: `>= 0`; may be traced and differentiated.
        present: which groups take part, `bool[K]` (counts `>= 0` are taken as present where positive).

    Returns:
        A scalar `>= 0`; 0 if no group is present.

    Raises:
        ValueError: unless `losses` and `present` have one entry per group, or (outside tracing) for a
            negative `alpha` or a negative loss of a present group.
    """
    losses, present = _present_losses(losses, present)
    _check_range("alpha", alpha, 0.0, np.inf)
    if is_concrete(losses) and (np.asarray(losses) < 0).any():
        group = int(np.flatnonzero(np.asarray(losses) < 0)[0])
        raise ValueError(
            f"losses must be >= 0, but group {group} has {np.asarray(losses)[group]}; shift all of them first"
        )
    power = 1.0 + jnp.asarray(alpha, losses.dtype)
    # A negative number has real powers for whole exponents: NaN for all, so that no mistake passes.
    powers = jnp.where(losses >= 0, _power(losses, power), jnp.nan)
    return jnp.sum(jnp.where(present, powers, 0.0)) / power


def _present_losses(losses: Any, present: Any) -> tuple[Array, Array]:
    """Losses as floats with 0 in place of absent ones, and the mask."""
    losses = jnp.asarray(losses)
    if losses.ndim != 1 or losses.shape[0] == 0:
        raise ValueError(f"losses must have one axis with one entry per group and has shape {losses.shape}")
    if not jnp.issubdtype(losses.dtype, jnp.inexact):
        losses = losses.astype(jnp.result_type(float))
    if present is None:
        return losses, jnp.ones(losses.shape, bool)
    present = jnp.asarray(present)
    if present.shape != losses.shape:
        raise ValueError(
            f"present must have one entry per group like losses, but has shape {present.shape} and losses "
            f"{losses.shape}"
        )
    present = present > 0
    return jnp.where(present, losses, 0.0), present


def _number(present: Shaped[Array, "K"], dtype: Any) -> Float[Array, ""]:
    """How many groups are present, 1 where none is, to divide by."""
    return jnp.maximum(jnp.sum(present), 1).astype(dtype)


def _largest(losses: Float[Array, "K"], present: Bool[Array, "K"]) -> Float[Array, ""]:
    """Largest of the losses present, 0 if there is none."""
    # With no group present the filler is finite, so that nothing infinite enters the derivative.
    filler = jnp.where(jnp.any(present), -jnp.inf, 0.0).astype(losses.dtype)
    return jnp.max(jnp.where(present, losses, filler))


def _power(base: Float[Array, "K"], exponent: Float[Array, ""]) -> Float[Array, "K"]:
    """`base ** exponent` whose second derivative at `0 ** 1`, where that of `jnp.power` is NaN, is 0."""
    linear = (base == 0) & (exponent == 1)
    return jnp.where(linear, base, jnp.power(jnp.where(linear, 1.0, base), exponent))


def _check_range(name: str, value: Any, least: float, most: float) -> None:
    if np.ndim(value):
        raise ValueError(f"{name} must be one number, got shape {np.shape(value)}; use jax.vmap over several")
    if is_concrete(value) and not least <= float(value) <= most:
        raise ValueError(f"{name} must lie in [{least:g}, {most:g}], got {float(value):g}")
