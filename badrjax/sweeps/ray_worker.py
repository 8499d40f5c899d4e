"""What runs in a process of a Ray cluster: one sweep's data and programs, and its way to the store."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial

from badrjax.environment import SETTINGS
from badrjax.sweeps.errors import StoreError
from badrjax.sweeps.plans import Block
from badrjax.sweeps.progress import Progress
from badrjax.sweeps.running import plan_missing, try_block
from badrjax.sweeps.store import Store
from badrjax.sweeps.trials import TrialGroup
from badrjax.sweeps.worker import Worker

# How long a file that one node has written may stay unseen by another (network file systems remember listings).
_SEEN_SECONDS = 60.0
_POLL_SECONDS = 0.2


class Job(NamedTuple):
    """What a process needs to know of a sweep; put into Ray's object store once.

    Attributes:
        run: `run(key, **settings)`; the arrays that it binds are NumPy's.
        groups: trials by program.
        block: trials a block, or "auto".
        budget: bytes a block may take on a device, or `None`.
        directory: of the store, the same on all nodes.
        lease_seconds: age at which the work of a silent process is taken over.
        command: what was called, for the record.
        processes: how many fit on the cluster as it is.
        neighbours: how many of them share a node.
    """

    run: Partial
    groups: Sequence[TrialGroup]
    block: int | str
    budget: int | None
    directory: Path
    lease_seconds: float
    command: list[str]
    processes: int
    neighbours: int


class Outcome(NamedTuple):
    """What came of a block.

    Attributes:
        ran: whether it was run here: another process may have had it.
        finished: trials and busy seconds of what was finished.
        notes: what a user should know.
    """

    ran: bool
    finished: list[tuple[int, float]]
    notes: list[str]


class BlockRunner:
    """What runs in a process of Ray: a `Worker` and its way to the store, kept for the whole sweep.

    Args:
        settings: of JAX, by name; made before the data arrive, which would lose digits otherwise.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            jax.config.update(name, value)

    def prepare(self, job: Job) -> None:
        """Take the data of the sweep; compiles nothing yet."""
        devices = jax.local_devices()
        run = jax.tree.map(lambda leaf: jax.device_put(leaf) if isinstance(leaf, np.ndarray) else leaf, job.run)
        self._worker = SpreadWorker(run, job.groups, devices, job.block, job.budget)
        self._worker.processes, self._worker.neighbours = job.processes, job.neighbours
        self._worker.origin["command"] = job.command
        self._store = open_store(job.directory, job.lease_seconds)

    def plan(self) -> None:
        """Plan what is missing: here, for the width of blocks follows from the devices that will run them."""
        plan_missing(self._worker, self._store)

    def run(self, block: Block) -> Outcome:
        """Claim a block, run it and store it."""
        if not soon(lambda: any(plan.name == block.plan for plan in self._store.plans())):
            raise StoreError(not_shared(self._store.directory))
        plan = next(plan for plan in self._store.plans() if plan.name == block.plan)
        shown = _Record()
        ran = try_block(self._worker, self._store, plan, block.number, shown)
        return Outcome(ran, shown.finished, shown.notes)


def jax_settings() -> dict[str, Any]:
    """The settings of JAX in this process, and in this context of it, that results depend on."""
    return {name: getattr(jax.config, name) for name in (*SETTINGS, "jax_numpy_rank_promotion")}


def make_job(worker: Worker, directory: Path, lease_seconds: float, processes: int, neighbours: int) -> Job:
    """What other processes need to know, from the worker of this one."""
    return Job(
        run=jax.tree.map(_portable, worker.run),
        groups=worker.groups,
        block=worker.block,
        budget=worker.budget,
        directory=directory,
        lease_seconds=lease_seconds,
        command=["python", *sys.orig_argv[1:]],
        processes=processes,
        neighbours=neighbours,
    )


def open_store(directory: Path, lease_seconds: float) -> Store:
    """A store that the driver has made.

    Raises:
        StoreError: where there is none on this node.
    """
    path = directory / "sweep.json"
    if not soon(path.is_file):
        raise StoreError(not_shared(directory))
    return Store(directory, json.loads(path.read_text()), lease_seconds)


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something holds now or in a while."""
    deadline = time.monotonic() + _SEEN_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def not_shared(directory: Path) -> str:
    """What to say where a node does not see what another has written."""
    return (
        f"what one node has written to the store {directory} cannot be seen from another; with executor 'ray' the "
        "store must lie on a file system that all nodes see, under the same path"
    )


class SpreadWorker(Worker):
    """One of several: blocks that are as wide as memory allows may be too few for all."""

    processes = 1

    def width_of(self, group: TrialGroup, num_trials: int) -> int:
        """How wide the blocks of a group are: no wider than an equal share of all trials where that is free."""
        share = -(-sum(len(group.ids) for group in self.groups) // self.processes)
        return super().width_of(group, min(num_trials, share))


class _Record(Progress):
    """Keeps what a block has to say, for the driver to show."""

    def __init__(self) -> None:
        super().__init__(0)
        self.finished: list[tuple[int, float]] = []
        self.notes: list[str] = []

    def advance(self, trials: int, seconds_busy: float) -> None:
        self.finished.append((trials, seconds_busy))

    def note(self, text: str) -> None:
        self.notes.append(text)


def _portable(leaf: Any) -> Any:
    """An array as NumPy's, which processes of a node share; keys and weakly typed numbers as they are."""
    if not isinstance(leaf, jax.Array) or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) or leaf.weak_type:
        return leaf
    return np.asarray(leaf)
