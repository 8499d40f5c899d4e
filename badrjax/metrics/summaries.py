"""Ratios, means and differences over what is known: what all metrics end with."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def ratio(part: Float[Array, "..."], whole: Float[Array, "..."]) -> Float[Array, "..."]:
    """`part / whole`, NaN where there is no whole."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), jnp.nan)


def mean_of_known(values: Float[Array, "C"]) -> Float[Array, ""]:
    """Mean of the entries that are not NaN; NaN for none."""
    known = ~jnp.isnan(values)
    return ratio(jnp.sum(jnp.where(known, values, 0.0)), jnp.sum(known).astype(values.dtype))


def largest_difference(values: Float[Array, "... K"]) -> Float[Array, "..."]:
    """Largest minus smallest of the known entries along the last axis; NaN for fewer than two."""
    known = ~jnp.isnan(values)
    largest = jnp.max(jnp.where(known, values, -jnp.inf), axis=-1)
    smallest = jnp.min(jnp.where(known, values, jnp.inf), axis=-1)
    enough = jnp.sum(known, axis=-1) >= 2
    return jnp.where(enough, jnp.where(enough, largest, 0.0) - jnp.where(enough, smallest, 0.0), jnp.nan)
