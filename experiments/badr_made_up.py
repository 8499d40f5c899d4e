"""Made-up rows for BADR: groups of unequal sizes, each with coefficients and features of its own."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from jax.tree_util import Partial

import badrjax as bx
from badrjax import bilevel, objectives
from experiments import badr_problems

NUM_FEATURES, MU = 30, 1e-2
METRICS = {**badr_problems.METRICS, "hsic": objectives.hsic}
"""The paper's metrics of a classifier's scores, all seven."""


def rows(num_rows: int, num_groups: int, seed: int = 0) -> bx.Batch:
    """Features `f64[n, 30]`, labels and groups, the same for the same numbers."""
    rng = np.random.default_rng(seed)
    group = rng.choice(num_groups, num_rows, p=rng.dirichlet(np.full(num_groups, 5.0)))
    # Every group has rows of both classes, or some metrics would have no value.
    group[: 2 * num_groups] = np.repeat(np.arange(num_groups), 2)
    slopes = rng.normal(size=NUM_FEATURES) + 0.6 * rng.normal(size=(num_groups, NUM_FEATURES))
    x = rng.normal(size=(num_rows, NUM_FEATURES)) + 0.3 * rng.normal(size=(num_groups, NUM_FEATURES))[group]
    scores = 1.5 * np.sum(x * slopes[group], axis=1) / NUM_FEATURES**0.5 - 0.5 * rng.normal(size=num_groups)[group]
    label = (rng.random(num_rows) < 1 / (1 + np.exp(-scores))).astype(np.int64)
    label[: 2 * num_groups] = np.tile([0, 1], num_groups)
    return bx.Batch(x, label, group)


def problem(data: bx.Batch, num_groups: int, objective: Any) -> bilevel.Problem:
    """Logistic regression with an intercept that the metric sees, mu = 0.01, a metric as published."""
    model = bx.models.linear(NUM_FEATURES)
    return bilevel.problem(model, data, num_groups=num_groups, objective=objective, variant="badr", regularisation=MU)


def start() -> Any:
    """Parameters to begin a solve with."""
    return bx.models.linear(NUM_FEATURES).init(jax.random.key(0))


def metric_objective(name: str) -> Partial:
    """A key of `METRICS` as an upper objective; see `badr_problems.metric_objective`."""
    return badr_problems.metric_objective(name, METRICS)


def published_loop(problem: bilevel.Problem, rates: tuple[Any, Any]) -> bx.Method:
    """The published loop: constant steps, the first of parameters and adjoint vector, the second of the weights."""
    return bx.badr(
        problem.losses,
        Partial(optax.sgd, learning_rate=rates[0]),
        problem.objective,
        num_groups=problem.num_groups,
        data=problem.data,
        regularisation=problem.regularisation,
        weights_optimizer=Partial(optax.sgd, learning_rate=rates[1]),
    )
