"""The Gram matrix of K gradients, how to apply weights to them, and the algebra that the rules share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from badrjax.groups import as_float

# Gram matrices and group contractions in full float32: accelerators round products to fewer bits by default.
HIGHEST = jax.lax.Precision.HIGHEST


def gramian(gradients: Any) -> Float[Array, "K K"]:
    """Gram matrix `M_jk = <g_j, g_k>` of a pytree (or array) whose leaves lead with the axis of the K players.

    Half-precision leaves are multiplied in float32.

    Args:
        gradients: pytree (or array) whose leaves lead with the axis of the K players.

    Returns:
        `f[K, K]`, symmetric positive semidefinite up to rounding.

    Raises:
        ValueError: unless every leaf leads with the same K.
    """
    _check_leading(gradients)
    products = [rows_gramian(jnp.reshape(leaf, (leaf.shape[0], -1))) for leaf in jax.tree.leaves(gradients)]
    return sum(products[1:], products[0])


def combine(gradients: Any, weights: Float[Array, "K"]) -> Any:
    """`sum_k weights_k g_k`, a pytree like `gradients` without its leading axis.

    NaN and infinity in a row of weight 0 are ignored, so that the gradient of an absent player reaches neither the
    sum nor its derivatives; finite rows keep the derivative by their weight at 0.

    Args:
        gradients: pytree (or array) whose leaves lead with the axis of the K players.
        weights: `f[K]`.

    Returns:
        A pytree whose leaves have the dtype of their gradients; half-precision leaves are added in float32 first.

    Raises:
        ValueError: unless every leaf leads with the same K, and `weights` has that length.
    """
    num_players = _check_leading(gradients)
    weights = as_float(weights)
    if weights.shape != (num_players,):
        raise ValueError(f"weights must be f[{num_players}] for {num_players} players, got shape {weights.shape}")
    return jax.tree.map(lambda rows: _weighted_sum(weights, jnp.asarray(rows)), gradients)


def alignment(gradients: Float[Array, "K n"], update: Float[Array, "n"]) -> Float[Array, "K"]:
    """Inner products `<g_k, u>` of K gradients with an aggregate `u`; `<= 0` is a conflict with player k.

    Args:
        gradients: one row a player, `f[K, n]`.
        update: the aggregate, `f[n]`.

    Returns:
        `f[K]`. Shapes that do not match are errors of the product.
    """
    return jnp.matmul(gradients, update, precision=HIGHEST)


def rows_gramian(rows: Array) -> Array:
    """`rows @ rows.T` in at least 32 bits."""
    rows = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    return jnp.matmul(rows, rows.T, precision=HIGHEST)


def checked(gram: Array, present: Array | None) -> tuple[Array, Array]:
    """The arguments of a rule as floats `[K, K]` of at least 32 bits and `bool[K]`, or a `ValueError`."""
    gram = jnp.asarray(gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or gram.shape[0] == 0:
        raise ValueError(f"gram must be a square matrix [K, K], got shape {gram.shape}; see badrjax.gramian")
    return as_float(gram), as_present(present, gram.shape[0])


def as_present(present: Array | None, num_players: int) -> Array:
    """`present` as `bool[K]`, all of them for `None`."""
    if present is None:
        return jnp.ones(num_players, bool)
    present = jnp.asarray(present)
    if present.shape != (num_players,):
        raise ValueError(f"present must be bool[{num_players}] for {num_players} players, got shape {present.shape}")
    return present.astype(bool)


def uniform(present: Array, dtype: Any) -> Array:
    """`present / sum(present)`; 0 when nobody is present."""
    share = present.astype(dtype)
    return share / jnp.maximum(jnp.sum(share), 1.0)


def correlation_of(gram: Array, present: Array) -> tuple[Array, Array]:
    """`C` with unit diagonal, identity in rows and columns of absent or zero gradients, and the norms `D`."""
    diagonal = jnp.diagonal(gram)
    taking_part = present & (diagonal > 0)
    norm = jnp.where(taking_part, jnp.sqrt(jnp.where(taking_part, diagonal, 1.0)), 0.0)
    safe = jnp.where(taking_part, norm, 1.0)
    both = taking_part[:, None] & taking_part[None, :]
    # One division after the other: the product of two tiny norms may underflow.
    # What an absent player holds must not reach the derivatives of the others.
    scaled = jnp.where(both, gram, 0.0) / safe[:, None] / safe[None, :]
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    return jnp.where(both, jnp.where(identity > 0, 1.0, scaled), identity), norm


def finite_where(present: Array, gram: Array) -> Array:
    """Whether every inner product between present players is a finite number, `bool[]`."""
    both = present[:, None] & present[None, :]
    return jnp.all(jnp.where(both, jnp.isfinite(gram), True))


def solve_spd(matrix: Array, right: Array) -> Array:
    """`matrix^-1 right` `[K]` or `[K, m]` by a Cholesky factor: NaN unless positive definite in its dtype.

    Pass several right-hand sides at once: XLA may run separate solves at the same time, and on a CPU with few cores
    batches of them have been seen to wait for each other forever.
    """
    factor = jax.lax.linalg.cholesky(matrix)
    columns = right[:, None] if right.ndim == 1 else right
    half = jax.lax.linalg.triangular_solve(factor, columns, left_side=True, lower=True)
    whole = jax.lax.linalg.triangular_solve(factor, half, left_side=True, lower=True, transpose_a=True)
    return jnp.reshape(whole, right.shape)


def _check_leading(gradients: Any) -> int:
    leading = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(gradients)}
    if len(leading) != 1 or () in leading or (0,) in leading:
        raise ValueError(f"the leaves of gradients must all lead with an axis of length K >= 1, got {sorted(leading)}")
    return leading.pop()[0]


def _weighted_sum(weights: Array, rows: Array) -> Array:
    idle = jnp.reshape(weights == 0, weights.shape + (1,) * (rows.ndim - 1))
    # Only what is not finite is replaced: a finite row still has a derivative by a weight that happens to be 0.
    total = jnp.tensordot(weights, jnp.where(idle & ~jnp.isfinite(rows), 0, rows), axes=1, precision=HIGHEST)
    return total.astype(rows.dtype) if jnp.issubdtype(rows.dtype, jnp.inexact) else total
