"""The upper level of meta-reweighting: validation losses of groups or cells at the parameters one step ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from badrjax import objectives
from badrjax.batches import Batch, check_batch, frequencies
from badrjax.checks import check_finite, is_concrete, unknown_name
from badrjax.functions import as_partial
from badrjax.groups import group_count, group_mean

Cells = Literal["groups", "cells"]

GOALS: dict[str, Callable[..., Array]] = {
    "learning_to_reweight": objectives.mean,
    "forml": objectives.gap,
    "meta_group_dro": objectives.worst,
}
"""The published goals: the objective over group validation losses that each descends."""


class UpperLevel(NamedTuple):
    """The upper level at the lookahead; C is the number of cells.

    Attributes:
        losses: validation losses of the cells, `f[C]`.
        present: which cells have rows, `bool[C]`.
        protocol: derivative of the goal by the cell losses, `f[C]`.
        pull: takes weights `f[C]` over cells to the direction in parameter space whose `jvp` through the training
            losses is the hypergradient of the weighted cell losses.
    """

    losses: Float[Array, "C"]
    present: Bool[Array, "C"]
    protocol: Float[Array, "C"]
    pull: Callable[[Float[Array, "C"]], Any]


class Lookahead(NamedTuple):
    """Parameters after a step on a zero gradient, and the transposed derivative of that step by the gradient."""

    params: Any
    pull: Callable[[Any], Any]


def optimizer_lookahead(optimizer: Partial, opt_state: Any, params: Any) -> Lookahead:
    """The optimiser's own next step: momentum and weight decay move the parameters even on a zero gradient."""

    def stepped(gradient: Any) -> Any:
        return optax.apply_updates(params, optimizer().update(gradient, opt_state, params)[0])

    ahead, pull = jax.vjp(stepped, jax.tree.map(jnp.zeros_like, params))
    return Lookahead(ahead, lambda cotangent: pull(cotangent)[0])


def sgd_lookahead(params: Any) -> Lookahead:
    """A plain gradient step of size 1 from `params`; normalised weights make its size immaterial."""
    return Lookahead(params, lambda cotangent: jax.tree.map(jnp.negative, cotangent))


def upper_level(
    losses: Partial, goal: Partial, lookahead: Lookahead, validation: Batch, num_groups: int, cells: Cells, key: Any
) -> UpperLevel:
    """Cell losses at the lookahead, the goal's protocol over cells, and the way from cells to directions.

    Args:
        losses: `ExampleLosses` of the validation rows.
        goal: objective `(losses f[K], *, present) -> f[]` over groups.
        lookahead: see `optimizer_lookahead` and `sgd_lookahead`.
        validation: the validation rows.
        num_groups: static number of groups K.
        cells: `"groups"`, or group x label `"cells"` with cell `2 k + y`.
        key: of the validation losses' dropout; `None` for none.
    """
    cell, owner = _cells(validation, num_groups, cells)
    num_cells, weight = owner.shape[0], frequencies(validation)
    count = group_count(cell, num_cells, weight)

    def cell_losses(params: Any) -> Array:
        return group_mean(losses(params, validation, key), cell, num_cells, weight)

    def goal_of_cells(values: Array) -> Array:
        # A group's loss is the mean over its rows, so its cells count by their rows.
        present = group_count(owner, num_groups, count) > 0
        return goal(group_mean(values, owner, num_groups, count), present=present)

    values, pull = jax.vjp(cell_losses, lookahead.params)
    protocol = jax.grad(goal_of_cells)(values)
    return UpperLevel(values, count > 0, protocol, lambda beta: lookahead.pull(pull(beta)[0]))


def resolve_goal(goal: Any) -> Partial:
    """A goal by name, or an objective `(losses, *, present) -> f[]` as it is.

    Raises:
        ValueError: for an unknown name, with the nearest ones.
    """
    if not isinstance(goal, str):
        return as_partial(goal)
    if goal not in GOALS:
        raise unknown_name("goal", goal, GOALS)
    return Partial(GOALS[goal])


def check_validation(validation: Batch, num_groups: int, cells: Cells) -> None:
    """Raise `ValueError` for bad ids or labels, values that are not finite, or an empty group or cell (which)."""
    check_batch(validation, num_groups, "validation")
    check_finite(validation.x, "validation.x")
    check_finite(validation.y, "validation.y")
    if not is_concrete(validation):
        return
    label = np.asarray(validation.y)
    if cells == "cells" and (np.issubdtype(label.dtype, np.inexact) or not np.isin(label, (0, 1)).all()):
        raise ValueError("cells='cells' needs validation labels 0 and 1 (integers); use cells='groups' otherwise")
    # NumPy only: inside `jit` even jnp functions of concrete arrays are traced.
    real = np.ones(label.shape, bool) if validation.weight is None else np.asarray(validation.weight) > 0
    group = np.asarray(validation.group)
    wanted: list[tuple[str, Any]] = [(f"group {k}", group == k) for k in range(num_groups)]
    if cells == "cells":
        wanted = [(f"{name} with label {y}", rows & (label == y)) for name, rows in wanted for y in (0, 1)]
    empty = [name for name, rows in wanted if not (real & rows).any()]
    if empty:
        raise ValueError(
            f"validation has no row of {', '.join(empty)}; each needs at least one: draw a larger validation set or "
            "one balanced over groups and labels"
        )


def check_lookahead(optimizer: Partial) -> None:
    """Raise `ValueError` for an optimiser whose update has no derivative at a zero first gradient, as Adam's."""
    if not is_concrete(optimizer) or any(np.ndim(leaf) for leaf in jax.tree.leaves(optimizer)):
        return
    with jax.ensure_compile_time_eval():
        transformation = optimizer()
        # Not at zero parameters: trust-ratio optimisers scale by their norm.
        params = jnp.ones(())
        try:
            state = transformation.init(params)
            slope = float(jax.grad(lambda gradient: transformation.update(gradient, state, params)[0])(jnp.zeros(())))
        except (TypeError, ValueError):
            return  # it wants parameters of some structure (labels or masks by name), so one number tells nothing
    if not np.isfinite(slope) or slope == 0:
        raise ValueError(
            "lookahead='optimizer' needs an optimizer whose update has a nonzero derivative at a zero gradient, and "
            f"this one's is {slope}; give an adaptive one eps_root > 0, begin a schedule "
            "above 0, or use lookahead='sgd', which fits any optimizer"
        )


def _cells(validation: Batch, num_groups: int, cells: Cells) -> tuple[Array, Array]:
    """Each validation row's cell, and each cell's group."""
    group = jnp.asarray(validation.group).astype(jnp.int32)  # 2 K must fit
    if cells == "groups":
        return group, jnp.arange(num_groups)
    label = jnp.asarray(validation.y).astype(group.dtype)
    return 2 * group + label, jnp.repeat(jnp.arange(num_groups), 2)
