"""Many weights at once: the front over the simplex, the two-group grid, and several starts of a search."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from badrjax.bilevel.oracle import Evaluation, evaluate, prepare
from badrjax.bilevel.problem import Problem, group_risks, regularised_risks
from badrjax.bilevel.simplex import SimplexSolution, minimise_over_simplex
from badrjax.checks import check_positive_integer, is_concrete
from badrjax.status import Status


class Front(NamedTuple):
    """Points of the front, M of them.

    Attributes:
        weights: `lambda`, `f[M, K]`.
        evaluations: `Evaluation` with leaves `[M, ...]`.
        risks: `F_a`, `f[M, K]`.
        regularised_risks: `R_a`, `f[M, K]`, in which every point with positive weights is Pareto efficient.
    """

    weights: Float[Array, "M K"]
    evaluations: Evaluation
    risks: Float[Array, "M K"]
    regularised_risks: Float[Array, "M K"]

    def best(self) -> Int[Array, ""]:
        """Position of the least finite value, among the points that were solved where there are any."""
        known = jnp.isfinite(self.evaluations.value)
        solved = known & (self.evaluations.info.status == Status.SUCCESS)
        chosen = jnp.where(jnp.any(solved), solved, known)
        return jnp.argmin(jnp.where(chosen, self.evaluations.value, jnp.inf))


class MultiStart(NamedTuple):
    """The best of several searches, and all of them.

    Attributes:
        best: `SimplexSolution` with the least finite value.
        all: `SimplexSolution` with leaves `[S, ...]`.
    """

    best: SimplexSolution
    all: SimplexSolution


def pareto_path(
    problem: Problem,
    weights: Float[Array, "M K"],
    params: Any,
    *,
    batch_size: int | None = None,
    minimise: Any = None,
    solver: Any = None,
) -> Front:
    """`w*(lambda)`, `V(lambda)` and its gradient for many weights in one program.

    Args:
        problem: see `badrjax.bilevel.problem`.
        weights: `f[M, K]`, each row on the simplex.
        params: where every lower solve starts.
        batch_size: how many are solved side by side, the others after them, to bound memory (static); `None` is all.
        minimise: as for `solve_lower`.
        solver: as for `evaluate`.

    Raises:
        ValueError: for weights of another shape or, outside tracing, off the simplex (which row).
    """
    weights = check_many_weights(weights, problem.num_groups)
    if batch_size is not None:
        check_positive_integer(batch_size=batch_size)

    columns = prepare(problem, params)

    def one(point: Array) -> tuple[Evaluation, Array, Array]:
        found = evaluate(problem, point, params, minimise=minimise, solver=solver, columns=columns)
        return found, group_risks(problem, found.params), regularised_risks(problem, found.params)

    found, risks, regularised = jax.lax.map(one, weights, batch_size=batch_size or weights.shape[0])
    return Front(weights, found, risks, regularised)


def simplex_grid(num_groups: int, num_steps: int) -> np.ndarray:
    """All weights in steps of `1 / num_steps`, `f[M, K]`: 1001 points for two groups and 1000 steps.

    Raises:
        ValueError: for numbers below 1.
    """
    check_positive_integer(num_groups=num_groups, num_steps=num_steps)
    counts = np.zeros((1, 0), int)
    for _ in range(num_groups - 1):
        left = num_steps - counts.sum(axis=1)
        counts = np.concatenate([np.c_[np.repeat(row[None], n + 1, axis=0), np.arange(n + 1)]
                                 for row, n in zip(counts, left, strict=True)])  # fmt: skip
    return np.c_[counts, num_steps - counts.sum(axis=1)] / num_steps


def starts(key: Array, num_groups: int, num_random: int = 0) -> Float[Array, "S K"]:
    """Uniform weights, points near each vertex, and draws that are uniform on the simplex: `f[1 + K + num_random, K]`.

    A vertex itself is a trap for moves that multiply weights, so a hundredth of it is shared out.

    Args:
        key: consumed.
        num_groups: K.
        num_random: how many draws.

    Raises:
        ValueError: for numbers that are not integers, of groups below 1 or of draws below 0.
    """
    check_positive_integer(num_groups=num_groups)
    if isinstance(num_random, bool) or not isinstance(num_random, int | np.integer) or num_random < 0:
        raise ValueError(f"num_random must be an integer of at least 0, got {num_random!r}")
    uniform = jnp.full((1, num_groups), 1 / num_groups)
    vertices = 0.99 * jnp.eye(num_groups) + 0.01 / num_groups
    drawn = jax.random.dirichlet(key, jnp.ones(num_groups), (num_random,))
    return jnp.concatenate([uniform, vertices, drawn])


def multi_start(
    problem: Problem, params: Any, weights: Float[Array, "S K"], *, batch_size: int | None = None, **options: Any
) -> MultiStart:
    """`minimise_over_simplex` from several starts side by side, and the best of the solutions.

    Args:
        problem: see `badrjax.bilevel.problem`.
        params: where every lower solve starts.
        weights: the starts, `f[S, K]`, see `starts`.
        batch_size: how many side by side (static); `None` is all.
        **options: of `minimise_over_simplex`.

    Raises:
        ValueError: as `minimise_over_simplex` and `pareto_path`.
    """
    weights = check_many_weights(weights, problem.num_groups)

    def one(start: Array) -> SimplexSolution:
        return minimise_over_simplex(problem, params, start, **options)

    found = jax.lax.map(one, weights, batch_size=batch_size or weights.shape[0])
    least = jnp.argmin(jnp.where(jnp.isfinite(found.value), found.value, jnp.inf))
    return MultiStart(jax.tree.map(lambda leaf: leaf[least], found), found)


def check_many_weights(weights: Any, num_groups: int) -> Array:
    """Weights `f[M, K]` as an array; `ValueError` for another shape or, outside tracing, rows off the simplex."""
    if np.ndim(weights) != 2 or np.shape(weights)[1] != num_groups or np.shape(weights)[0] == 0:
        raise ValueError(f"weights must be [M, {num_groups}], a row of weights a point, got shape {np.shape(weights)}")
    if is_concrete(weights):
        values = np.asarray(weights, float)
        off = ~(np.isfinite(values).all(1) & (values >= 0).all(1) & (np.abs(values.sum(1) - 1) <= 1e-4))
        if off.any():
            row = np.flatnonzero(off)[0]
            raise ValueError(f"weights must lie on the simplex (>= 0, sum 1), but row {row} is {values[row]}")
    return jnp.asarray(weights, jnp.result_type(float))
