"""One run larger than a device or a host: rows sharded over an axis of a device mesh, parameters on every device.

Indexing sharded rows by a permutation would copy all of them to every device. So rows are dealt to shards once, each
shard shuffles its own, and a batch takes the same number of rows from every shard. What a method computes from such a
batch is the ordinary `step`; the compiler splits it by rows and adds the sums over rows up across devices.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from badrjax.batches import Batch, check_batch, frequencies, take
from badrjax.checks import is_concrete
from badrjax.methods.base import Method
from badrjax.samplers import Sampler
from badrjax.training import FitResult, Functions, as_functions, check_run, check_sampler, epoch_keys, run_epochs


def deal_order(num_rows: int, num_shards: int, seed: int | None = None) -> np.ndarray:
    """Which row each slot of each shard holds, `int64[num_shards, ceil(num_rows / num_shards)]`; -1 is padding.

    Rows are dealt like cards, row `i` to shard `i % num_shards`, so that `in_order` batches are the same sets of rows
    as on one device. Padding is in last slots only.

    Args:
        num_rows: rows to deal, at least one a shard.
        num_shards: number of shards.
        seed: of a shuffle on the host before dealing; `None` deals the rows as they come.

    Raises:
        ValueError: for fewer rows than shards, or a seed that is none.
    """
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0):
        raise ValueError(f"seed must be an integer of at least 0, or None for the order of the rows, got {seed!r}")
    if num_shards < 1 or num_rows < num_shards:
        raise ValueError(f"{num_rows} rows cannot be dealt to {num_shards} shards: each needs at least one")
    order = np.arange(num_rows) if seed is None else np.random.default_rng(seed).permutation(num_rows)
    padded = np.pad(order, (0, -num_rows % num_shards), constant_values=-1)
    return padded.reshape(-1, num_shards).T


def deal(data: Batch, mesh: Mesh, *, axis: str = "data", seed: int | None = None) -> Batch:
    """`data` with its rows dealt to the shards of a mesh axis, once and for all epochs. Host code.

    With several processes, each calls this with the same rows and holds the shards of its own devices. Only those
    rows of `data.x` are read, so an `np.memmap` larger than a host's memory will do.

    Args:
        data: n rows, on the host or on one device.
        mesh: of the devices of all processes, `jax.make_mesh((jax.device_count(),), ("data",))`.
        axis: the axis of `mesh` over which rows are sharded; over others they are repeated.
        seed: see `deal_order`.

    Returns:
        A `Batch` of `num_shards * ceil(n / num_shards)` rows in the order of `deal_order`, each field sharded over
        `axis` by rows. Padding is a copy of a shard's first row, with weight -0.0.

    Raises:
        ValueError: for an unknown axis, fewer rows than shards, data that `badrjax.fit` refuses, or rows or a seed
            that are not the same in every process.
        TypeError: for fields of `data` that are not arrays.
    """
    with _together():
        mesh = automatic_mesh(mesh, axis)
        check_batch(data)
        order = deal_order(data.y.shape[0], mesh.shape[axis], seed)
    num_rows = data.y.shape[0]
    same = "every process must give deal the same rows in the same order and the same seed"
    _check_same_everywhere((order, data.x.shape, data.y, data.group, data.weight), same)
    sharding = NamedSharding(mesh, PartitionSpec(axis))
    filled = np.where(order >= 0, order, order[:, :1]).reshape(-1)
    # A float without a sign, also where it was given as integers or -0.0.
    weight: Any = np.ones(num_rows) if data.weight is None else np.abs(np.asarray(data.weight)) * 1.0

    def shard(name: str, values: Any) -> Array:
        values = np.asarray(values)
        dtype = jax.dtypes.canonicalize_dtype(values.dtype)

        def rows_of(index: Any) -> np.ndarray:
            rows = filled[index[0]]
            with np.errstate(over="ignore"):
                chosen = np.asarray(values[rows], dtype)
            _check_narrowed(chosen, values, rows, name)
            # The sign of its zero tells padding from a row that is given weight 0, which is shuffled as any other.
            return np.where(order.reshape(-1)[index[0]] >= 0, chosen, -0.0) if name == "weight" else chosen

        return jax.make_array_from_callback((filled.size, *values.shape[1:]), sharding, rows_of)

    with _together():
        return Batch(*(shard(name, values) for name, values in data._replace(weight=weight)._asdict().items()))


def fit_sharded(
    key: Array,
    method: Method,
    params: Any,
    data: Batch,
    *,
    num_epochs: int,
    sampler: Sampler,
    mesh: Mesh,
    axis: str = "data",
    evaluate: Callable[[Any], Any] | None = None,
    record: str | Callable[[Any], Any] = "epoch",
) -> FitResult:
    """`badrjax.fit` on rows sharded over a mesh axis: any method, with the same numbers up to rounding.

    A batch takes `batch_size / num_shards` rows from each shard, as `reference_order` says; on one shard this is
    `badrjax.fit`. `full_batch` hands the method the sharded rows themselves (see
    `badrjax.blocks.in_blocks` for its activations).
    Arrays of `params`, `method` and `evaluate` are copied to every device, unless they lie on the mesh already: a
    validation batch may be dealt, too. With several processes each makes this call with the same arguments.

    Args:
        key: a typed key (`jax.random.key(seed)`); consumed.
        method: a `Method`.
        params: its starting parameters; never donated.
        data: from `deal`.
        num_epochs: static, `>= 0`.
        sampler: `badrjax.shuffled`, `in_order` or `full_batch`; the batch size is that of all shards together.
        mesh: the mesh the data was dealt to, and `axis` its axis.
        axis: as given to `deal`.
        evaluate: as in `badrjax.fit`, and so is `record`.
        record: by epoch, by step, or a function.

    Returns:
        `FitResult`, all of it on every device: any process can read it.

    Raises:
        ValueError: before tracing, for data not dealt to this axis, an unknown axis, a batch size the shards do not
            divide (with the nearest) or larger than the data, `group_balanced`, or an unknown `record`.
        TypeError: for an old-style `uint32` key or a sampler that is none.
    """
    with _together():
        check_run(key, num_epochs, record)
        check_sampler(sampler)
        mesh = automatic_mesh(mesh, axis)
        _check_sampler(sampler, mesh.shape[axis], axis)
        _check_dealt(data, mesh, axis)
        arguments = (key, as_functions(method, evaluate, record), params)
    same = "every process must give fit_sharded the same key, method, parameters and settings"
    _check_same_everywhere((arguments, (num_epochs, sampler, axis)), same)
    num_rows = data.y.shape[0] - int(_count_padding(data.weight))
    sampler.check(num_rows)
    key, functions, params = _on_mesh(arguments, mesh)
    plan = _Plan(mesh, axis, sampler, sampler.num_steps(num_rows), num_epochs)
    return _fit(plan, key, functions, params, data)


def reference_order(
    key: Array, num_rows: int, num_shards: int, sampler: Sampler, epoch: int, *, seed: int | None = None
) -> np.ndarray:
    """The batches of an epoch of `fit_sharded` as rows of the data before it was dealt. Needs no mesh.

    Stepping on `take(data, batch)` for each of them, on one device, gives the same numbers up to rounding.

    Args:
        key: the run's key, as given to `fit_sharded`.
        num_rows: rows before dealing.
        num_shards: number of shards.
        sampler: as given to `fit_sharded`.
        epoch: from 0.
        seed: as given to `deal`.

    Returns:
        `int64[steps, batch]`, shard after shard within a batch; -1 is padding.

    Raises:
        ValueError: as `deal_order`, and for a sampler `fit_sharded` refuses.
    """
    check_run(key, epoch, "epoch")
    _check_sampler(sampler, num_shards, "data")
    sampler.check(num_rows)
    order = deal_order(num_rows, num_shards, seed)
    shuffle_key = epoch_keys(jax.random.split(key)[1], epoch)[0]
    steps = sampler.num_steps(num_rows)
    batches = [
        np.where(slots >= 0, rows[slots], -1)
        for shard, rows in enumerate(order)
        for slots in [np.asarray(_slots(shuffle_key, shard, jnp.asarray(rows >= 0), sampler, num_shards, steps))]
    ]
    return np.concatenate(batches, axis=1)


class _Plan(NamedTuple):
    """What is part of the program and not a number."""

    mesh: Mesh
    axis: str
    sampler: Sampler
    num_steps: int
    num_epochs: int


@partial(jax.jit, static_argnums=0)
def _fit(plan: _Plan, key: Array, functions: Functions, params: Any, data: Batch) -> FitResult:
    method, evaluate, keep = functions
    init_key, run_key = jax.random.split(key)
    whole = plan.sampler.kind == "full_batch"

    def everywhere(tree: Any) -> Any:
        return jax.lax.with_sharding_constraint(tree, NamedSharding(plan.mesh, PartitionSpec()))

    def epoch(state: Any, index: Array) -> tuple[Any, tuple[Any, Any, Any]]:
        shuffle_key, step_key, end_key = epoch_keys(run_key, index)

        def step(state: Any, inputs: tuple[Array, Any]) -> tuple[Any, Any]:
            number, slots = inputs
            batch = data if whole else _take_slots(plan, data, slots)
            state, info = method.step(jax.random.fold_in(step_key, number), state, batch)
            return everywhere(state), (info, jnp.any(frequencies(batch) > 0))

        slots = None if whole else _batch_slots(plan, shuffle_key, frequencies(data))
        state, (infos, real) = jax.lax.scan(step, state, (jnp.arange(plan.num_steps), slots))
        end = None
        if method.end_epoch is not None:
            state, end = method.end_epoch(end_key, state, data)
        row = (keep(infos, real), end, None if evaluate is None else evaluate(state))
        return everywhere(state), everywhere(row)

    state = everywhere(method.init(init_key, params))
    return everywhere(run_epochs(epoch, method, state, plan.num_epochs))


@partial(jax.jit, static_argnames=("sampler", "num_shards", "num_steps"))
def _slots(key: Array, shard: Any, real: Array, sampler: Sampler, num_shards: int, num_steps: int) -> Array:
    """What one shard gives to each batch of an epoch: its slots, `int32[steps, batch / num_shards]`; -1 is padding."""
    sampler = replace(sampler, batch_size=sampler.batch_size and sampler.batch_size // num_shards)
    # On one shard the rows come in the order of `badrjax.fit`.
    key = key if num_shards == 1 else jax.random.fold_in(key, shard)
    # A shard without padding may fill a batch that others cannot.
    return sampler.positions(key, jnp.where(real, 0, -1))[:num_steps]


def _batch_slots(plan: _Plan, key: Array, weight: Array) -> Array:
    """Each shard's `_slots` for an epoch, computed where they are used, `int32[steps, batch]` sharded by columns."""
    num_shards = plan.mesh.shape[plan.axis]

    def of_shard(key: Array, weight: Array) -> Array:
        shard, real = jax.lax.axis_index(plan.axis), ~jnp.signbit(weight)
        return _slots(key, shard, real, plan.sampler, num_shards, plan.num_steps)

    rows, columns = PartitionSpec(plan.axis), PartitionSpec(None, plan.axis)
    return jax.shard_map(of_shard, mesh=plan.mesh, in_specs=(PartitionSpec(), rows), out_specs=columns)(key, weight)


