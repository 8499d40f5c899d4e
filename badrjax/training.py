"""A run as one compiled program: sampling, steps, epochs and evaluation, for any `Method`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Int

from badrjax.batches import Batch, check_batch, frequencies, take
from badrjax.checks import check_finite, check_positive_integer, is_concrete
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
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
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
        sampler: `badrjax.shuffled`, `group_balanced`, `group_stratified`, `in_order` or `full_batch`.
        rows: positions in `data` to train on, `int[m]`; a negative one is padding. `None` means all.
        evaluate: `evaluate(state) -> pytree of arrays`, after each epoch. Bind arrays with
            `jax.tree_util.Partial(function, arrays...)`: what a lambda closes over is baked into the program.
        record: `"epoch"` keeps the mean of each info field over an epoch (NaN entries, "not measured", and batches
            of padding only take no part), `"step"` every step, and a function is given an epoch's infos, stacked
            `[steps, ...]`.
        checkpoint: a directory of this run alone. The run is stored there after every `every` epochs, and a call with
            the same arguments, or a larger `num_epochs`, goes on from the last readable checkpoint: to the same bits
            as an undisturbed run, as long as processor and XLA_FLAGS are the same, of which it warns. Needs
            orbax-checkpoint (`pip install 'badrjax[checkpoints]'`), concrete arguments and one process.
        every: epochs between checkpoints, `>= 1`; needed with `checkpoint`.

    Raises:
        ValueError: before tracing, for lengths that differ, a batch size larger than the data, NaN or infinite
            features (which column), negative groups or classes, rows outside the data, or an unknown `record`; for
            `checkpoint` inside `jit` or `vmap`.
        TypeError: for an old-style `uint32` key, or fields of `data` that are not arrays.
        badrjax.checkpoints.CheckpointError: for a directory that holds another run (what differs), that nothing can
            be read from, or that cannot be written.
    """
    rows = np.asarray(rows) if isinstance(rows, list | tuple | range) else rows
    _check(key, data, rows, num_epochs, sampler, record)
    functions = as_functions(method, evaluate, record)
    sampler = _with_groups(sampler, data)
    data = data._replace(weight=frequencies(data))
    if checkpoint is None and every is None:
        return _fit(key, functions, params, data, rows, num_epochs, sampler)
    every = _check_checkpoint(checkpoint, every, (key, functions, params, data, rows))
    return _fit_in_pieces(checkpoint, every, key, functions, params, data, rows, int(num_epochs), sampler)


class Functions(NamedTuple):
    """What a run calls, each a pytree, so that the numbers bound to it are arguments of the run's program.

    Attributes:
        method: a `Method` of `Partial`s.
        evaluate: `evaluate(state)`, or `None`.
        keep: `keep(infos, real)`: what is kept of an epoch's infos `[steps, ...]`, of which those with `real` had
            rows that count, `bool[steps]`.
    """

    method: Method
    evaluate: Partial | None
    keep: Partial


def as_functions(method: Method, evaluate: Callable[..., Any] | None, record: str | Callable[..., Any]) -> Functions:
    """The functions a run was given, as `badrjax.fit` takes them."""
    members = {name: as_partial(member) for name, member in method._asdict().items() if member is not None}
    evaluate = None if evaluate is None else as_partial(evaluate)
    if isinstance(record, str):
        return Functions(Method(**members), evaluate, Partial(_every_step if record == "step" else _means))
    return Functions(Method(**members), evaluate, Partial(_recorded, as_partial(record)))


@partial(jax.jit, static_argnames=("num_epochs", "sampler"))
def _fit(
    key: Array, functions: Functions, params: Any, data: Batch, rows: Any, num_epochs: int, sampler: Sampler
) -> FitResult:
    init_key, run_key = jax.random.split(key)
    epoch = _epoch_of(run_key, functions, data, rows, sampler)
    return run_epochs(epoch, functions.method, functions.method.init(init_key, params), num_epochs)


