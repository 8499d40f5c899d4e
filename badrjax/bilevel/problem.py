r"""The bilevel problem of BADR: weights of groups on the simplex above, weighted risk minimisation below.

With the risks `F_a` of K groups, an L2 penalty `mu/2 ||w||^2` and `R_a = F_a + mu/2 ||w||^2`,

    `w*(lambda) = argmin_w sum_a lambda_a F_a(w) + mu/2 ||w||^2`,
    `min_{lambda in simplex} V(lambda) = Fair(w*(lambda))`

(Tanji, Vaiter and Laguel 2026). For positive weights `w*` is Pareto efficient for `(R_1, .., R_K)`; for `mu > 0` it
need not be for the `F_a`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax import losses as example_losses
from badrjax import objectives
from badrjax.batches import Batch, frequencies
from badrjax.bilevel.checks import check_data, check_numbers
from badrjax.checks import check_class_range, unknown_name
from badrjax.functions import Static, as_partial
from badrjax.groups import as_frequencies, group_count, group_mean
from badrjax.models import Model, is_linear

LOSSES: dict[str, Callable[..., Partial]] = {
    "cross_entropy": example_losses.cross_entropy,
    "logistic": example_losses.logistic,
    "squared": example_losses.squared,
    "squared_hinge": example_losses.squared_hinge,
}
SCORE_OBJECTIVES: dict[str, Callable[..., Array]] = {
    "demographic_parity": objectives.demographic_parity,
    "equal_opportunity": objectives.equal_opportunity,
    "equalized_odds": objectives.equalized_odds,
    "disparate_mistreatment": objectives.disparate_mistreatment,
    "hsic": objectives.hsic,
    "individual_fairness": objectives.individual_fairness,
}
LOSS_OBJECTIVES: dict[str, Callable[..., Array]] = {
    "mean": objectives.mean,
    "worst": objectives.worst,
    "gap": objectives.gap,
    "variance": objectives.variance,
}
"""Objectives of the group risks; `variance` is what the paper calls group variance."""

# For scores [n] they are the same.
_LOGISTIC = (example_losses.cross_entropy_of_scores, example_losses._logistic_of_scores)
_HIGHEST = jax.lax.Precision.HIGHEST
_BLOCK_ROWS = 1024


class _Config(NamedTuple):
    """What is part of the program."""

    num_groups: int
    of_scores: Callable[[Array, Array], Array] | None  # loss of scores and labels, where the model is linear


class Problem(NamedTuple):
    """A bilevel problem as a pytree: data and numbers are leaves, so it is passed as an argument and never closed over.

    Attributes:
        losses: `ExampleLosses`, `(params, batch, key) -> f[n]`.
        objective: the upper objective `(params, batch) -> f[]`.
        data: the training rows.
        regularisation: `mu >= 0`, `f[]`; intercepts (leaves named `bias`) are not penalised.
        config: what is part of the program.
    """

    losses: Partial
    objective: Partial
    data: Batch
    regularisation: Any
    config: Static

    @property
    def num_groups(self) -> int:
        """Number of groups K."""
        return self.config.value.num_groups

    @property
    def linear(self) -> bool:
        """Whether scores are linear in the parameters, so that Hessians are `X' diag(c) X`."""
        return self.config.value.of_scores is not None


def problem(
    model: Model,
    data: Batch,
    *,
    num_groups: int,
    loss: str | Callable[[Any, Any], Any] = "logistic",
    objective: str | Callable[..., Any] = "demographic_parity",
    regularisation: Float[Array, ""] | float = 0.0,
    sharpness: Float[Array, ""] | float = 1.0,
    variant: str | None = None,
    intercept_in_objective: bool = True,
) -> Problem:
    r"""The problem of a model, a loss and a fairness objective on data.

    Args:
        model: `badrjax.models.linear(d)` with an intercept shared by loss and objective (reading A), or
            `linear(d, intercept=False)` (reading B); any other `Model` where no exact solution is asked for.
        data: training rows, in which every group occurs.
        num_groups: static number of groups K.
        loss: a name in `LOSSES`, or `(scores, labels) -> f[n]`, twice differentiable in the scores.
        objective: a name in `SCORE_OBJECTIVES` or `LOSS_OBJECTIVES`, or a function
            `(scores, labels, groups, num_groups, weight) -> f[]`.
        regularisation: `mu >= 0`. A ridge model that is published with `mu ||w||^2` has `2 mu` here.
        sharpness: of the objectives of scores, `> 0`; a leaf.
        variant: `None` or `"badr"`, of the objectives of scores.
        intercept_in_objective: `False` for a linear model fits the intercept and leaves it out of the objective, as the
            published toolbox does; derivatives are those of that objective.

    Raises:
        ValueError: for unknown names; for `intercept_in_objective=False` with another model than a linear one; and
            (outside tracing) for a group without rows (which), values that are not finite, labels other than 0 and 1
            where a named loss is of classes, a negative `regularisation` or a sharpness that is not positive.
    """
    check_data(data, num_groups)
    if isinstance(loss, str) and loss in LOSSES and loss != "squared":
        check_class_range(data.y, 2, "data.y", data.weight)
    check_numbers(regularisation, sharpness, variant)
    linear = is_linear(model)
    apply = as_partial(model.apply)
    losses = _losses_of(loss, model)
    of_scores = losses.args[0].value if linear else None
    if not intercept_in_objective:
        if not linear:
            raise ValueError("intercept_in_objective=False needs badrjax.models.linear: other models have none to drop")
        apply = Partial(_apply_without_intercept, apply)
    upper = _objective_of(objective, apply, losses, num_groups, sharpness, variant, intercept_in_objective)
    mu = jnp.asarray(regularisation, jnp.result_type(float))
    if jnp.issubdtype(jnp.result_type(data.x), jnp.floating):
        # Once, and not in every pass over the rows.
        data = data._replace(x=jnp.asarray(data.x, jnp.result_type(float)))
    return Problem(losses, upper, data, mu, Static(_Config(int(num_groups), of_scores)))


def group_risks(problem: Problem, params: Any) -> Float[Array, "K"]:
    """`F_a`, the mean loss of each group; without the penalty."""
    values = problem.losses(params, problem.data, None)
    return group_mean(values, problem.data.group, problem.num_groups, problem.data.weight)


def regularised_risks(problem: Problem, params: Any) -> Float[Array, "K"]:
    """`R_a = F_a + mu/2 ||w||^2`, for which solutions with positive weights are Pareto efficient."""
    return group_risks(problem, params) + penalty(problem, params)


def weighted_risk(problem: Problem, params: Any, weights: Float[Array, "K"]) -> Float[Array, ""]:
    """The lower objective, `sum_a lambda_a F_a + mu/2 ||w||^2`; the penalty is whole also off the simplex."""
    return jnp.dot(weights, group_risks(problem, params), precision=_HIGHEST) + penalty(problem, params)


def penalty(problem: Problem, params: Any) -> Float[Array, ""]:
    """`mu/2 ||w||^2` over all leaves but those named `bias`."""
    return l2_penalty(params, problem.regularisation)


def l2_penalty(params: Any, regularisation: Float[Array, ""] | float) -> Float[Array, ""]:
    """`regularisation / 2` times the sum of squares of all leaves but those named `bias`."""
    squares = [jnp.sum(leaf**2) for leaf, counts in _penalised(params) if counts]
    return regularisation / 2 * sum(squares, jnp.zeros((), jnp.result_type(*jax.tree.leaves(params))))


def upper_objective(problem: Problem, params: Any) -> Float[Array, ""]:
    """`Fair(w)` on the problem's rows."""
    return problem.objective(params, problem.data)


