"""Blocks of trials as compiled programs, and how wide a block may be."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

# Two widths whose compiled memory gives the line through which the widest block is found.
_PROBE_WIDTHS = (2, 8)
_WIDEST = 4096
# A part is left to the allocator and to whatever else lives on the device.
_SHARE_OF_MEMORY = 0.7
# What the lanes of a block on a CPU may take by themselves: beyond its cache they run at half the speed, as
# `python -m benchmarks.sweep_rates` measures.
_CACHE_OF_CPU = 2**25


class BlockProgram(NamedTuple):
    """A compiled block.

    Attributes:
        width: lanes, a multiple of the number of devices.
        compiled: `compiled(run, seeds, traced) -> pytree` with leaves `[width, ...]`.
        names: of the leaves of the results, such as `"test.accuracy"`; `"value"` for a single array.
        sharding: of everything that leads with the lanes.
        num_bytes: memory a device needs for it: arguments, results and temporaries.
    """

    width: int
    compiled: Any
    names: tuple[str, ...]
    sharding: NamedSharding
    num_bytes: int


def compile_block(
    run: Partial,
    static: Mapping[str, Any],
    traced: Mapping[str, np.dtype],
    width: int,
    devices: Sequence[jax.Device],
) -> BlockProgram:
    """The program of `width` trials side by side, the lanes dealt over the devices.

    Args:
        run: `run(key, **settings) -> pytree of arrays`; arrays bound by the `Partial` are arguments.
        static: settings that are part of the program.
        traced: dtypes of the settings that are arguments.
        width: lanes, a multiple of the number of devices.
        devices: what the lanes are dealt over.
    """
    sharding = NamedSharding(Mesh(np.array(devices), ("trial",)), PartitionSpec("trial"))
    lanes = partial(jax.ShapeDtypeStruct, sharding=sharding)
    arguments = {name: lanes((width,), dtype) for name, dtype in traced.items()}

    def on_device(run: Partial, seeds: Any, settings: Mapping[str, Any]) -> Any:
        def lane(seed: Any, settings: Mapping[str, Any]) -> Any:
            result = run(jax.random.key(seed, impl="threefry2x32"), **static, **settings)
            return jax.tree.map(jnp.asarray, result)

        if seeds.shape[0] > 1:
            return jax.vmap(lane)(seeds, settings)
        # One lane is run without an axis for it. That is faster to compile, and XLA's CPU compiler (jaxlib 0.10.2) has
        # been seen to stop a loop's state after its first turn where a mapped axis has the length one.
        result = lane(seeds[0], {name: values[0] for name, values in settings.items()})
        return jax.tree.map(lambda leaf: leaf[None], result)

    block = on_device
    if len(devices) > 1:
        same, dealt = PartitionSpec(), PartitionSpec("trial")
        block = jax.shard_map(
            on_device, mesh=sharding.mesh, in_specs=(same, dealt, dealt), out_specs=dealt, check_vma=False
        )

    lowered = jax.jit(block, out_shardings=sharding).lower(run, lanes((width,), jnp.uint32), arguments)
    for path, leaf in jax.tree_util.tree_flatten_with_path(lowered.out_info)[0]:
        if not any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise TypeError(f"result {name!r} of run has dtype {leaf.dtype}; return real numbers or booleans")
    compiled = lowered.compile()
    return BlockProgram(width, compiled, _names(lowered.out_info), sharding, _bytes_of(compiled))


def run_block(
    program: BlockProgram, run: Partial, seeds: np.ndarray, traced: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Leaves of the results of up to `width` trials, `[n, ...]` each, on the host.

    A block with fewer trials is padded with its last one, so that its program, and with it the last bits of its
    results, are those of a full block.
    """
    number = len(seeds)
    padded = np.minimum(np.arange(program.width), number - 1)
    put = partial(jax.device_put, device=program.sharding)
    settings = {name: put(values[padded]) for name, values in traced.items()}
    results = program.compiled(run, put(seeds[padded]), settings)
    return [_storable(np.asarray(leaf)[:number]) for leaf in jax.tree.leaves(results)]


def choose_width(
    compile_at: Callable[[int], BlockProgram],
    num_trials: int,
    num_devices: int,
    budget: int,
    lanes_budget: int | None = None,
) -> int:
    """The widest block that fits into `budget` bytes a device, for at most `num_trials` trials.

    Memory is a constant and a part that grows with the lanes; both follow from two compiled widths. The width is
    the number of devices times a power of two, or just enough for all trials. With `lanes_budget`, the part that grows
    stays within it, too, unless it is that of one lane.

    Raises:
        MemoryError: where not even one trial a device fits.
    """
    needed = -(-num_trials // num_devices) * num_devices
    few, many = (compile_at(lanes * num_devices).num_bytes for lanes in _PROBE_WIDTHS)
    slope = max((many - few) / (_PROBE_WIDTHS[1] - _PROBE_WIDTHS[0]), 1.0)
    fixed = max(few - _PROBE_WIDTHS[0] * slope, 0.0)
    lanes = int((budget - fixed) // slope)
    if lanes < 1:
        raise MemoryError(
            f"one trial a device needs about {fixed + slope:,.0f} bytes and the budget is {budget:,}; raise "
            "memory_budget, or make the trial smaller"
        )
    if lanes_budget is not None:
        lanes = min(lanes, max(int(lanes_budget // slope), 1))
    power = 1 << (min(lanes, _WIDEST).bit_length() - 1)
    return min(power * num_devices, needed)


def memory_budget(devices: Sequence[jax.Device]) -> int:
    """Bytes that a block may take on each device: a share of what it has; CPU devices have the host's in common."""
    stats = devices[0].memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
    return int(_SHARE_OF_MEMORY * total)


def cache_of(device: jax.Device) -> int | None:
    """Bytes that the lanes of a block had better stay within on a device; `None` for no such bound."""
    return _CACHE_OF_CPU if device.platform == "cpu" else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    of_xla = isinstance(error, jax.errors.JaxRuntimeError)
    return isinstance(error, MemoryError) or (of_xla and "RESOURCE_EXHAUSTED" in str(error))


def _storable(values: np.ndarray) -> np.ndarray:
    """Numbers of a type that files and pandas know; bfloat16 and its like as float32, which holds them exactly."""
    known = values.dtype.kind in "bui" or values.dtype in (np.float16, np.float32, np.float64)
    return values if known else values.astype(np.float32)


def _names(results: Any) -> tuple[str, ...]:
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(results)[0]]
    return tuple(jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path in paths)


def _bytes_of(compiled: Any) -> int:
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return sum(int(getattr(analysis, part)) for part in parts)
