"""BADR beside our own re-creation of the usual loops: SLSQP over a scikit-learn fit, and a host loop over groups.

`python -m benchmarks.badr [--rows 20000 100000] [--groups 2 4 8]`. Logistic regression on 30 made-up features with an
intercept, mu = 0.01, demographic parity as published. The reference is written from the formulas; it copies no code.

- Exact: `minimise_over_simplex` from uniform weights, in float64, against SciPy's SLSQP with bounds, the sum as a
  constraint and exact derivatives (dense Hessian, one solve a group), each evaluation a scikit-learn fit from scratch.
- Stochastic: a step of BADR-SGD inside `badrjax.fit`, batch n/20, metric on all rows, in float32, against a host loop
  that draws rows of each group without replacement, and calls compiled gradients, Hessian products and the metric's
  gradient group after group.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize
from sklearn.linear_model import LogisticRegression

import badrjax as bx
from badrjax import bilevel

NUM_FEATURES, MU = 30, 0.01
SGD_STEPS = 200


def main() -> None:
    """Print times, ratios and how good the solutions are."""
    parser = argparse.ArgumentParser("python -m benchmarks.badr", description=main.__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--objective", default="demographic_parity", choices=list(OBJECTIVES))
    parser.add_argument("--starts", type=int, default=0, help="random starts of SLSQP beside the uniform one")
    given = parser.parse_args()
    print(f"jax {jax.__version__}, {os.cpu_count()} cores; {given.objective}\n")
    for rows in given.rows:
        for groups in given.groups:
            x, y, group = made_up(rows, groups)
            _exact(x, y, group, groups, given.objective, given.starts)
            _stochastic(x, y, group, groups, given.objective)


def made_up(num_rows: int, num_groups: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features `f64[n, 30]`, labels and groups of unequal sizes, each group with coefficients of its own."""
    rng = np.random.default_rng(seed)
    group = rng.choice(num_groups, num_rows, p=rng.dirichlet(np.full(num_groups, 5.0)))
    slopes = rng.normal(size=NUM_FEATURES) + 0.6 * rng.normal(size=(num_groups, NUM_FEATURES))
    x = rng.normal(size=(num_rows, NUM_FEATURES)) + 0.3 * rng.normal(size=(num_groups, NUM_FEATURES))[group]
    scores = 1.5 * np.sum(x * slopes[group], axis=1) / NUM_FEATURES**0.5 - 0.5 * rng.normal(size=num_groups)[group]
    return x, (rng.random(num_rows) < 1 / (1 + np.exp(-scores))).astype(np.int64), group


def demographic_parity(scores: np.ndarray, labels: np.ndarray, group: np.ndarray, counts: np.ndarray) -> Any:
    """The published formula at rho = 1 and its derivative by the scores."""
    decisions = 1 / (1 + np.exp(-scores))
    rates = np.bincount(group, decisions, counts.size) / counts
    away = rates - rates.mean()
    distance = np.sqrt(away**2 + 1e-6)
    shares = np.exp(distance) / np.exp(distance).sum()
    by_rate = shares * away / distance
    by_rate -= by_rate.mean()
    return np.log(np.exp(distance).sum()), decisions * (1 - decisions) * (by_rate / counts)[group]


def hsic(scores: np.ndarray, labels: np.ndarray, group: np.ndarray, counts: np.ndarray) -> Any:
    """The published formula and its derivative by the scores."""
    centred = (group - group.mean()) / (scores.size - 1)
    covariance = centred @ scores
    return covariance**2, 2 * covariance * centred


OBJECTIVES: dict[str, Callable[..., Any]] = {"demographic_parity": demographic_parity, "hsic": hsic}


def slsqp(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, num_groups: int, objective: str, start: np.ndarray
) -> tuple[float, np.ndarray, int]:
    """Value, weights and evaluations of SciPy's SLSQP over scikit-learn fits."""
    counts = np.bincount(group, minlength=num_groups)
    design = np.c_[np.ones(len(x)), x]

    def value_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        of_rows = (weights / counts)[group]
        fitted = LogisticRegression(C=1 / MU, tol=1e-8, max_iter=1000).fit(x, y, sample_weight=of_rows)
        params = np.r_[fitted.intercept_, fitted.coef_[0]]
        scores = design @ params
        value, by_score = OBJECTIVES[objective](scores, y, group, counts)
        probability = 1 / (1 + np.exp(-scores))
        hessian = design.T @ ((of_rows * probability * (1 - probability))[:, None] * design)
        hessian += MU * np.diag(np.r_[0, np.ones(x.shape[1])])
        residual = probability - y
        of_groups = np.stack([design[group == a].T @ residual[group == a] / counts[a] for a in range(num_groups)])
        moves = -np.linalg.solve(hessian, of_groups.T)
        return value, moves.T @ (design.T @ by_score)

    found = optimize.minimize(
        value_and_slope, start, jac=True, method="SLSQP", bounds=[(1e-8, 1.0)] * num_groups,
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}],
        options={"ftol": 1e-10, "maxiter": 500},
    )  # fmt: skip
    return float(found.fun), found.x, int(found.nfev)


