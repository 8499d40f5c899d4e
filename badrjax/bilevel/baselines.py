r"""What the solutions of the bilevel problem are compared with: fixed weights of groups, and three kinds of fit.

`uniform_weights`, `sample_weights` and `balanced_weights` go to `evaluate`. `one_group_fit` takes the best vertex of
the simplex, `minimax` makes the worst risk least, and `regularisation_path` adds the fairness objective to the risk,
which leaves the Pareto front of the risks.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from badrjax.bargaining.min_norm import simplex_quadratic
from badrjax.bilevel.checks import check_weights
from badrjax.bilevel.front import pareto_path
from badrjax.bilevel.oracle import Evaluation, OracleInfo, evaluate, prepare
from badrjax.bilevel.problem import (
    Problem,
    group_risks,
    regularised_risks,
    upper_objective,
    weighted_risk,
)
from badrjax.checks import check_positive_integer, is_concrete, unknown_name
from badrjax.groups import group_count
from badrjax.hypergradients import MinimiseInfo, lbfgs
from badrjax.status import Status
from badrjax.surrogates import project_simplex

_HIGHEST = jax.lax.Precision.HIGHEST
# Of the rise that the slope foretells, the least that is accepted.
_SUFFICIENT = 1e-4
BALANCES = ("complement", "inverse")


class Fit(NamedTuple):
    """Weights with the model they lead to.

    Attributes:
        weights: `lambda`, `f[K]`.
        params: `w*(lambda)`.
        value: `V(lambda)`, `f[]`.
        info: `OracleInfo`; its status is `NOT_FINITE` where the value is not finite.
    """

    weights: Float[Array, "K"]
    params: Any
    value: Float[Array, ""]
    info: OracleInfo


class MinimaxSolution(NamedTuple):
    """The model whose worst risk is least, and the weights that lead to it.

    Attributes:
        weights: `lambda`, `f[K]`: the multipliers of `R_a(w) <= t` in `min t`.
        params: `w*(lambda)`.
        value: `max_a R_a(w*(lambda))`, `f[]`.
        gap: `value - lambda . R(w*(lambda)) >= 0`, `f[]`: no model has a worst risk below `value - gap`.
        status: `int32[]`, a `Status`: success where the gap is at most the tolerance; `MAX_STEPS`; or the oracle's.
        num_evaluations: of the oracle, `int32[]`.
    """

    weights: Float[Array, "K"]
    params: Any
    value: Float[Array, ""]
    gap: Float[Array, ""]
    status: Int[Array, ""]
    num_evaluations: Int[Array, ""]


class Path(NamedTuple):
    """Models of P penalties on the fairness objective.

    Attributes:
        penalties: `f[P]`.
        params: a pytree whose leaves lead with P.
        values: `Fair(w)`, `f[P]`.
        risks: `F_a`, `f[P, K]`.
        regularised_risks: `R_a`, `f[P, K]`.
        info: `MinimiseInfo` with leaves `[P]`.
    """

    penalties: Float[Array, "P"]
    params: Any
    values: Float[Array, "P"]
    risks: Float[Array, "P K"]
    regularised_risks: Float[Array, "P K"]
    info: MinimiseInfo


def uniform_weights(problem: Problem) -> Float[Array, "K"]:
    """`1/K`: every group counts alike, whatever its size."""
    return jnp.full(problem.num_groups, 1 / problem.num_groups)


def sample_weights(problem: Problem) -> Float[Array, "K"]:
    """`n_a / n`: every row counts alike, which is empirical risk minimisation."""
    count = _counts(problem)
    return count / jnp.sum(count)


def balanced_weights(problem: Problem, variant: str = "inverse") -> Float[Array, "K"]:
    """Weights that are larger for smaller groups; both variants agree for two groups.

    Args:
        problem: see `badrjax.bilevel.problem`.
        variant: `"inverse"` is `1 / n_a` brought to sum 1, `"complement"` is `(n - n_a) / ((K - 1) n)`.

    Raises:
        ValueError: for an unknown variant.
    """
    if variant not in BALANCES:
        raise unknown_name("variant", variant, BALANCES)
    if problem.num_groups == 1:
        return jnp.ones(1)
    count = _counts(problem)
    share = 1 / count if variant == "inverse" else jnp.sum(count) - count
    return share / jnp.sum(share)


def one_group_fit(problem: Problem, params: Any, **options: Any) -> Fit:
    """The best of K models, each fitted to one group alone, by the upper objective on all rows.

    Args:
        problem: see `badrjax.bilevel.problem`.
        params: where every lower solve starts.
        **options: of `pareto_path`.
    """
    vertices = pareto_path(problem, jnp.eye(problem.num_groups), params, **options)
    best = vertices.best()
    found: Evaluation = jax.tree.map(lambda leaf: leaf[best], vertices.evaluations)
    status = jnp.where(jnp.isfinite(found.value), found.info.status, Status.NOT_FINITE).astype(jnp.int32)
    return Fit(vertices.weights[best], found.params, found.value, found.info._replace(status=status))


def minimax(
    problem: Problem,
    params: Any,
    *,
    tolerance: Float[Array, ""] | float | None = None,
    max_evaluations: int = 100,
) -> MinimaxSolution:
    r"""`min_w max_a R_a(w)` with `R_a = F_a + mu/2 ||w||^2`, by its dual and certified by the duality gap.

    For convex risks it is the largest value of `D(lambda) = min_w \sum_a lambda_a R_a(w)` over the simplex. D is
    concave, its gradient is `R(w*(lambda))` and its Hessian `-G H^{-1} G'`, with G the Jacobian of R and H the lower
    Hessian. Each step goes towards the largest value of that quadratic model on the simplex, as far as D rises; where H
    is singular it is a projected gradient step.

    Call it under `jit`: outside, each call compiles anew.

    Args:
        problem: see `badrjax.bilevel.problem`; of a linear model, with a convex loss. Its upper objective is not used.
        params: where the lower solver starts.
        tolerance: of the gap over the worst risk; `None` is 1e-8 (float64) or 1e-4 (float32).
        max_evaluations: of the oracle; static.

    Raises:
        ValueError: for a model that is not linear, or `max_evaluations` below 1.
    """
    check_positive_integer(max_evaluations=max_evaluations)
    if not problem.linear:
        raise ValueError("minimax needs badrjax.models.linear: without convex risks the dual certifies nothing")
    problem = problem._replace(objective=Partial(_no_objective))
    columns = prepare(problem, params)
    start = _blank(problem, uniform_weights(problem), params, columns)
    eps = float(jnp.finfo(start.risks.dtype).eps)
    if tolerance is None:
        tolerance = 1e-8 if eps < 1e-10 else 1e-4

    def met(here: _Dual) -> Array:
        return here.gap <= tolerance * jnp.abs(here.worst)

    def unfinished(state: _DualState) -> Array:
        # Where the dual does not rise along so short a step, it is rounding that foretold a rise.
        going = ~met(state.here) & (state.here.status == Status.SUCCESS) & (state.step > eps**0.5)
        return (going | (state.num_evaluations == 0)) & (state.num_evaluations < max_evaluations)

    def turn(state: _DualState) -> _DualState:
        # The first evaluation is one of the loop, so that the oracle is compiled once.
        here, first = state.here, state.num_evaluations == 0
        change = jnp.where(first, 0.0, state.step * (_model_maximum(here) - here.weights))
        there = _dual_at(problem, here.weights + change, here.params, columns)
        rises = _rises(here, there, jnp.sum(here.risks * change)) & (there.status == Status.SUCCESS)
        kept = jax.tree.map(lambda new, old: jnp.where(first | rises, new, old), there, here)
        return _DualState(kept, jnp.where(first | rises, 1.0, state.step / 2), state.num_evaluations + 1)

    begin = _DualState(start, jnp.ones((), start.risks.dtype), jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(unfinished, turn, begin)
    here = end.here
    status = jnp.where(met(here), Status.SUCCESS, Status.MAX_STEPS)
    status = jnp.where(here.status == Status.SUCCESS, status, here.status)
    status = jnp.where(jnp.isfinite(here.gap), status, Status.NOT_FINITE).astype(jnp.int32)
    return MinimaxSolution(here.weights, here.params, here.worst, here.gap, status, end.num_evaluations)


def regularisation_path(
    problem: Problem,
    params: Any,
    penalties: Float[Array, "P"],
    *,
    weights: Float[Array, "K"] | None = None,
    minimise: Any = None,
    batch_size: int | None = None,
) -> Path:
    r"""`argmin_w \sum_a lambda_a F_a(w) + mu/2 ||w||^2 + penalty Fair(w)` for each penalty.

    Such models need not be Pareto efficient for the risks. Where `Fair` is not convex, each is a stationary point.

    Args:
        problem: see `badrjax.bilevel.problem`.
        params: where each starts.
        penalties: `f[P]`, `>= 0`.
        weights: `lambda`, `f[K]` on the simplex; `None` is uniform.
        minimise: `minimise(objective, params) -> (params, info)`; `None` is `badrjax.lbfgs()`.
        batch_size: how many are solved side by side, the others after them (static); `None` is all.

    Raises:
        ValueError: for penalties that are no vector or, outside tracing, negative or not finite (which); for weights of
            another shape or, outside tracing, off the simplex.
    """
    penalties = _checked_penalties(penalties)
    weights = check_weights(uniform_weights(problem) if weights is None else weights, problem.num_groups)
    if batch_size is not None:
        check_positive_integer(batch_size=batch_size)
    solver = lbfgs() if minimise is None else minimise

    def one(penalty: Array) -> Path:
        found, info = solver(Partial(_risk_and_unfairness, problem, weights, penalty), params)
        value, risks = upper_objective(problem, found), group_risks(problem, found)
        return Path(penalty, found, value, risks, regularised_risks(problem, found), info)

    return jax.lax.map(one, penalties, batch_size=batch_size or penalties.shape[0])


class _Dual(NamedTuple):
    """The dual function at some weights."""

    weights: Array
    params: Any
    risks: Array  # R_a, its gradient, f[K]
    bend: Array  # minus its Hessian, f[K, K]
    status: Array

    @property
    def value(self) -> Array:
        return jnp.dot(self.weights, self.risks, precision=_HIGHEST)

    @property
    def worst(self) -> Array:
        return jnp.max(self.risks)

    @property
    def gap(self) -> Array:
        # As a sum of terms >= 0, which does not cancel.
        return jnp.dot(self.weights, self.worst - self.risks, precision=_HIGHEST)


class _DualState(NamedTuple):
    here: _Dual
    step: Array
    num_evaluations: Array


def _blank(problem: Problem, weights: Array, params: Any, columns: Array | None) -> _Dual:
    """What there is before the first evaluation."""
    kinds = jax.eval_shape(_dual_at, problem, weights, params, columns)
    blank = jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kinds)
    return blank._replace(weights=weights.astype(blank.weights.dtype), params=params)


def _dual_at(problem: Problem, weights: Array, start: Any, columns: Array | None) -> _Dual:
    found = evaluate(problem, weights, start, columns=columns)
    risks_of = partial(regularised_risks, problem)
    slopes, moves = _rows(jax.jacrev(risks_of)(found.params)), _rows(found.sensitivity)
    bend = -jnp.matmul(slopes, moves.T, precision=_HIGHEST)
    return _Dual(weights.astype(bend.dtype), found.params, risks_of(found.params), bend, found.info.status)


def _model_maximum(here: _Dual) -> Array:
    """The weights at which the quadratic model of the dual is largest."""
    slope = here.risks - jnp.mean(here.risks)
    steepest = jnp.max(jnp.abs(slope))
    # A singular lower Hessian gives no model; one of this bend is a projected gradient step.
    bend = jnp.where(jnp.all(jnp.isfinite(here.bend)), here.bend, steepest * jnp.eye(slope.shape[0], dtype=slope.dtype))
    unit = jnp.maximum(jnp.max(jnp.diagonal(bend)), steepest)
    unit = jnp.where(unit > 0, unit, 1.0)
    linear = -(slope + jnp.matmul(bend, here.weights, precision=_HIGHEST)) / unit
    everyone = jnp.ones_like(linear)
    target = simplex_quadratic(bend / unit, everyone, everyone > 0, linear - jnp.min(linear))
    # An interior point comes close to a face and not onto it.
    return project_simplex(jnp.where(target < 1e-9, 0.0, target))


def _rises(here: _Dual, there: _Dual, slope: Array) -> Array:
    """Whether the dual rises enough or, where rounding hides its rise, the gap gets smaller."""
    enough = there.value >= here.value + _SUFFICIENT * slope
    unresolved = jnp.abs(there.value - here.value) <= 32 * jnp.finfo(here.value.dtype).eps * jnp.abs(here.value)
    return (enough & (slope > 0)) | (unresolved & (there.gap < here.gap))


def _rows(tree: Any) -> Array:
    """A pytree whose leaves lead with K as `f[K, d]`."""
    return jax.vmap(lambda row: ravel_pytree(row)[0])(tree)


def _counts(problem: Problem) -> Array:
    data = problem.data
    return group_count(data.group, problem.num_groups, data.weight)


def _no_objective(params: Any, batch: Any) -> Array:
    return jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))


def _risk_and_unfairness(problem: Problem, weights: Array, penalty: Array, params: Any) -> Array:
    return weighted_risk(problem, params, weights) + penalty * upper_objective(problem, params)


def _checked_penalties(penalties: Any) -> Array:
    if np.ndim(penalties) != 1 or np.size(penalties) == 0:
        raise ValueError(f"penalties must be a vector f[P] with P >= 1, got shape {np.shape(penalties)}")
    if is_concrete(penalties):
        values = np.asarray(penalties, float)
        wrong = ~((values >= 0) & (values < np.inf))
        if wrong.any():
            index = np.flatnonzero(wrong)[0]
            raise ValueError(f"penalties must be 0 or more and finite, but entry {index} is {values[index]}")
    return jnp.asarray(penalties, jnp.result_type(float))