def weighted_hessian(problem: Problem, params: Any, weights: Float[Array, "K"]) -> Float[Array, "d d"]:
    """Hessian of `weighted_risk` by the parameters in the order of `ravel_pytree`.

    For a linear model it is `X' diag(c) X` with `c_i = lambda_{g_i} / n_{g_i} l''(s_i)`, one product; for others it is
    formed column by column.
    """
    return second_order(problem, weights, columns_of(problem, params))(params)[2]


def columns_of(problem: Problem, params: Any) -> Float[Array, "d n"] | None:
    """Features of a linear model by parameter, in the order of `ravel_pytree`; `None` for other models.

    Sums over rows run along the contiguous axis then. Loops that pass over the rows often make it once.
    """
    if not problem.linear:
        return None
    (layer,) = params.values()
    x = problem.data.x.astype(jnp.result_type(*jax.tree.leaves(params))).T
    # `bias` comes before `kernel` in the order of the leaves.
    return jnp.concatenate([jnp.ones((1, x.shape[1]), x.dtype), x]) if "bias" in layer else x


def second_order(
    problem: Problem, weights: Float[Array, "K"], columns: Float[Array, "d n"] | None
) -> Callable[[Any], tuple[Float[Array, ""], Float[Array, "d"], Float[Array, "d d"]]]:
    """A function of the parameters: `weighted_risk`, its gradient and its Hessian, for a linear model in one pass."""
    if columns is not None:
        count = group_count(problem.data.group, problem.num_groups, problem.data.weight)
        share = jnp.where(count == 0, 0.0, weights / jnp.where(count == 0, 1.0, count))
        rows = as_frequencies(frequencies(problem.data)) * share[problem.data.group]
        return Partial(_second_order, problem, columns, rows)

    def formed(params: Any) -> tuple[Array, Array, Array]:
        flat, unravel = ravel_pytree(params)
        value, slope = jax.value_and_grad(lambda v: weighted_risk(problem, unravel(v), weights))(flat)
        return value, slope, jax.hessian(lambda v: weighted_risk(problem, unravel(v), weights))(flat)

    return formed