def _take_slots(plan: _Plan, data: Batch, slots: Array) -> Batch:
    """A batch sharded as the data is: every device picks its own rows."""
    rows = PartitionSpec(plan.axis)
    return jax.shard_map(take, mesh=plan.mesh, in_specs=(rows, rows), out_specs=rows)(data, slots)


def automatic_mesh(mesh: Any, axis: str) -> Mesh:
    """The mesh with all its axes left to the compiler: in typed (explicit) meshes a method would have to name them."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, as of jax.make_mesh, got {type(mesh).__name__}")
    if axis not in mesh.axis_names:
        names = ", ".join(repr(name) for name in mesh.axis_names)
        raise ValueError(f"mesh has no axis {axis!r}, it has {names}; pass axis=")
    if AxisType.Explicit in (jax.sharding.get_abstract_mesh().axis_types or ()):
        raise ValueError("jax.set_mesh is in force with a mesh of explicit axes; call this outside of it")
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def _on_mesh(tree: Any, mesh: Mesh) -> Any:
    """Every array of `tree` on every device of the mesh, but for those that lie on it already."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> Any:
        # jit itself copies numbers and NumPy arrays to every device.
        if isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, jax.Array):
            return leaf
        if _lies_on(leaf.sharding, mesh):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if everywhere.is_fully_addressable:
            return jax.device_put(leaf, everywhere)
        return jax.make_array_from_callback(leaf.shape, everywhere, lambda index: np.asarray(leaf)[index])

    return jax.tree.map(put, tree)


