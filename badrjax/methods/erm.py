"""Empirical risk minimisation, and steps on the losses of a batch that are weighted anew."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.functions import Static, as_partial
from badrjax.methods.base import Method, descend, loss_and_weighted_gradient, mean_loss, optimiser_pytree

Reduction = Literal["mean", "sum", "root"]


class ERMState(NamedTuple):
    """Parameters and the optimiser's state."""

    params: Any
    opt_state: Any


class ERMInfo(NamedTuple):
    """What one step saw.

    Attributes:
        loss: mean training loss of the batch, `f[]`.
        share: how much of the batch's weight still counts, `f[]` in `[0, 1]`: 1 for `erm`, the tail's share for `dro`,
            and 1 less the total variation between the old weights and the new ones in general.
    """

    loss: Float[Array, ""]
    share: Float[Array, ""]


def erm(losses: Any, optimizer: Any, *, reduction: Reduction = "mean") -> Method:
    r"""Empirical risk minimisation: an optimiser step on the losses of the batch.

    Args:
        losses: `ExampleLosses`, `(params, batch, key) -> f[n]`.
        optimizer: an optax transformation or `Partial(optax.sgd, learning_rate=...)`.
        reduction: `"mean"` of the losses; their `"sum"`; or `"root"`, `sum_i l_i / sqrt(n)`, the baseline of the
            Nash-Meta-Learning code, whose equal weights have unit L2 norm (its step is sqrt(n) times that of the
            mean).

    Raises:
        ValueError: for an unknown reduction.
        TypeError: for an optimizer that is neither form.
    """
    return reweighted(losses, optimizer, None, reduction)


def reweighted(losses: Any, optimizer: Any, rule: Any, reduction: Reduction) -> Method:
    """A method that steps on the losses of the batch, weighted anew by a rule.

    Args:
        losses: `ExampleLosses`.
        optimizer: as for `erm`.
        rule: `(losses f[n], weight f[n]) -> f[n]`, how much each row counts, 0 where `weight` is 0; `None` leaves
            the batch's own weights.
        reduction: of the losses that count, see `erm`.

    Raises:
        ValueError: for an unknown reduction.
    """
    if reduction not in ("mean", "sum", "root"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'root', got {reduction!r}")
    optimizer = optimiser_pytree(optimizer)
    step = Partial(_step, Static(reduction), as_partial(losses), optimizer, rule)
    return Method(Partial(_init, optimizer), step)


def _init(optimizer: Partial, key: Any, params: Any) -> ERMState:
    return ERMState(params, optimizer().init(params))


def _step(
    reduction: Static, losses: Partial, optimizer: Partial, rule: Any, key: Any, state: ERMState, batch: Batch
) -> tuple[ERMState, ERMInfo]:
    batch = fill_padding(batch)
    weight = frequencies(batch)
    total = jnp.sum(weight)

    def counted(values: Array) -> Array:
        return weight if rule is None else rule(values, weight)

    def weights_of(values: Array) -> Array:
        taken = counted(values)
        size = jnp.sum(taken)
        scale = {"mean": size, "sum": jnp.ones_like(size), "root": jnp.sqrt(size)}[reduction.value]
        return (taken / jnp.where(size > 0, scale, 1.0)).astype(values.dtype)

    values, gradient = loss_and_weighted_gradient(losses, state.params, batch, key, weights_of)
    params, opt_state = descend(optimizer, gradient, state.opt_state, state.params, weight)
    loss = mean_loss(values, weight)
    share = jnp.sum(jnp.minimum(counted(values), weight)) / jnp.where(total > 0, total, 1.0)
    return ERMState(params, opt_state), ERMInfo(loss, share.astype(loss.dtype))
