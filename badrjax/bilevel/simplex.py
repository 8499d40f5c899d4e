r"""Minimisers of `V` over the simplex that see it through the exact oracle.

Each turn of their one loop tries a point, `move(lambda, gradient, t)`, and takes it where `V` falls by a part of what
the slope foretells; else `t` shrinks. The rules differ in the move:

| rule | move | next `t` |
| --- | --- | --- |
| `quasi_newton` | `lambda + t (y - lambda)`, `y` the least of a quadratic model (damped BFGS) on the simplex | 1 |
| `projected_gradient` | `P(lambda - t g)`, `P` the Euclidean projection | Barzilai and Borwein's, from the last step |
| `mirror_descent` | `lambda exp(-t g)` to sum 1 (entropic) | `2 t` |
| `frank_wolfe` | `lambda + t (e - lambda)`, `e` the vertex with the least `g` | `2 t`, at most 1 |

The first needs some 20 evaluations of the oracle; the others are there to compare with. `projected_gradient` ran out of
200 evaluations in every second search that ended on a face with six groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from badrjax.bargaining.min_norm import simplex_quadratic
from badrjax.bilevel.checks import check_weights
from badrjax.bilevel.oracle import Evaluation, OracleInfo, evaluate, prepare
from badrjax.bilevel.problem import Problem
from badrjax.checks import check_positive_integer, unknown_name
from badrjax.status import Status
from badrjax.surrogates import project_simplex

_HIGHEST = jax.lax.Precision.HIGHEST
# Of the fall that the slope foretells, the least that is accepted.
_SUFFICIENT = 1e-4


class SimplexInfo(NamedTuple):
    """How a search over the simplex ended.

    Attributes:
        status: `int32[]`, a `Status`: success where `stationarity` is at most the tolerance; `MAX_STEPS`; `NOT_FINITE`
            where the objective is not finite at the start; or the oracle's.
        stationarity: `max |P(lambda - g / s) - lambda|`, `f[]`, with `s` the largest entry of the gradient at the
            start: 0 at a stationary point, whatever the units of the objective.
        frank_wolfe_gap: `g . lambda - min g >= 0`, `f[]`, in units of the objective: how far it could still fall were
            it convex.
        num_evaluations: of the oracle, `int32[]`.
        oracle: the oracle's at the solution.
    """

    status: Int[Array, ""]
    stationarity: Float[Array, ""]
    frank_wolfe_gap: Float[Array, ""]
    num_evaluations: Int[Array, ""]
    oracle: OracleInfo


class SimplexSolution(NamedTuple):
    """Weights with the model they lead to.

    Attributes:
        weights: `lambda`, `f[K]`.
        params: `w*(lambda)`.
        value: `V(lambda)`, `f[]`.
        gradient: `f[K]`, its mean taken off.
        info: see `SimplexInfo`.
    """

    weights: Float[Array, "K"]
    params: Any
    value: Float[Array, ""]
    gradient: Float[Array, "K"]
    info: SimplexInfo


class _State(NamedTuple):
    weights: Array
    here: Evaluation
    step: Array
    matrix: Array  # of the quadratic model, f[K, K]
    unit: Array  # of gradients, the largest entry of the first
    num_taken: Array
    num_evaluations: Array


def minimise_over_simplex(
    problem: Problem,
    params: Any,
    weights: Float[Array, "K"] | None = None,
    *,
    rule: str = "quasi_newton",
    tolerance: Float[Array, ""] | float | None = None,
    max_evaluations: int = 200,
    minimise: Any = None,
    solver: Any = None,
) -> SimplexSolution:
    """A stationary point of `V` on the simplex from one start; see the module for the rules.

    `V` is not convex: `multi_start` tries several starts. Call it under `jit`: outside, each call compiles anew.

    Args:
        problem: see `badrjax.bilevel.problem`.
        params: where the lower solver starts, for the first evaluation; later ones start from the last solution.
        weights: where to start, `f[K]`; `None` is uniform. `mirror_descent` cannot leave a face of the simplex.
        rule: a key of `RULES`: `"quasi_newton"`, `"projected_gradient"`, `"mirror_descent"` or `"frank_wolfe"`.
        tolerance: of `SimplexInfo.stationarity`; `None` is 1e-7 (float64) or 1e-4 (float32).
        max_evaluations: of the oracle; static.
        minimise: as for `solve_lower`.
        solver: as for `evaluate`.

    Raises:
        ValueError: for an unknown rule, `max_evaluations` below 1, or (outside tracing) weights off the simplex.
    """
    check_positive_integer(max_evaluations=max_evaluations)
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    move, next_step, longest = RULES[rule]
    if weights is None:
        weights = jnp.full(problem.num_groups, 1 / problem.num_groups)
    weights = check_weights(weights, problem.num_groups)

    columns = prepare(problem, params)

    def oracle(weights: Array, params: Any) -> Evaluation:
        return evaluate(problem, weights, params, minimise=minimise, solver=solver, columns=columns)

    start = _blank(oracle, weights, params)
    eps = jnp.finfo(start.here.value.dtype).eps
    if tolerance is None:
        tolerance = 1e-7 if eps < 1e-10 else 1e-4

    def unfinished(state: _State) -> Array:
        # A step that no longer changes the weights will not do so when it is shorter.
        going = (_stationarity(state) > tolerance) & (state.step * state.unit > eps)
        return (going | (state.num_evaluations == 0)) & (state.num_evaluations < max_evaluations)

    def turn(state: _State) -> _State:
        # The first evaluation is one of the loop, so that the oracle is compiled once.
        first = state.num_evaluations == 0
        trial = jnp.where(first, state.weights, move(state))
        change = trial - state.weights
        there = oracle(trial, _ahead(state.here, change))
        slope = jnp.sum(state.here.gradient * change)
        moved = _moved(state, trial, there, next_step, longest)
        # Not the length of the gradient, which does not vanish at a solution on a face.
        flatter = _stationarity(moved) < _stationarity(state)
        taken = _falls(state.here, there, slope, flatter) & jnp.all(jnp.isfinite(there.gradient))
        held = state._replace(step=_shorter(state, there, slope))
        kept = _where(first, _begun(state, there), _where(taken, moved, held))
        return kept._replace(num_evaluations=state.num_evaluations + 1)

    end = jax.lax.while_loop(unfinished, turn, start)
    info = _info(end, _stationarity(end), tolerance)
    return SimplexSolution(end.weights, end.here.params, end.here.value, end.here.gradient, info)


def _where(condition: Array, first: _State, second: _State) -> _State:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), first, second)


def _blank(oracle: Callable[[Array, Any], Evaluation], weights: Array, params: Any) -> _State:
    """The state before the first evaluation."""
    kinds = jax.eval_shape(oracle, weights, params)
    params = jax.tree.map(lambda leaf, kind: jnp.asarray(leaf, kind.dtype), params, kinds.params)
    here = jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kinds)._replace(params=params)
    one, zero = jnp.ones((), here.value.dtype), jnp.zeros((), jnp.int32)
    matrix = jnp.eye(weights.shape[0], dtype=here.value.dtype)
    return _State(weights.astype(here.gradient.dtype), here, one, matrix, one, zero, zero)


def _begun(state: _State, here: Evaluation) -> _State:
    """The state after the first evaluation, which fixes the unit of gradients."""
    unit = jnp.max(jnp.abs(here.gradient))
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1.0).astype(state.unit.dtype)
    return state._replace(here=here, step=1 / unit, matrix=unit * state.matrix, unit=unit)


def _moved(state: _State, trial: Array, there: Evaluation, next_step: Callable[..., Array], longest: float) -> _State:
    """The state at a point that was taken."""
    change, difference = trial - state.weights, there.gradient - state.here.gradient
    step = jnp.minimum(next_step(state.step, change, difference), longest / state.unit)
    matrix = _damped_bfgs(state.matrix, change, difference, first=state.num_taken == 0)
    return state._replace(weights=trial, here=there, step=step, matrix=matrix, num_taken=state.num_taken + 1)


def _stationarity(state: _State) -> Array:
    """How far a step of unit length along the gradient moves the weights once it is projected."""
    moved = project_simplex(state.weights - state.here.gradient / state.unit)
    return jnp.max(jnp.abs(moved - state.weights))


def _info(end: _State, stationarity: Array, tolerance: Any) -> SimplexInfo:
    gradient = end.here.gradient
    gap = jnp.sum(gradient * end.weights) - jnp.min(gradient)
    status = jnp.where(stationarity <= tolerance, Status.SUCCESS, Status.MAX_STEPS)
    status = jnp.where(end.here.info.status == Status.SUCCESS, status, end.here.info.status)
    finite = jnp.isfinite(end.here.value) & jnp.all(jnp.isfinite(gradient))
    status = jnp.where(finite, status, Status.NOT_FINITE).astype(jnp.int32)
    return SimplexInfo(status, stationarity, gap, end.num_evaluations, end.here.info)


def _ahead(here: Evaluation, change: Array) -> Any:
    """The lower solution to first order at weights that have changed, where the next solve starts."""
    if here.sensitivity is None:
        return here.params
    moved = jax.tree.map(lambda leaf, by: leaf + jnp.tensordot(change, by, axes=1), here.params, here.sensitivity)
    # A singular Hessian has no sensitivity.
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(moved)]))
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, here.params)


def _falls(here: Evaluation, there: Evaluation, slope: Array, flatter: Array) -> Array:
    """Whether the objective falls enough or, where rounding hides its fall, does not rise and is flatter."""
    enough = there.value <= here.value + _SUFFICIENT * slope
    unresolved = jnp.abs(there.value - here.value) <= 32 * jnp.finfo(here.value.dtype).eps * jnp.abs(here.value)
    return (enough & (slope < 0)) | (unresolved & flatter)


def _shorter(state: _State, there: Evaluation, slope: Array) -> Array:
    """The step at the minimum of the parabola through both values and the slope, a tenth to a half of the last."""
    bend = there.value - state.here.value - slope
    ratio = jnp.where(bend > 0, -slope / jnp.where(bend > 0, 2 * bend, 1.0), 0.5)
    return state.step * jnp.where(jnp.isfinite(ratio), jnp.clip(ratio, 0.1, 0.5), 0.1)


def _to_model_minimum(state: _State) -> Array:
    size = jnp.max(jnp.diagonal(state.matrix))
    linear = (state.here.gradient - jnp.matmul(state.matrix, state.weights, precision=_HIGHEST)) / size
    everyone = jnp.ones_like(linear)
    target = simplex_quadratic(state.matrix / size, everyone, everyone > 0, linear - jnp.min(linear))
    # An interior point comes close to a face and not onto it.
    target = project_simplex(jnp.where(target < 1e-9, 0.0, target))
    return state.weights + jnp.minimum(state.step * state.unit, 1.0) * (target - state.weights)


def _project(state: _State) -> Array:
    return project_simplex(state.weights - state.step * state.here.gradient)


def _exponentiate(state: _State) -> Array:
    # The logarithm of a weight of 0 has no finite value, and 0 it stays.
    inside = state.weights > 0
    logs = jnp.log(jnp.where(inside, state.weights, 1.0))
    return jax.nn.softmax(jnp.where(inside, logs - state.step * state.here.gradient, -jnp.inf))


def _towards_vertex(state: _State) -> Array:
    vertex = jax.nn.one_hot(jnp.argmin(state.here.gradient), state.weights.shape[0], dtype=state.weights.dtype)
    return state.weights + jnp.minimum(state.step * state.unit, 1.0) * (vertex - state.weights)


def _damped_bfgs(matrix: Array, change: Array, difference: Array, first: Array) -> Array:
    """The matrix with the curvature that a step has shown, kept positive definite (Nocedal and Wright, 18.3)."""
    along = jnp.sum(change * difference)
    # Before the first update, the scale of the curvature along the step.
    scaled = jnp.where(along > 0, jnp.sum(difference**2) / jnp.where(along > 0, along, 1.0), 1.0)
    matrix = jnp.where(first & (along > 0), scaled * jnp.eye(matrix.shape[0], dtype=matrix.dtype), matrix)
    image = jnp.matmul(matrix, change, precision=_HIGHEST)
    bend = jnp.sum(change * image)
    share = jnp.where(along >= 0.2 * bend, 1.0, 0.8 * bend / jnp.where(bend > along, bend - along, 1.0))
    mixed = share * difference + (1 - share) * image
    total = jnp.sum(change * mixed)
    safe = (bend > 0) & (total > 0)
    minus = jnp.outer(image, image) / jnp.where(safe, bend, 1.0)
    plus = jnp.outer(mixed, mixed) / jnp.where(safe, total, 1.0)
    return jnp.where(safe, matrix - minus + plus, matrix)


def _whole(step: Array, change: Array, difference: Array) -> Array:
    return jnp.full_like(step, jnp.inf)


def _barzilai_borwein(step: Array, change: Array, difference: Array) -> Array:
    along = jnp.sum(change * difference)
    longer = jnp.sum(change**2) / jnp.where(along > 0, along, 1.0)
    return jnp.where(along > 0, longer, 4 * step)


def _doubled(step: Array, change: Array, difference: Array) -> Array:
    return 2 * step


RULES: dict[str, tuple[Callable[..., Array], Callable[..., Array], float]] = {
    # The move, the next step after one that was taken, and the longest step times the unit of the gradient.
    "quasi_newton": (_to_model_minimum, _whole, 1.0),
    "projected_gradient": (_project, _barzilai_borwein, 1e6),
    "mirror_descent": (_exponentiate, _doubled, 1e6),
    "frank_wolfe": (_towards_vertex, _doubled, 1.0),
}
