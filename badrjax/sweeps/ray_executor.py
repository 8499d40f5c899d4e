"""The same blocks in the processes of a Ray cluster, on one machine or many.

Work is dealt to Ray actors: each is a process with its share of the cluster, and a GPU, once given, stays its own.
(A plain Ray task may find itself in a process whose JAX holds another GPU, or in a new one that compiles again.) An
actor keeps the programs that it has compiled and the data for as long as the sweep lasts. All that is finished is in
the store, so neither an actor nor the driver holds anything that could be lost.
"""

from __future__ import annotations

import math
import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.tree_util import Partial

from badrjax.extras import require
from badrjax.sweeps.errors import StoreError
from badrjax.sweeps.plans import Block
from badrjax.sweeps.progress import Progress
from badrjax.sweeps.ray_worker import BlockRunner, Outcome, jax_settings, make_job, not_shared, soon
from badrjax.sweeps.running import Keeper, num_open_trials, open_blocks, planned_trials
from badrjax.sweeps.store import Store
from badrjax.sweeps.worker import Worker

# How often the death of a process is forgiven, for each block.
_RETRIES = 5
# How long the driver waits for an answer before it looks whether nodes have joined.
_LOOK_SECONDS = 1.0
# How long it waits where all that is left is in the hands of others.
_POLL_SECONDS = 0.2
# How long the driver waits for processes that it has ended to be gone.
_GONE_SECONDS = 2.0


class Call(NamedTuple):
    """What an actor is asked to do.

    Attributes:
        method: name of a method of `BlockRunner`.
        block: the block that it is about, if any.
    """

    method: str
    block: Block | None = None

    def __str__(self) -> str:
        return f"block {self.block.name}" if self.block else {"plan": "planning", "prepare": "starting"}[self.method]


class RayExecutor:
    """Runs the blocks of a sweep on a Ray cluster.

    It is a context: Ray is started when there is something to run, unless it is running already; and where it was
    started here it is stopped at the end.

    Args:
        store: directory of the results, on a file system that all nodes see.
        devices: must be `None`: an actor takes what it sees.
        resources: of an actor, such as `{"num_cpus": 1}` or `{"num_gpus": 1}`, as for `ray.remote`.
        ray_options: for `ray.init`, where Ray is not running yet.

    Raises:
        ValueError: without a store, with devices, for resources that ask for nothing, or with options for a Ray that
            is running.
        ModuleNotFoundError: where Ray is not installed.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None,
        devices: Sequence[jax.Device] | None = None,
        resources: Mapping[str, Any] | None = None,
        ray_options: Mapping[str, Any] | None = None,
    ) -> None:
        if store is None:
            raise ValueError("executor 'ray' needs store=, a directory on a file system that all nodes see")
        if devices is not None:
            raise ValueError("executor 'ray' takes no devices: each process uses all that resources= let it see")
        self._directory = Path(os.path.abspath(Path(store).expanduser()))
        self._resources = {"num_cpus": 1} | dict(resources or {})
        self._needs = _needs(self._resources)
        self._options = ray_options
        self._ray = require("ray", "executor 'ray'")
        if ray_options is not None and self._ray.is_initialized():
            raise ValueError("Ray is running already, so ray_options would be ignored; leave them out")
        self._actor_class = self._ray.remote(BlockRunner).options(max_restarts=0, **self._resources)
        self._started, self._job = False, None
        self._idle: list[tuple[Any, str]] = []  # actors, and the plan that each was last at work on
        self._busy: dict[Any, tuple[Any, Call]] = {}  # by the reference of the answer
        self._deaths: Counter[Call] = Counter()

    def __enter__(self) -> tuple[Callable[[Worker, Keeper], None], Callable[..., None]]:
        return self.plan_missing, self.run_open

    def __exit__(self, *exception: object) -> None:
        self._dismiss()
        if self._started:
            self._ray.shutdown()

    def plan_missing(self, worker: Worker, keeper: Keeper) -> None:
        """Plan the wanted trials that no valid block holds yet.

        Raises:
            StoreError: where what was planned on another node cannot be seen here.
        """
        if worker.wanted <= planned_trials(keeper.plans()):
            return
        self._start(worker, keeper)
        try:
            for _ in self._answers([Call("plan")]):
                pass
        except BaseException:
            self._dismiss()
            raise
        if not soon(lambda: worker.wanted <= planned_trials(keeper.plans())):
            raise StoreError(not_shared(self._directory))

    def run_open(self, worker: Worker, keeper: Keeper, shown: Progress) -> None:
        """Run open blocks until none is left, ours or others'."""
        try:
            while blocks := open_blocks(keeper, worker.wanted):
                self._start(worker, keeper)
                calls = [Call("run", Block(plan.name, index)) for plan, index in blocks]
                ran = [_tell(shown, outcome) for outcome in self._answers(calls)]
                if not any(ran):
                    time.sleep(_POLL_SECONDS)
                elsewhere = len(worker.wanted) - num_open_trials(keeper, worker.wanted) - shown.done
                if elsewhere > 0:
                    shown.advance(elsewhere, 0.0)
        except BaseException:
            given_up = list(self._deaths)  # among them one that was forgiven too often
            at_work = [call.block for call in [*given_up, *(call for _, call in self._busy.values())] if call.block]
            self._dismiss()
            _give_back(keeper, at_work)
            raise

    def _start(self, worker: Worker, keeper: Keeper) -> None:
        """Start Ray unless it is running, and put the job where all actors find it, once."""
        if self._job is not None:
            return
        self._check_pickles(worker.run)
        if not self._ray.is_initialized():
            self._ray.init(**(self._options or {}))
            self._started = True
        rooms = self._rooms()
        if not sum(rooms):
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            raise ValueError(f"resources {self._resources} fit on no node of the Ray cluster; its nodes have {nodes}")
        lease_seconds = keeper.lease_seconds if isinstance(keeper, Store) else 0.0
        self._job = self._ray.put(make_job(worker, self._directory, lease_seconds, sum(rooms), max(rooms)))

    def _check_pickles(self, run: Partial) -> None:
        try:
            self._ray.cloudpickle.dumps(run.func)
        except (TypeError, ValueError, AttributeError, pickle.PickleError) as error:
            raise TypeError(
                f"run cannot be sent to the processes of Ray ({error}); what it refers to must be plain values, and "
                "open files, locks and the like be made inside it"
            ) from error

    def _rooms(self) -> list[int]:
        """How many actors fit on each of the nodes that there are."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [
            min(math.floor(node.get(name, 0.0) / amount + 1e-6) for name, amount in self._needs.items())
            for node in nodes
        ]

    def _answers(self, calls: Sequence[Call]) -> Iterator[Any]:
        """What comes of calls, in the order in which they are answered; those of actors that die are made again."""
        queue = deque(calls)
        while queue or self._num_at_work():
            self._hire(len(queue) + self._num_at_work())
            self._assign(queue)
            ready, _ = self._ray.wait(list(self._busy), timeout=_LOOK_SECONDS)
            for reference in ready:
                actor, call = self._busy.pop(reference)
                try:
                    answer = self._answer(reference)
                except self._ways_to_die() as error:
                    self._ray.kill(actor)  # one that merely cannot be reached must not go on
                    self._forgive(call, error)
                    if call.method != "prepare":
                        queue.append(call)
                    continue
                except BaseException:
                    self._idle.append((actor, ""))
                    raise
                self._deaths.pop(call, None)
                self._idle.append((actor, call.block.plan if call.block else ""))
                if call.method != "prepare":
                    yield answer

    def _num_at_work(self) -> int:
        return sum(call.method != "prepare" for _, call in self._busy.values())

    def _hire(self, most: int) -> None:
        """As many actors as there is work and room for; nodes may have joined."""
        there = len(self._idle) + len(self._busy)
        if there >= most:
            return
        for _ in range(there, min(most, max(sum(self._rooms()), 1))):
            actor = self._actor_class.remote(jax_settings())
            self._busy[actor.prepare.remote(self._job)] = actor, Call("prepare")

    def _assign(self, queue: deque[Call]) -> None:
        """A call for each actor that has none: of the plan that it was at work on, whose program it has."""
        while queue and self._idle:
            actor, plan = self._idle.pop()
            others = {call.block.plan for _, call in self._busy.values() if call.block}
            call = _choose(queue, plan, others)
            queue.remove(call)
            method = getattr(actor, call.method)
            self._busy[method.remote(call.block) if call.block else method.remote()] = actor, call

    def _answer(self, reference: Any) -> Any:
        """An answer, or the error that was raised in its place, as it was raised there."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error, self._ways_to_die()) or not isinstance(error.cause, Exception):
                raise
            raise error.cause from error

    def _ways_to_die(self) -> tuple[type[Exception], ...]:
        errors = self._ray.exceptions
        return errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError

    def _forgive(self, call: Call, error: Exception) -> None:
        self._deaths[call] += 1
        if self._deaths[call] > _RETRIES:
            raise RuntimeError(
                f"{call} ended its Ray process {self._deaths[call]} times in a row; where memory is what it lacked, "
                "take a smaller block or memory_budget, or ask for more in resources. The last time, Ray said: "
                f"{error}"
            ) from error

    def _dismiss(self) -> None:
        """End all actors; what they have finished is stored."""
        for actor in [actor for actor, _ in self._idle] + [actor for actor, _ in self._busy.values()]:
            self._ray.kill(actor)
        self._idle, self._busy, self._job = [], {}, None


