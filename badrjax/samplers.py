"""Samplers: which rows make up the batches of an epoch, as pure functions of a key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from badrjax.groups import group_count
from badrjax.ordering import stable_order

Remainder = Literal["pad", "drop"]


@dataclass(frozen=True)
class Sampler:
    """How an epoch is cut into batches. Make one with the functions below; it is part of the program, not a leaf.

    Attributes:
        kind: `"shuffled"`, `"in_order"`, `"full_batch"`, `"group_balanced"` or `"group_stratified"`.
        batch_size: rows a batch; `None` for the full batch.
        remainder: what happens to the last rows when the batch size does not divide their number.
        num_groups: static number of groups, for the samplers by group only.
        minimum: rows of each group that a group-stratified batch has besides its shuffled ones.
    """

    kind: Literal["shuffled", "in_order", "full_batch", "group_balanced", "group_stratified"]
    batch_size: int | None = None
    remainder: Remainder = "pad"
    num_groups: int | None = None
    minimum: int = 0

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
        fewest = num_groups if self.kind == "group_balanced" else num_groups * self.minimum + 1
        if self.batch_size is not None and self.batch_size < fewest:
            raise ValueError(f"batch_size {self.batch_size} leaves groups out: it must be at least {fewest}")
        return replace(self, num_groups=num_groups)

    @property
    def by_group(self) -> bool:
        """Whether it needs the number of groups."""
        return self.kind in ("group_balanced", "group_stratified")

    def num_steps(self, num_rows: int) -> int:
        """Batches an epoch."""
        size = (self.batch_size or num_rows) - (self.num_groups or 0) * self.minimum
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
        if self.kind == "group_stratified":
            return self._stratified(key, group, steps)
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

    def _stratified(self, key: Array, group: Array, steps: int) -> Array:
        dealt = (self.num_groups or 0) * self.minimum
        shuffle_key, deal_key = jax.random.split(key)
        rest = Sampler("shuffled", (self.batch_size or 0) - dealt).positions(shuffle_key, group)
        # A batch of padding only stays one: what is dealt would be all of it.
        real = jnp.any(rest >= 0, axis=1, keepdims=True)
        extra = _balanced(deal_key, group, self.num_groups or 0, steps, dealt)
        return jnp.concatenate([rest, jnp.where(real, extra, -1)], axis=1)


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


def group_stratified(batch_size: int, minimum: int = 4, num_groups: int | None = None) -> Sampler:
    """Every row once in a new random order, and in each batch `minimum` rows of each group besides.

    So no group is missing from a batch, however small it is. The rows besides are dealt from each group's own shuffled
    deck, over and over; slots of groups without rows go to the others. Groups then have other shares in a batch than in
    the data: weight them back where that matters (`cell_sizes` of `badrjax.fairlab`).

    Args:
        batch_size: rows a batch, more than `minimum * num_groups`.
        minimum: rows of each group besides, `>= 1`.
        num_groups: static number of groups; `None` lets `fit` read it off its data, which must not be traced then.

    Raises:
        ValueError: for a minimum that is not a positive integer, or a batch with no room for shuffled rows (by `fit`,
            when it reads the number of groups).
    """
    _check_positive(minimum=minimum)
    sampler = Sampler("group_stratified", batch_size, minimum=minimum)
    return sampler if num_groups is None else sampler.for_groups(num_groups)


def _random_order(key: Array, group: Array) -> Array:
    # Takes a fraction of the time of `jax.random.permutation`. Rows that draw the same bits (one pair
    # in 2^31) keep their order. Padding goes last.
    bits = jax.random.bits(key, group.shape, jnp.uint32)
    bits = jnp.where(group >= 0, bits >> 1, jnp.uint32(0xFFFFFFFF))
    return stable_order(bits, 32)


def _balanced(key: Array, group: Array, num_groups: int, steps: int, size: int) -> Array:
    real = group >= 0
    count = group_count(jnp.where(real, group, 0), num_groups, real.astype(jnp.float32)).astype(jnp.int32)
    shuffle = _random_order(key, group)
    owners = jnp.where(real, group, num_groups).astype(jnp.uint32)
    deck = shuffle[stable_order(owners[shuffle], num_groups.bit_length())]
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
