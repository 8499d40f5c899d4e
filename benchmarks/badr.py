"""BADR beside our own re-creation of the usual loops: SLSQP over a scikit-learn fit, and host loops over groups.

`python -m benchmarks.badr [--rows 20000 100000] [--groups 2 4 8] [--starts 20] [--numerical] [--memory]`. Logistic
regression on 30 made-up features with an intercept, mu = 0.01, demographic parity as published. The references are
written from the formulas; they copy no code. Which is which:

- Exact: `minimise_over_simplex` from uniform weights, in float64, against SciPy's SLSQP with bounds and the sum as a
  constraint, each evaluation a scikit-learn fit from scratch. "SLSQP" has exact derivatives (dense Hessian, one solve a
  group) and is the stronger reference. "SLSQP, three-point" (`--numerical`, minutes) has numerical ones, up to 2K more
  fits for each gradient, as a driver has that knows only values. `--starts` adds random starts of the former.
- Stochastic: a step of BADR-SGD inside `badrjax.fit`, batch n/20, metric on all rows, in float32, against host loops
  that draw rows of each group without replacement and call gradients, Hessian products (forward over reverse) and the
  metric's gradient group after group. "Compiled pieces" has each of these functions under `jit` and is the stronger
  reference; "eager" compiles nothing, as such loops are mostly written.
- `--memory`: the largest resident memory of a process that does one exact solve (float64) or ten epochs of BADR-SGD
  (float32) on a million rows, beside what it had with the data made and JAX loaded.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
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
MEMORY_ROWS = 1_000_000


def main() -> None:
    """Print times, ratios and how good the solutions are."""
    parser = argparse.ArgumentParser("python -m benchmarks.badr", description=main.__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--objective", default="demographic_parity", choices=list(OBJECTIVES))
    parser.add_argument("--starts", type=int, default=0, help="random starts of SLSQP beside the uniform one")
    parser.add_argument("--numerical", action="store_true", help="also SLSQP with three-point derivatives")
    parser.add_argument("--memory", action="store_true", help="also peak memory on a million rows, in processes")
    parser.add_argument("--peak", nargs=2, metavar=("KIND", "K"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        _peak(given.peak[0], int(given.peak[1]))
        return
    print(f"jax {jax.__version__}, {os.cpu_count()} cores; {given.objective}\n")
    for kind in ("exact", "sgd") if given.memory else ():
        for groups in (2, 8):
            # Processes of their own, and first: a process keeps its peak, and begins with that of its parent.
            call = [sys.executable, "-m", "benchmarks.badr", "--peak", kind, str(groups)]
            print(subprocess.run(call, check=True, capture_output=True, text=True).stdout, end="", flush=True)
    for rows in given.rows:
        for groups in given.groups:
            x, y, group = made_up(rows, groups)
            _exact(x, y, group, groups, given.objective, given.starts, given.numerical)
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
    x: np.ndarray,
    y: np.ndarray,
    group: np.ndarray,
    num_groups: int,
    objective: str,
    start: np.ndarray,
    numerical: bool = False,
) -> tuple[float, np.ndarray, int]:
    """Value, weights and fits of SciPy's SLSQP over scikit-learn fits, with exact or three-point derivatives."""
    counts = np.bincount(group, minlength=num_groups)
    design = np.c_[np.ones(len(x)), x]
    fits = 0

    def fit(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        nonlocal fits
        fits += 1
        of_rows = (weights / counts)[group]
        fitted = LogisticRegression(C=1 / MU, tol=1e-8, max_iter=1000).fit(x, y, sample_weight=of_rows)
        scores = design @ np.r_[fitted.intercept_, fitted.coef_[0]]
        return of_rows, scores, *OBJECTIVES[objective](scores, y, group, counts)

    def value_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        of_rows, scores, value, by_score = fit(weights)
        probability = 1 / (1 + np.exp(-scores))
        hessian = design.T @ ((of_rows * probability * (1 - probability))[:, None] * design)
        hessian += MU * np.diag(np.r_[0, np.ones(x.shape[1])])
        residual = probability - y
        of_groups = np.stack([design[group == a].T @ residual[group == a] / counts[a] for a in range(num_groups)])
        moves = -np.linalg.solve(hessian, of_groups.T)
        return value, moves.T @ (design.T @ by_score)

    found = optimize.minimize(
        (lambda weights: fit(weights)[2]) if numerical else value_and_slope, start,
        jac="3-point" if numerical else True, method="SLSQP", bounds=[(1e-8, 1.0)] * num_groups,
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}],
        options={"ftol": 1e-10, "maxiter": 500},
    )  # fmt: skip
    return float(found.fun), found.x, fits


