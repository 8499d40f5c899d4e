"""A run as one compiled program: sampling, steps, epochs and evaluation, for any `Method`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from badrjax.batches import Batch, check_batch, frequencies, take
from badrjax.checks import check_finite, is_concrete
from badrjax.functions import as_partial
from badrjax.methods.base import Method
from badrjax.samplers import Sampler


class FitResult(NamedTuple):
    """What a run leaves; each field but the first comes from one of the functions that ran.

    Attributes:
        state: the method's last state.
        steps: what `step` reported: means by epoch `[num_epochs, ...]`, every step `[num_epochs, steps, ...]`, or
            what the `record` function kept, by epoch.
        epochs: what `end_epoch` reported, `[num_epochs, ...]`; `None` for a method without it.
        evaluations: what `evaluate` returned after each epoch, `[num_epochs, ...]`; `None` without it.

    An epoch's means leave NaN out as "not measured", so a run that diverges in an epoch shows it from the next on.
    When a method's `done` ends a run early, the rows of epochs that did not run are NaN (0 for integers).
    """

    state: Any
    steps: Any
    epochs: Any
    evaluations: Any


def fit(
    key: Array,
    method: Method,
    params: Any,
    data: Batch,
    *,
    num_epochs: int,
    sampler: Sampler,
    rows: Int[Array, "m"] | None = None,
    evaluate: Callable[[Any], Any] | None = None,
    record: str | Callable[[Any], Any] = "epoch",
) -> FitResult:
    """Train as one program: `num_epochs` x (sampler's batches -> `step`), `end_epoch`, `evaluate`.

    Works under `jit` and `vmap`: map over `key` for seeds, over `method` for hyper-parameters, over `rows` for splits
    of one shared `data`. Epoch `e` draws from `fold_in(key, e)`.

    Args:
        key: a typed key (`jax.random.key(seed)`); consumed.
        method: a `Method`.
        params: its starting parameters; never donated.
        data: all the rows, on the device once.
        num_epochs: static, `>= 0`.
        sampler: `badrjax.shuffled`, `group_balanced`, `in_order` or `full_batch`.
        rows: positions in `data` to train on, `int[m]`; a negative one is padding. `None` means all.
        evaluate: `evaluate(state) -> pytree of arrays`, after each epoch. Bind arrays with
            `jax.tree_util.Partial(function, arrays...)`: what a lambda closes over is baked into the program.
        record: `"epoch"` keeps the mean of each info field over an epoch (NaN entries, "not measured", and batches
            of padding only take no part), `"step"` every step, and a function is given an epoch's infos, stacked
            `[steps, ...]`.

    Raises:
        ValueError: before tracing, for lengths that differ, a batch size larger than the data, NaN or infinite
            features (which column), negative groups or classes, rows outside the data, or an unknown `record`.
        TypeError: for an old-style `uint32` key, or fields of `data` that are not arrays.
    """
    rows = np.asarray(rows) if isinstance(rows, list | tuple | range) else rows
    given = method._asdict().items()
    method = Method(**{name: as_partial(member) for name, member in given if member is not None})
    _check(key, data, rows, num_epochs, sampler, record)
    sampler = _with_groups(sampler, data)
    recorder = None if isinstance(record, str) else as_partial(record)
    evaluator = None if evaluate is None else as_partial(evaluate)
    data = data._replace(weight=frequencies(data))
    return _fit(key, method, params, data, rows, evaluator, recorder, num_epochs, sampler, record == "step")


def map_blocks(function: Callable[[Batch], Any], data: Batch, *, block_size: int = 4096) -> Any:
    """`function(data)` for a function of rows, block after block, so that activations stay bounded.

    Args:
        function: takes a `Batch` of `block_size` rows (the last one padded with weight 0) and returns a pytree of
            arrays `[block_size, ...]` in which a row depends on its own input only.
        data: a `Batch` of n rows.
        block_size: rows at a time.

    Returns:
        A pytree of arrays `[n, ...]`.

    Raises:
        ValueError: for a block size that is not positive.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be a positive integer, got {block_size}")
    num_rows = data.y.shape[0]
    num_blocks = -(-num_rows // block_size)
    rows = jnp.arange(num_blocks * block_size)
    rows = jnp.where(rows < num_rows, rows, -1).reshape(num_blocks, block_size)
    blocks = jax.lax.map(lambda block: function(take(data, block)), rows)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], blocks)


