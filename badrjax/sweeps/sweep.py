"""Many runs at once: planned, run in blocks on all devices, stored as they finish."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import jax

from badrjax.environment import sources_around, versions
from badrjax.extras import require
from badrjax.functions import as_partial
from badrjax.sweeps.collecting import collect
from badrjax.sweeps.identity import identify
from badrjax.sweeps.memory import Memory
from badrjax.sweeps.progress import make_progress
from badrjax.sweeps.result import SweepResult
from badrjax.sweeps.running import Keeper, num_open_trials, plan_missing, run_open
from badrjax.sweeps.store import Store
from badrjax.sweeps.trials import as_columns, group_trials
from badrjax.sweeps.worker import Worker


def sweep(
    run: Callable[..., Any],
    trials: Any,
    *,
    store: str | os.PathLike[str] | None = None,
    block: int | Literal["auto"] = "auto",
    memory_budget: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    executor: Literal["local", "ray"] = "local",
    progress: bool | Literal["json"] = True,
    static: Collection[str] = (),
    lease_seconds: float = 60.0,
    resources: Mapping[str, Any] | None = None,
    ray_options: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Run a function once for each row of a table, as few programs, many rows at a time.

    Rows that differ in floating-point columns and the seed only share a program and are run side by side, a
    block of them at once, dealt over the devices. A trial's key is `jax.random.key(seed)` (always of JAX's default
    kind, threefry, whose draws do not depend on what runs beside them), and its result depends on neither its place in
    a block nor its neighbours, only (in the last bits) on the width of the block: so the width is fixed when the trials
    are planned, and a block that is not full is padded to it.

    With a store, a finished block is a file; a second call, or another process at the same time, runs only what
    is not there yet. Where memory runs out, the blocks that are left are halved.

    Args:
        run: `run(key, **settings) -> pytree of arrays`, pure. Bind data with `jax.tree_util.Partial(run, data=...)`:
            what it closes over is baked into the program.
        trials: a pandas DataFrame or a dict of equally long columns, `seed` among them.
        store: directory to keep results in; `None` keeps them in memory only.
        block: trials a block; "auto" takes what fits into the memory, by two compiled widths.
        memory_budget: bytes that a block may take on each device; `None` takes seven tenths of what it has, and on a
            CPU no more lanes than stay in its cache, which are faster.
        devices: what blocks are dealt over; `None` takes all local ones.
        executor: "local" for this process; "ray" for the processes of a Ray cluster, which needs `store` on a file
            system that all nodes see. A cluster is joined by `ray.init(address="auto")` beforehand; where Ray is not
            running it is started on this machine, and stopped at the end.
        progress: a bar on a terminal, `False` for none, "json" for a line a block.
        static: floating-point columns that are part of the program all the same.
        lease_seconds: in a shared store, after how long the block of a silent process is taken over.
        resources: of each process of Ray, such as `{"num_cpus": 4}` or `{"num_gpus": 1}`; one CPU by default.
        ray_options: for `ray.init`, where Ray is not running yet.

    Returns:
        A `SweepResult` with a row for each trial.

    Raises:
        ValueError: for trials that are no table, or without seeds, or twice the same; for a block size or a
            budget below 1; for devices that are none; for an unknown executor, or "ray" without a store or with
            `devices`.
        TypeError: for a `run` that cannot be called.
        StoreError: for a store that cannot be used as it is.
        MemoryError: where a single trial does not fit.
        RuntimeError: where a block ends the process of Ray that runs it again and again.

    Warns:
        UserWarning: where the store holds wanted trials that were planned with other versions of the libraries, or of
            the package that `run` is from.
    """
    require("pandas", "a sweep")  # before anything runs, and not when all has run
    crew = _crew(executor, store, devices, resources, ray_options)
    columns = as_columns(trials)
    groups = group_trials(columns, static)
    # With Ray this process runs nothing, and leaves the devices to those that do.
    chosen = [] if executor == "ray" else _check_devices(devices)
    worker = Worker(as_partial(run), groups, chosen, block, memory_budget)
    keeper = Memory() if store is None else Store(store, identify(worker.run), lease_seconds)
    _warn_of_other_versions(keeper, worker)
    with crew as (plan, run_blocks):
        plan(worker, keeper)
        total = len(worker.wanted)
        with make_progress(progress, total, already=total - num_open_trials(keeper, worker.wanted)) as shown:
            run_blocks(worker, keeper, shown)
    return collect(columns, groups, keeper)


def _warn_of_other_versions(keeper: Keeper, worker: Worker) -> None:
    """Results of several versions may be mixed, but not unnoticed."""
    plans = [plan for plan in keeper.plans() if not worker.wanted.isdisjoint(plan.ids)]
    now = _flat(versions() | {"code_sources_sha256": sources_around(worker.run.func)}) if plans else {}
    for plan in plans:
        then = now | _flat(plan.origin)  # older stores know less
        changed = [f"{name} {then.get(name)}, now {mine}" for name, mine in now.items() if then.get(name) != mine]
        if changed:
            warnings.warn(
                f"the store holds trials of other versions ({'; '.join(changed)}): their results may differ from "
                "those that are run now; take another store to have all from one",
                stacklevel=3,
            )
            return


def _flat(origin: Mapping[str, Any]) -> dict[str, Any]:
    names = {"badrjax": "badrjax", "badrjax_sources_sha256": "sources of badrjax"}
    told = {told: str(origin.get(name))[:12] for name, told in names.items()}
    around = {f"sources of {name}": digest[:12] for name, digest in origin.get("code_sources_sha256", {}).items()}
    return told | around | dict(origin.get("libraries", {}))


def _check_devices(devices: Sequence[jax.Device] | None) -> list[jax.Device]:
    chosen = jax.local_devices() if devices is None else list(devices)
    if not chosen or len(set(chosen)) < len(chosen) or not all(isinstance(device, jax.Device) for device in chosen):
        raise ValueError(f"devices must name devices of jax.local_devices(), each once, got {devices!r}")
    return chosen


def _crew(
    executor: str,
    store: str | os.PathLike[str] | None,
    devices: Sequence[jax.Device] | None,
    resources: Mapping[str, Any] | None,
    ray_options: Mapping[str, Any] | None,
) -> AbstractContextManager[tuple[Callable[[Worker, Keeper], None], Callable[..., None]]]:
    """Who plans and who runs the blocks."""
    if executor == "ray":
        from badrjax.sweeps.ray_executor import RayExecutor

        return RayExecutor(store, devices, resources, ray_options)
    if executor != "local":
        raise ValueError(f"unknown executor {executor!r}: there are 'local' and 'ray'")
    if resources is not None or ray_options is not None:
        raise ValueError("resources and ray_options are for executor 'ray'; leave them out, or say executor=\"ray\"")
    return nullcontext((plan_missing, run_open))
