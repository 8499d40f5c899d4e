"""Group distributionally robust optimisation: weights over groups that follow their losses."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.checks import is_concrete
from badrjax.functions import Static, as_partial
from badrjax.groups import group_count, group_mean
from badrjax.methods.base import Method, descend, loss_and_weighted_gradient, mean_loss, optimiser_pytree


class GroupDROState(NamedTuple):
    """Parameters, the optimiser's state, and the logarithms of the weights over groups, `f[K]`."""

    params: Any
    opt_state: Any
    log_weights: Float[Array, "K"]


class GroupDROInfo(NamedTuple):
    """What one step saw.

    Attributes:
        loss: mean training loss of the batch, `f[]`.
        group_losses: mean loss of each group in the batch, `f[K]`; NaN for one without rows.
        group_weights: weights over groups that the step was taken with, `f[K]`, summing to 1.
    """

    loss: Float[Array, ""]
    group_losses: Float[Array, "K"]
    group_weights: Float[Array, "K"]


def group_dro(
    losses: Any,
    optimizer: Any,
    *,
    num_groups: int,
    step_size: Float[Array, ""] | float = 0.01,
    adjustment: Float[Array, ""] | float = 0.0,
    group_sizes: Float[Array, "K"] | None = None,
) -> Method:
    r"""Group DRO (Sagawa et al. 2020): descent on `sum_k q_k L_k`, exponentiated ascent on `q`.

    On each batch `q_k <- q_k exp(step_size (L_k + adjustment / sqrt(n_k)))`, brought to sum 1, and then an optimiser
    step with `q` held fixed. A group without rows in the batch has loss 0 there; so use `badrjax.group_balanced`.

    Args:
        losses: `ExampleLosses`.
        optimizer: an optax transformation or `Partial(optax.sgd, learning_rate=...)`.
        num_groups: static number of groups K.
        step_size: of the ascent, `>= 0`, a leaf.
        adjustment: the constant of the generalisation adjustment, `>= 0`, a leaf; needs `group_sizes`.
        group_sizes: training rows of each group, `f[K]`, all positive.

    Raises:
        ValueError: for negative numbers, or sizes that are missing, not positive or not K.
    """
    for name, value in (("step_size", step_size), ("adjustment", adjustment)):
        if is_concrete(value) and not np.all(np.asarray(value) >= 0):
            raise ValueError(f"{name} must be 0 or more, got {value}")
    if group_sizes is None:
        if not is_concrete(adjustment) or np.any(np.asarray(adjustment) != 0):
            raise ValueError("adjustment needs group_sizes, the training rows of each group")
        group_sizes = jnp.ones(num_groups)
    if np.shape(group_sizes) != (num_groups,):
        raise ValueError(f"group_sizes must be one number for each of {num_groups} groups, got {np.shape(group_sizes)}")
    if is_concrete(group_sizes) and not np.all(np.asarray(group_sizes) > 0):
        raise ValueError("group_sizes must be positive: a group without training rows cannot be made safe; drop it")
    optimizer = optimiser_pytree(optimizer)
    numbers = (step_size, adjustment, jnp.asarray(group_sizes, jnp.result_type(float)))
    step = Partial(_step, Static(num_groups), as_partial(losses), optimizer, numbers)
    return Method(Partial(_init, Static(num_groups), optimizer), step)


def _init(num_groups: Static, optimizer: Partial, key: Any, params: Any) -> GroupDROState:
    uniform = jnp.full(num_groups.value, -jnp.log(num_groups.value), jnp.result_type(float))
    return GroupDROState(params, optimizer().init(params), uniform)


def _step(
    num_groups: Static, losses: Partial, optimizer: Partial, numbers: Any, key: Any, state: GroupDROState, batch: Batch
) -> tuple[GroupDROState, GroupDROInfo]:
    step_size, adjustment, sizes = numbers
    batch = fill_padding(batch)
    weight, group = frequencies(batch), batch.group.astype(jnp.int32)
    count = group_count(group, num_groups.value, weight)
    real = jnp.sum(count) > 0

    def ascended(values: Array) -> tuple[Array, Array]:
        mean = group_mean(values, group, num_groups.value, weight)  # 0 for a group without rows
        raised = state.log_weights + step_size * (mean + adjustment / jnp.sqrt(sizes))
        return mean, jnp.where(real, jax.nn.log_softmax(raised), state.log_weights)

    def weights_of(values: Array) -> Array:
        of_group = jnp.exp(ascended(values)[1]) / jnp.where(count > 0, count, 1.0)
        return (weight * of_group[group]).astype(values.dtype)

    values, gradient = loss_and_weighted_gradient(losses, state.params, batch, key, weights_of)
    mean, log_weights = ascended(values)
    params, opt_state = descend(optimizer, gradient, state.opt_state, state.params, weight)
    info = GroupDROInfo(mean_loss(values, weight), jnp.where(count > 0, mean, jnp.nan), jnp.exp(log_weights))
    return GroupDROState(params, opt_state, log_weights.astype(state.log_weights.dtype)), info
