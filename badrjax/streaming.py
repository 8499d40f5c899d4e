"""Training on batches that come from the host, for data larger than the device or the memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from badrjax.batches import Batch, check_batch, fill_padding, frequencies
from badrjax.checkpoints import pack, unpack
from badrjax.checks import check_finite
from badrjax.functions import as_partial
from badrjax.incoming import Batches, StreamError, ahead, checked, shapes, stream_from_arrays
from badrjax.methods.base import Method
from badrjax.training import FitResult, Functions, as_functions, check_run, epoch_keys, first_state, settle

__all__ = ["BlockSums", "StreamError", "blockwise_value_and_grad", "fit_stream", "stream_from_arrays"]


class BlockSums(NamedTuple):
    """Sums over all rows of a pass: divide by `weight` for means.

    Attributes:
        value: `sum_i w_i l_i`, `f[]`.
        gradient: of `value`, a pytree like the parameters.
        weight: `sum_i w_i`, `f[]`.
    """

    value: Float[Array, ""]
    gradient: Any
    weight: Float[Array, ""]


def fit_stream(
    key: Array,
    method: Method,
    params: Any,
    batches: Batches,
    *,
    num_epochs: int,
    evaluate: Callable[[Any], Any] | None = None,
    prefetch: int = 2,
    record: str | Callable[[Any], Any] = "epoch",
    end_epoch_data: Batch | None = None,
) -> FitResult:
    """Train as `badrjax.fit` does, on batches that the host yields: same keys, so the same numbers to rounding.

    A step is one program, compiled once. Batches are checked on the host and copied to the device while earlier steps
    run there; infos stay on the device until the epoch ends. Not for use under `jit` or `vmap`.

    Args:
        key: a typed key; consumed.
        method: a `Method`.
        params: its starting parameters; never donated.
        batches: `batches(epoch)` gives the batches of epoch 0, 1, ..., of NumPy arrays, all of one number of rows; the
            last of an epoch may have fewer and is padded with weight 0. Buffers may be used again. See
            `stream_from_arrays`.
        num_epochs: `>= 0`.
        evaluate: `evaluate(state) -> pytree of arrays`, after each epoch.
        prefetch: batches on the device that wait for their step, `>= 1`; as many steps may be under way.
        record: as for `fit`. Where epochs differ in their number of batches, the shorter ones are filled with NaN
            (0 for integers).
        end_epoch_data: the rows that `end_epoch` is given, on the device. Needed only for a method whose `end_epoch`
            looks at them.

    Returns:
        `FitResult`, as of `fit`.

    Raises:
        StreamError: for an iterator that raises or is empty, a batch of another shape or dtype, or with NaN or
            infinite features, negative groups, classes or weights; names epoch and batch, and has what was trained
            until then as its `partial`.
        ValueError: for a method whose `end_epoch` needs data that was not given, or a bad setting.
        TypeError: for an old-style key, or `batches` that is no function.
    """
    _check(key, batches, num_epochs, prefetch, record, end_epoch_data)
    functions = as_functions(method, evaluate, record)
    method = functions.method
    init_key, run_key = jax.random.split(key)
    # Steps donate the state. Where `init` hands `params` on, jit copies them today but does not promise to, and the
    # user's own must not be donated.
    state = jax.tree.map(jnp.copy, first_state(method, init_key, params))
    history: list[Any] = []
    like, train = None, None
    for epoch in range(num_epochs):
        _, step_key, end_key = epoch_keys(run_key, epoch)
        incoming = ahead(checked(batches, epoch, like), prefetch)
        if like is None:
            first, incoming = _peek(incoming)
            if isinstance(first, Batch):
                like, train = shapes(first), _rows_for_end_epoch(method, key, state, first, end_epoch_data)
                state = _settled(method, key, state, like, train)
        state, infos, real, failure = _run_epoch(method, step_key, state, incoming, prefetch)
        if failure is not None:
            failure.partial = FitResult(state, *_table(history, len(history)))
            raise failure
        stacked = _stacked(infos), np.asarray(jax.device_get(real))
        state, row, done = _close_epoch(functions, end_key, state, *stacked, train)
        history.append(row)
        if done:
            break
    return FitResult(state, *_table(history, num_epochs))


def blockwise_value_and_grad(
    function: Callable[[Any, Batch], Float[Array, "n"]], params: Any, batches: Iterable[Batch], *, prefetch: int = 2
) -> BlockSums:
    """The weighted sum of a loss over all rows and its gradient, block after block: exact up to rounding.

    What a full-batch step needs when its rows do not fit on the device.

    Args:
        function: `function(params, batch) -> f[n]`, a loss for each row that depends on that row only. Bind arrays
            with `jax.tree_util.Partial`.
        params: a pytree of floats.
        batches: blocks of NumPy arrays with one number of rows; the last may have fewer.
        prefetch: blocks on the device that wait, `>= 1`.

    Returns:
        `BlockSums(value, gradient, weight)`.

    Raises:
        StreamError: for an iterator that raises or is empty, or blocks that differ in shape or dtype or are not finite.
    """
    _check_prefetch(prefetch)
    function = as_partial(function)
    sums, waiting = None, deque[Array]()
    for batch in ahead(checked(lambda epoch: batches, 0, None), prefetch):
        if isinstance(batch, StreamError):
            raise batch
        block = _block_sums(function, params, batch)
        sums = block if sums is None else _add(sums, block)
        waiting.append(block.weight)
        if len(waiting) > prefetch:
            jax.block_until_ready(waiting.popleft())
    assert sums is not None  # an empty iterator is a StreamError
    return sums


@partial(jax.jit, donate_argnames="state")
def _step(method: Method, step_key: Array, number: Any, state: Any, batch: Batch) -> tuple[Any, Any, Array]:
    state, info = method.step(jax.random.fold_in(step_key, number), state, batch)
    return state, info, jnp.any(frequencies(batch) > 0)


@partial(jax.jit, donate_argnames="state")
def _close_epoch(
    functions: Functions, key: Array, state: Any, infos: Any, real: Array, train: Batch | None
) -> tuple[Any, Any, Any]:
    """The state after `end_epoch`, the epoch's row of the history, and whether the method is done."""
    method, evaluate, keep = functions
    end = None
    if method.end_epoch is not None:
        state, end = method.end_epoch(key, state, train)
    row = (keep(infos, real), end, None if evaluate is None else evaluate(state))
    return state, row, False if method.done is None else method.done(state)


