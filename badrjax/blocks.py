"""Losses of many rows computed block after block, so that what is kept for their derivatives fits a device."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import Partial
from jaxtyping import Array

from badrjax.batches import Batch, take
from badrjax.checks import check_losses, check_positive_integer
from badrjax.functions import Static, as_partial
from badrjax.sharding import automatic_mesh


def in_blocks(losses: Any, block_size: int, *, mesh: Mesh | None = None, axis: str = "data") -> Partial:
    """`losses` computed block after block, so that activations, also those kept for derivatives, stay bounded.

    Derivatives add up over blocks and compute each once more. Dropout draws other masks than without blocks.

    Args:
        losses: `ExampleLosses`, `(params, batch, key) -> f[n]`.
        block_size: rows at a time, on each device.
        mesh: over which batches are sharded, so that each device cuts up its own rows; `None` for one device. Every
            device computes all of a batch whose rows the shards do not divide (a validation batch, say).
        axis: its axis.

    Returns:
        `ExampleLosses`.

    Raises:
        ValueError: for a block size that is not positive or an unknown axis; when it is called, for losses that are
            not one number a row.
    """
    check_positive_integer(block_size=block_size)
    mesh = None if mesh is None else automatic_mesh(mesh, axis)
    return Partial(_losses_in_blocks, Static((block_size, mesh, axis)), as_partial(losses))


def _losses_in_blocks(config: Static, losses: Partial, params: Any, batch: Batch, key: Any = None) -> Array:
    block_size, mesh, axis = config.value
    whole = mesh is None or batch.y.shape[0] % mesh.shape[axis] != 0

    def on_device(losses: Partial, params: Any, batch: Batch, key: Any) -> Array:
        key = key if whole or key is None else jax.random.fold_in(key, jax.lax.axis_index(axis))
        num_rows = batch.y.shape[0]
        size = min(block_size, num_rows)
        num_blocks = -(-num_rows // size)
        rows = jnp.arange(num_blocks * size, dtype=jnp.int32)
        rows = jnp.where(rows < num_rows, rows, -1).reshape(num_blocks, size)

        @jax.checkpoint
        def block(inputs: tuple[Array, Array]) -> Array:
            number, chosen = inputs
            found = losses(params, take(batch, chosen), None if key is None else jax.random.fold_in(key, number))
            check_losses(found, size)
            return found

        return jax.lax.map(block, (jnp.arange(num_blocks), rows)).reshape(-1)[:num_rows]

    if whole:
        return on_device(losses, params, batch, key)
    rows, same = PartitionSpec(axis), PartitionSpec()
    by_shard = jax.shard_map(on_device, mesh=mesh, in_specs=(same, same, rows, same), out_specs=rows)
    return by_shard(losses, params, batch, key)
