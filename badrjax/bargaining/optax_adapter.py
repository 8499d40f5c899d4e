"""A rule as a gradient transformation that turns K gradients into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key

from badrjax.bargaining.gram import combine, gramian


class Weights(NamedTuple):
    """What `as_optax` keeps of a rule that returns plain weights, so that `optax.tree.get` finds them by name."""

    weights: Float[Array, "K"]


class AggregationState(NamedTuple):
    """State of `as_optax`.

    Attributes:
        solution: what the rule returned at the last update (`NashSolution`, or `Weights`); zeros before the first
            where `num_players` was given, else `None`.
        key: the key of the next update; `None` for a rule without randomness.
    """

    solution: Any
    key: Key[Array, ""] | None


def as_optax(
    rule: Callable[..., Any], *, num_players: int | None = None, key: Key[Array, ""] | None = None
) -> optax.GradientTransformationExtraArgs:
    """`rule` as the first transformation of an optax chain: updates whose leaves lead with K come out without K.

    Put `optax.MultiSteps` and other accumulators after it, for they expect leaves without K. The convention is that
    of `optax.experimental.aggregating`: `init` takes the parameters, `update` one gradient a player, so
    `optax.chain(as_optax(nash_weights, num_players=K), optax.sgd(0.1))` follows the bargain. The last solution is
    kept in the state, where `optax.tree.get(state, "weights")` (and `"feasible"`) finds it.

    `update(updates, state, params=None, *, present=None, **extra_args)` hands `present` `bool[K]` to the rule and
    leaves other arguments to the rest of the chain.

    Args:
        rule: `rule(gram)`, or `rule(subkey, gram)` where a `key` is given (as `pcgrad_weights` needs), returning
            weights `f[K]` or a NamedTuple with a field `weights`. It is called with `present=` only where `update` is.
        num_players: K, which parameters do not tell. With it the state has its structure from the start, as a `scan`
            or `cond` over updates needs (gradients must then have the parameters' dtypes); without it `solution` is
            `None` until the first update.
        key: a typed key for a random rule; each update splits it.

    Returns:
        A transformation; its updates have the dtypes of the gradients.

    Raises:
        ValueError: for `num_players` that is not a positive int; from `update` for leaves that do not lead with the
            same K (or with another than `num_players`).
        TypeError: from `update` (or `init`) for a rule that returns neither weights nor a NamedTuple with them.
    """
    if num_players is not None and (
        isinstance(num_players, bool) or not isinstance(num_players, int | np.integer) or num_players < 1
    ):
        raise ValueError(f"num_players must be a positive Python int or None, got {num_players!r}")
    if key is not None and not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
        raise TypeError(f"key must be a typed key, jax.random.key(seed), got {key!r}")

    def init(params: Any) -> AggregationState:
        # A copy, so that a state may be donated without taking the user's key with it.
        own_key = None if key is None else jnp.copy(key)
        if num_players is None:
            return AggregationState(None, own_key)
        shape = jax.eval_shape(lambda tree: _start(rule, tree, num_players, key), params)
        return AggregationState(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape), own_key)

    def update(
        updates: Any, state: AggregationState, params: Any = None, *, present: Bool[Array, "K"] | None = None, **_: Any
    ) -> tuple[Any, AggregationState]:
        del params
        gram = gramian(updates)
        if num_players is not None and gram.shape[0] != num_players:
            raise ValueError(f"updates lead with {gram.shape[0]} players, but num_players is {num_players}")
        carried, subkey = (None, None) if state.key is None else jax.random.split(state.key)
        solution = _solve(rule, subkey, gram, present)
        return combine(updates, solution.weights), AggregationState(solution, carried)

    return optax.GradientTransformationExtraArgs(init, update)


def _start(rule: Callable[..., Any], params: Any, num_players: int, key: Key[Array, ""] | None) -> Any:
    rows = jax.tree.map(lambda leaf: jnp.zeros((num_players, *jnp.shape(leaf)), jnp.result_type(leaf)), params)
    return _solve(rule, key, gramian(rows), None)


def _solve(rule: Callable[..., Any], key: Key[Array, ""] | None, gram: Array, present: Array | None) -> Any:
    options = {} if present is None else {"present": present}
    solution = rule(gram, **options) if key is None else rule(key, gram, **options)
    if hasattr(solution, "weights"):
        return solution
    if isinstance(solution, tuple | list) or jnp.shape(solution) != gram.shape[:1]:
        raise TypeError(f"rule must return weights f[{gram.shape[0]}] or a NamedTuple with weights, got {solution}")
    return Weights(jnp.asarray(solution))