def group_slopes(problem: Problem, params: Any, columns: Float[Array, "d n"] | None) -> Float[Array, "K d"]:
    """Gradients of the `F_a` by the parameters in the order of `ravel_pytree`, without the penalty."""
    flat, unravel = ravel_pytree(params)
    if columns is None:
        return jax.jacrev(lambda v: group_risks(problem, unravel(v)))(flat)
    groups = jnp.arange(problem.num_groups)[:, None]

    def block(x: Array, y: Array, group: Array, rows: Array) -> Array:
        _, slope, _ = _by_score(problem, jnp.matmul(flat, x, precision=_HIGHEST), y)
        member = jnp.where((group[None] == groups) & (rows != 0)[None], (rows * slope)[None], 0.0)
        return jnp.matmul(member, x.T, precision=_HIGHEST)

    count = group_count(problem.data.group, problem.num_groups, problem.data.weight).astype(flat.dtype)
    total = _over_blocks(block, problem, columns, as_frequencies(frequencies(problem.data)))
    return total / jnp.where(count == 0, 1.0, count)[:, None]


def largest_curvature(problem: Problem, params: Any) -> Float[Array, ""]:
    """Largest eigenvalue of the Hessian of a `R_a`, the largest over the groups: `1 /` it is a safe step of descent.

    For a linear model it is taken at zero parameters, where the curvature of the logistic loss and of the squared hinge
    is largest, so that it bounds all others; for other models at `params`, where it bounds nothing.

    Args:
        problem: see `problem`.
        params: like the model's.
    """
    at = jax.tree.map(jnp.zeros_like, params) if problem.linear else params

    columns = columns_of(problem, at)

    def largest(weights: Array) -> Array:
        return jnp.linalg.eigvalsh(second_order(problem, weights, columns)(at)[2])[-1]

    return jnp.max(jax.lax.map(largest, jnp.eye(problem.num_groups)))


def _losses_of(loss: Any, model: Model) -> Partial:
    if not isinstance(loss, str):
        return example_losses.of_scores(loss, model)
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    return LOSSES[loss](model)


def _objective_of(
    objective: Any,
    apply: Partial,
    losses: Partial,
    num_groups: int,
    sharpness: Any,
    variant: str | None,
    with_intercept: bool,
) -> Partial:
    if isinstance(objective, str) and objective in LOSS_OBJECTIVES:
        losses = losses if with_intercept else Partial(losses.func, losses.args[0], apply)
        return Partial(_of_losses, Static((LOSS_OBJECTIVES[objective], num_groups)), losses)
    if isinstance(objective, str):
        if objective not in SCORE_OBJECTIVES:
            raise unknown_name("objective", objective, {**SCORE_OBJECTIVES, **LOSS_OBJECTIVES})
        how = Static((num_groups, variant))
        return Partial(_of_scores, Partial(_named, Static(SCORE_OBJECTIVES[objective]), how, sharpness), how, apply)
    return Partial(_of_scores, as_partial(objective), Static((num_groups, variant)), apply)


def _named(function: Static, how: Static, sharpness: Any, *rows: Any) -> Array:
    return function.value(*rows, sharpness=sharpness, variant=how.value[1])


def _of_scores(objective: Partial, how: Static, apply: Partial, params: Any, batch: Batch) -> Array:
    scores = example_losses.binary_logits(apply(params, batch.x))
    return objective(scores, batch.y, batch.group, how.value[0], batch.weight)


def _of_losses(how: Static, losses: Partial, params: Any, batch: Batch) -> Array:
    reducer, num_groups = how.value
    return reducer(*objectives.group_losses(losses(params, batch, None), batch.group, num_groups, batch.weight))