def _exact(x: np.ndarray, y: np.ndarray, group: np.ndarray, num_groups: int, objective: str, num_starts: int) -> None:
    with jax.enable_x64(True):
        model = bx.models.linear(NUM_FEATURES)
        data = bx.Batch(jnp.asarray(x), jnp.asarray(y), jnp.asarray(group))
        problem = bilevel.problem(
            model, data, num_groups=num_groups, objective=objective, variant="badr", regularisation=MU
        )
        params = model.init(jax.random.key(0))
        began = time.perf_counter()
        solve = jax.jit(bilevel.minimise_over_simplex).lower(problem, params).compile()
        compiling = time.perf_counter() - began
        ours = min((_timed(lambda: solve(problem, params)) for _ in range(3)), key=lambda pair: pair[0])
        seconds, solution = ours
        vertices = jax.jit(partial(bilevel.pareto_path, batch_size=1))(problem, np.eye(num_groups), params)
        corners = np.asarray(vertices.evaluations.value)
        mine, steps = float(solution.value), int(solution.info.num_evaluations)
    rng = np.random.default_rng(1)
    uniform = np.full(num_groups, 1 / num_groups)
    theirs, reference = _timed(lambda: slsqp(x, y, group, num_groups, objective, uniform))
    starts = rng.dirichlet(np.ones(num_groups), num_starts)
    best = min([reference[0], *(slsqp(x, y, group, num_groups, objective, start)[0] for start in starts)])
    print(
        f"n={len(x)}, K={num_groups}: exact {seconds:.2f} s ({steps} evaluations; compiling {compiling:.1f} s), "
        f"SLSQP {theirs:.2f} s ({reference[2]} evaluations); ratio {theirs / seconds:.1f}, with compiling "
        f"{theirs / (seconds + compiling):.1f}; (ours - SLSQP's best of {1 + num_starts}) / range at the vertices: "
        f"{(mine - best) / np.ptp([*corners, mine, best]):.1e}",
        flush=True,
    )


def _stochastic(x: np.ndarray, y: np.ndarray, group: np.ndarray, num_groups: int, objective: str) -> None:
    data = bx.Batch(jnp.asarray(x, jnp.float32), jnp.asarray(y), jnp.asarray(group))
    model = bx.models.linear(NUM_FEATURES)
    problem = bilevel.problem(
        model, data, num_groups=num_groups, objective=objective, variant="badr", regularisation=MU
    )
    method, params = bx.badr_setup(problem, model.init(jax.random.key(0)))
    sampler = bx.group_balanced(len(x) // 20, num_groups)
    epochs = SGD_STEPS // sampler.num_steps(len(x))
    steps = epochs * sampler.num_steps(len(x))

    def run() -> Any:
        fitted = bx.fit(jax.random.key(0), method, params, data, num_epochs=epochs, sampler=sampler)
        return jax.block_until_ready(fitted.state.weights)

    run()
    ours = min(_timed(run)[0] for _ in range(3)) / steps
    loop = host_loop(problem, params, len(x) // 20)
    loop(3)
    theirs = _timed(lambda: loop(20))[0] / 20
    print(
        f"n={len(x)}, K={num_groups}: BADR-SGD {1e3 * ours:.2f} ms a step, host loop {1e3 * theirs:.1f} ms; ratio "
        f"{theirs / ours:.1f}\n",
        flush=True,
    )


def host_loop(problem: Any, params: Any, batch_size: int) -> Callable[[int], np.ndarray]:
    """The single loop on the host: compiled pieces called for each group, and the weights projected in NumPy."""
    num_groups = problem.num_groups
    rows = [np.flatnonzero(np.asarray(problem.data.group) == a) for a in range(num_groups)]

    def risk(params: Any, batch: bx.Batch) -> jax.Array:
        return jnp.mean(problem.losses(params, batch, None))

    gradient = jax.jit(jax.grad(risk))
    product = jax.jit(lambda p, v, batch: jax.jvp(lambda q: jax.grad(risk)(q, batch), (p,), (v,))[1])
    of_metric = jax.jit(lambda p, data: jax.grad(problem.objective)(p, data))

    def run(num_steps: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        w, v = params, jax.tree.map(jnp.zeros_like, params)
        weights = np.full(num_groups, 1 / num_groups)
        for _ in range(num_steps):
            drawn = [rng.choice(of, min(batch_size // num_groups, of.size), replace=False) for of in rows]
            batches = [bx.Batch(problem.data.x[i], problem.data.y[i], problem.data.group[i]) for i in drawn]
            slopes = [gradient(w, batch) for batch in batches]
            products = [product(w, v, batch) for batch in batches]
            metric = of_metric(w, problem.data)
            h = np.array([float(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, slope, v)))) for slope in slopes])
            step = jax.tree.map(lambda *leaves, at=weights: sum(a * leaf for a, leaf in zip(at, leaves)), *slopes)  # noqa: B905
            bent = jax.tree.map(lambda *leaves, at=weights: sum(a * leaf for a, leaf in zip(at, leaves)), *products)  # noqa: B905
            v = jax.tree.map(lambda a, g, b: a - 0.1 * (g + b + MU * a), v, metric, bent)
            w = jax.tree.map(lambda a, g: a - 0.1 * (g + MU * a), w, step)
            weights = _projected(weights - min(1.0, 1 / (np.linalg.norm(h) + 1e-12)) * h)
        return weights

    return run


def _projected(point: np.ndarray) -> np.ndarray:
    """Euclidean projection onto the simplex, by sorting."""
    ordered = np.sort(point)[::-1]
    above = (np.cumsum(ordered) - 1) / np.arange(1, point.size + 1)
    return np.maximum(point - above[np.flatnonzero(ordered > above)[-1]], 0)


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
