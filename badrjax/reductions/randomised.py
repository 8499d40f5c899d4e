"""The randomised classifier and pure functions of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from badrjax.losses import binary_logits
from badrjax.models.base import Model, as_model
from badrjax.training import check_run

LEARNED = -1


class ExpGradResult(NamedTuple):
    """A randomised classifier: for each row one of `T` predictors is drawn, and its class is predicted.

    Only predictors with a positive probability are kept.

    Attributes:
        params: parameters of the predictors, stacked, each leaf `[T, ...]`, in the order in which they were found.
        probabilities: of drawing each, `f[T]` in `(0, 1]`, with sum 1.
        constants: `int32[T]`: -1 for a model, 0 or 1 for a predictor that always says so (the answer where all costs
            ask for one class); its `params` are the starting ones and are not used.
        best_gap: duality gap of the saddle point found, `>= 0`: how far from optimal it may be.
        num_oracle_calls: cost-sensitive problems solved, those with a constant answer among them.
        num_iterations: rounds of the multipliers.
    """

    params: Any
    probabilities: Float[Array, "T"]
    constants: Int[Array, "T"]
    best_gap: float
    num_oracle_calls: int
    num_iterations: int


def expected_positive(result: ExpGradResult, model: Model, x: Array) -> Float[Array, "n"]:
    """Probability that the randomised classifier predicts 1, one predictor after the other.

    Args:
        result: of `expgrad`.
        model: the model it was trained with.
        x: features `f[n, F]`, or what the model takes.

    Returns:
        `f[n]` in `[0, 1]`; exactly 0 or 1 where the predictors agree.

    Raises:
        ValueError: for scores that are not `f[n]` or `f[n, 2]`.
    """
    return _expected_positive(result, as_model(model), x)


def draw_predictions(key: Array, result: ExpGradResult, model: Model, x: Array) -> Int[Array, "n"]:
    """One draw of the randomised classifier: each row's predictor is drawn by itself.

    Args:
        key: a typed key; consumed.
        result: of `expgrad`.
        model: the model it was trained with.
        x: features `f[n, F]`, or what the model takes.

    Returns:
        Classes, `int32[n]`.

    Raises:
        TypeError: for an old-style key.
        ValueError: for scores that are not `f[n]` or `f[n, 2]`.
    """
    check_run(key, 1, "epoch")
    return _draw_predictions(key, result, as_model(model), x)


@jax.jit
def _expected_positive(result: ExpGradResult, model: Model, x: Array) -> Array:
    def add(sums: tuple[Array, Array], predictor: tuple[Any, Array, Array]) -> tuple[tuple[Array, Array], None]:
        params, probability, constant = predictor
        votes, total = sums
        votes = votes + probability * decisions(model, params, constant, x)
        return (votes, total + probability), None

    zero = jnp.zeros((), result.probabilities.dtype)
    predictors = (result.params, result.probabilities, result.constants)
    # Divided by a sum that rounds as the votes do, so that unanimous rows come out as exactly 1.
    (votes, total), _ = jax.lax.scan(add, (jnp.broadcast_to(zero, (jnp.shape(x)[0],)), zero), predictors)
    return votes / total


@jax.jit
def _draw_predictions(key: Array, result: ExpGradResult, model: Model, x: Array) -> Array:
    num_rows = jnp.shape(x)[0]
    drawn = jax.random.categorical(key, jnp.log(result.probabilities), shape=(num_rows,))

    def choose(chosen: Array, predictor: tuple[Any, Array, Array]) -> tuple[Array, None]:
        params, constant, number = predictor
        return jnp.where(drawn == number, decisions(model, params, constant, x), chosen), None

    numbers = jnp.arange(result.constants.shape[0])
    chosen, _ = jax.lax.scan(choose, jnp.zeros(num_rows, bool), (result.params, result.constants, numbers))
    return chosen.astype(jnp.int32)


@jax.jit
def decisions(model: Model, params: Any, constant: Any, x: Array) -> Array:
    """Whether one predictor says 1, `bool[n]`: the model, or a constant other than `LEARNED`."""
    positive = binary_logits(model.apply(params, x)) > 0
    return jnp.where(constant == LEARNED, positive, constant == 1)
