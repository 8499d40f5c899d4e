"""What the ledger is made of: cells of papers' tables with verdicts, and claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from badrjax import results
from badrjax.results import verdicts

NUMBERS = ("paper", "decimals", "ours", "half_width", "difference", "p_adjusted", "floor", "num_seeds")
COLUMNS = (*NUMBERS, "verdict", "reason")
"""Of every cell, after its labels."""


class PaperTable(NamedTuple):
    """The cells of a table.

    Attributes:
        paper: short.
        title: of the table, and under which reading of the paper it was run.
        frame: a cell a row: its labels, then `COLUMNS`.
        about: where the verdicts come from, and the rule where it is not that of many seeds.
        counted: whether the cells are in the counts; not where another table has the same cells.
    """

    paper: str
    title: str
    frame: pd.DataFrame
    about: str
    counted: bool = True


class PaperClaims(NamedTuple):
    """Claims of a paper.

    Attributes:
        paper: short.
        title: of the family of claims.
        frame: see `badrjax.results.claim_table`; `None` where nothing was stored.
        about: where the verdicts come from, or why there are none.
    """

    paper: str
    title: str
    frame: pd.DataFrame | None
    about: str


class Alike(NamedTuple):
    """A number that has no seeds, beside one of ours.

    Attributes:
        labels: what names it.
        printed: the paper's.
        decimals: with which it is shown.
        ours: `None` where it was not run.
        reason: why not, or the likely cause of a difference.
        within: difference up to which both are of the same computation.
        tolerance: difference that does not matter.
    """

    labels: Mapping[str, str]
    printed: float
    decimals: int
    ours: float | None
    reason: str
    within: float
    tolerance: float


def of_entries(entries: Sequence[results.Entry]) -> pd.DataFrame:
    """Cells judged by many seeds, see `badrjax.results.ledger_table`."""
    frame = results.ledger_table(entries).rename(columns={"note": "reason"})
    # Whatever was not run was not compared either, so that nothing was assumed of the paper's seeds.
    plain = frame["reason"].str.replace(r"(; )?the paper's seeds assumed to be \d+", "", regex=True)
    reasons = np.where(frame["verdict"] == verdicts.NOT_RUN, plain, frame["reason"])
    return frame.assign(reason=reasons)[[*entries[0].labels, *COLUMNS]]


def of_numbers(numbers: Sequence[Alike]) -> pd.DataFrame:
    """Cells without seeds: REPRODUCED within the one limit, CLOSE within the other, else NOT REPRODUCED."""
    rows = []
    for one in numbers:
        row: dict[str, Any] = dict.fromkeys(NUMBERS, np.nan)
        row |= {"paper": one.printed, "decimals": one.decimals, "num_seeds": 0, "reason": one.reason}
        row["verdict"] = verdicts.NOT_RUN
        if one.ours is not None:
            apart = one.ours - one.printed
            alike, near = abs(apart) <= one.within, abs(apart) <= one.tolerance
            row |= {"ours": one.ours, "difference": apart, "reason": "" if alike else one.reason or "cause unknown"}
            row["verdict"] = verdicts.REPRODUCED if alike else verdicts.CLOSE if near else verdicts.NOT_REPRODUCED
        rows.append({**one.labels, **row})
    return pd.DataFrame(rows, columns=[*numbers[0].labels, *COLUMNS])


def stored(path: Path, name: str, **wanted: Any) -> tuple[pd.DataFrame | None, str]:
    """A stored table, or `None` and why there is none.

    Args:
        path: of the file, with its `provenance.json` beside it.
        name: of the experiment that writes it.
        wanted: settings that it must have been run with.
    """
    if not path.is_file():
        return None, f"no {path}: `python -m experiments {name}` makes it"
    used = settings_of(path.parent)
    differing = [f"{key} {used[key]}" for key, value in wanted.items() if used.get(key, value) != value]
    if differing:
        return None, f"{path} was run with {', '.join(differing)}"
    frame = pd.read_csv(path, keep_default_na=False, na_values=["nan", "NaN"])
    # Numbers of which some are missing come back as text.
    for column in (name for name in ("value", "level", "eta") if name in frame):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return frame, ""


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a stored run, of its `provenance.json`; none where there is no such file."""
    path = folder / "provenance.json"
    return json.loads(path.read_text(encoding="utf-8"))["settings"] if path.is_file() else {}
