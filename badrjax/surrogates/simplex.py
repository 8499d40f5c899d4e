r"""Maps of scores onto the probability simplex that give exact zeros, with exact derivatives.

All are members of one family, the entmax of order `\alpha` (Peters et al., 2019, after Tsallis' entropies):
`p_i = [(\alpha - 1) z_i - \tau]_+^{1 / (\alpha - 1)}` with the threshold `\tau` at which `p` sums to 1. Order 2 is
the Euclidean projection (sparsemax), and softmax is the limit at order 1. Each works along the last axis, any
axes before it are lanes.

Common rules. Adding a number to all scores of a lane changes nothing, and only differences of scores are
computed with. A score of `-inf` (a masked entry) gets probability 0 and derivative 0, as long as one in its lane is
finite. NaN, `+inf` or only `-inf` in a lane gives NaN in that lane alone, derivatives included. Derivatives come
from the optimality condition (`custom_jvp`), so forward, reverse and higher orders all work. Where an entry just
enters the support, the derivative is that from outside of it.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from badrjax.checks import is_concrete
from badrjax.groups import as_float

# Newton's steps rise to the root from below; 9 were the most seen, over all orders and up to 20,000 columns.
_MOST_STEPS = 100
# (exp(-t) - 1 + t) / t^2 as a series in -t: as many terms as |t| < 1/2 needs in double precision.
_SERIES = tuple(1.0 / math.factorial(k + 2) for k in range(16))


def project_simplex(z: Float[Array, "*batch C"]) -> Float[Array, "*batch C"]:
    r"""Euclidean projection onto the probability simplex, `argmin_p |p - z|^2` over `p >= 0`, `\sum p = 1`.

    It is `[z - \tau]_+`, found by sorting (Held et al., 1974). With support `S` its derivative is
    `I_S - 1_S 1_S^T / |S|`.

    Args:
        z: points, `f[..., C]` with `C >= 1`; rules for infinities and NaN as in the module's text.

    Returns:
        `f[..., C]`, each lane `>= 0` and of sum 1.

    Raises:
        ValueError: for a scalar or an empty last axis.
    """
    return _project(_checked(z))


def sparsemax(z: Float[Array, "*batch C"]) -> Float[Array, "*batch C"]:
    """Sparsemax of scores (Martins and Astudillo, 2016): `project_simplex` by the name it has as a classifier's map.

    Args, returns and errors as `project_simplex`. Of two classes, those whose scores differ by 1 or more are certain.
    """
    return project_simplex(z)


def entmax15(z: Float[Array, "*batch C"]) -> Float[Array, "*batch C"]:
    r"""Entmax of order 1.5, `p_i = [z_i / 2 - \tau]_+^2`, exactly (Peters et al., 2019, algorithm 2).

    Two classes have a closed form: with `d = min(|z_1 - z_0| / 2, 1)` the likelier one has
    `((d + sqrt(2 - d^2)) / 2)^2`, so it is certain where the scores differ by 2 or more. More classes are sorted.
    The derivative is `diag(s) - s s^T / \sum s` with `s = sqrt(p)`.

    Args:
        z: scores, `f[..., C]` with `C >= 1`; rules for infinities and NaN as in the module's text.

    Returns:
        `f[..., C]`, each lane `>= 0` and of sum 1.

    Raises:
        ValueError: for a scalar or an empty last axis.
    """
    return _entmax15(_checked(z))


def entmax(z: Float[Array, "*batch C"], alpha: float | Float[Array, ""]) -> Float[Array, "*batch C"]:
    r"""Entmax of any order `\alpha` in `(1, 2]`, differentiable by `z` and by `\alpha`.

    `p_i = [1 + (\alpha - 1) (z_i - c)]_+^{1 / (\alpha - 1)}`, with the `c` at which `p` sums to 1: the form of the
    module's text in which nothing blows up as `\alpha` tends to 1, so that every representable order above 1 is
    as accurate as any other. (`\alpha - 1` itself must be right: 1.001 in float32 is off by up to 6e-8, or 6e-5 of
    `\alpha - 1`.) `c` is found by Newton's steps on the norm `(\sum p)^{\alpha - 1}`, which is convex in it.

    The derivatives are `dp/dz = diag(s) - s s^T / \sum s` with `s_i = p_i^{2 - \alpha}` on the support, and
    `dp/d\alpha = q - s \sum q / \sum s` with `q_i = (p_i (1 - (\alpha - 1) log p_i) - s_i) / (\alpha - 1)^2` (Correia
    et al., 2019, rearranged so that it keeps its digits near 1).

    Args:
        z: scores, `f[..., C]` with `C >= 1`; rules for infinities and NaN as in the module's text.
        alpha: one number in `(1, 2]`; may be traced (then all is NaN outside the range). 2 is `sparsemax`, 1.5 is
            `entmax15`, which are faster; for 1 take `jax.nn.softmax`.

    Returns:
        `f[..., C]`, each lane `>= 0` and of sum 1.

    Raises:
        ValueError: for a scalar `z` or an empty last axis, several orders, or (outside tracing) an order outside
            `(1, 2]` in the precision of `z`.
    """
    z = _checked(z)
    return _entmax(z, _checked_order(alpha, z.dtype))


def _checked(z: Any) -> Array:
    z = as_float(z)
    if z.ndim == 0 or z.shape[-1] == 0:
        raise ValueError(f"z must have a last axis with at least one entry and has shape {z.shape}")
    return z


def _checked_order(alpha: Any, dtype: Any) -> Array:
    if np.ndim(alpha):
        raise ValueError(f"alpha must be one number, got shape {np.shape(alpha)}; use jax.vmap over several")
    if is_concrete(alpha):
        order = float(np.asarray(alpha).astype(dtype))
        if order == 1.0:
            raise ValueError(f"alpha must lie in (1, 2] and {alpha} is 1 as {dtype}; order 1 is jax.nn.softmax")
        if not 1.0 < order <= 2.0:
            raise ValueError(f"alpha must lie in (1, 2], got {alpha}")
    alpha = jnp.asarray(alpha, dtype)
    return alpha * jnp.where((alpha > 1) & (alpha <= 2), 1.0, jnp.nan).astype(dtype)


@jax.custom_jvp
def _project(z: Array) -> Array:
    # Below -1 no entry is in the support: the largest, at 0, has at most probability 1.
    shifted = jnp.maximum(_below_largest(z), -1.0)
    ordered = jnp.sort(shifted, axis=-1, descending=True)
    number = jnp.broadcast_to(jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype), z.shape)
    total = jnp.cumsum(ordered, axis=-1)
    size = jnp.sum(1.0 + number * ordered > total, axis=-1, keepdims=True)
    threshold = _entry((total - 1.0) / number, size)
    # One step of Newton takes away what rounding the running sums has left.
    above = jnp.maximum(shifted - threshold, 0.0)
    threshold += (_sum(above) - 1.0) / jnp.maximum(_sum((above > 0).astype(z.dtype)), 1.0)
    return jnp.where(shifted <= -1, 0.0, jnp.maximum(shifted - threshold, 0.0))


@_project.defjvp
def _project_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    p = _project(*primals)
    return p, _move(_slopes(p, 0.0), *tangents)


@jax.custom_jvp
def _entmax15(z: Array) -> Array:
    if z.shape[-1] == 2:
        return _entmax15_of_two(z)
    shifted = jnp.maximum(_below_largest(z) / 2.0, -1.0)
    ordered = jnp.sort(shifted, axis=-1, descending=True)
    number = jnp.broadcast_to(jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype), z.shape)
    mean = jnp.cumsum(ordered, axis=-1) / number
    spread = jnp.cumsum(ordered**2, axis=-1) / number - mean**2
    thresholds = mean - jnp.sqrt(jnp.maximum(1.0 / number - spread, 0.0))
    threshold = _entry(thresholds, jnp.sum(thresholds <= ordered, axis=-1, keepdims=True))
    # Two steps of Newton take away what rounding the running sums has left.
    for _ in range(2):
        root = jnp.maximum(shifted - threshold, 0.0)
        threshold += (_sum(root**2) - 1.0) / (2.0 * _sum(root))
    return jnp.where(shifted <= -1, 0.0, jnp.maximum(shifted - threshold, 0.0) ** 2)


@_entmax15.defjvp
def _entmax15_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    p = _entmax15(*primals)
    return p, _move(_slopes(p, 0.5), *tangents)


def _entmax15_of_two(z: Float[Array, "*batch 2"]) -> Float[Array, "*batch 2"]:
    """The roots `a >= b` of the probabilities solve `a - b = d` and `a^2 + b^2 = 1`."""
    shifted = _below_largest(z)
    first, second = shifted[..., :1], shifted[..., 1:]
    apart = jnp.minimum(jnp.abs(first - second) / 2.0, 1.0)
    twice = apart + jnp.sqrt(2.0 - apart**2)
    # b = a - d would cancel near certainty.
    more, less = (twice / 2.0) ** 2, ((1.0 - apart) * (1.0 + apart) / twice) ** 2
    return jnp.where(first >= second, jnp.concatenate([more, less], -1), jnp.concatenate([less, more], -1))


@jax.custom_jvp
def _entmax(z: Array, alpha: Array) -> Array:
    return _solve(z, alpha)


@_entmax.defjvp
def _entmax_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    alpha = primals[1]
    p = _entmax(*primals)
    slopes = _slopes(p, 2.0 - alpha)
    direct = _by_order(p, slopes, alpha - 1.0)
    by_alpha = direct - slopes * (_sum(direct) / _sum(slopes))
    return p, _move(slopes, tangents[0]) + by_alpha * tangents[1]


# Jitted on its own, so that a user outside `jit` does not compile the loop at each call.
@jax.jit
def _solve(z: Array, alpha: Array) -> Array:
    """Entmax by Newton's steps, from the left of the root, on a norm that is convex and falling in `c`."""
    order = alpha - 1.0
    shifted = _below_largest(z)

    def probabilities(c: Array) -> tuple[Array, Array]:
        above = order * (shifted - c)
        outside = above <= -1
        log = jnp.log1p(jnp.where(outside, 0.0, above)) / order
        p, slopes = jnp.exp(log), jnp.exp((1.0 - order) * log)
        return jnp.where(outside, 0.0, p), jnp.where(outside, 0.0, slopes)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        c, rising, count = carry
        p, slopes = probabilities(c)
        total = _sum(p)
        new = c - jnp.expm1(-order * jnp.log(total)) / order * total / _sum(slopes)
        # A lane that has stopped must not move on with its neighbours.
        return jnp.where(rising, new, c), rising & (new > c), count + 1

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        return jnp.any(carry[1]) & (carry[2] < _MOST_STEPS)

    start = jnp.zeros_like(shifted[..., :1])
    c, rising, _ = jax.lax.while_loop(unfinished, step, (start, jnp.ones(start.shape, bool), jnp.int32(0)))
    return probabilities(jnp.where(rising, jnp.nan, c))[0]