@jax.jit
def _block_sums(function: Partial, params: Any, batch: Batch) -> BlockSums:
    batch = fill_padding(batch)
    weight = frequencies(batch)
    value, gradient = jax.value_and_grad(lambda p: jnp.sum(weight * function(p, batch)))(params)
    return BlockSums(value, gradient, jnp.sum(weight))


@jax.jit
def _add(one: BlockSums, other: BlockSums) -> BlockSums:
    return jax.tree.map(jnp.add, one, other)


def _run_epoch(
    method: Method, step_key: Array, state: Any, incoming: Iterator[Batch | StreamError], prefetch: int
) -> tuple[Any, list[Any], list[Array], StreamError | None]:
    """The steps of an epoch: state, infos, which batches had rows that count, and what ended it too early."""
    infos: list[Any] = []
    real: list[Array] = []
    for batch in incoming:
        if isinstance(batch, StreamError):
            return state, infos, real, batch
        state, info, counts = _step(method, step_key, np.int32(len(infos)), state, batch)
        infos.append(info)
        real.append(counts)
        if len(real) > prefetch:
            # A step that lies back, so that the device never idles. Without waiting at all the host would run ahead
            # and fill the device with batches.
            jax.block_until_ready(real[-1 - prefetch])
    return state, infos, real, None


def _peek(items: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    first = next(items)
    return first, chain([first], items)


def _rows_for_end_epoch(method: Method, key: Array, state: Any, first: Batch, given: Batch | None) -> Batch | None:
    """What `end_epoch` is given as its rows; zeros for one that does not look at them."""
    if method.end_epoch is None:
        return None
    if given is not None:
        return jax.tree.map(jnp.asarray, given._replace(weight=frequencies(given)))
    end_epoch = method.end_epoch
    program = jax.make_jaxpr(lambda train: end_epoch(key, state, train))(first).jaxpr
    rows = {id(variable) for variable in program.invars}
    used = [variable for equation in program.eqns for variable in equation.invars] + list(program.outvars)
    if any(id(variable) in rows for variable in used):
        raise ValueError(
            "the method's end_epoch needs the training rows, which a stream does not keep: give end_epoch_data=, a "
            "Batch of them (or of a sample) that fits on the device"
        )
    return jax.tree.map(jnp.zeros_like, first)


def _settled(method: Method, key: Array, state: Any, batch: Batch, train: Batch | None) -> Any:
    after, _ = jax.eval_shape(method.step, key, state, batch)
    if method.end_epoch is not None:
        after, _ = jax.eval_shape(method.end_epoch, key, after, train)
    return settle(state, after)


def _stacked(infos: list[Any]) -> Any:
    """The infos of an epoch, fetched at once, as one tree of `[steps, ...]`."""
    leaves = pack(infos)
    width = len(leaves) // len(infos)
    return unpack([np.stack(leaves[number::width]) for number in range(width)], infos[0])


def _table(history: list[Any], num_rows: int) -> tuple[Any, Any, Any]:
    """Rows of epochs as arrays `[num_rows, ...]`, with NaN (0 for integers) for what is missing."""
    if not history:
        return None, None, None
    columns = zip(*(pack(row) for row in history), strict=True)
    return unpack([_column(leaves, num_rows) for leaves in columns], history[0])


def _column(leaves: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    shape = [max(sizes) for sizes in zip(*(leaf.shape for leaf in leaves), strict=True)]
    fill = np.nan if jnp.issubdtype(leaves[0].dtype, jnp.inexact) else 0
    column = np.full((num_rows, *shape), fill, leaves[0].dtype)
    for row, leaf in enumerate(leaves):
        column[(slice(row, row + 1), *(slice(size) for size in leaf.shape))] = leaf
    return column


def _check(key: Any, batches: Any, num_epochs: int, prefetch: int, record: Any, end_epoch_data: Batch | None) -> None:
    check_run(key, num_epochs, record)
    if not callable(batches):
        raise TypeError(f"batches must be a function of the epoch that gives an iterator, got {type(batches).__name__}")
    _check_prefetch(prefetch)
    if end_epoch_data is not None:
        check_batch(end_epoch_data, name="end_epoch_data")
        check_finite(end_epoch_data.x, "end_epoch_data.x")


def _check_prefetch(prefetch: Any) -> None:
    if isinstance(prefetch, bool) or not isinstance(prefetch, int | np.integer) or prefetch < 1:
        raise ValueError(f"prefetch must be a positive integer, got {prefetch!r}")