def _lies_on(sharding: Any, mesh: Mesh) -> bool:
    """Whether it is over the devices of the mesh, and in their order: two orders cannot be in one program."""
    if isinstance(sharding, NamedSharding):
        return list(sharding.mesh.devices.flat) == list(mesh.devices.flat)
    return bool(sharding.device_set == set(mesh.devices.flat))


@jax.jit
def _count_padding(weight: Array) -> Array:
    return jnp.sum(jnp.signbit(weight))


def _check_sampler(sampler: Sampler, num_shards: int, axis: str) -> None:
    if sampler.by_group:
        raise ValueError(
            f"{sampler.kind} does not work on sharded rows: a shard may hold none of a small group's rows, so equal "
            "shares would need rows of other shards; use shuffled or in_order"
        )
    size = sampler.batch_size
    if size is not None and size % num_shards:
        nearest = " or ".join(str(fit) for fit in (size - size % num_shards, size + -size % num_shards) if fit)
        raise ValueError(
            f"batch_size {size} is not a multiple of the {num_shards} shards of axis {axis!r}; take {nearest}"
        )


def _check_dealt(data: Batch, mesh: Mesh, axis: str) -> None:
    wanted = NamedSharding(mesh, PartitionSpec(axis))
    # Inside jit even a constant is traced.
    for name, leaf in data._asdict().items():
        if isinstance(leaf, jax.core.Tracer) or not is_concrete(jnp.zeros(())):
            raise ValueError("data must not be traced: call fit_sharded outside jit, and map over key or method only")
        if not isinstance(leaf, jax.Array) or not leaf.sharding.is_equivalent_to(wanted, leaf.ndim):
            raise ValueError(
                f"data.{name} is not sharded over axis {axis!r} of this mesh; "
                "deal the rows first: data = badrjax.deal(data, mesh, axis=axis)"
            )