def _below_largest(z: Array) -> Array:
    """Scores less the largest of their lane; NaN unless that is finite."""
    largest = jnp.max(z, axis=-1, keepdims=True)
    return z - jnp.where(jnp.isfinite(largest), largest, jnp.nan)


def _by_order(p: Array, slopes: Array, order: Array) -> Array:
    r"""Derivative of `[1 + b (z - c)]_+^{1/b}` by `b` where `c` is fixed: `(p (1 - t) - s) / b^2`, `t = b log p`."""
    log = jnp.log(jnp.where(p > 0, p, 1.0))
    t = order * log
    near = jnp.abs(t) < 0.5
    series = jnp.polyval(jnp.asarray(_SERIES[::-1], p.dtype), jnp.where(near, -t, 0.0))
    return jnp.where(near, -p * log**2 * series, (p * (1.0 - t) - slopes) / order**2)


def _slopes(p: Array, power: float | Array) -> Array:
    """`p ** power` on the support and 0 off it; NaN stays."""
    return jnp.where(p > 0, jnp.where(p > 0, p, 1.0) ** power, jax.lax.stop_gradient(p))


def _move(slopes: Array, tangent: Array) -> Array:
    """`(diag(s) - s s^T / sum(s)) dz`, where nothing off the support reaches anything."""
    tangent = jnp.where(slopes == 0, 0.0, tangent)
    return slopes * (tangent - _sum(slopes * tangent) / _sum(slopes))


def _entry(values: Array, position: Array) -> Array:
    """The entry at a position that counts from 1."""
    return jnp.take_along_axis(values, position - 1, axis=-1)


def _sum(values: Array) -> Array:
    return jnp.sum(values, axis=-1, keepdims=True)
