"""A paper's table beside ours: one verdict a cell, with false discoveries held at 5% within the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from badrjax.extras import require
from badrjax.results import verdicts
from badrjax.results.cells import ASSUMED_SEEDS, Cell, Printed
from badrjax.results.multiplicity import benjamini_hochberg

LEVEL = 0.05
# Numbers of a handful of decimals differ by multiples of these decimals, but for rounding errors.
_ROUNDING = 1e-9
_COLUMNS = (
    "paper", "decimals", "ours", "difference", "low", "high", "half_width", "p_value", "p_adjusted", "tolerance",
    "num_seeds", "num_diverged", "floor", "verdict", "note",
)  # fmt: skip


class Entry(NamedTuple):
    """A cell of a paper's table.

    Attributes:
        labels: what names it, such as `{"dataset": "adult_sex", "method": "FORML", "metric": "overall"}`; the same
            names for all entries of a table.
        printed: the paper's number.
        tolerance: largest difference that does not matter, see `tolerance`.
        cell: our seeds beside it, see `compare_cell`; `None` where it was not run.
        floor: for a gap, what it comes to at exact parity on the paper's test rows; `None` where that is unknown.
        misprint: whether the number cannot be right.
        note: why it was not run or cannot be right, or the likely cause of a difference.
    """

    labels: Mapping[str, str]
    printed: Printed
    tolerance: float
    cell: Cell | None = None
    floor: float | None = None
    misprint: bool = False
    note: str = ""


def ledger_table(entries: Sequence[Entry], *, level: float = LEVEL) -> Any:
    """Verdicts on the cells of one table, as a tidy frame.

    p-values are adjusted by Benjamini and Hochberg (1995) over the cells that are targets and were run. Then, with
    p adjusted above the level, a cell is REPRODUCED where the prediction interval's half-width is at most the
    tolerance, and INCONCLUSIVE where it is wider; with p at or below it, CLOSE where our mean is within the tolerance
    of the paper's, and else NOT REPRODUCED. A cell that was not run is NOT RUN, with the reason. Two kinds are no
    target and leave the count: MISPRINT, a number that cannot be right, and BELOW FLOOR, a printed gap smaller than
    what exact parity would show on as few rows.

    Where more than a tenth of the seeds diverged, a cell that would be REPRODUCED is INCONCLUSIVE; where too few
    are left to compare, it is NOT REPRODUCED.

    Args:
        entries: the cells of one table of a paper, the family within which false discoveries are held.
        level: of the Benjamini-Hochberg procedure, in `(0, 1)`.

    Returns:
        A pandas frame, one row an entry: its labels, then `paper, decimals, ours, difference, low, high, half_width,
        p_value, p_adjusted, tolerance, num_seeds, num_diverged, floor, verdict, note`; NaN for what is not known.

    Raises:
        ModuleNotFoundError: without pandas or SciPy.
        ValueError: for no entries, labels that differ in their names or name two entries, a cell of another printed
            number, or a cell not run or misprinted without a note.
    """
    pandas = require("pandas", "a ledger table")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    _check(entries)
    p_values = np.array([np.nan if e.cell is None or not _is_target(e) else e.cell.p_value for e in entries])
    adjusted = benjamini_hochberg(p_values)
    records = [_record(entry, p, level) for entry, p in zip(entries, adjusted, strict=True)]
    return pandas.DataFrame(records, columns=[*entries[0].labels, *_COLUMNS])


def verdict_of(entry: Entry, p_adjusted: float, level: float = LEVEL) -> str:
    """The verdict on one cell, given its adjusted p-value; see `ledger_table`."""
    if entry.misprint:
        return verdicts.MISPRINT
    if _below_floor(entry):
        return verdicts.BELOW_FLOOR
    cell = entry.cell
    if cell is None:
        return verdicts.NOT_RUN
    if np.isnan(cell.p_value):
        return verdicts.NOT_REPRODUCED
    within = entry.tolerance + _ROUNDING
    if p_adjusted <= level:
        return verdicts.CLOSE if abs(cell.difference) <= within else verdicts.NOT_REPRODUCED
    wide = cell.half_width > within
    return verdicts.INCONCLUSIVE if wide or _many_diverged(cell) else verdicts.REPRODUCED


def verdict_counts(frame: Any) -> dict[str, int]:
    """How many cells earned each verdict, all verdicts in order, those that never occur too.

    `"targets"` comes first: the cells that count, which misprints and cells below the floor are not.
    """
    found = frame["verdict"].value_counts()
    counts = {name: int(found.get(name, 0)) for name in (*verdicts.TARGETS, *verdicts.NO_TARGETS)}
    return {"targets": sum(counts[name] for name in verdicts.TARGETS), **counts}


def _record(entry: Entry, p_adjusted: float, level: float) -> dict[str, Any]:
    verdict = verdict_of(entry, p_adjusted, level)
    cell, unknown = entry.cell, float("nan")
    ours: dict[str, Any] = dict.fromkeys(("ours", "difference", "low", "high", "half_width", "p_value"), unknown)
    ours |= {"num_seeds": 0, "num_diverged": 0}
    if cell is not None:
        ours |= cell._asdict() | {"ours": cell.mean}
    return {
        **entry.labels,
        "paper": entry.printed.mean,
        "decimals": entry.printed.decimals,
        **{name: ours[name] for name in ("ours", "difference", "low", "high", "half_width", "p_value")},
        "p_adjusted": p_adjusted,
        "tolerance": entry.tolerance,
        "num_seeds": ours["num_seeds"],
        "num_diverged": ours["num_diverged"],
        "floor": unknown if entry.floor is None else entry.floor,
        "verdict": verdict,
        "note": _note(entry, verdict),
    }


def _note(entry: Entry, verdict: str) -> str:
    notes = [entry.note] if entry.note else []
    cell = entry.cell
    if verdict == verdicts.NOT_REPRODUCED and not entry.note:
        notes.append("cause unknown")
    if verdict == verdicts.BELOW_FLOOR:
        notes.append(f"exact parity would show {entry.floor:.3f} on these rows")
    if cell is not None and cell.num_diverged:
        notes.append(f"{cell.num_diverged} of {cell.num_seeds} seeds diverged")
    if entry.printed.num_seeds is None:
        notes.append(f"the paper's seeds assumed to be {ASSUMED_SEEDS}")
    return "; ".join(notes)


def _is_target(entry: Entry) -> bool:
    return not entry.misprint and not _below_floor(entry)


def _below_floor(entry: Entry) -> bool:
    return entry.floor is not None and entry.printed.mean < entry.floor


def _many_diverged(cell: Cell) -> bool:
    return cell.num_diverged > verdicts.MOST_DIVERGED * cell.num_seeds


def _check(entries: Sequence[Entry]) -> None:
    if not entries:
        raise ValueError("a table needs at least one entry")
    seen = set()
    for entry in entries:
        name = ", ".join(f"{key}={value}" for key, value in entry.labels.items())
        if list(entry.labels) != list(entries[0].labels) or set(entry.labels) & set(_COLUMNS):
            raise ValueError(f"all entries need the same label names, none of them a column of the table; see {name}")
        if name in seen:
            raise ValueError(f"two entries are labelled {name}")
        seen.add(name)
        if not entry.tolerance >= 0:
            raise ValueError(f"{name}: tolerance must be at least 0, got {entry.tolerance}")
        if entry.cell is not None and entry.cell.printed != entry.printed:
            raise ValueError(f"{name}: the cell was compared with {entry.cell.printed}, not with {entry.printed}")
        if not entry.note and (entry.misprint or (entry.cell is None and not _below_floor(entry))):
            raise ValueError(f"{name}: a cell that was not run or is a misprint needs a note that says why")
