r"""Conflict-averse gradient descent (CAGrad): the best worst improvement near the mean gradient."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from badrjax.bargaining.gram import HIGHEST, checked, correlation_of, finite_where, solve_spd, uniform
from badrjax.checks import is_concrete, unknown_name

_RESCALE = {None: lambda c: jnp.ones_like(c), "1+c": lambda c: 1 + c, "1+c^2": lambda c: 1 + c**2}
# Ratios of norms beyond this do not fit into float32 when squared, nor matter to either precision.
_LARGEST_RATIO = 1e16
_MOST_STEPS = 128
# A path may pass near length 0, but where it stays only rounding moves the iterates.
_MOST_LOST = 6
_FIRST_BARRIER = 0.1


def cagrad_weights(
    gram: Float[Array, "K K"],
    c: float | Float[Array, ""] = 0.5,
    present: Bool[Array, "K"] | None = None,
    *,
    rescale: Literal["1+c", "1+c^2"] | None = None,
) -> Float[Array, "K"]:
    r"""Weights of the CAGrad update (Liu et al. 2021).

    With `g_0` the mean gradient of the players present, the update `d = sum_k a_k g_k` maximises the worst
    improvement, `max_d min_k <g_k, d>` subject to `|d - g_0| <= c |g_0|`. By duality
    `d = g_0 + c |g_0| / |g_w| g_w`, where `g_w = sum_k w_k g_k` and `w` minimises

        F(w) = <g_w, g_0> + c |g_0| |g_w|    over the simplex,

    and `F(w)` is the worst improvement attained. So `a = 1/K + c |g_0| / |g_w| w`. Solved by an interior point
    method on the correlation matrix, so that the scales of the gradients do not matter; `c = 0` is the mean.

    Where the minimum is at `g_w = 0` (a present zero gradient, opposed gradients beside others) the quotient is
    undefined: nothing in the ball improves every player, and the weights are those of the mean, `d = g_0`. It is not
    0, which for `c < 1` lies outside the ball: only at a stationary point of the mean loss does the update vanish.
    Lengths count as 0 where the rounding of the Gram matrix cannot tell them from it, as for two opposed gradients
    whose `g_0` is 0.

    The weights are constants: they pass no derivative to `gram` or `c`.

    Args:
        gram: symmetric positive semidefinite `f[K, K]`.
        c: radius of the ball in units of `|g_0|`, `f[]` in `[0, 1)`, as the convergence to a stationary point of the
            mean loss needs; may be traced. (Large radii lead to `min_norm_weights`.)
        present: `bool[K]`; absent players get weight 0 and take no part. `None` means all.
        rescale: divide the weights by `1+c` or `1+c^2`, as published codes do. `None` is the paper.

    Returns:
        `f[K]`, `>= 0`; all 0 when nobody is present, NaN where a present player's inner products are not finite,
        or a traced `c` is outside its range.

    Raises:
        ValueError: for a matrix that is not square, `present` of another length, a `c` that is not a number in
            `[0, 1)`, or an unknown `rescale`.
    """
    gram, present = checked(gram, present)
    if rescale not in _RESCALE:
        raise unknown_name("rescale", str(rescale), ["None", "1+c", "1+c^2"])
    if jnp.ndim(c) != 0 or (is_concrete(c) and not 0 <= float(np.asarray(c)) < 1):
        raise ValueError(f"c must be a number in [0, 1), got {c}; for the limit of a large radius use min_norm_weights")
    gram, c = jax.lax.stop_gradient((gram, jnp.asarray(c, gram.dtype)))
    weights = _weights(gram, c, present) / _RESCALE[rescale](c)
    sound = finite_where(present, gram) & (c >= 0) & (c < 1)
    return jnp.where(sound, weights, jnp.where(present, jnp.nan, 0.0))


class _Problem(NamedTuple):
    """`min h'x + c |x|_C` over `x >= 0`, `e'x = 1`: the dual in units of the gradients' norms, `x_k = w_k |g_k|`."""

    correlation: Array
    slope: Array
    radius: Array
    cost: Array


class _Iterate(NamedTuple):
    """`x`, its multipliers, the multiplier of the simplex, the weight of the barrier, and where the loop stands."""

    x: Array
    slack: Array
    level: Array
    barrier: Array
    sound: Array
    num_lost: Array
    num_steps: Array


