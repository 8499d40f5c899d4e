r"""Derivatives of upper-level losses by example weights, without unrolling.

With per-example losses `l_i(params)` and a step on `sum_i w_i l_i`, the derivative of a validation loss `L_k` at
the stepped parameters by `w_i`, taken at `w = 0`, is `-step_size * <grad l_i(params), grad L_k>`. All `n` entries
are one `jvp` of the loss vector along `grad L_k`; K losses cost K forward passes and no second-order graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from badrjax.checks import check_same_length


def example_alignments(
    losses: Callable[[Any], Float[Array, "n"]],
    params: Any,
    directions: Any,
    *,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K n"]:
    r"""Inner products `<grad l_i(params), v_k>` of every example's gradient with K directions.

    Args:
        losses: `losses(params) -> f[n]`; draw dropout masks outside it, so that all K passes share them.
        params: pytree of float arrays.
        directions: pytree like `params` whose leaves lead with an axis of length K.
        weight: frequencies `>= 0`, `f[n]`; a row of weight 0 is padding and its column is 0.

    Returns:
        `f[K, n]`. Frequencies do not scale the columns: they say how often a column counts.

    Raises:
        ValueError: when `directions` is not stacked like `params`, or lengths differ.
    """
    return alignments_from(linearised_losses(losses, params)[1], params, directions, weight=weight)


def one_step_hypergradients(
    losses: Callable[[Any], Float[Array, "n"]],
    params: Any,
    directions: Any,
    *,
    step_size: Float[Array, ""] | float,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K n"]:
    r"""Derivatives of K validation losses by the example weights of one gradient step, at zero weights.

    For `params'(w) = params + c - step_size * sum_i w_i grad l_i(params)` with any `c` that does not depend on `w`
    (momentum, weight decay), `d L_k(params'(w)) / d w_i` at `w = 0` equals
    `-step_size * <grad l_i(params), grad L_k(params + c)>` (Ren et al. 2018; the Nash-Meta-Learning paper).

    Args:
        losses: `losses(params) -> f[n]`, the training losses.
        params: pytree of float arrays.
        directions: the K gradients `grad L_k(params + c)`, stacked along a leading axis.
        step_size: of the step; Nesterov momentum `m` multiplies it by `1 + m`.
        weight: frequencies `>= 0`, `f[n]`; a row of weight 0 is padding and its column is 0.

    Returns:
        `f[K, n]`, negative where more weight on an example lowers the loss.

    Raises:
        ValueError: as `example_alignments`.
    """
    return -step_size * example_alignments(losses, params, directions, weight=weight)


def linearised_losses(
    losses: Callable[[Any], Float[Array, "n"]], params: Any
) -> tuple[Float[Array, "n"], Callable[[Any], Float[Array, "n"]]]:
    """The losses `f[n]` and their linear map `direction -> f[n]`, from one forward pass.

    The map can be applied to many directions and transposed (`jax.linear_transpose`) into the gradient of any
    weighted sum, all without another forward pass.

    Args:
        losses: `losses(params) -> f[n]`.
        params: pytree of float arrays.

    Returns:
        `(losses f[n], push)` with `push(direction) -> f[n]`.

    Raises:
        ValueError: unless `losses` returns one axis.
    """
    values, push = jax.linearize(losses, params)
    if values.ndim != 1:
        raise ValueError(f"losses must return one number an example, [n], got shape {values.shape}")
    return values, push


def alignments_from(
    push: Callable[[Any], Float[Array, "n"]],
    params: Any,
    directions: Any,
    *,
    weight: Float[Array, "n"] | None = None,
) -> Float[Array, "K n"]:
    """`example_alignments` from the linear map that `linearised_losses` returns.

    Returns `f[K, n]`; other arguments and errors as in `example_alignments`.
    """
    _check_stacked(directions, params)
    aligned = jax.vmap(push)(directions)
    if weight is None:
        return aligned
    check_same_length(losses=aligned[0], weight=weight)
    return jnp.where(weight[None, :] > 0, aligned, jnp.zeros((), aligned.dtype))


def _check_stacked(directions: Any, params: Any) -> None:
    given: Any = jax.tree.structure(directions)
    wanted: Any = jax.tree.structure(params)
    if given != wanted:
        raise ValueError(f"directions must have the structure of params, {wanted}, got {given}")
    leaves = [
        (jnp.shape(v), jnp.shape(p)) for v, p in zip(jax.tree.leaves(directions), jax.tree.leaves(params), strict=True)
    ]
    for stacked, single in leaves:
        if stacked[1:] != single or len(stacked) != len(single) + 1 or stacked[0] != leaves[0][0][0]:
            raise ValueError(
                "each leaf of directions must be [K, ...] over the matching leaf of params; "
                f"got {stacked} for a leaf of shape {single}"
            )
