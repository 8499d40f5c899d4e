"""A sweep without a store: results in memory, for one process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from badrjax.sweeps.blocks import BlockResults
from badrjax.sweeps.plans import Block, Plan


class Memory:
    """Keeps results of a sweep without a store; the same interface as `Store`, for one process."""

    def __init__(self) -> None:
        self.place = 0.0
        self._plans: list[Plan] = []
        self._blocks: dict[str, BlockResults] = {}

    def plans(self) -> list[Plan]:
        """All plans, in their order."""
        return list(self._plans)

    def planning(self) -> AbstractContextManager[None]:
        """Nobody else plans here."""
        return nullcontext()

    def add_plan(self, plan: Plan, after: Sequence[Plan]) -> bool:
        """Keep a plan."""
        self._plans.append(plan)
        return True

    def finished(self) -> set[str]:
        """Names of the finished blocks."""
        return set(self._blocks)

    def has(self, block: Block) -> bool:
        """Whether a block is finished."""
        return block.name in self._blocks

    def lease(self, block: Block) -> None:
        """Nobody else is at work here."""

    def write(self, plan: Plan, index: int, names: list[str], leaves: list[np.ndarray], seconds: float) -> bool:
        """Keep a finished block."""
        ids = tuple(trial["id"] for trial in plan.trials_of(index))
        about = {"seconds": seconds}
        self._blocks[Block(plan.name, index).name] = BlockResults(ids, dict(zip(names, leaves, strict=True)), about)
        return True

    def read(self, plan: Plan, index: int) -> BlockResults:
        """A finished block."""
        return self._blocks[Block(plan.name, index).name]
