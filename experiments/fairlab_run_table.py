"""What the scripts of Tables 1 to 4 have in common: run what is missing, judge, print and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console

from badrjax import results
from experiments import fairlab_data, fairlab_fronts, fairlab_runs, fairlab_tables, pages, running
from experiments.fairlab_data import SOURCES
from experiments.fairlab_runs import RunOptions

Kind = Literal["two_way", "three_way", "mixed"]


def run_table(
    table: int, kind: Kind, title: str, settings: Any, console: Console | None, metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """A table of the paper; the tidy frame of its measures.

    Args:
        table: its number.
        kind: of its settings.
        title: of the report.
        settings: `RunOptions` with `out`; other first seeds than 0 have a directory of their own below it.
        console: another than the terminal.
        metrics: which metrics the table has, where not those of the settings.

    Raises:
        FileNotFoundError: where the files of no dataset are there.
    """
    if metrics is not None:
        settings = replace(settings, metrics=tuple(metrics))
    if settings.first_seed:
        settings = replace(settings, out=settings.out / f"from_{settings.first_seed}")
    fairlab_runs.check(settings)
    console = running.begin(settings, console)
    tell = partial(console.print, markup=False)
    runs, missing = fairlab_runs.run_all([kind], settings, tell)
    if not runs:
        raise FileNotFoundError("; ".join(missing.values()))
    datasets = {
        name: fairlab_data.load(SOURCES[name], settings.data_home) for name in {run.trial.dataset for run in runs}
    }
    rows = fairlab_tables.rows_of(runs, datasets)
    apart = fairlab_fronts.differences(runs, datasets)
    frame = pd.concat([fairlab_tables.tidy(rows), apart.assign(paper="fairlab")], ignore_index=True).assign(table=table)
    checksums = {run.trial.dataset: run.checksum for run in runs}
    results.write_results(frame, results.provenance(settings=asdict(settings), data=checksums), settings.out)
    text = "\n".join([
        f"# {title}\n", _coverage(settings, missing, rows), "## Test rows\n", fairlab_tables.markdown(rows),
        _fronts(apart), _verdicts(rows, table, settings),
        "## Validation rows\n", fairlab_tables.markdown(rows, "validation"),
        "## Training rows\n", fairlab_tables.markdown(rows, "train"),
        "## Groups\n", fairlab_tables.rates_markdown(rows),
    ])  # fmt: skip
    (settings.out / "tables.md").write_text(text, encoding="utf-8")
    pages.write(settings, text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote report.html, results.csv, provenance.json and tables.md in {settings.out}", markup=False)
    return frame


def _verdicts(rows: Sequence[Any], table: int, settings: RunOptions) -> str:
    """The printed cells beside ours."""
    if settings.minimum_count > 1:
        return "## Printed cells\n\nNot judged: small groups are left out, so the gaps are others than the paper's.\n"
    cells = results.ledger_table(fairlab_tables.entries(rows, table, settings.datasets, settings.metrics))
    return "\n".join([
        "## Verdicts on printed cells\n", results.counts_sentence(cells) + "\n", results.ledger_markdown(cells),
    ])  # fmt: skip


def _fronts(apart: pd.DataFrame) -> str:
    """FairLAB beside its competitors, with verdicts."""
    judged = fairlab_fronts.claims(apart)
    if judged is None:
        return f"## Fronts on test rows\n\nNothing is compared: {fairlab_fronts.why_none(apart)}.\n"
    return "\n".join([
        "## Fronts on test rows, FairLAB over its budgets; the constant predictor is on each\n",
        fairlab_fronts.fronts_markdown(apart),
        "## At FairLAB's F1\n", fairlab_fronts.matched_markdown(apart),
        "## Claims: FairLAB's front is the larger (hypervolume) and the nearer (IGD+)\n",
        fairlab_fronts.claims_markdown(judged),
    ])  # fmt: skip


def default_out(table: int) -> Path:
    """Directory of a table's results."""
    return Path(f"outputs/fairlab_table{table}")


def _coverage(settings: RunOptions, missing: dict[str, str], rows: Sequence[Any]) -> str:
    """What was run on which rows, and what could not be."""
    lines = [
        f"Protocol of FairLAB: {settings.protocol}. Splits 80/10/10 by label and finest intersection, a split a seed. "
        "In brackets beside a gap: what it comes to at exact parity on as many rows (floor), and the one-sided 95% "
        "upper bound over test rows. `met` counts gaps at or below their thresholds, `met by bound` their bounds. "
        "Intervals of differences are over splits, with the correction of Nadeau and Bengio."
    ]
    if settings.quick:
        lines.append("A quick run: too few epochs, and one setting a method.")
    for name in dict.fromkeys(row.run.trial.dataset for row in rows):
        if SOURCES[name].rows:
            lines.append(f"{name}: {SOURCES[name].rows} stand in for the paper's California 2014 (183,380).")
    left = sorted({name for row in rows for name in row.constraints.left_out})
    if left:
        few = f"Without the training rows in some split ({settings.minimum_count} of what the metric compares)"
        lines.append(f"{few}, and so in no gap there: {', '.join(left)}.")
    lines += [f"{name}: NOT RUN, {why}" for name, why in missing.items()]
    return "\n\n".join(lines) + "\n"
