"""What runs the blocks of a sweep in one process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from badrjax.environment import sources_around
from badrjax.results import provenance
from badrjax.sweeps import programs
from badrjax.sweeps.plans import Plan
from badrjax.sweeps.trials import SEED, TrialGroup


class Worker:
    """Runs blocks of trials; compiles each program once.

    Args:
        run: `run(key, **settings)`.
        groups: trials by program.
        devices: what blocks are dealt over.
        block: trials a block, or "auto".
        budget: bytes a block may take on a device, or `None`.

    Attributes:
        wanted: identities of the trials of all groups.
        neighbours: how many such processes share the host.
    """

    neighbours = 1

    def __init__(
        self,
        run: Partial,
        groups: Sequence[TrialGroup],
        devices: Sequence[jax.Device],
        block: int | str = "auto",
        budget: int | None = None,
    ) -> None:
        if block != "auto" and (isinstance(block, bool) or not isinstance(block, int | np.integer) or block < 1):
            raise ValueError(f"block must be a positive number of trials or 'auto', got {block!r}")
        if budget is not None and budget < 1:
            raise ValueError(f"memory_budget must be a positive number of bytes, got {budget!r}")
        self.wanted = {identity for group in groups for identity in group.ids}
        self.run, self.groups, self.devices, self.block, self.budget = run, groups, list(devices), block, budget
        self._programs: dict[tuple[str, int, int], programs.BlockProgram] = {}

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Versions, device and time, stored with each plan."""
        return provenance(settings={}, data={}) | {"code_sources_sha256": sources_around(self.run.func)}

    def width_of(self, group: TrialGroup, num_trials: int) -> int:
        """How wide the blocks of a group are."""
        number = len(self.devices)
        if self.block != "auto":
            return -(-int(self.block) // number) * number
        if self.budget is None:
            shared_by = self.neighbours if self.devices[0].platform == "cpu" else 1  # a CPU's memory is its host's
            budget = programs.memory_budget(self.devices) // shared_by
            of_lanes = programs.cache_of(self.devices[0])
        else:
            budget, of_lanes = int(self.budget), None
        return programs.choose_width(lambda width: self.program(group, width), num_trials, number, budget, of_lanes)

    def program(self, group: TrialGroup, width: int, num_devices: int | None = None) -> programs.BlockProgram:
        """The compiled block of a group, its lanes dealt over the first devices; over all where no number is given."""
        used = len(self.devices) if num_devices is None else num_devices
        key = (group.name, width, used)
        if key not in self._programs:
            kinds = {name: values.dtype for name, values in group.traced.items()}
            program = programs.compile_block(self.run, group.static, kinds, width, self.devices[:used])
            twice = sorted({name for name in program.names if program.names.count(name) > 1})
            if twice:
                raise ValueError(f"run has two results that read {twice[0]!r}; rename one")
            clash = {SEED, *group.static, *group.traced}.intersection(program.names)
            if clash:  # said before anything has run
                raise ValueError(f"{min(clash)!r} is the name of a setting and of a result of run; rename one")
            self._programs[key] = program
        return self._programs[key]

    def results(self, plan: Plan, index: int) -> tuple[list[str], list[np.ndarray]]:
        """Names and leaves `[n, ...]` of the results of a block."""
        group = next(group for group in self.groups if group.name == plan.group)
        seeds, settings = plan.arrays_of(index)
        # The last bits of a result depend on how many lanes run side by side on a device. So that number is the
        # plan's, and with fewer devices than it was made for a block takes several passes.
        used = min(plan.devices, len(self.devices))
        lanes = plan.width // plan.devices * used
        program = self.program(group, lanes, used)
        passes = [
            programs.run_block(
                program,
                self.run,
                seeds[start : start + lanes],
                {name: values[start : start + lanes] for name, values in settings.items()},
            )
            for start in range(0, len(seeds), lanes)
        ]
        return list(program.names), [np.concatenate(leaves) for leaves in zip(*passes, strict=True)]