@partial(jax.jit, static_argnames=("num_epochs", "sampler", "every_step"))
def _fit(
    key: Array,
    method: Method,
    params: Any,
    data: Batch,
    rows: Any,
    evaluate: Callable[[Any], Any] | None,
    record: Callable[[Any], Any] | None,
    num_epochs: int,
    sampler: Sampler,
    every_step: bool,
) -> FitResult:
    init_key, run_key = jax.random.split(key)
    # Signed, so that -1 can mark padding.
    rows = (jnp.arange(data.y.shape[0]) if rows is None else rows).astype(jnp.int32)
    groups = data.group.astype(jnp.int32)

    def keep(infos: Any, real: Array) -> Any:
        return record(infos) if record is not None else infos if every_step else _means(infos, real)

    def epoch(state: Any, index: Array) -> tuple[Any, tuple[Any, Any, Any]]:
        shuffle_key, step_key, end_key = jax.random.split(jax.random.fold_in(run_key, index), 3)
        positions = sampler.positions(shuffle_key, jnp.where(rows >= 0, groups[rows], -1))

        def step(state: Any, inputs: tuple[Array, Array]) -> tuple[Any, Any]:
            number, chosen = inputs
            batch = take(data, jnp.where(chosen >= 0, rows[chosen], -1))
            state, info = method.step(jax.random.fold_in(step_key, number), state, batch)
            return state, (info, jnp.any(frequencies(batch) > 0))

        state, (infos, real) = jax.lax.scan(step, state, (jnp.arange(positions.shape[0]), positions))
        end = None
        if method.end_epoch is not None:
            state, end = method.end_epoch(end_key, state, take(data, rows))
        return state, (keep(infos, real), end, None if evaluate is None else evaluate(state))

    state = method.init(init_key, params)
    if method.done is None:
        state, history = jax.lax.scan(epoch, state, jnp.arange(num_epochs))
    else:
        state, history = _until_done(epoch, method.done, state, num_epochs)
    return FitResult(state, *history)


def _until_done(epoch: Callable[..., Any], done: Callable[..., Any], state: Any, num_epochs: int) -> tuple[Any, Any]:
    """The scan over epochs as a while loop that stops when `done(state)`, with preallocated history."""
    shapes = jax.eval_shape(epoch, state, jax.ShapeDtypeStruct((), jnp.int32))[1]

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        fill = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        return jnp.full((num_epochs, *leaf.shape), fill, leaf.dtype)

    def body(carry: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
        index, state, history = carry
        state, new = epoch(state, index)
        return index + 1, state, jax.tree.map(lambda all_, one: all_.at[index].set(one), history, new)

    start = (jnp.zeros((), jnp.int32), state, jax.tree.map(blank, shapes))

    def going(carry: tuple[Array, Any, Any]) -> Array:
        return (carry[0] < num_epochs) & ((carry[0] == 0) | ~done(carry[1]))

    _, state, history = jax.lax.while_loop(going, body, start)
    return state, history


def _means(infos: Any, real: Array) -> Any:
    """Means over the leading axis of the steps that are `real`, without the NaN entries; NaN where none is left."""

    def mean(leaf: Array) -> Array:
        leaf = leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.astype(jnp.result_type(float))
        known = ~jnp.isnan(leaf) & real.reshape(-1, *(1,) * (leaf.ndim - 1))
        count = jnp.sum(known, axis=0)
        total = jnp.sum(jnp.where(known, leaf, 0), axis=0)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    return jax.tree.map(mean, infos)


def _check(key: Any, data: Batch, rows: Any, num_epochs: int, sampler: Sampler, record: Any) -> None:
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("key must be a typed key, jax.random.key(seed), not an integer or a raw uint32 array")
    if isinstance(num_epochs, bool) or not isinstance(num_epochs, int | np.integer) or num_epochs < 0:
        raise ValueError(f"num_epochs must be an integer of at least 0, got {num_epochs!r}")
    if not isinstance(sampler, Sampler):
        raise TypeError("sampler must be badrjax.shuffled(...), group_balanced(...), in_order(...) or full_batch()")
    if isinstance(record, str) and record not in ("epoch", "step"):
        raise ValueError(f"record must be 'epoch', 'step' or a function, got {record!r}")
    check_batch(data)
    check_finite(data.x, "data.x")
    check_finite(data.y, "data.y")
    num_rows = data.y.shape[0]
    if rows is not None:
        if jnp.ndim(rows) != 1 or not jnp.issubdtype(jnp.asarray(rows).dtype, jnp.integer):
            raise ValueError(
                f"rows must be integer positions [m], got {jnp.asarray(rows).dtype} of shape {jnp.shape(rows)}; "
                "np.flatnonzero turns a mask into positions"
            )
        if is_concrete(rows) and np.size(rows) and np.max(np.asarray(rows)) >= num_rows:
            raise ValueError(f"rows must lie below {num_rows}, the rows of data; got {np.max(np.asarray(rows))}")
    sampler.check(num_rows if rows is None else jnp.shape(rows)[0])


def _with_groups(sampler: Sampler, data: Batch) -> Sampler:
    if sampler.kind != "group_balanced":
        return sampler
    if not is_concrete(data.group):
        if sampler.num_groups is None:
            raise ValueError("inside jit or vmap over the data, give group_balanced its num_groups")
        return sampler
    occurring = int(np.max(np.asarray(data.group))) + 1
    if sampler.num_groups is None:
        return sampler.for_groups(occurring)
    if occurring > sampler.num_groups:
        raise ValueError(f"the sampler was made for {sampler.num_groups} groups and data.group has id {occurring - 1}")
    return sampler