def _check_narrowed(values: np.ndarray, given: np.ndarray, rows: np.ndarray, name: str) -> None:
    """As `badrjax.checks.check_finite`, for some rows of a larger array, which the message counts."""
    exact = jnp.issubdtype(values.dtype, jnp.integer)
    good = values == given[rows] if exact else np.isfinite(values)
    if np.all(good):
        return
    place = np.argwhere(~good)[0]
    where = f"row {rows[place[0]]}" + (f" (column '{place[1]}')" if place.size == 2 else "")
    if exact or np.isfinite(given[rows][tuple(place)]):
        raise ValueError(f"data.{name} has a value too large for {values.dtype} in {where}; scale or number it anew")
    raise ValueError(f"data.{name} has NaN or infinite values in {where}; impute or drop them before training")


@contextmanager
def _together() -> Iterator[None]:
    """Refuse in every process what one of them refuses within, so that none waits for another in vain."""
    try:
        yield
    except (TypeError, ValueError):
        _exchange(refused=True)
        raise
    _exchange(refused=False)


def _exchange(refused: bool) -> None:
    if jax.process_count() == 1:
        return
    flags = multihost_utils.process_allgather(np.array([refused]))
    if not refused and flags.any():
        raise ValueError(f"process {int(np.argmax(flags))} has refused its arguments; see what it says")


def _check_same_everywhere(values: Any, message: str) -> None:
    """Raise `ValueError` in every process unless all hold the same values; arrays on several hosts are left out."""
    if jax.process_count() == 1:
        return
    checksum = 0
    for leaf in jax.tree.leaves(values):
        if not is_concrete(leaf):
            told = b"on several hosts"
        elif isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            told = np.asarray(jax.random.key_data(leaf)).tobytes()
        elif isinstance(leaf, np.ndarray | np.generic | jax.Array):
            array = np.ascontiguousarray(leaf)
            told = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        else:
            told = repr(leaf).encode()
        checksum = zlib.crc32(told, checksum)
    try:
        multihost_utils.assert_equal(np.array([checksum], np.uint32), message)
    except AssertionError:
        raise ValueError(message) from None
