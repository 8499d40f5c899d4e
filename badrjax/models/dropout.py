"""Dropout with a traced rate, on masks that padding does not change."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MaskGenerator = Literal["hash", "threefry"]


def dropout(
    key: Array, x: Float[Array, "..."], rate: Float[Array, ""] | float, masks: MaskGenerator = "hash"
) -> Float[Array, "..."]:
    """Inverted dropout with a rate that may be traced.

    An entry is kept where its 32 random bits, as an integer, reach `rate * 2^32`: an integer compare costs half of
    what drawing a float uniform does, and these masks are a large part of a small network's step.

    Args:
        key: consumed.
        x: any shape.
        rate: probability of zeroing an entry, in `[0, 1)`.
        masks: `"hash"` takes the bits from a hash of (key, flat index); appending rows to `x` does not change the
            masks of the rows before, so padding is inert. `"threefry"` takes them from `jax.random.bits`, as a
            slower reference.
    """
    bits = _hashed_bits(key, x.size).reshape(x.shape) if masks == "hash" else jax.random.bits(key, x.shape, jnp.uint32)
    # Half precision cannot hold the thresholds.
    rate = jnp.asarray(rate, jnp.promote_types(x.dtype, jnp.float32))
    # 2^32 itself does not fit: a rate that rounds to 1 still keeps one entry in 2^16.
    threshold = jnp.minimum(rate * 2.0**16, 2.0**16 - 1).astype(jnp.uint32) << 16
    kept = bits >= threshold
    # Rates are resolved to 2^-16; dividing by the share truly kept keeps the expectation exact.
    share = 1 - (threshold >> 16).astype(rate.dtype) / 2.0**16
    return jnp.where(kept, (x / share).astype(x.dtype), jnp.zeros((), x.dtype))


def _hashed_bits(key: Array, size: int) -> Array:
    """`uint32[size]` from two multiply-xor-shift rounds over the index, keyed before each round."""
    # Keys made from consecutive seeds differ by 1 in one word, which a single round shows: scramble them first.
    key = jax.random.fold_in(key, 0)
    words = jax.random.key_data(key).reshape(-1) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key.reshape(-1)
    first, second = words[0], words[1]
    bits = jax.lax.iota(jnp.uint32, size) * jnp.uint32(0x9E3779B1) + first
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D) + second
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
