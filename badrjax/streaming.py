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
from badrjax.checks import check_finite, check_losses, check_positive_integer, is_concrete
from badrjax.functions import as_partial
from badrjax.incoming import Batches, StreamError, ahead, checked, shapes, stream_from_arrays
from badrjax.methods.base import Method
from badrjax.training import FitResult, Functions, as_functions, check_run, epoch_keys, first_state, settle

__all__ = ["BlockSums", "StreamError", "blockwise_value_and_grad", "fit_stream", "stream_from_arrays"]


class BlockSums(NamedTuple):
    """Sums over all rows of a pass: divide by `weight` for means.

    Attributes:
        value: `sum_i w_i l_i`, `f[]`.
        gradient: of `value`, a pytree like the parameters; of at least float32, which half of it would not hold.
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
            (0 for integers), and each number compiles the end of an epoch once.
        end_epoch_data: the rows that `end_epoch` is given, on the device. Needed only for a method whose `end_epoch`
            looks at them; others are given `None`.

    Returns:
        `FitResult`, as of `fit`; with `num_epochs=0` no batch is read, so that all but its state are `None`.

    Raises:
        StreamError: for an iterator that raises or is empty, a batch of another shape or dtype, or with NaN or
            infinite features, negative groups, classes or weights; names epoch and batch.
        ValueError: for a method whose `end_epoch` needs data that was not given, a state that a step returns in
            another dtype, a bad setting, or under `jit`.
        TypeError: for an old-style key, or `batches` that is no function.

    Whatever ends the run early, an interrupt too, has as its `partial` a `FitResult` of what was trained until then:
    the state after the last good batch (`None` where a step has used its memory) and the history of the epochs that
    were finished.
    """
    _check(key, batches, num_epochs, prefetch, record, end_epoch_data)
    functions = as_functions(method, evaluate, record)
    init_key, run_key = jax.random.split(key)
    run = _Run(functions, first_state(functions.method, init_key, params))
    try:
        for epoch in range(num_epochs):
            _, step_key, end_key = epoch_keys(run_key, epoch)
            incoming = ahead(checked(batches, epoch, run.like), prefetch)
            if run.like is None:
                incoming = _prepare(run, key, incoming, end_epoch_data)
            run.train(step_key, incoming, prefetch)
            if run.close_epoch(end_key):
                break
    except BaseException as error:
        error.partial = run.result(len(run.history))  # type: ignore[attr-defined]
        raise
    return run.result(num_epochs)


class _Run:
    """A run as far as it came."""

    def __init__(self, functions: Functions, state: Any) -> None:
        self.functions, self.state = functions, state
        self.history: list[Any] = []  # rows of the epochs that were finished
        self.infos: list[Any] = []  # of the steps of this epoch
        self.real: list[Array] = []  # whether each had rows that count
        self.like: Batch | None = None  # the shapes of all batches
        self.rows: Batch | None = None  # what `end_epoch` is given

    def train(self, step_key: Array, incoming: Iterator[Batch | StreamError], prefetch: int) -> None:
        """The steps of an epoch."""
        self.infos, self.real = [], []
        for batch in incoming:
            if isinstance(batch, StreamError):
                raise batch
            number = np.int32(len(self.infos))
            self.state, info, counts = _step(self.functions.method, step_key, number, self.state, batch)
            self.infos.append(info)
            self.real.append(counts)
            if len(self.real) > prefetch:
                # A step that lies back, so that the device never idles. Without waiting at all the host would run
                # ahead and fill the device with batches.
                jax.block_until_ready(self.real[-1 - prefetch])

    def close_epoch(self, key: Array) -> bool:
        """End the epoch; whether the method is done."""
        stacked = _stacked(self.infos), np.asarray(jax.device_get(self.real))
        self.state, row, done = _close_epoch(self.functions, key, self.state, *stacked, self.rows)
        self.history.append(row)
        return bool(done)

    def result(self, num_rows: int) -> FitResult:
        """The history `[num_rows, ...]`, and the state unless a step that was interrupted has used its memory."""
        gone = any(leaf.is_deleted() for leaf in jax.tree.leaves(self.state) if isinstance(leaf, jax.Array))
        return FitResult(None if gone else self.state, *_table(self.history, num_rows))


def _prepare(run: _Run, key: Array, incoming: Iterator[Any], end_epoch_data: Batch | None) -> Iterator[Any]:
    """Learn from the first batch what the others, and the state, must look like."""
    first = next(incoming)
    if isinstance(first, Batch):
        method, run.like = run.functions.method, shapes(first)
        after, _ = jax.eval_shape(method.step, key, run.state, first)
        run.rows = _rows_for_end_epoch(method, key, after, end_epoch_data)
        if method.end_epoch is not None:
            after, _ = jax.eval_shape(method.end_epoch, key, after, run.rows)
        run.state = settle(run.state, after)
        _check_settled(run.state, after)
    return chain([first], incoming)


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
        ValueError: for losses that are not one number a row.
    """
    check_positive_integer(prefetch=prefetch)
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

    def total(params: Any) -> Array:
        losses = function(params, batch)
        check_losses(losses, batch.y.shape[0])
        return jnp.sum(weight * losses)

    value, gradient = jax.value_and_grad(total)(params)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), gradient)
    return BlockSums(value, wide, jnp.sum(weight))


@jax.jit
def _add(one: BlockSums, other: BlockSums) -> BlockSums:
    return jax.tree.map(jnp.add, one, other)


def _rows_for_end_epoch(method: Method, key: Array, state: Any, given: Batch | None) -> Batch | None:
    """What `end_epoch` is given as its rows."""
    if method.end_epoch is None:
        return None
    if given is not None:
        return jax.tree.map(jnp.asarray, given._replace(weight=frequencies(given)))
    try:
        jax.eval_shape(method.end_epoch, key, state, None)
    except Exception as error:
        raise ValueError(
            "the method's end_epoch needs the training rows, which a stream does not keep: give end_epoch_data=, a "
            f"Batch of them (or of a sample) that fits on the device ({type(error).__name__}: {error})"
        ) from error
    return None


def _check_settled(state: Any, after: Any) -> None:
    """Raise where a step changes what the state is made of, as the loops of `badrjax.fit` do."""

    def kinds(tree: Any) -> list[Any]:
        named = jax.tree_util.tree_flatten_with_path(jax.eval_shape(lambda: tree))[0]
        return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in named]

    for (name, *was), (_, *now) in zip(kinds(state), kinds(after), strict=True):
        if was != now:
            raise ValueError(
                f"a step must return the state as it was given, and state{name} goes from {was[1]}{list(was[0])} to "
                f"{now[1]}{list(now[0])}; cast it in step, or give params of that dtype"
            )


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
    if not is_concrete(key, jnp.zeros(())):
        raise ValueError("fit_stream reads batches on the host, which a program cannot: call it outside jit and vmap")
    check_run(key, num_epochs, record)
    if not callable(batches):
        raise TypeError(f"batches must be a function of the epoch that gives an iterator, got {type(batches).__name__}")
    check_positive_integer(prefetch=prefetch)
    if end_epoch_data is not None:
        check_batch(end_epoch_data, name="end_epoch_data")
        check_finite(end_epoch_data.x, "end_epoch_data.x")
