"""Planning and running the blocks of a sweep, whoever keeps the results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from badrjax.sweeps import programs
from badrjax.sweeps.memory import Memory
from badrjax.sweeps.plans import Block, Plan, is_void, make_plan, narrower, valid_blocks
from badrjax.sweeps.progress import Progress
from badrjax.sweeps.store import Store
from badrjax.sweeps.worker import Worker

Keeper = Store | Memory

# How long a process waits before it looks again whether others have finished their blocks: longer each time, for
# every look at a shared file system is one for each of all processes.
_POLL_SECONDS, _MOST_POLL_SECONDS = 0.2, 5.0


def run_open(worker: Worker, keeper: Keeper, shown: Progress) -> None:
    """Run open blocks until none is left, ours or others'; stops at the first that fails, and names its trials."""
    wait = _POLL_SECONDS
    while blocks := open_blocks(keeper, worker.wanted):
        # Each process begins elsewhere: from one place all would race for the same leases, and compile the same first.
        first = int(len(blocks) * keeper.place)
        ran = [try_block(worker, keeper, plan, index, shown) for plan, index in blocks[first:] + blocks[:first]]
        wait = _POLL_SECONDS if any(ran) else min(1.5 * wait, _MOST_POLL_SECONDS)
        if not any(ran):
            time.sleep(wait)  # all that is left is in other processes' hands
        elsewhere = len(worker.wanted) - num_open_trials(keeper, worker.wanted) - shown.done
        if elsewhere > 0:
            shown.advance(elsewhere, 0.0)


def plan_missing(worker: Worker, keeper: Keeper) -> None:
    """Plan the wanted trials that no valid block holds yet."""
    if worker.wanted <= planned_trials(keeper.plans()):
        return  # so that what is finished can be read where nothing can be written
    with keeper.planning():
        plans = keeper.plans()
        planned = planned_trials(plans)
        for group in worker.groups:
            while missing := set(group.ids) - planned:
                width = worker.width_of(group, len(missing))
                plan = make_plan(group, missing, width, len(worker.devices), worker.origin)
                if keeper.add_plan(plan, after=plans):
                    plans, planned = [*plans, plan], planned | missing
                else:  # a process that had to wait for this one, and then did not, was quicker
                    time.sleep(_POLL_SECONDS)
                    plans = keeper.plans()
                    planned = planned_trials(plans)


def planned_trials(plans: Iterable[Plan]) -> set[str]:
    """Ids of the trials that a valid block holds."""
    return {trial["id"] for plan, index in valid_blocks(plans) for trial in plan.trials_of(index)}


def open_blocks(keeper: Keeper, wanted: set[str]) -> list[tuple[Plan, int]]:
    """Valid blocks that are not finished and hold a trial that is wanted."""
    finished = keeper.finished()
    return [
        (plan, index)
        for plan, index in valid_blocks(keeper.plans())
        if Block(plan.name, index).name not in finished
        and any(trial["id"] in wanted for trial in plan.trials_of(index))
    ]


def num_open_trials(keeper: Keeper, wanted: set[str]) -> int:
    """How many of the wanted trials have no result yet."""
    return sum(trial["id"] in wanted for plan, index in open_blocks(keeper, wanted) for trial in plan.trials_of(index))


def try_block(worker: Worker, keeper: Keeper, plan: Plan, index: int, shown: Progress) -> bool:
    """Run a block unless another process has it; whether we did."""
    block = Block(plan.name, index)
    if keeper.has(block):
        return False
    lease = keeper.lease(block)
    try:
        # Inside, so that an interrupt right after it gives the lease back; to release one that is not ours is harmless.
        if lease is not None and not lease.acquire():
            return False
        # Another process may have finished or replaced it since we looked.
        if keeper.has(block) or is_void(keeper.plans(), plan, index):
            return False
        start = time.perf_counter()
        try:
            names, leaves = worker.results(plan, index)
        except Exception as error:
            if not programs.is_out_of_memory(error):
                error.add_note(f"while running block {block.name}: {_told(plan, index)}")
                raise
            _halve(worker, keeper, plan, index, shown, error)
            return True
        if keeper.write(plan, index, names, leaves, time.perf_counter() - start):
            counted = sum(trial["id"] in worker.wanted for trial in plan.trials_of(index))
            shown.advance(counted, time.perf_counter() - start)
        return True
    finally:
        if lease is not None:
            lease.release()


def _told(plan: Plan, index: int) -> str:
    """The trials of a block, for a message."""
    trials = [dict(plan.static) | dict(trial["settings"]) | {"seed": trial["seed"]} for trial in plan.trials_of(index)]
    return f"{len(trials)} trials, the first with {trials[0]}, the last with {trials[-1]}"


def _halve(worker: Worker, keeper: Keeper, plan: Plan, index: int, shown: Progress, error: Exception) -> None:
    """Put blocks of half the width in the place of those of a plan that nobody has begun."""
    width = plan.width // plan.devices // 2 * plan.devices
    if width < 1:
        raise MemoryError(f"memory ran out with one trial a device ({error}); take smaller trials or more devices")
    with keeper.planning():
        while not _replace(keeper, plan, index, width, worker.origin):
            time.sleep(_POLL_SECONDS)
    shown.note(f"memory ran out at {plan.width} trials a block; going on with {width}")


def _replace(keeper: Keeper, plan: Plan, index: int, width: int, origin: Mapping[str, Any]) -> bool:
    """Plan a block anew, and with it those of its plan that nobody has begun; whether that is done, by whomever."""
    plans = keeper.plans()
    valid = [i for other, i in valid_blocks(plans) if other.name == plan.name]
    if index not in valid or keeper.has(Block(plan.name, index)):
        return True
    with ExitStack() as taken:
        # Held until the new plan is there, so that nobody begins a block that it takes over.
        free = [i for i in valid if i == index or _take(keeper, Block(plan.name, i), taken)]
        return keeper.add_plan(narrower(plan, free, width, origin), after=plans)


def _take(keeper: Keeper, block: Block, taken: ExitStack) -> bool:
    """Whether a block is neither finished nor in other hands; its lease is given back with `taken`."""
    if keeper.has(block):
        return False
    lease = keeper.lease(block)
    if lease is not None:
        taken.callback(lease.release)  # before it is ours, for an interrupt may come in between
        if not lease.acquire():
            return False
    # Its holder may have finished it, and given the lease back, since we looked.
    return not keeper.has(block)
