"""Orders of rows from sorts of single words, which on a CPU XLA does several times as fast as any other sort."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32


def stable_order(numbers: UInt32[Array, "n"], num_bits: int) -> Int[Array, "n"]:
    """`argsort`, stable, of `uint32[n]` below `2^num_bits`.

    The position goes into the low bits of a word, a digit of the number above it, and the digits take turns.
    """
    low = max(numbers.shape[0] - 1, 1).bit_length()
    slot = jnp.arange(numbers.shape[0], dtype=jnp.uint32)
    order = slot
    for shift in range(0, num_bits, 32 - low):
        # What is left of the digit's upper end falls out of the word.
        words = ((numbers[order] >> shift) << low) | slot
        order = order[jnp.sort(words) & ((1 << low) - 1)]
    return order.astype(jnp.int32)


def value_order(values: Float[Array, "n"]) -> Int[Array, "n"]:
    """`argsort`, stable, of floats of 32 or 64 bits; NaN comes at either end."""
    if values.dtype.itemsize == 8:
        low, high = _words(values)
        order = stable_order(low, 32)
        return order[stable_order(high[order], 32)]
    return stable_order(_ordered_bits(values, jnp.uint32), 32)


def _words(values: Array) -> tuple[Array, Array]:
    bits = _ordered_bits(values, jnp.uint64)
    return bits.astype(jnp.uint32), (bits >> 32).astype(jnp.uint32)


def _ordered_bits(values: Array, kind: jnp.dtype) -> Array:
    """Unsigned numbers in the order of the floats: all bits of a negative one are flipped, of another only the sign."""
    bits = jax.lax.bitcast_convert_type(jnp.where(values == 0, 0.0, values), kind)  # -0.0 becomes 0.0
    top = jnp.asarray(1, kind) << (bits.dtype.itemsize * 8 - 1)
    return jnp.where(bits & top, ~bits, bits | top)