def _tell(shown: Progress, outcome: Outcome) -> bool:
    for text in outcome.notes:
        shown.note(text)
    for trials, seconds in outcome.finished:
        shown.advance(trials, seconds)
    return outcome.ran


def _needs(resources: Mapping[str, Any]) -> dict[str, float]:
    """Amounts by the names that nodes give them."""
    named = {"CPU": resources.get("num_cpus"), "GPU": resources.get("num_gpus"), "memory": resources.get("memory")}
    amounts = {name: amount for name, amount in (named | dict(resources.get("resources") or {})).items() if amount}
    if not amounts or min(amounts.values()) < 0:
        raise ValueError(f"resources must ask for something, such as {{'num_cpus': 1}}, got {dict(resources)}")
    return amounts


def _choose(queue: Sequence[Call], plan: str, others: set[str]) -> Call:
    """The first call of a plan; else of one that nobody is at work on; else the first."""
    same = (call for call in queue if call.block and call.block.plan == plan)
    fresh = (call for call in queue if call.block and call.block.plan not in others)
    return next(same, None) or next(fresh, None) or queue[0]


def _give_back(keeper: Keeper, blocks: Sequence[Block]) -> None:
    """Take the leases of processes that we have ended out of the way.

    It works for those on this machine, which are seen to be dead; those on other nodes expire.
    """
    deadline = time.monotonic() + _GONE_SECONDS
    left = list(blocks)
    while left and time.monotonic() < deadline:
        left = [block for block in left if not _free(keeper, block)]
        time.sleep(_POLL_SECONDS / 10 if left else 0)


def _free(keeper: Keeper, block: Block) -> bool:
    lease = keeper.lease(block)
    if lease is None:
        return True
    try:
        return lease.acquire()
    finally:
        lease.release()
