"""A certificate of Pareto stationarity from the gradients of K losses."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from badrjax.bargaining import combine, gramian, min_norm_weights
from badrjax.checks import is_concrete
from badrjax.groups import as_float, unit_of

# Relative lengths that rounding leaves of a combination that vanishes, in units of the root of eps where they come
# from squares, and of eps where they do not: above the largest seen for random gradients of similar norms. Where
# norms differ by orders of magnitude, the minimising weights are less exact and some three times that is seen.
_SQUARES, _LENGTHS = 4.0, 1e3


class StationarityCertificate(NamedTuple):
    """How near to 0 a convex combination of K gradients comes.

    Attributes:
        weights: of the shortest combination, `f[K]`, `>= 0` with sum 1; 0 for absent losses.
        norm: its length, `f[]`. Going against it lowers every loss at a rate of at least `norm^2`.
        relative_norm: `norm` over the longest gradient of a present loss, in `[0, 1]`, `f[]`; 0 if all are 0.
        weighted_norm: length of the combination by the given weights, these brought to sum 1, over the longest
            gradient, `f[]`; at least `relative_norm`, up to rounding. NaN without weights.
        rounding: relative norms up to this are what rounding commonly leaves of 0, `f[]`.
    """

    weights: Float[Array, "K"]
    norm: Float[Array, ""]
    relative_norm: Float[Array, ""]
    weighted_norm: Float[Array, ""]
    rounding: Float[Array, ""]


def pareto_stationarity(
    gram: Float[Array, "K K"],
    present: Bool[Array, "K"] | None = None,
    weights: Float[Array, "K"] | None = None,
) -> StationarityCertificate:
    r"""Whether some direction lowers all K losses, from the Gram matrix of their gradients.

    The length of `\sum_k s_k g_k` for the `s` of `min_s || \sum_k s_k g_k ||` over the simplex. It is 0 exactly when no
    direction lowers every loss to first order (Gordan), which is necessary for Pareto efficiency. For convex losses
    it is sufficient for weak efficiency, and with every `s_k > 0` for efficiency: the point then minimises
    `\sum_k s_k L_k`. For other losses (a network) it certifies a stationary point of the trade-off and no more.

    Where a method has its own weights, such as the multipliers `\lambda` of a scalarised problem, `weighted_norm`
    says whether these weights support the point, which is a stronger statement than that some weights do.

    Squares lose half the digits: from a Gram matrix relative norms below `rounding`, about 1.4e-3 in float32 and 6e-8
    in float64, mean 0. `pareto_stationarity_from_gradients` resolves more. Derivatives hold the minimising weights
    fixed, which by the envelope theorem is exact.

    Args:
        gram: symmetric positive semidefinite `f[K, K]`, see `gramian`.
        present: `bool[K]`; absent losses take no part. `None` means all.
        weights: `f[K]`, `>= 0` and not all 0 over the present, to report `weighted_norm` of.

    Returns:
        A `StationarityCertificate`; its numbers are NaN when a present gradient has NaN or nobody is present.

    Raises:
        ValueError: for a matrix that is not square, or `present` or `weights` of another length, and (outside
            tracing) for negative weights.
    """
    gram = as_float(gram)
    present, weights = _checked(present, weights, gram.shape[0] if gram.ndim else 1)
    shortest = jax.lax.stop_gradient(min_norm_weights(gram, present))
    gram = jnp.where(present[:, None] & present[None, :], gram, 0.0)

    def length(mixture: Array) -> Array:
        return _root(_quadratic(gram, mixture))

    longest = _root(jnp.max(jnp.diagonal(gram)))
    return _certificate(shortest, present, weights, longest, length, _SQUARES * float(jnp.finfo(gram.dtype).eps) ** 0.5)


def pareto_stationarity_from_gradients(
    gradients: Any, present: Bool[Array, "K"] | None = None, weights: Float[Array, "K"] | None = None
) -> StationarityCertificate:
    """`pareto_stationarity` from the gradients, which resolves shorter combinations than their Gram matrix.

    Args:
        gradients: a pytree (or array) whose leaves lead with K, in any common scale: squares cannot underflow.
        present: `bool[K]`; the gradient of an absent loss takes no part, whatever it holds. `None` means all.
        weights: `f[K]`, `>= 0` and not all 0 over the present.

    Returns:
        A `StationarityCertificate`.

    Raises:
        ValueError: for leaves that do not lead with one K; else as `pareto_stationarity`.
    """
    leading = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(gradients)}
    if len(leading) != 1 or () in leading or (0,) in leading:
        raise ValueError(f"the leaves of gradients must all lead with an axis of length K >= 1, got {sorted(leading)}")
    present, weights = _checked(present, weights, next(iter(leading))[0])
    gradients = jax.tree.map(lambda leaf: _masked(as_float(leaf), present), gradients)
    leaves = jax.tree.leaves(gradients)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves]))
    scale = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1.0))
    gradients = jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype), gradients)
    gram = gramian(gradients)
    shortest = jax.lax.stop_gradient(min_norm_weights(gram, present))

    def length(mixture: Array) -> Array:
        parts = jax.tree.leaves(combine(gradients, mixture))
        return scale * _root(jnp.sum(jnp.stack([jnp.sum(part**2) for part in parts])))

    longest = scale * _root(jnp.max(jnp.diagonal(gram)))
    return _certificate(shortest, present, weights, longest, length, _LENGTHS * float(jnp.finfo(gram.dtype).eps))


def _certificate(
    shortest: Array, present: Array, weights: Array | None, longest: Array, length: Any, rounding: float
) -> StationarityCertificate:
    unknown = jnp.where(jnp.any(present), 0.0, jnp.nan).astype(longest.dtype)
    over = jnp.where(longest > 0, longest, 1.0)
    norm = length(shortest) + unknown
    if weights is None:
        weighted = jnp.full_like(norm, jnp.nan)
    else:
        # Negative or empty traced weights are no convex combination: NaN.
        weights = weights / unit_of(weights)
        total = jnp.sum(weights)
        usable = (total > 0) & jnp.all(weights >= 0)
        mixture = weights.astype(norm.dtype) / jnp.where(usable, total, jnp.nan).astype(norm.dtype)
        weighted = length(mixture) / over + unknown
    return StationarityCertificate(shortest, norm, norm / over, weighted, jnp.full_like(norm, rounding))


def _checked(present: Any, weights: Any, num_losses: int) -> tuple[Array, Array | None]:
    if present is not None and np.shape(present) != (num_losses,):
        raise ValueError(f"present must be bool[{num_losses}] for {num_losses} losses, got shape {np.shape(present)}")
    present = jnp.ones(num_losses, bool) if present is None else jnp.asarray(present).astype(bool)
    if weights is None:
        return present, None
    if np.shape(weights) != (num_losses,):
        raise ValueError(f"weights must be f[{num_losses}] for {num_losses} losses, got shape {np.shape(weights)}")
    weights = jnp.where(present, as_float(weights), 0.0)
    if is_concrete(weights) and not ((np.asarray(weights) >= 0) & (np.asarray(weights) < np.inf)).all():
        raise ValueError(f"weights must be >= 0 and finite, got {np.asarray(weights)}; signs belong into the gradients")
    if is_concrete(weights) and is_concrete(present) and np.asarray(present).any() and not np.asarray(weights).any():
        raise ValueError("weights are 0 for every loss that is present, which is no convex combination")
    return present, weights


def _masked(leaf: Array, present: Array) -> Array:
    return jnp.where(present.reshape((-1,) + (1,) * (leaf.ndim - 1)), leaf, 0.0)


def _quadratic(matrix: Array, mixture: Array) -> Array:
    moved = jnp.matmul(matrix, mixture, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(mixture * moved)


def _root(square: Array) -> Array:
    """Square root with derivative 0 where rounding left nothing, or less."""
    positive = square > 0
    root = jnp.sqrt(jnp.where(positive, square, 1.0))
    return jnp.where(jnp.isnan(square), jnp.nan, jnp.where(positive, root, 0.0))
