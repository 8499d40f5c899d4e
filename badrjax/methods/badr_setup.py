"""BADR ready to run on a problem: started at a solution, with step sizes from its curvature."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.bilevel.oracle import evaluate
from badrjax.bilevel.problem import Problem, check_weights, largest_curvature
from badrjax.methods.badr import badr
from badrjax.methods.base import Method


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
        ValueError: for a problem whose model is not linear; else as `badr`.
    """
    if not problem.linear:
        raise ValueError(
            "badr_setup solves the lower problem first, which needs badrjax.models.linear; for other models call badr "
            "with an optimizer of your choice"
        )
    if weights is None:
        weights = jnp.full(problem.num_groups, 1 / problem.num_groups)
    weights = check_weights(weights, problem.num_groups)
    params, adjoint, rate = _solved(problem, weights, params)
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
def _solved(problem: Problem, weights: Array, params: Any) -> tuple[Any, Any, Array]:
    found = evaluate(problem, weights, params)
    return found.params, found.adjoint, 1 / largest_curvature(problem, params)