def _weights(gram: Array, c: Array, present: Array) -> Array:
    correlation, norm = correlation_of(gram, present)
    moving = norm > 0
    mean = uniform(present, gram.dtype)
    largest = jnp.max(norm)
    share = jnp.where(moving, mean * norm / jnp.where(largest > 0, largest, 1.0), 0.0)
    to_mean = jnp.matmul(correlation, share, precision=HIGHEST)
    square = jnp.dot(share, to_mean, precision=HIGHEST)
    rounding = 4 * jnp.finfo(gram.dtype).eps * jnp.dot(share, jnp.matmul(jnp.abs(correlation), share))
    apart = square > rounding
    length = jnp.sqrt(jnp.where(apart, square, 1.0))
    problem = _problem(correlation, jnp.where(moving, to_mean / length, 0.0), c, norm, present)
    x, long_enough = _minimiser(problem)
    size = _lengths(problem, x, jnp.zeros_like(c))[1]
    apart = apart & long_enough
    extra = c * length * (largest / jnp.where(moving, norm, 1.0)) * x / jnp.where(apart, size, 1.0)
    return mean + jnp.where(moving & apart, extra, 0.0)


def _problem(correlation: Array, cosine: Array, c: Array, norm: Array, present: Array) -> _Problem:
    """The dual scaled by `1 + c`, and by the norm of its best vertex, so that its solution is of the order of 1."""
    moving = norm > 0
    # A radius of 0 has no unique w; the weights multiply by c, so the smallest stands for 0 as well.
    radius = jnp.maximum(c, jnp.finfo(c.dtype).eps ** 0.75)
    vertex = jnp.argmin(jnp.where(moving, (cosine + radius) * norm, jnp.inf))
    cost = jnp.where(moving, norm[vertex] / jnp.where(moving, norm, 1.0), 1.0)
    cost = jnp.where(present, jnp.clip(cost, 1 / _LARGEST_RATIO, _LARGEST_RATIO), 0.0)
    both = moving[:, None] & moving[None, :]
    # An absent player costs nothing and loses by taking part; a zero gradient takes its share of the simplex.
    slope = jnp.where(present, cosine, 1.0) / (1 + radius)
    return _Problem(jnp.where(both, correlation, 0.0), slope, radius / (1 + radius), cost)


def _minimiser(problem: _Problem) -> tuple[Array, Array]:
    """`x` at the solution, and whether its length can be told from 0.

    Follows the central path by primal-dual steps, the barrier's weight falling superlinearly (Waechter and
    Biegler 2006). With the barrier the norm becomes `min_t (|x|_C^2 / t + t) / 2 - barrier log(t) / c`, smooth at 0.
    """
    eps, dtype = jnp.finfo(problem.slope.dtype).eps, problem.slope.dtype

    def unfinished(iterate: _Iterate) -> Array:
        lost = iterate.num_lost >= _MOST_LOST
        return (iterate.barrier > eps**2) & iterate.sound & ~lost & (iterate.num_steps < _MOST_STEPS)

    x = jnp.minimum(1 / jnp.where(problem.cost > 0, problem.cost, 1.0), 1.0)
    x = x / jnp.maximum(jnp.dot(problem.cost, x, precision=HIGHEST), 1 / _LARGEST_RATIO)
    barrier = jnp.asarray(_FIRST_BARRIER, dtype)
    start = _Iterate(x, barrier / x, jnp.zeros((), dtype), barrier, jnp.array(True), *jnp.zeros((2,), jnp.int32))
    end = jax.lax.while_loop(unfinished, partial(_step, problem), start)
    return end.x, _is_apart(problem, end.x)


def _is_apart(problem: _Problem, x: Array) -> Array:
    """Whether `|x|_C` can be told from 0: its square is a sum of products that are rounded."""
    _, length, _ = _lengths(problem, x, jnp.zeros_like(problem.radius))
    # A zero gradient has no products: its part of the simplex stands for them.
    zero = (problem.cost > 0) & (jnp.diagonal(problem.correlation) == 0)
    products = jnp.abs(problem.correlation) + jnp.diag(zero.astype(x.dtype))
    absolute = jnp.dot(x, jnp.matmul(products, x, precision=HIGHEST), precision=HIGHEST)
    return length**2 > jnp.finfo(x.dtype).eps ** 0.75 * absolute


def _lengths(problem: _Problem, x: Array, barrier: Array) -> tuple[Array, Array, Array]:
    """`C x`, `|x|_C` and the barrier's `t` for it."""
    image = jnp.matmul(problem.correlation, x, precision=HIGHEST)
    square = jnp.maximum(jnp.dot(x, image, precision=HIGHEST), 0.0)
    offset = barrier / problem.radius
    return image, jnp.sqrt(square), offset + jnp.sqrt(square + offset**2)


