"""Empirical risk minimisation and the tail-of-the-batch form of distributionally robust optimisation."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.batches import Batch, fill_padding, frequencies
from badrjax.checks import is_concrete
from badrjax.functions import Static, as_partial
from badrjax.methods.base import Method, descend, loss_and_weighted_gradient, optimiser_pytree

Reduction = Literal["mean", "sum", "root"]


class ERMState(NamedTuple):
    """Parameters and the optimiser's state."""

    params: Any
    opt_state: Any


class ERMInfo(NamedTuple):
    """What one step saw.

    Attributes:
        loss: mean training loss of the batch, `f[]`.
        share: share of the batch's weight that the gradient was taken over, `f[]` (1 for `erm`).
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
        ValueError: for an unknown reduction. TypeError: for an optimizer that is neither form.
    """
    return _tail_method(losses, optimizer, 1.0, reduction, False)


def dro(
    losses: Any,
    optimizer: Any,
    *,
    fraction: Float[Array, ""] | float = 0.4,
    reduction: Reduction = "mean",
    whole_rows: bool = False,
) -> Method:
    r"""Steps on the worst `fraction` of the batch, the conditional value at risk of its losses.

    With rows sorted by falling loss, the first `fraction * sum(weight)` of the weight counts, the last row by its
    fractional part. This is what the Nash-Meta-Learning code runs under the name DRO (it takes the sum over whole
    rows); its paper cites the chi-square ball of Hashimoto et al. 2018, which is another objective.

    Args:
        losses: `ExampleLosses`.
        optimizer: as for `erm`.
        fraction: in `(0, 1]`, a leaf; 1 is `erm`.
        reduction: of the losses that count, see `erm`. The code's `"sum"` makes its step `0.4 n` times larger than
            that of the mean, so its column is partly a learning-rate effect.
        whole_rows: round the budget down to whole rows, as the code does.

    Raises:
        ValueError: for a fraction outside `(0, 1]` or an unknown reduction.
    """
    if is_concrete(fraction) and not np.all((np.asarray(fraction) > 0) & (np.asarray(fraction) <= 1)):
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    return _tail_method(losses, optimizer, fraction, reduction, whole_rows)


def tail_weights(
    losses: Float[Array, "n"],
    fraction: Float[Array, ""] | float,
    weight: Float[Array, "n"],
    whole_rows: bool = False,
) -> Float[Array, "n"]:
    """How much of each row's weight lies in the worst `fraction` of the total, `f[n]` in `[0, weight]`."""
    order = jnp.argsort(jnp.where(weight > 0, -losses, jnp.inf))
    sorted_weight = weight[order]
    budget = fraction * jnp.sum(weight)
    budget = jnp.floor(budget) if whole_rows else budget
    before = jnp.cumsum(sorted_weight) - sorted_weight
    taken = jnp.clip(budget - before, 0.0, sorted_weight)
    return jnp.zeros_like(weight).at[order].set(taken)


def _tail_method(losses: Any, optimizer: Any, fraction: Any, reduction: str, whole_rows: bool) -> Method:
    if reduction not in ("mean", "sum", "root"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'root', got {reduction!r}")
    optimizer = optimiser_pytree(optimizer)
    # `erm` needs no sort: with fraction 1 as part of the program every row counts.
    bound = None if isinstance(fraction, float) and fraction == 1.0 else fraction
    step = Partial(_step, Static((reduction, whole_rows)), as_partial(losses), optimizer, bound)
    return Method(Partial(_init, optimizer), step)


def _init(optimizer: Partial, key: Any, params: Any) -> ERMState:
    return ERMState(params, optimizer().init(params))


def _step(
    config: Static,
    losses: Partial,
    optimizer: Partial,
    fraction: Any,
    key: Any,
    state: ERMState,
    batch: Batch,
) -> tuple[ERMState, ERMInfo]:
    reduction, whole_rows = config.value
    batch = fill_padding(batch)
    weight = frequencies(batch)
    total = jnp.sum(weight)

    def weights_of(values: Array) -> Array:
        taken = weight if fraction is None else tail_weights(values, fraction, weight, whole_rows)
        size = jnp.sum(taken)
        scale = {"mean": size, "sum": jnp.ones_like(size), "root": jnp.sqrt(size)}[reduction]
        return (taken / jnp.where(size > 0, scale, 1.0)).astype(values.dtype)

    values, gradient = loss_and_weighted_gradient(losses, state.params, batch, key, weights_of)
    params, opt_state = descend(optimizer, gradient, state.opt_state, state.params, weight)
    safe_total = jnp.where(total > 0, total, 1.0)
    loss = jnp.sum(jnp.where(weight > 0, weight * values, 0.0)) / safe_total
    share = jnp.ones_like(loss) if fraction is None else jnp.asarray(fraction, loss.dtype)
    return ERMState(params, opt_state), ERMInfo(loss, share)