@partial(jax.jit, static_argnames=("sampler", "length"))
def _fit_piece(
    run_key: Array,
    functions: Functions,
    data: Batch,
    rows: Any,
    sampler: Sampler,
    length: int,
    state: Any,
    start: Array,
    stop: Array,
) -> tuple[Array, Any, Any]:
    """Epochs `start` to `stop`, at most `length` of them: the epoch to go on with, the state, `[length, ...]` rows.

    Both ends are arguments, so that all pieces are one program, and one whose loop the compiler cannot unroll: a loop
    known to turn once would be fused with what surrounds it, and its last bits differ from those of a long one.
    """
    epoch = _epoch_of(run_key, functions, data, rows, sampler)
    return _epochs_from(epoch, functions.method.done, state, start, stop, length)


def _fit_in_pieces(
    directory: Any,
    every: int,
    key: Array,
    functions: Functions,
    params: Any,
    data: Batch,
    rows: Any,
    num_epochs: int,
    sampler: Sampler,
) -> FitResult:
    from badrjax import checkpoints  # which opens files: only where it is asked for

    checkpoints.check_directory(directory)
    init_key, run_key = jax.random.split(key)
    fixed = (run_key, functions, data, rows, sampler, every)
    start, stop = np.int32(0), np.int32(every)
    state = first_state(functions.method, init_key, params)
    state = settle(state, jax.eval_shape(lambda state: _fit_piece(*fixed, state, start, stop)[1], state))
    lowered = _fit_piece.lower(*fixed, state, start, stop)
    method, evaluate, keep = functions
    about = checkpoints.describe(
        {"key": key, "method": method, "params": params, "data": data, "rows": rows, "evaluate": evaluate,
         "record": keep},
        {"every": every, "sampler": repr(sampler)},
        lowered.as_text(),
    )  # fmt: skip

    def piece(state: Any, start: int, stop: int) -> tuple[int, Any, Any]:
        ran, state, history = _fit_piece(*fixed, state, np.int32(start), np.int32(stop))
        return int(ran), state, history

    kinds = jax.eval_shape(lambda state: _fit_piece(*fixed, state, start, stop)[2], state)
    state, history = checkpoints.run_in_pieces(directory, about, piece, state, kinds, num_epochs, every)
    return FitResult(state, *history)


def _epoch_of(
    run_key: Array, functions: Functions, data: Batch, rows: Any, sampler: Sampler
) -> Callable[[Any, Array], tuple[Any, tuple[Any, Any, Any]]]:
    """`(state, index) -> (state, (steps, epochs, evaluations))` of one epoch."""
    method, evaluate, keep = functions
    # Signed, so that -1 can mark padding.
    rows = (jnp.arange(data.y.shape[0]) if rows is None else rows).astype(jnp.int32)
    groups = data.group.astype(jnp.int32)

    def epoch(state: Any, index: Array) -> tuple[Any, tuple[Any, Any, Any]]:
        shuffle_key, step_key, end_key = epoch_keys(run_key, index)
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

    return epoch


@jax.jit
def first_state(method: Method, key: Array, params: Any) -> Any:
    """What the method starts from."""
    return method.init(key, params)


def epoch_keys(run_key: Array, index: Any) -> Array:
    """The three keys of epoch `index`: for the order of the rows, for the steps and for `end_epoch`."""
    return jax.random.split(jax.random.fold_in(run_key, index), 3)


def settle(state: Any, like: Any) -> Any:
    """`state` as a step leaves it, `like`, where `init` made numbers of weak type: else the next step is recompiled."""

    def settled(leaf: Any, kind: Any) -> Any:
        weak = getattr(leaf, "weak_type", False) and not getattr(kind, "weak_type", False)
        return jax.lax.convert_element_type(leaf, kind.dtype) if weak else leaf

    return jax.tree.map(settled, state, like)


