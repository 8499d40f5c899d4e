"""BADR ready to run on a problem: started at a solution, with step sizes from its curvature, and its weights judged."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.bilevel.baselines import Fit
from badrjax.bilevel.checks import check_weights
from badrjax.bilevel.front import pareto_path
from badrjax.bilevel.oracle import evaluate
from badrjax.bilevel.problem import Problem, largest_curvature, weighted_risk
from badrjax.checks import is_concrete
from badrjax.methods.badr import BADRState, badr
from badrjax.methods.base import Method
from badrjax.status import explain


def badr_setup(
    problem: Problem,
    params: Any,
    *,
    full_metric: bool = True,
    weights: Float[Array, "K"] | None = None,
    optimizer: Any = None,
    **options: Any,
) -> tuple[Method, Any]:
    """BADR on a problem of a linear model, and the parameters to start from.

    The lower problem and the adjoint system are solved at the weights that it starts from, so that its first
    hypergradient is exact; `w` and `v` move by gradient steps of `1 / L`, L being `largest_curvature`. (Momentum makes
    them faster, and batches push the weights further off a vertex.) For a network choose step sizes and call `badr`.

    Args:
        problem: see `badrjax.bilevel.problem`, with a linear model.
        params: where the solve starts, such as `model.init(key)`.
        full_metric: whether the objective is taken on all rows of the problem or on the batch of each step.
        weights: where `lambda` starts, `f[K]`; `None` is uniform.
        optimizer: another one than that of step `1 / L`.
        **options: of `badr`.

    Returns:
        `(method, params)`, for `badrjax.fit(key, method, params, problem.data, ...)`.

    Raises:
        ValueError: for a problem whose model is not linear, or (outside tracing) whose lower problem has no finite
            solution at the weights to start from; else as `badr`.
    """
    if not problem.linear:
        raise ValueError(
            "badr_setup solves the lower problem first, which needs badrjax.models.linear; for other models call badr "
            "with an optimizer of your choice"
        )
    if weights is None:
        weights = jnp.full(problem.num_groups, 1 / problem.num_groups)
    weights = check_weights(weights, problem.num_groups)
    params, adjoint, rate, status = _solved(problem, weights, params)
    if is_concrete(status) and not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, adjoint, rate))):
        raise ValueError(
            f"the lower problem could not be solved at the weights to start from: {explain(status)}; raise the "
            "problem's regularisation, or drop features that are constant or repeat others"
        )
    if optimizer is None:
        optimizer = Partial(optax.sgd, learning_rate=rate)
    method = badr(
        problem.losses,
        optimizer,
        problem.objective,
        num_groups=problem.num_groups,
        data=problem.data if full_metric else None,
        regularisation=problem.regularisation,
        weights=weights,
        adjoint=adjoint,
        **options,
    )
    return method, params


@jax.jit
def badr_solution(problem: Problem, state: BADRState) -> Fit:
    """The best of the last, the average and the best weights of a run, the lower problem solved exactly at each.

    A run judges its weights by parameters that lag behind them, and by batches: none of the three is the best always.

    Args:
        problem: the run's, with a linear model.
        state: where the run ended; solves start from its parameters, or from zeros where these are too large.

    Returns:
        `badrjax.bilevel.Fit`: weights, `w*(lambda)`, `V(lambda)`, and how the solve went. A run that diverged (see
        `BADRState.failed_at`) is judged by what it kept from before.

    Raises:
        ValueError: for a problem whose model is not linear.
    """
    if not problem.linear:
        raise ValueError("badr_solution solves the lower problem exactly, which needs badrjax.models.linear")
    weights = jnp.stack([state.weights, state.average_weights, state.best_weights])
    # A run that diverged keeps its last finite parameters, at which the risk may not be finite.
    usable = jnp.isfinite(weighted_risk(problem, state.params, state.weights))
    start = jax.tree.map(lambda leaf: jnp.where(usable, leaf, 0.0), state.params)
    front = pareto_path(problem, weights, start, batch_size=1)
    best = front.best()
    found = jax.tree.map(lambda leaf: leaf[best], front.evaluations)
    return Fit(weights[best], found.params, found.value, found.info)


@jax.jit
def _solved(problem: Problem, weights: Array, params: Any) -> tuple[Any, Any, Array, Array]:
    found = evaluate(problem, weights, params)
    return found.params, found.adjoint, 1 / largest_curvature(problem, params), found.info.status
