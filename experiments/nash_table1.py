"""Tables 1 and 4 of the Nash-Meta-Learning paper: seven settings, eight methods, both protocols, with verdicts.

Runs go through a store, so that a call goes on where another ended, and several calls at once share the work. The
verdicts on cells and claims are printed and written as Markdown; every measurement of every epoch stays in the store.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console

from badrjax import results
from experiments import nash, nash_curves, nash_protocol, nash_runs, nash_verdicts, running


@dataclass(frozen=True)
class RunOptions:
    """Which runs are made, and where they are kept."""

    methods: tuple[str, ...] = tuple(nash.METHODS)
    """Which of the eight methods."""
    seeds: int = 50
    """Seeds 0, 1, ...; verdicts need 50."""
    protocol: Literal["paper", "code"] = "code"
    """As the text of the paper has it, or as its published code does."""
    split: Literal["auto", "official", "balanced"] = "auto"
    """The paper's splits, balanced ones drawn here, or the first where their files are there."""
    split_seed: int = 0
    """Seed of balanced splits."""
    epochs: int | None = None
    """Another number of epochs than Table 3's, to try things out."""
    block: int = 10
    """Seeds side by side."""
    diagnostics: int = 16
    """Measure alignment on every n-th batch."""
    store: Path = field(default_factory=lambda: Path("outputs/nash_table1/runs"))
    """Directory of the runs; a sweep for each setting and protocol."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA and the bundled ones."""
    runs_only: bool = False
    """Run and store, and leave the tables to another call: for processes that help."""
    cache: bool = True
    """Keep compiled programs in .jax_cache between runs."""


@dataclass(frozen=True)
class Settings(RunOptions):
    """Tables 1 and 4 of Nash-Meta-Learning, each cell and claim with a verdict."""

    datasets: tuple[str, ...] = tuple(nash_protocol.SETTINGS)
    """Which of the seven settings."""
    changes: tuple[str, ...] = ()
    """Options of the protocol that are changed, such as cells=groups f1_term=false."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_table1"))
    """Directory of the verdicts."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame | None:
    """Run what is missing, judge, print and write; the frame of verdicts on cells."""
    console = console or Console()
    protocol = check(settings)
    if settings.cache:
        running.use_compilation_cache()
    settings.out.mkdir(parents=True, exist_ok=True)
    entries, claims, chosen, done = [], [], [], {}
    for name in settings.datasets:
        runs = done[name] = run(name, protocol, settings, console)
        if settings.runs_only:
            continue
        if isinstance(runs, str):
            entries += nash_verdicts.entries_not_run(name, protocol, runs)
            continue
        entries += nash_verdicts.entries(runs, protocol)
        claims += nash_verdicts.claims(runs)
        chosen += nash_verdicts.selections(runs, protocol)
    if settings.runs_only:
        return None
    cells = nash_verdicts.note_few_seeds(results.ledger_table(entries))
    claimed = nash_verdicts.note_few_seeds(results.claim_table(claims)) if claims else None
    _write(settings, protocol, done, cells, claimed, pd.DataFrame(chosen))
    _print(console, cells, claimed)
    return cells


def run(name: str, protocol: nash_protocol.Protocol, settings: Settings, console: Console) -> nash_verdicts.Runs | str:
    """The runs of a setting, or why there are none: its data are not there."""
    start = time.perf_counter()
    try:
        dataset, splits, kind = nash_runs.load_any(
            name, protocol, settings.split, settings.split_seed, settings.data_home
        )
    except nash_runs.MISSING as error:
        console.print(f"{name}: NOT RUN, {error}", markup=False)
        return str(error)
    directory = nash_runs.store_name(
        name, settings.protocol, settings.changes, kind, settings.split_seed, settings.epochs
    )
    result = nash_runs.sweep(
        name,
        protocol,
        nash_runs.to_rows(dataset, splits),
        settings.methods,
        range(settings.seeds),
        store=settings.store / directory,
        block=settings.block,
        epochs=settings.epochs,
        diagnostics=settings.diagnostics,
    )
    seconds = time.perf_counter() - start
    console.print(f"{name}: {kind} split, {len(result.frame())} runs, {seconds:.0f} s in this call")
    return nash_verdicts.Runs(name, result.frame(), dataset, splits, kind, settings.epochs)


