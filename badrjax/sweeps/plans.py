"""How trials are cut into blocks: written down once, so that every process and every resume does the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from badrjax.sweeps.trials import TrialGroup, digest


class Block(NamedTuple):
    """A part of a plan that is run at once.

    Attributes:
        plan: name of the plan.
        number: which of its blocks.
    """

    plan: str
    number: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.plan}-{self.number:05d}"


@dataclass(frozen=True)
class Plan:
    """Trials of one group in a fixed order, cut into blocks of one width.

    Attributes:
        group: name of the group of trials.
        static: settings that are part of the program.
        traced: dtypes of the settings that are its arguments, by name.
        width: lanes of a block; the last block is padded to it.
        devices: how many devices the lanes are dealt over.
        trials: the trials: id, seed and traced settings of each.
        replaces: the plan whose unfinished blocks these trials come from, after memory ran out.
        void: indices of the blocks of that plan that this one takes over.
        origin: versions, device and time, see `badrjax.results.provenance`.
    """

    group: str
    static: Mapping[str, Any]
    traced: Mapping[str, str]
    width: int
    devices: int
    trials: tuple[Mapping[str, Any], ...]
    replaces: str = ""
    void: tuple[int, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """Identity of the plan: a hash of what it runs and how."""
        return digest([self.group, self.width, self.devices, self.ids, self.replaces])

    @property
    def ids(self) -> tuple[str, ...]:
        """Identities of the trials, in their order."""
        return tuple(trial["id"] for trial in self.trials)

    def blocks(self) -> list[Block]:
        """All its blocks."""
        return [Block(self.name, number) for number in range(-(-len(self.trials) // self.width))]

    def trials_of(self, index: int) -> tuple[Mapping[str, Any], ...]:
        """The trials of a block."""
        return self.trials[index * self.width : (index + 1) * self.width]

    def arrays_of(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Seeds `uint32[n]` and traced settings `[n]` of a block."""
        trials = self.trials_of(index)
        seeds = np.array([trial["seed"] for trial in trials], np.uint32)
        settings = {
            name: np.array([trial["settings"][name] for trial in trials], dtype) for name, dtype in self.traced.items()
        }
        return seeds, settings

    def to_json(self) -> str:
        """The plan as text; floating-point settings keep every bit."""
        return json.dumps(asdict(self), default=str)


def plan_from_json(text: str) -> Plan:
    """The plan in a text that `to_json` made.

    Raises:
        ValueError: for another text.
    """
    try:
        content = json.loads(text)
        content["trials"], content["void"] = tuple(content["trials"]), tuple(content["void"])
        return Plan(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no plan of a sweep ({error})") from error


def make_plan(group: TrialGroup, ids: Collection[str], width: int, devices: int, origin: Mapping[str, Any]) -> Plan:
    """A plan of those trials of a group that are named, in the group's order."""
    rows = [row for row, identity in enumerate(group.ids) if identity in ids]
    return Plan(
        group=group.name,
        static=dict(group.static),
        traced={name: str(values.dtype) for name, values in group.traced.items()},
        width=width,
        devices=devices,
        trials=tuple(
            {
                "id": group.ids[row],
                "seed": int(group.seeds[row]),
                "settings": {name: float(values[row]) for name, values in group.traced.items()},
            }
            for row in rows
        ),
        origin=origin,
    )


def narrower(plan: Plan, indices: Iterable[int], width: int, origin: Mapping[str, Any]) -> Plan:
    """A plan of smaller blocks for some blocks of another, which it takes over."""
    indices = tuple(indices)
    trials = tuple(trial for index in indices for trial in plan.trials_of(index))
    return Plan(plan.group, plan.static, plan.traced, width, plan.devices, trials, plan.name, indices, origin)


def is_void(plans: Iterable[Plan], plan: Plan, index: int) -> bool:
    """Whether a later plan has taken a block over."""
    return any(later.replaces == plan.name and index in later.void for later in plans)


def valid_blocks(plans: Iterable[Plan]) -> list[tuple[Plan, int]]:
    """Blocks that no later plan has taken over, plan by plan."""
    plans = list(plans)
    void = {(plan.replaces, index) for plan in plans for index in plan.void}
    return [(plan, block.number) for plan in plans for block in plan.blocks() if block not in void]