def _step(problem: _Problem, iterate: _Iterate) -> _Iterate:
    barrier, eps = iterate.barrier, jnp.finfo(iterate.x.dtype).eps
    change, level, decrement = _newton_direction(problem, iterate)
    slack_change = barrier / iterate.x - iterate.slack - iterate.slack / iterate.x * change
    length = _line_search(problem, iterate, change, decrement)
    x = iterate.x + length * change
    slack = iterate.slack + _to_boundary(iterate.slack, slack_change) * slack_change
    # Kept near the barrier's own multipliers, which makes the steps converge from anywhere.
    slack = jnp.clip(slack, 1e-6 * barrier / x, 1e6 * barrier / x)
    error = _error(problem, x, slack, level, barrier)
    centred = error <= jnp.maximum(10 * barrier, 4 * eps * x.shape[0])
    lower = jnp.where(centred, jnp.minimum(0.2 * barrier, barrier**1.5), barrier)
    sound = jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(slack)) & jnp.isfinite(level)
    lost = (barrier < jnp.sqrt(eps)) & ~_is_apart(problem, x)
    num_lost = jnp.where(lost, iterate.num_lost + 1, 0)
    moved = _Iterate(x, slack, level, lower, sound, num_lost, iterate.num_steps + 1)
    return jax.tree.map(partial(jnp.where, sound), moved, iterate._replace(sound=sound))


def _newton_direction(problem: _Problem, iterate: _Iterate) -> tuple[Array, Array, Array]:
    """Change of `x`, the new level, and the squared Newton decrement."""
    x, cost, dtype = iterate.x, problem.cost, iterate.x.dtype
    image, length, smooth = _lengths(problem, x, iterate.barrier)
    curvature = problem.radius / smooth
    offset = jnp.sqrt(length**2 + (iterate.barrier / problem.radius) ** 2)
    bend = image / smooth
    hessian = curvature * (problem.correlation - bend[:, None] * bend[None, :] * (smooth / offset))
    # The norm is flat along x. A multiple of cost cost' changes nothing but the level and removes that flatness.
    stiffness = curvature * jnp.sum(x**2)
    hessian = hessian + jnp.diag(iterate.slack / x) + stiffness * cost[:, None] * cost[None, :]
    scale = 1 / jnp.sqrt(curvature + iterate.slack / x + stiffness * cost**2)
    damped = hessian * scale[:, None] * scale[None, :] + 4 * jnp.finfo(dtype).eps * jnp.eye(x.shape[0], dtype=dtype)
    push = iterate.barrier / x - problem.slope - problem.radius * bend
    solved = solve_spd(damped, jnp.stack([scale * cost, scale * push], axis=1))
    to_cost, to_push = scale * solved[:, 0], scale * solved[:, 1]
    miss = 1 - jnp.dot(cost, x, precision=HIGHEST)
    level = (miss - jnp.dot(cost, to_push, precision=HIGHEST)) / jnp.dot(cost, to_cost, precision=HIGHEST)
    change = to_push + level * to_cost
    decrement = jnp.dot(change, jnp.matmul(hessian, change, precision=HIGHEST), precision=HIGHEST)
    return change, level - stiffness * miss, decrement


def _line_search(problem: _Problem, iterate: _Iterate, change: Array, decrement: Array) -> Array:
    """The best of eight halvings, or the full step where Newton's method converges or rounding hides the progress."""
    x, barrier = iterate.x, iterate.barrier

    def merit(length: Array) -> Array:
        moved = x + length * change
        _, norm, smooth = _lengths(problem, moved, barrier)
        curved = problem.radius / 2 * (norm**2 / smooth + smooth)
        logs = jnp.log(smooth) + jnp.sum(jnp.log(moved))
        return jnp.dot(problem.slope, moved, precision=HIGHEST) + curved - barrier * logs

    longest = _to_boundary(x, change)
    lengths = longest * 0.5 ** jnp.arange(8, dtype=x.dtype)
    merits = jax.vmap(merit)(lengths)
    best = lengths[jnp.argmin(jnp.where(jnp.isfinite(merits), merits, jnp.inf))]
    size = jnp.dot(jnp.abs(problem.slope), x) + problem.radius * _lengths(problem, x, barrier)[2]
    noise = 10 * jnp.finfo(x.dtype).eps * size
    return jnp.where(decrement <= jnp.maximum(1e-2 * barrier, noise), longest, best)


def _error(problem: _Problem, x: Array, slack: Array, level: Array, barrier: Array) -> Array:
    image, _, smooth = _lengths(problem, x, barrier)
    dual = problem.slope + problem.radius * image / smooth - level * problem.cost - slack
    relative = jnp.abs(dual) / (1 + jnp.abs(level) * problem.cost)
    return jnp.maximum(jnp.max(relative), jnp.max(jnp.abs(x * slack - barrier)))


def _to_boundary(value: Array, change: Array) -> Array:
    """The longest step up to 1 that keeps a hundredth of every entry."""
    shrinking = change < 0
    ratio: Any = jnp.where(shrinking, -value / jnp.where(shrinking, change, -1.0), jnp.inf)
    return jnp.minimum(1.0, 0.99 * jnp.min(ratio))