def _write(
    settings: Settings,
    protocol: nash_protocol.Protocol,
    done: Mapping[str, nash_verdicts.Runs | str],
    cells: pd.DataFrame,
    claimed: pd.DataFrame | None,
    chosen: pd.DataFrame,
) -> None:
    """The verdicts as tables and as Markdown, with where they come from."""
    there = {name: runs for name, runs in done.items() if not isinstance(runs, str)}
    data = {
        name: results.dataset_checksum([runs.dataset.x, runs.dataset.y, runs.dataset.group, *runs.splits])
        for name, runs in there.items()
    }
    used = {"options": asdict(protocol), "splits": {name: runs.split for name, runs in there.items()}}
    folder = settings.out / _folder(settings)
    results.write_results(cells, results.provenance(settings=asdict(settings) | used, data=data), folder)
    parts = [f"# Tables 1 and 4, protocol {' '.join((settings.protocol, *settings.changes))}\n", "## Cells\n",
             results.ledger_grid_markdown(cells, "metric"), "## Cells, one a row\n",
             results.ledger_markdown(cells)]  # fmt: skip
    (folder / "claims.csv").unlink(missing_ok=True)  # of another call
    if claimed is not None:
        claimed.to_csv(folder / "claims.csv", index=False)
        parts += ["## Two stages against one\n", results.claims_markdown(claimed)]
        across = nash_verdicts.agreement(claimed)
        rows = across.round(4).astype(str).values.tolist()
        parts += ["## Across settings\n", results.markdown_table(list(across.columns), rows)]
    chosen.to_csv(folder / "selections.csv", index=False)
    if not chosen.empty:
        parts += ["## The choice of the epoch\n", nash_verdicts.selections_markdown(chosen)]
    (folder / "verdicts.md").write_text("\n".join(parts), encoding="utf-8")


def _folder(settings: Settings) -> str:
    """A directory for each table: what makes it another than the whole one is part of its name."""
    whole = Settings()
    parts = [settings.protocol, *(change.replace("=", "_") for change in sorted(settings.changes))]
    for name in ("datasets", "methods"):
        if set(getattr(settings, name)) != set(getattr(whole, name)):
            parts.append("+".join(getattr(settings, name)))
    for name in ("seeds", "epochs", "split", "split_seed"):
        if getattr(settings, name) != getattr(whole, name):
            parts.append(f"{name}_{getattr(settings, name)}")
    return "-".join(parts)


def _print(console: Console, cells: pd.DataFrame, claimed: pd.DataFrame | None) -> None:
    columns = ["dataset", "method", "metric", "paper", "ours", "half_width", "p_adjusted", "floor", "verdict"]
    plain: Any = {"markup": False, "highlight": False, "soft_wrap": True}
    with pd.option_context("display.max_rows", None, "display.width", 200, "display.precision", 3):
        console.print(cells[columns].to_string(index=False), **plain)
        console.print(results.counts_sentence(cells), **plain)
        if claimed is not None:
            shown = claimed[["dataset", "goal", "metric", "estimate", "low", "high", "p_holm", "verdict"]]
            console.print(shown.to_string(index=False), **plain)


def check(settings: Settings) -> nash_protocol.Protocol:
    """The protocol with its changes; `ValueError` with the remedy for settings that cannot be run."""
    nash_curves.check_names("dataset", settings.datasets, nash_protocol.SETTINGS)
    nash_curves.check_names("method", settings.methods, nash.METHODS)
    for name in ("seeds", "block", "diagnostics", "epochs"):
        number = getattr(settings, name)
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    return nash_protocol.changed(settings.protocol, settings.changes)
