"""Samplers: which rows make up the batches of an epoch, as pure functions of a key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from badrjax.groups import group_count

Remainder = Literal["pad", "drop"]


@dataclass(frozen=True)
class Sampler:
    """How an epoch is cut into batches. Make one with the functions below; it is part of the program, not a leaf.

    Attributes:
        kind: `"shuffled"`, `"in_order"`, `"full_batch"` or `"group_balanced"`.
        batch_size: rows a batch; `None` for the full batch.
        remainder: what happens to the last rows when the batch size does not divide their number.
        num_groups: static number of groups, for the group-balanced sampler only.
    """

    kind: Literal["shuffled", "in_order", "full_batch", "group_balanced"]
    batch_size: int | None = None
    remainder: Remainder = "pad"
    num_groups: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive integers."""
        if self.kind != "full_batch":
            _check_positive(batch_size=self.batch_size)
        if self.remainder not in ("pad", "drop"):
            raise ValueError(f"remainder must be 'pad' or 'drop', got {self.remainder!r}")

    def check(self, num_rows: int) -> None:
        """Raise `ValueError` when a batch is larger than the `num_rows` training rows, or there are none."""
        if num_rows == 0:
            raise ValueError("there are no training rows")
        if self.batch_size is not None and self.batch_size > num_rows:
            raise ValueError(
                f"batch_size {self.batch_size} is larger than the {num_rows} training rows; use at most {num_rows}, "
                "or badrjax.full_batch()"
            )

    def for_groups(self, num_groups: int) -> Sampler:
        """This sampler with its number of groups fixed."""
        _check_positive(num_groups=num_groups)
        if self.batch_size is not None and self.batch_size < num_groups:
            raise ValueError(f"batch_size {self.batch_size} leaves groups out: it must be at least {num_groups}")
        return replace(self, num_groups=num_groups)

    def num_steps(self, num_rows: int) -> int:
        """Batches an epoch."""
        size = self.batch_size or num_rows
        return num_rows // size if self.remainder == "drop" else -(-num_rows // size)

    def positions(self, key: Array, group: Int[Array, "m"]) -> Int[Array, "steps batch"]:
        """Positions in `[0, m)` for each batch of an epoch, `int32[steps, batch]`; -1 is padding.

        Args:
            key: consumed by the samplers that draw.
            group: ids of the m training rows, -1 for padding rows, which come last and as padding.
        """
        num_rows = group.shape[0]
        steps, size = self.num_steps(num_rows), self.batch_size or num_rows
        if self.kind == "group_balanced":
            return _balanced(key, group, self.num_groups or 0, steps, size)
        order = jnp.arange(num_rows, dtype=jnp.int32)
        if self.kind == "shuffled":
            order = _random_order(key, group)
        elif self.kind == "in_order":
            order = jnp.argsort(group < 0, stable=True).astype(jnp.int32)
        order = jnp.where(group[order] >= 0, order, -1)
        padded = jnp.pad(order, (0, max(steps * size - num_rows, 0)), constant_values=-1)
        batches = padded[: steps * size].reshape(steps, size)
        if self.remainder == "drop":
            # A lane with padding rows has more steps than its own rows fill: its remainder is dropped too.
            batches = jnp.where(jnp.all(batches >= 0, axis=1, keepdims=True), batches, -1)
        return batches


def shuffled(batch_size: int, remainder: Remainder = "pad") -> Sampler:
    """A new random order each epoch; every row once.

    Args:
        batch_size: rows a batch, `>= 1`.
        remainder: `"pad"` fills the last batch with rows of weight 0, `"drop"` leaves its rows out of the epoch.
    """
    return Sampler("shuffled", batch_size, remainder)


def in_order(batch_size: int, remainder: Remainder = "pad") -> Sampler:
    """The rows as they are given, the same batches each epoch. Arguments as `shuffled`."""
    return Sampler("in_order", batch_size, remainder)


def full_batch() -> Sampler:
    """One step an epoch on all rows."""
    return Sampler("full_batch")


def group_balanced(batch_size: int, num_groups: int | None = None) -> Sampler:
    """Batches with equal shares of every group that occurs, as many as the rows fill.

    Each group is dealt from its own shuffled deck, over and over, so a small group's rows come back more often and
    no row of a group is used twice before all have been used once. Slots that the groups do not share out evenly
    go to the groups in turn.

    Args:
        batch_size: rows a batch, `>= num_groups`.
        num_groups: static number of groups; `None` lets `fit` read it off its data, which must not be traced then.

    Raises:
        ValueError: for a batch with fewer rows than groups (by `fit`, when it reads their number).
    """
    sampler = Sampler("group_balanced", batch_size)
    return sampler if num_groups is None else sampler.for_groups(num_groups)


def _random_order(key: Array, group: Array) -> Array:
    # Takes a fraction of the time of `jax.random.permutation`. Rows that draw the same bits (one pair
    # in 2^31) keep their order. Padding goes last.
    bits = jax.random.bits(key, group.shape, jnp.uint32)
    bits = jnp.where(group >= 0, bits >> 1, jnp.uint32(0xFFFFFFFF))
    return _stable_order(bits, 32)


def _stable_order(numbers: Array, num_bits: int) -> Array:
    """`argsort`, stable, of `uint32[n]` below `2^num_bits`.

    On a CPU XLA sorts words alone five times as fast as words that carry others along. So the position goes into the
    low bits of a word, a digit of the number above it, and the digits take turns.
    """
    low = max(numbers.shape[0] - 1, 1).bit_length()
    slot = jnp.arange(numbers.shape[0], dtype=jnp.uint32)
    order = slot
    for shift in range(0, num_bits, 32 - low):
        # What is left of the digit's upper end falls out of the word.
        words = ((numbers[order] >> shift) << low) | slot
        order = order[jnp.sort(words) & ((1 << low) - 1)]
    return order.astype(jnp.int32)


def _balanced(key: Array, group: Array, num_groups: int, steps: int, size: int) -> Array:
    real = group >= 0
    count = group_count(jnp.where(real, group, 0), num_groups, real.astype(jnp.float32)).astype(jnp.int32)
    shuffle = _random_order(key, group)
    owners = jnp.where(real, group, num_groups).astype(jnp.uint32)
    deck = shuffle[_stable_order(owners[shuffle], num_groups.bit_length())]
    start = jnp.cumsum(count) - count
    present = jnp.argsort(count == 0, stable=True)
    num_present = jnp.maximum(jnp.sum(count > 0), 1)
    slot = jnp.arange(steps * size, dtype=jnp.int32)
    owner = present[slot % num_present]
    turn = (slot // num_present) % jnp.maximum(count[owner], 1)
    positions = jnp.where(count[owner] > 0, deck[start[owner] + turn], -1)
    return positions.astype(jnp.int32).reshape(steps, size)


def _check_positive(**sizes: int | None) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size!r}")
