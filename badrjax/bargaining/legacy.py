r"""Nash bargaining weights as the published notebook computes them: a convex-concave scheme, stopped early."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from badrjax.bargaining.gram import HIGHEST, as_present, checked, rows_gramian, solve_spd, uniform
from badrjax.bargaining.nash import NashSolution, nash_weights

MARGIN = 1.2  # how far inside its constraints a round starts
MOST_STEPS = 60  # Newton steps a round; the hardest of 324 random problems took 17


class _Round(NamedTuple):
    """Where a round starts: an iterate `b = sqrt(nu) a`, a point to start from, and what is to be minimised."""

    previous: Array
    start: Array
    cost: Array
    rounds: Array
    moved: Array
    running: Array


class _Iterate(NamedTuple):
    """Inside a round. `C b` and `b_k (C b)_k - 1` are updated and not computed again, which would cancel."""

    b: Array
    utility: Array
    excess: Array
    multiplier: Array


def legacy_nash_weights(
    gram: Float[Array, "K K"],
    present: Bool[Array, "K"] | None = None,
    *,
    max_rounds: int = 100,
    tolerance: float = 1e-3,
) -> NashSolution:
    r"""Nash bargaining weights by the scheme of the published notebook, quirks included; prefer `nash_weights`.

    With `nu = ||M||_F` and `C = M / nu`, start from `a = 1`; each round solves the convex programme

        min_a  sum_k (C a)_k + (1/p + C (1 / (C p))) . a / nu    subject to   nu a_k (C a)_k >= 1,  a >= 0

    where `p` is the iterate before. It stops when `||C p - 1/p|| < tolerance`, `||a - p|| < tolerance`, the round
    fails, or after `max_rounds`, and the first three return `p`, not `a`. Hence:

    - `feasible` is False exactly when what comes out is the start. So a bargain without solution fails, but so does
      one that the start solves (one player, identical gradients), and one whose first programme is unbounded: where a
      row of `C` has a negative sum, its term of the cost is negative.
    - Weights that have not converged count as feasible: the fixed point is `M a = 1 / a`, its `residual` is not 0.
    - The result depends on the scale of the gradients: `nu` weighs the first term of the cost, and both tests compare
      `a`, which is as long as `1 / sqrt(nu)`.

    Each round is solved exactly here, whatever `nu`. The notebook hands a conic solver numbers as far apart as
    `1 / nu`, and for small gradients it is the failures of that solver that decide: of 54 random problems each, ECOS
    gave the verdict of exact rounds for 54 at `nu = 1`, 50 at 1e-4 (and the direction for 28 of 46), 5 at 1e-8.

    A round is solved in `b = sqrt(nu) a`, where only the cost knows `nu`, by a primal-dual interior point method from
    the exact solution. Every `b` that satisfies the constraints is also a direction in which they allow any length, so
    a programme is unbounded exactly when some such `b` costs less than 0, and is not when the barrier of these
    directions has a minimum. Only the first can be: later costs are positive by construction.

    A bargain so close to a conflict that the sums of `C a` cancel to their last bits may fail in its first round: in
    float32 where they are 1e-4 of their terms or less.

    Derivatives are 0: the weights are constants, as in the notebook.

    Args:
        gram: symmetric positive semidefinite `f[K, K]`, of gradients that are not rescaled.
        present: `bool[K]`; absent players get weight 0 and take no part. `None` means all.
        max_rounds: rounds at most, `>= 1`.
        tolerance: of both tests, `> 0`. Changes below what a round resolves, `1e-9 ||a||` in float64 and `1e-5 ||a||`
            in float32, count as none.

    Returns:
        A `NashSolution`. `weights` is `present / sum(present)` where infeasible; `residual` is
        `max_k |a_k (M a)_k - 1|` of what comes out (the start where infeasible) brought to the length at which
        `a'Ma = K`, or 1 where there is none; `num_steps` counts rounds, the one that stopped included.

    Raises:
        ValueError: for a matrix that is not square, or `present` of another length.
    """
    gram, present = checked(gram, present)
    return _legacy(gram, jnp.ones((), gram.dtype), present, max_rounds, tolerance)


def legacy_nash_weights_from_gradients(
    gradients: Float[Array, "K n"],
    present: Bool[Array, "K"] | None = None,
    *,
    max_rounds: int = 100,
    tolerance: float = 1e-3,
) -> NashSolution:
    """`legacy_nash_weights` of `gradients @ gradients.T`, for gradients too small or large for their Gram matrix.

    All rows are divided by one number first, which is returned to `nu` and to the weights at the end.

    Args:
        gradients: `f[K, n]`, one row a player.
        present: `bool[K]`; `None` means all.
        max_rounds: as `legacy_nash_weights`.
        tolerance: as `legacy_nash_weights`.

    Returns:
        A `NashSolution`; errors as `legacy_nash_weights`.
    """
    gradients = jnp.asarray(gradients)
    if gradients.ndim != 2:
        raise ValueError(f"gradients must be [K, n], got shape {gradients.shape}")
    present = as_present(present, gradients.shape[0])
    rows = jnp.where(present[:, None], gradients, 0)
    largest = jnp.max(jnp.abs(rows), initial=0)
    gram, present = checked(rows_gramian(rows / jnp.where(largest > 0, largest, 1)), present)
    return _legacy(gram, largest.astype(gram.dtype), present, max_rounds, tolerance)


def _legacy(gram: Array, scale: Array, present: Array, max_rounds: int, tolerance: float) -> NashSolution:
    """The scheme for `scale^2 gram`."""
    gram, scale = jax.lax.stop_gradient((gram, scale))
    matrix, root, sound = _normalised(gram, scale, present)
    exact = nash_weights(matrix, present)  # M a = 1 / a with b = sqrt(nu) a is C b = 1 / b
    inside = jnp.where(exact.feasible & present, exact.weights, 1.0)
    cost, defined = _first_cost(matrix, root)
    start, bounded = _centre(matrix, cost, inside, sound & exact.feasible & defined)
    ones = jnp.full_like(inside, root)
    begun = _Round(ones, start, cost, jnp.zeros((), jnp.int32), jnp.zeros((), bool), bounded)
    end = jax.lax.while_loop(
        lambda state: state.running & (state.rounds < max_rounds),
        partial(_one_round, matrix, root, present, tolerance, _accuracy(matrix, inside)),
        begun,
    )
    weights = jnp.where(end.moved, jnp.where(present, end.previous / root, 0.0), uniform(present, gram.dtype))
    direction = jnp.where(end.moved, end.previous, 1.0)
    rounds = jnp.where(bounded, end.rounds, jnp.any(present).astype(jnp.int32))
    return NashSolution(weights, end.moved, _residual(matrix, direction, present), rounds)


def _normalised(gram: Array, scale: Array, present: Array) -> tuple[Array, Array, Array]:
    """`C` with identity in the rows and columns of absent players, `sqrt(nu)`, and whether `C` is finite."""
    both = present[:, None] & present[None, :]
    gram = jnp.where(both, gram, 0.0)
    # The largest entry first: the squares of a norm underflow and overflow.
    peak = jnp.max(jnp.abs(gram))
    sound = jnp.isfinite(peak) & (peak > 0) & jnp.isfinite(scale)
    unit = jnp.where(sound, gram, 0.0) / jnp.where(sound, peak, 1.0)
    length = jnp.where(sound, jnp.sqrt(jnp.sum(unit**2)), 1.0)
    root = jnp.where(sound, jnp.sqrt(peak) * jnp.sqrt(length) * scale, 1.0)
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    return jnp.where(both, unit / length, identity), jnp.maximum(root, jnp.finfo(gram.dtype).tiny), sound


def _first_cost(matrix: Array, root: Array) -> tuple[Array, Array]:
    """The cost at `a = 1`, which takes a row that sums to exactly 0 out of the domain, up to a positive factor."""
    sums = jnp.sum(matrix, axis=1)
    defined = jnp.all(sums != 0)
    gains = 1 + jnp.matmul(matrix, 1 / jnp.where(defined, sums, 1.0), precision=HIGHEST)
    # nu C1 + gains, over 1 + nu: written so that neither a tiny nor a huge nu overflows.
    nu = root * root
    cost = sums / (1 + 1 / nu) + gains / (1 + nu)
    return cost, defined & jnp.all(jnp.isfinite(cost))


def _next_cost(matrix: Array, root: Array, b: Array) -> Array:
    pull = 1 / b + jnp.matmul(matrix, 1 / jnp.matmul(matrix, b, precision=HIGHEST), precision=HIGHEST)
    return jnp.sum(matrix, axis=1) / (1 + 1 / root) + pull / (1 + root)


def _one_round(matrix: Array, root: Array, present: Array, tolerance: float, accuracy: Array, state: _Round) -> _Round:
    b, solved = _programme(matrix, state.cost, state.start, accuracy)
    a = state.previous / root
    unsettled = jnp.where(present, jnp.matmul(matrix, a, precision=HIGHEST) - 1 / a, 0.0)
    change = jnp.where(present, b - state.previous, 0.0)
    resolved = accuracy * jnp.linalg.norm(jnp.where(present, b, 0.0))
    near = (jnp.linalg.norm(change / root) < tolerance) | (jnp.linalg.norm(change) < resolved)
    stop = ~solved | near | (jnp.linalg.norm(unsettled) < tolerance)
    b = jnp.where(stop, state.previous, b)
    return _Round(b, b, _next_cost(matrix, root, b), state.rounds + 1, state.moved | ~stop, ~stop)


def _centre(matrix: Array, cost: Array, b: Array, running: Array) -> tuple[Array, Array]:
    """The minimum of `2K log(cost.b) - sum log b - sum log C b`, and whether it exists: the programme is bounded.

    Without one, damped Newton lowers the barrier until `cost.b < 0`, which proves that there is none. With one, the
    decrement falls below 1, which proves that there is.
    """
    size, dtype = matrix.shape[0], matrix.dtype

    def step(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        b, _, _, count = carry
        price = jnp.dot(cost, b, precision=HIGHEST)
        affordable = price > size * jnp.finfo(dtype).eps * jnp.dot(jnp.abs(cost), b)
        b = b * jnp.where(affordable, 2 * size / price, 1.0)
        ratio, gains = _ratios(matrix, b)
        slope = 1 + jnp.sum(ratio, axis=0) - cost * b
        square = jnp.matmul(ratio.T, ratio, precision=HIGHEST)
        move = solve_spd(jnp.eye(size, dtype=dtype) + square, slope)
        decrement = jnp.sqrt(jnp.maximum(jnp.dot(move, slope), 0.0))
        usable = affordable & jnp.all(gains > 0) & jnp.isfinite(decrement)
        near = usable & (decrement < 0.25)
        moving = usable & ~near
        return jnp.where(moving, b * (1 + move / (1 + decrement)), b), moving, near, count + 1

    start = (b, running, jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    b, _, near, _ = jax.lax.while_loop(lambda carry: carry[1] & (carry[3] < MOST_STEPS), step, start)
    return b, near


def _programme(matrix: Array, cost: Array, start: Array, accuracy: Array) -> tuple[Array, Array]:
    """`argmin cost.b` with `b_k (C b)_k >= 1`, and whether it was found, from a `start` with `C start > 0`.

    A primal-dual interior point method on `h_k(b) = log b_k + log (C b)_k >= 0`, concave, in multiplicative steps
    `b (1 + p)`. With `P_kj = C_kj b_j / (C b)_k` and `V = I + P`, the step solves

        (diag(l) + P' diag(l) P + V' diag(l / h) V) p = V'(t / h) - cost * b,     l + dl = t / h - l / h * (V p).
    """
    size, dtype = matrix.shape[0], matrix.dtype
    identity = jnp.eye(size, dtype=dtype)
    gains = start * jnp.matmul(matrix, start, precision=HIGHEST)
    start = start * MARGIN / jnp.sqrt(jnp.min(gains))
    utility = jnp.matmul(matrix, start, precision=HIGHEST)
    # At the minimum cost.b is twice the sum of the multipliers, so in this unit they are about 1.
    cost = cost * (2 * size / jnp.dot(jnp.abs(cost), start))

    def step(carry: tuple[_Iterate, Array, Array, Array]) -> tuple[_Iterate, Array, Array, Array]:
        here, _, _, count = carry
        b, multiplier = here.b, here.multiplier
        ratio = matrix * b[None, :] / here.utility[:, None]
        slopes, slack = identity + ratio, jnp.log1p(here.excess)
        product = multiplier * slack
        wrong = jnp.max(jnp.abs(cost * b - jnp.matmul(multiplier, slopes, precision=HIGHEST)))
        allowed = accuracy + _rounding(matrix, cost, here, slopes)
        # Where the dtype lets no further step be made, 100 times as far is still a solution.
        good = (wrong < allowed) & (jnp.max(product) < 100 * accuracy) & (accuracy < 0.1)
        done = good & (jnp.max(product) < accuracy)
        mean = jnp.mean(product)
        # Near the path, superlinearly to its end; elsewhere back to it first.
        shrink = jnp.where(jnp.min(product) > 0.1 * mean, jnp.minimum(0.1, jnp.sqrt(mean)), 0.5)
        target = jnp.maximum(shrink * mean, 0.1 * accuracy)
        weight = multiplier / slack
        curvature = jnp.diag(multiplier) + _congruence(ratio, multiplier) + _congruence(slopes, weight)
        move = solve_spd(curvature, jnp.matmul(target / slack, slopes, precision=HIGHEST) - cost * b)
        change = target / slack - weight * jnp.matmul(slopes, move, precision=HIGHEST) - multiplier
        there = _moved(here, move, jnp.matmul(ratio, move, precision=HIGHEST), change)
        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in there]))
        going = finite & jnp.all(there.excess > 0) & ~done
        return jax.tree.map(partial(jnp.where, going), there, here), going, good, count + 1

    yes = jnp.ones((), bool)
    begun = _Iterate(start, utility, start * utility - 1, jnp.ones(size, dtype))
    carry = (begun, yes, ~yes, jnp.zeros((), jnp.int32))
    end, _, good, _ = jax.lax.while_loop(lambda carry: carry[1] & (carry[3] < MOST_STEPS), step, carry)
    return end.b, good


def _ratios(matrix: Array, b: Array) -> tuple[Array, Array]:
    """`P_kj = C_kj b_j / (C b)_k` and `b_k (C b)_k`."""
    utility = jnp.matmul(matrix, b, precision=HIGHEST)
    return matrix * b[None, :] / utility[:, None], b * utility


def _congruence(rows: Array, weight: Array) -> Array:
    return jnp.matmul(rows.T, weight[:, None] * rows, precision=HIGHEST)


def _rounding(matrix: Array, cost: Array, here: _Iterate, slopes: Array) -> Array:
    """What rounding alone does to the stationarity of `b`: the sums it is made of, times what `C b` cancels."""
    terms = jnp.abs(cost) * here.b + jnp.matmul(here.multiplier, jnp.abs(slopes), precision=HIGHEST)
    cancelled = jnp.matmul(jnp.abs(matrix), here.b, precision=HIGHEST) / here.utility
    return 64 * jnp.finfo(matrix.dtype).eps * jnp.max(terms) * jnp.max(cancelled)


def _moved(here: _Iterate, move: Array, push: Array, change: Array) -> _Iterate:
    """The longest step up to 1 that keeps `(C b)_k b_k > 1` and the multipliers positive.

    The excess `b (C b) (1 + t p) (1 + t q) - 1` is a quadratic in `t`: its first root is exact, and comes before those
    of its factors.
    """
    gains = here.b * here.utility
    linear, quadratic = gains * (move + push), gains * move * push
    discriminant = linear**2 - 4 * quadratic * here.excess
    below = jnp.sqrt(jnp.maximum(discriminant, 0.0)) - linear
    crosses = (discriminant >= 0) & (below > 0)
    root = jnp.where(crosses, 2 * here.excess / jnp.where(crosses, below, 1.0), jnp.inf)
    falls = change < 0
    ratio = jnp.where(falls, -here.multiplier / jnp.where(falls, change, -1.0), jnp.inf)
    length = jnp.minimum(1.0, 0.99 * jnp.minimum(jnp.min(root), jnp.min(ratio)))
    return _Iterate(
        here.b * (1 + length * move),
        here.utility * (1 + length * push),
        here.excess + length * (linear + length * quadratic),
        here.multiplier + length * change,
    )


def _residual(matrix: Array, direction: Array, present: Array) -> Array:
    direction = jnp.where(present, direction, 0.0)
    gains = direction * jnp.matmul(matrix, direction, precision=HIGHEST)
    total = jnp.sum(gains)
    gains = gains * jnp.where(total > 0, jnp.sum(present) / jnp.where(total > 0, total, 1.0), 0.0)
    return jnp.max(jnp.where(present, jnp.abs(gains - 1), 0.0))


def _accuracy(matrix: Array, b: Array) -> Array:
    """To which a round is solved, relative to `b`: not beyond what cancels in `C b`."""
    eps = jnp.finfo(matrix.dtype).eps
    cancelled = jnp.max(b * jnp.matmul(jnp.abs(matrix), b, precision=HIGHEST))
    return jnp.maximum(1e-5 if eps > 1e-8 else 1e-9, 4 * eps * cancelled)
