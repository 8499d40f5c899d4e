"""What every method is made of: the pair of pure functions, and one optimiser step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.functions import Static, is_number


class Method(NamedTuple):
    """A method as a pytree of pure functions.

    Members are `jax.tree_util.Partial`s of module-level functions: the numbers and arrays bound to them are
    leaves, so another learning rate does not recompile and `vmap` over methods works.

    Attributes:
        init: `init(key, params) -> state`; `state.params` always exists.
        step: `step(key, state, batch) -> (state, info)`, both NamedTuples of arrays. A batch of padding only leaves
            `state.params` as they are.
        end_epoch: `end_epoch(key, state, train) -> (state, info)`, for what happens between epochs; `train` is all
            the training rows.
        done: `done(state) -> bool[]`, asked after each epoch.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]
    end_epoch: Callable[..., Any] | None = None
    done: Callable[..., Any] | None = None


def optimiser_pytree(optimizer: Any) -> Partial:
    """An optimiser as a `Partial` without arguments that returns the optax transformation.

    Args:
        optimizer: an optax transformation, or `Partial(optax.sgd, learning_rate=..., momentum=...)`. Floats and
            arrays bound to a `Partial` are leaves: they may be traced and swept. Everything else bound to it
            (booleans, integers, strings, functions, `None`) is part of the program. A built transformation is part
            of the program as a whole, and a newly built one is a new program.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        return Partial(_built, Static(optimizer))
    if isinstance(optimizer, Partial):
        if isinstance(optimizer.func, type(_built)) and optimizer.func in (_built, _construct):
            return optimizer
        if optimizer.args:
            raise TypeError("bind the optimizer's arguments by name: Partial(optax.sgd, learning_rate=0.1)")
        numbers = {name: value for name, value in optimizer.keywords.items() if is_number(value)}
        options = tuple(sorted((n, v) for n, v in optimizer.keywords.items() if n not in numbers))
        return Partial(_construct, Static(optimizer.func), Static(options), numbers)
    raise TypeError(
        "optimizer must be an optax transformation or jax.tree_util.Partial(optax.sgd, learning_rate=...), "
        f"got {type(optimizer).__name__}"
    )


def descend(
    optimizer: Partial, gradient: Any, opt_state: Any, params: Any, weight: Float[Array, "n"]
) -> tuple[Any, Any]:
    """`(params, opt_state)` after one optimiser step, or unchanged when the batch is padding only.

    Momentum and weight decay would move the parameters even on a zero gradient; a batch without any weight is no
    batch, so it moves nothing.
    """
    updates, new_state = optimizer().update(gradient, opt_state, params)
    new_params = optax.apply_updates(params, updates)
    real = jnp.sum(weight) > 0
    return (
        jax.tree.map(lambda new, old: jnp.where(real, new, old), new_params, params),
        jax.tree.map(lambda new, old: jnp.where(real, new, old), new_state, opt_state),
    )


def loss_and_weighted_gradient(
    losses: Partial, params: Any, batch: Any, key: Any, weights_of: Callable[[Array], Array]
) -> tuple[Array, Any]:
    """Per-example losses `f[n]` and the gradient of `sum_i w_i l_i` with `w = weights_of(losses)` held fixed."""
    values, pull = jax.vjp(lambda p: losses(p, batch, key), params)
    return values, pull(weights_of(jax.lax.stop_gradient(values)))[0]


def mean_loss(values: Float[Array, "n"], weight: Float[Array, "n"]) -> Float[Array, ""]:
    """Mean of rows' losses by their frequencies; padding is not read, and padding only gives 0 with derivative 0."""
    total = jnp.sum(weight)
    return jnp.sum(jnp.where(weight > 0, weight * values, 0.0)) / jnp.where(total > 0, total, 1.0)


def _built(optimizer: Static) -> optax.GradientTransformation:
    return optimizer.value


def _construct(constructor: Static, options: Static, numbers: dict[str, Any]) -> optax.GradientTransformation:
    return constructor.value(**dict(options.value), **numbers)
