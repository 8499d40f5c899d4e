"""From finished blocks to a table of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from badrjax.extras import require
from badrjax.sweeps.plans import Block, valid_blocks
from badrjax.sweeps.result import SweepResult
from badrjax.sweeps.running import Keeper
from badrjax.sweeps.trials import SEED, TrialGroup, scalar


def collect(columns: Mapping[str, np.ndarray], groups: Sequence[TrialGroup], keeper: Keeper) -> SweepResult:
    """The results of the wanted trials, in the order of the table."""
    results: dict[str, dict[str, Any]] = {}
    wanted = {identity for group in groups for identity in group.ids}
    finished = keeper.finished()
    for plan, index in valid_blocks(keeper.plans()):
        if Block(plan.name, index).name not in finished:
            continue
        if not wanted.intersection(trial["id"] for trial in plan.trials_of(index)):
            continue
        block = keeper.read(plan, index)
        for row, identity in enumerate(block.ids):
            results[identity] = {name: values[row] for name, values in block.values.items()}
    return _as_result(columns, groups, results)


def _as_result(
    columns: Mapping[str, np.ndarray], groups: Sequence[TrialGroup], results: Mapping[str, dict[str, Any]]
) -> SweepResult:
    pd = require("pandas", "a table of results")
    ids = {int(row): identity for group in groups for row, identity in zip(group.positions, group.ids, strict=True)}
    rows = [results[ids[row]] for row in range(len(columns[SEED]))]
    names = list(dict.fromkeys(name for row in rows for name in row))
    # At once: pandas is slow, and says so, where hundreds of columns are added one by one.
    found = {name: _column(pd, [_entry(row.get(name)) for row in rows]) for name in names}
    frame = pd.DataFrame({**columns, **found})
    return SweepResult(frame, tuple(columns), tuple(names))


def _column(pd: Any, entries: list[Any]) -> Any:
    # As objects where one is missing: pandas would make a NaN of it, which is a result that has diverged.
    arrays = any(entry is None or isinstance(entry, np.ndarray) for entry in entries)
    return pd.Series(entries, dtype=object) if arrays else entries


def _entry(value: np.ndarray | np.generic | None) -> Any:
    """A single number as Python's own; `None` where a trial of another program has no such result."""
    return scalar(value) if value is not None and value.ndim == 0 and isinstance(value, np.generic) else value