def _exact(
    x: np.ndarray,
    y: np.ndarray,
    group: np.ndarray,
    num_groups: int,
    objective: str,
    num_starts: int,
    numerical: bool,
) -> None:
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
    of_starts, others = _timed(lambda: [slsqp(x, y, group, num_groups, objective, start)[0] for start in starts])
    best = min([reference[0], *others])
    print(
        f"n={len(x)}, K={num_groups}: exact {seconds:.3f} s ({steps} evaluations; compiling {compiling:.1f} s), "
        f"SLSQP {theirs:.2f} s ({reference[2]} fits); ratio {theirs / seconds:.1f}, with compiling "
        f"{theirs / (seconds + compiling):.1f}; (ours - SLSQP's best of {1 + num_starts}) / range at the vertices: "
        f"{(mine - best) / np.ptp([*corners, mine, best]):.1e}",
        flush=True,
    )
    if num_starts:
        print(f"  SLSQP from {num_starts} random starts {of_starts:.1f} s", flush=True)
    if numerical:
        slow, found = _timed(lambda: slsqp(x, y, group, num_groups, objective, uniform, numerical=True))
        print(
            f"  SLSQP, three-point {slow:.1f} s ({found[2]} fits); ratio {slow / seconds:.0f}; its value less ours "
            f"{found[0] - mine:.1e}",
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
    theirs = []
    for compiled, steps in ((True, 20), (False, 3)):
        loop = host_loop(problem, params, len(x) // 20, compiled)
        loop(3 if compiled else 1)
        theirs.append(_timed(partial(loop, steps))[0] / steps)
    print(
        f"n={len(x)}, K={num_groups}: BADR-SGD {1e3 * ours:.2f} ms a step, host loop of compiled pieces "
        f"{1e3 * theirs[0]:.1f} ms (ratio {theirs[0] / ours:.1f}), eager {1e3 * theirs[1]:.0f} ms "
        f"(ratio {theirs[1] / ours:.0f})\n",
        flush=True,
    )


def _peak(kind: str, num_groups: int) -> None:
    """Print the peak memory of one solve or run on a million rows, made in parts so that making them needs little."""
    exact, part = kind == "exact", 50_000
    with jax.enable_x64(exact):
        x = np.empty((MEMORY_ROWS, NUM_FEATURES), np.float64 if exact else np.float32)
        y, group = np.empty(MEMORY_ROWS, np.int32), np.empty(MEMORY_ROWS, np.int32)
        for begin in range(0, MEMORY_ROWS, part):
            at = slice(begin, begin + part)
            x[at], y[at], group[at] = made_up(part, num_groups, seed=begin)
        data = bx.Batch(jnp.asarray(x), jnp.asarray(y), jnp.asarray(group))
        del x
        model = bx.models.linear(NUM_FEATURES)
        problem = bilevel.problem(model, data, num_groups=num_groups, variant="badr", regularisation=MU)
        params = model.init(jax.random.key(0))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if exact:
            jax.block_until_ready(jax.jit(bilevel.minimise_over_simplex)(problem, params))
        else:
            method, params = bx.badr_setup(problem, params)
            sampler = bx.group_balanced(MEMORY_ROWS // 20, num_groups)
            jax.block_until_ready(
                bx.fit(jax.random.key(0), method, params, data, num_epochs=10, sampler=sampler).state.weights
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"n={MEMORY_ROWS}, K={num_groups}: {kind} peak {peak / 1024:.0f} MB, before it {before / 1024:.0f} MB")


def host_loop(problem: Any, params: Any, batch_size: int, compiled: bool) -> Callable[[int], np.ndarray]:
    """The single loop on the host: pieces, compiled or not, called for each group; weights projected in NumPy."""
    num_groups = problem.num_groups
    jit: Callable[..., Any] = jax.jit if compiled else lambda function: function
    rows = [np.flatnonzero(np.asarray(problem.data.group) == a) for a in range(num_groups)]

    def risk(params: Any, batch: bx.Batch) -> jax.Array:
        return jnp.mean(problem.losses(params, batch, None))

    gradient = jit(jax.grad(risk))
    product = jit(lambda p, v, batch: jax.jvp(lambda q: jax.grad(risk)(q, batch), (p,), (v,))[1])
    of_metric = jit(lambda p, data: jax.grad(problem.objective)(p, data))

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