def run_epochs(epoch: Callable[..., Any], method: Method, state: Any, num_epochs: int) -> FitResult:
    """`num_epochs` of `epoch(state, index) -> (state, row of the history)`, or fewer where the method is done."""
    if method.done is None:
        state, history = jax.lax.scan(epoch, state, jnp.arange(num_epochs))
    else:
        zero = jnp.zeros((), jnp.int32)
        _, state, history = _epochs_from(epoch, method.done, state, zero, num_epochs, num_epochs)
    return FitResult(state, *history)


def _epochs_from(
    epoch: Callable[..., Any], done: Callable[..., Any] | None, state: Any, start: Array, stop: Any, length: int
) -> tuple[Array, Any, Any]:
    """The scan over epochs as a while loop that stops at `stop` or when `done(state)`, with preallocated history."""
    shapes = jax.eval_shape(epoch, state, jax.ShapeDtypeStruct((), jnp.int32))[1]

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        zeros = jnp.zeros((length, *leaf.shape), leaf.dtype)  # of random keys, too
        return jnp.full_like(zeros, jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.inexact) else zeros

    def body(carry: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
        index, state, history = carry
        state, new = epoch(state, index)
        return index + 1, state, jax.tree.map(lambda all_, one: all_.at[index - start].set(one), history, new)

    def going(carry: tuple[Array, Any, Any]) -> Array:
        asked = carry[0] < stop
        return asked if done is None else asked & ((carry[0] == 0) | ~done(carry[1]))

    return jax.lax.while_loop(going, body, (start, state, jax.tree.map(blank, shapes)))


def _every_step(infos: Any, real: Array) -> Any:
    return infos


def _recorded(record: Partial, infos: Any, real: Array) -> Any:
    return record(infos)


def _means(infos: Any, real: Array) -> Any:
    """Means over the leading axis of the steps that are `real`, without the NaN entries; NaN where none is left."""

    def mean(leaf: Array) -> Array:
        leaf = leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf.astype(jnp.result_type(float))
        known = ~jnp.isnan(leaf) & real.reshape(-1, *(1,) * (leaf.ndim - 1))
        count = jnp.sum(known, axis=0)
        total = jnp.sum(jnp.where(known, leaf, 0), axis=0)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    return jax.tree.map(mean, infos)


def check_run(key: Any, num_epochs: Any, record: Any) -> None:
    """Raise for what is no key, no number of epochs or no way to record."""
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("key must be a typed key, jax.random.key(seed), not an integer or a raw uint32 array")
    if isinstance(num_epochs, bool) or not isinstance(num_epochs, int | np.integer) or num_epochs < 0:
        raise ValueError(f"num_epochs must be an integer of at least 0, got {num_epochs!r}")
    if isinstance(record, str) and record not in ("epoch", "step"):
        raise ValueError(f"record must be 'epoch', 'step' or a function, got {record!r}")


def check_sampler(sampler: Any) -> None:
    """Raise for what is no sampler."""
    if not isinstance(sampler, Sampler):
        raise TypeError("sampler must be badrjax.shuffled(...), group_balanced(...), in_order(...) or full_batch()")


def _check(key: Any, data: Batch, rows: Any, num_epochs: int, sampler: Sampler, record: Any) -> None:
    check_run(key, num_epochs, record)
    check_sampler(sampler)
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


def _check_checkpoint(checkpoint: Any, every: Any, arguments: Any) -> int:
    if checkpoint is None or every is None:
        given, missing = ("every", "checkpoint") if checkpoint is None else ("checkpoint", "every")
        raise ValueError(f"{given} needs {missing}: checkpoint=directory, every=epochs between two checkpoints")
    check_positive_integer(every=every)
    # Inside jit even a constant is traced.
    if not is_concrete(arguments, jnp.zeros(())):
        raise ValueError(
            "checkpoint writes files, which a program under jit, vmap or grad cannot: call fit outside of them, with a "
            "directory for each run"
        )
    return int(every)


def _with_groups(sampler: Sampler, data: Batch) -> Sampler:
    if not sampler.by_group:
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
