r"""One example, one loss: factories of `ExampleLosses`, `(params, batch, key) -> f[n]`.

Group losses are a masked mean of such a vector, hypergradients a `jvp` of it, reweighted training a dot product
with it. Each factory takes a model (anything with `apply(params, x, *, key=None) -> scores`) and returns a
`jax.tree_util.Partial`, so that the numbers inside the model (a dropout rate) stay leaves.

Scores are logits `f[n]` of the positive class, or `f[n, C]` with one column a class. Frequencies (`batch.weight`)
are not applied here: whoever reduces the vector applies them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Shaped

from badrjax.batches import Batch
from badrjax.checks import check_positive_integer
from badrjax.functions import Static, as_partial, is_number

ExampleLosses: TypeAlias = Callable[[Any, Batch, Any], Array]
"""`(params, batch, key) -> f[n]`; `key=None` means the deterministic model."""


def cross_entropy(model: Any) -> Partial:
    r"""Cross-entropy of class labels: `log(1 + exp(-s))` style for logits `f[n]`, softmax for `f[n, C]`.

    Args:
        model: a model with `apply`.

    Returns:
        `ExampleLosses` in nats, `>= 0`.

    Raises:
        TypeError: (when called) for labels that are not integers or booleans.
        ValueError: (when called) for scores of another rank, or one column only.
    """
    return of_scores(cross_entropy_of_scores, model)


def logistic(model: Any) -> Partial:
    """Binary cross-entropy of the logit `f[n]`; two columns `f[n, 2]` are reduced to their difference.

    Args, returns and errors as `cross_entropy`, and more than two columns are refused.
    """
    return of_scores(_logistic_of_scores, model)


def squared(model: Any) -> Partial:
    """Squared residual `(s - y)^2` (no factor 1/2) of scores `f[n]` and real (or 0/1) labels."""
    return of_scores(_squared_of_scores, model)


def squared_hinge(model: Any) -> Partial:
    """`max(0, 1 - (2y - 1) s)^2` of the logit `f[n]` (two columns: their difference) and labels 0/1."""
    return of_scores(_squared_hinge_of_scores, model)


def cross_entropy_with_f1(model: Any) -> Partial:
    r"""Cross-entropy plus the smooth F1 term of the Nash-Meta-Learning code, its validation loss.

    With `p = sigmoid(logit of the true class)` the term is `sigmoid(-2 p / (1 + p))`, in `(sigmoid(-1), 1/2)`.
    The paper's text does not mention it. For logits `f[n]` the true class's logit is `s` or `-s`.

    Args, returns and errors as `cross_entropy`, and more than two columns are refused.
    """
    return of_scores(_cross_entropy_with_f1_of_scores, model)


def binary_logits(scores: Float[Array, "n *columns"]) -> Float[Array, "n"]:
    """Logits `f[n]` of class 1: the scores themselves, or the difference of two columns.

    Raises:
        ValueError: for scores of any other shape.
    """
    if scores.ndim == 1:
        return scores
    if scores.ndim == 2 and scores.shape[1] == 2:
        return scores[:, 1] - scores[:, 0]
    raise ValueError(f"binary scores must be logits [n] or two columns [n, 2], got shape {scores.shape}")


def cross_entropy_of_scores(scores: Float[Array, "n *columns"], labels: Shaped[Array, "n"]) -> Float[Array, "n"]:
    """Cross-entropy `f[n]` of scores `f[n]` or `f[n, C]` and integer labels `[n]`."""
    _check_classes(scores, labels)
    if scores.ndim == 1:
        return optax.losses.sigmoid_binary_cross_entropy(scores, labels.astype(scores.dtype))
    return optax.losses.softmax_cross_entropy_with_integer_labels(scores, labels.astype(jnp.int32))


def _logistic_of_scores(scores: Array, labels: Array) -> Array:
    _check_classes(scores, labels)
    return cross_entropy_of_scores(binary_logits(scores), labels)


def _squared_of_scores(scores: Array, labels: Array) -> Array:
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"squared needs one score an example; scores have shape {scores.shape}, labels {labels.shape}")
    return optax.losses.squared_error(scores, labels.astype(scores.dtype))


def _squared_hinge_of_scores(scores: Array, labels: Array) -> Array:
    _check_classes(scores, labels)
    margin = (2 * labels.astype(scores.dtype) - 1) * binary_logits(scores)
    return jnp.square(jnp.maximum(1 - margin, 0))


def _cross_entropy_with_f1_of_scores(scores: Array, labels: Array) -> Array:
    loss = cross_entropy_of_scores(scores, labels)
    positive = labels.astype(bool)
    if scores.ndim == 1:
        true_logit = jnp.where(positive, scores, -scores)
    else:
        binary_logits(scores)  # refuses more than two columns
        true_logit = jnp.where(positive, scores[:, 1], scores[:, 0])
    probability = jax.nn.sigmoid(true_logit)
    return loss + jax.nn.sigmoid(-2 * probability / (1 + probability))


def of_scores(loss: Callable[[Array, Array], Array], model: Any) -> Partial:
    """`ExampleLosses` of a loss of one's own.

    Args:
        loss: `(scores, labels [n]) -> f[n]`, a row's loss of its own score and label only; part of the program.
        model: a model with `apply`.

    Raises:
        TypeError: for a loss that cannot be called.
    """
    if not callable(loss):
        raise TypeError(f"loss must be a function of scores and labels, got {type(loss).__name__}")
    return Partial(_apply_then, Static(loss), as_partial(model.apply))


def fairness(objective: Callable[..., Array], model: Any, *, num_groups: int, **options: Any) -> Partial:
    """A fairness loss of a model's scores, as `badrjax.fairbinn` takes it.

    Args:
        objective: `(scores, labels, groups, num_groups, weight, **options) -> f[]`, one of those of scores in
            `badrjax.objectives`.
        model: a model with `apply`, whose scores are logits `f[n]` (two columns: their difference).
        num_groups: static number of groups.
        **options: of the objective; floats and arrays are leaves, everything else is part of the program.

    Returns:
        `(params, batch, key) -> f[]`.

    Raises:
        TypeError: for an objective that cannot be called.
    """
    if not callable(objective):
        raise TypeError(f"objective must be a function of scores, labels and groups, got {type(objective).__name__}")
    check_positive_integer(num_groups=num_groups)
    numbers = {name: value for name, value in options.items() if is_number(value)}
    static = tuple(sorted((name, value) for name, value in options.items() if name not in numbers))
    return Partial(_fairness, Static((num_groups, static)), as_partial(objective), as_partial(model.apply), numbers)


def _fairness(
    config: Static, objective: Partial, apply: Partial, numbers: dict[str, Any], params: Any, batch: Batch, key: Any
) -> Array:
    num_groups, options = config.value
    scores = binary_logits(apply(params, batch.x, key=key))
    return objective(scores, batch.y, batch.group, num_groups, batch.weight, **dict(options), **numbers)


def _apply_then(loss: Static, apply: Partial, params: Any, batch: Batch, key: Any = None) -> Array:
    return loss.value(apply(params, batch.x, key=key), batch.y)


def _check_classes(scores: Array, labels: Array) -> None:
    if jnp.issubdtype(labels.dtype, jnp.inexact):
        raise TypeError("labels must be integers or booleans (classes) for this loss; float labels mean regression")
    if labels.ndim != 1:
        raise ValueError(f"labels must be one class an example, [n], got shape {labels.shape}")
    if scores.ndim not in (1, 2) or scores.shape[0] != labels.shape[0]:
        raise ValueError(f"scores must be [n] or [n, C] with n = {labels.shape[0]}, got shape {scores.shape}")
    if scores.ndim == 2 and scores.shape[1] == 1:
        raise ValueError("scores have one column [n, 1]; squeeze it: a model's binary scores are logits [n]")
