"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from badrjax.reports.blocks import Cell, Notice, Page, Section, Table, Text

# A page with more is slow to open.
MOST_TRIALS = 2000
_METRICS = ("validation", "test")


def sweep_page(
    title: str, best: Sequence[Mapping[str, Any]], frame: Any, *, metric: str, origin: Mapping[str, Any]
) -> Page:
    """The best settings of each method, and every trial with its metrics.

    Args:
        title: of the page.
        best: for each method its best settings, `validation` and the test metrics, as text.
        frame: a pandas frame with a trial a row: settings, and metrics whose names begin with `validation.` or
            `test.`; columns of arrays are left out.
        metric: by which the best were chosen, on validation rows.
        origin: see `badrjax.results.provenance`.

    Returns:
        The page; of more than 2000 trials it shows the first, and says so.
    """
    names = list(dict.fromkeys(name for row in best for name in row))
    settings = [name for name in names if name != "validation" and not name.startswith("test ")]
    ordered = [*settings, *(name for name in names if name not in settings)]
    shown = [name for name in frame.columns if not any(isinstance(value, np.ndarray) for value in frame[name][:1])]
    rows = [
        [_cell(value, name) for name, value in zip(shown, row, strict=True)]
        for row in frame[shown][:MOST_TRIALS].itertuples(index=False, name=None)
    ]
    trials = Table(shown, rows, "One trial a row", decimals=4)
    blocks: tuple[Any, ...] = (trials,)
    if len(frame) > MOST_TRIALS:
        blocks = (Notice(f"The first {MOST_TRIALS:,} of {len(frame):,} trials; all are in `results.csv`."), trials)
    chosen = Table(
        ordered,
        [[_cell(row.get(name), name) for name in ordered] for row in best],
        f"Best settings of each method by {metric} on the validation rows",
        "Mean ± half-width of Student's 95% interval over seeds. The test columns are of the same trials, and no "
        "choice was made by them.",
    )
    lead = f"{len(frame):,} trials of {len(best)} method{'s' * (len(best) != 1)}."
    rest = {name: value for name, value in origin.items() if name != "settings"}
    sections = (Section("Best settings", (chosen,)), Section("All trials", blocks), _reading())
    return Page(title, lead, sections, origin.get("settings", {}), rest)


def _reading() -> Section:
    text = (
        "Gaps between groups are differences that sampling alone makes larger than 0: set them beside "
        "`badrjax.noise_floor` for as many rows before they are compared."
    )
    return Section("How to read it", (Text(text),))


def _cell(value: Any, name: str) -> Cell:
    """A setting is shown with the digits that it was given with, a metric with those of all others."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not name.startswith(_METRICS):
        return f"{plain:.6g}"
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    return plain if plain is None or isinstance(plain, str | int | float) else str(plain)