def _apply_without_intercept(apply: Partial, params: Any, x: Any, *, key: Any = None) -> Array:
    pairs, structure = jax.tree_util.tree_flatten_with_path(params)
    kept = [jnp.zeros_like(leaf) if _is_bias(path) else leaf for path, leaf in pairs]
    return apply(jax.tree.unflatten(structure, kept), x, key=key)


def _penalised(params: Any) -> list[tuple[Array, bool]]:
    return [(leaf, not _is_bias(path)) for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]]


def _is_bias(path: Any) -> bool:
    return bool(path) and getattr(path[-1], "key", getattr(path[-1], "name", None)) == "bias"


def _second_order(problem: Problem, columns: Array, rows: Array, params: Any) -> tuple[Array, Array, Array]:
    """`second_order` of a linear model: `rows` are the weights of the rows, `lambda_{g_i} / n_{g_i}` each."""
    flat = ravel_pytree(params)[0]

    def block(x: Array, y: Array, group: Array, rows: Array) -> tuple[Array, Array, Array]:
        # 0 times the infinity that padding may hold is no number.
        loss, slope, bend = (
            jnp.where(rows == 0, 0.0, rows * values)
            for values in _by_score(problem, jnp.matmul(flat, x, precision=_HIGHEST), y)
        )
        hessian = jnp.matmul(bend[None] * x, x.T, precision=_HIGHEST)
        return jnp.sum(loss), jnp.matmul(x, slope, precision=_HIGHEST), hessian

    value, slope, hessian = _over_blocks(block, problem, columns, rows)
    extra, extra_slope = jax.value_and_grad(lambda p: penalty(problem, p))(params)
    penalised = jnp.concatenate([jnp.full(leaf.size, counts, flat.dtype) for leaf, counts in _penalised(params)])
    ridge = jnp.diag(problem.regularisation.astype(flat.dtype) * penalised)
    return value + extra, slope + ravel_pytree(extra_slope)[0], hessian + ridge


def _over_blocks(block: Callable[..., Any], problem: Problem, columns: Array, rows: Array) -> Any:
    """Sum of `block(x, y, group, rows)` over blocks of rows, which stay in the cache and bound the memory."""
    data = (columns, jnp.asarray(problem.data.y), jnp.asarray(problem.data.group), rows.astype(columns.dtype))
    num_rows = rows.shape[0]
    if num_rows <= _BLOCK_ROWS:
        return block(*data)

    def add(index: Array | int, total: Any) -> Any:
        # The last block reaches back, to be as long as the others; what it has seen before does not count again.
        begin = jnp.minimum(index * _BLOCK_ROWS, num_rows - _BLOCK_ROWS)
        x, y, group, rows = (jax.lax.dynamic_slice_in_dim(leaf, begin, _BLOCK_ROWS, axis=-1) for leaf in data)
        fresh = begin + jnp.arange(_BLOCK_ROWS) >= index * _BLOCK_ROWS
        return jax.tree.map(jnp.add, total, block(x, y, group, jnp.where(fresh, rows, 0.0)))

    kinds = jax.eval_shape(lambda: block(*(leaf[..., :_BLOCK_ROWS] for leaf in data)))
    start = jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kinds)
    return jax.lax.fori_loop(0, -(-num_rows // _BLOCK_ROWS), add, start)


def _by_score(problem: Problem, scores: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Each row's loss and its first and second derivative by its own score, `f[n]` each."""
    of_scores = problem.config.value.of_scores
    assert of_scores is not None
    if of_scores in _LOGISTIC:
        jax.eval_shape(of_scores, scores, labels)  # refuses labels that it refuses
        # By hand: derivatives of its two softplus functions take three times as long.
        small = jnp.exp(-jnp.abs(scores))
        larger, positive = 1 / (1 + small), labels.astype(scores.dtype)
        decision = jnp.where(scores >= 0, larger, small * larger)
        loss = jnp.maximum(scores, 0) + jnp.log1p(small) - positive * scores
        return loss, decision - positive, small * larger**2

    def slope(values: Array) -> tuple[Array, Array]:
        def total(values: Array) -> tuple[Array, Array]:
            losses = of_scores(values, labels)
            return jnp.sum(losses), losses

        return jax.grad(total, has_aux=True)(values)

    (first, losses), (second, _) = jax.jvp(slope, (scores,), (jnp.ones_like(scores),))
    return losses, first, second
