"""Tables 1 and 4 of the Nash-Meta-Learning paper: seven settings, eight methods, both protocols, with verdicts.

Runs go through a store, so that a call goes on where another ended, and several calls at once share the work. The
verdicts on cells and claims are printed and written as Markdown; every measurement of every epoch stays in the store.
What the verdicts start from is written as a record a setting, so that settings of several sittings are judged as one
table (`--recorded`).
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
from experiments import nash, nash_curves, nash_protocol, nash_runs, nash_verdicts, pages, running


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
    recorded: Path | None = None
    """Directory with records of other sittings, such as experiments/records/nash_table1/code: settings that have one
    there are not run again."""
    out: Path = field(default_factory=lambda: Path("outputs/nash_table1"))
    """Directory of the verdicts, and of a record of each setting, in records."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame | None:
    """Run what is missing, judge, print and write; the frame of verdicts on cells."""
    console = console or Console()
    protocol = check(settings)
    if settings.cache:
        running.use_compilation_cache()
    settings.out.mkdir(parents=True, exist_ok=True)
    recorded = _recorded(settings, protocol)
    records = {}
    for name in settings.datasets:
        if name in recorded:
            console.print(f"{name}: as recorded in {settings.recorded}", markup=False)
            records[name] = recorded[name]
            continue
        runs = run(name, protocol, settings, console)
        if not settings.runs_only:
            records[name] = _judged(name, runs, protocol, settings)
    if settings.runs_only:
        return None
    cells = nash_verdicts.note_few_seeds(results.ledger_table([e for one in records.values() for e in one.entries]))
    claims = [claim for one in records.values() for claim in one.claims]
    claimed = nash_verdicts.note_few_seeds(results.claim_table(claims)) if claims else None
    _write(settings, protocol, records, cells, claimed)
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


def _about(name: str, protocol: nash_protocol.Protocol, settings: Settings) -> dict[str, Any]:
    """What a record must agree in with what is asked for."""
    return {
        "dataset": name,
        "options": asdict(protocol),
        "methods": sorted(settings.methods),
        "seeds": settings.seeds,
        "epochs": settings.epochs,
        "split": "official",
    }


def _recorded(settings: Settings, protocol: nash_protocol.Protocol) -> dict[str, results.Record]:
    """Records of other sittings by setting.

    Raises:
        FileNotFoundError: where the directory has none of the settings.
        ValueError: for a record of something else, or of other printed numbers than the targets'.
    """
    found: dict[str, results.Record] = {}
    if settings.recorded is None:
        return found
    for name in settings.datasets:
        path = settings.recorded / f"{name}.json"
        if not path.is_file():
            continue
        found[name] = results.read_record(path)
        results.check_record(found[name], _about(name, protocol, settings), path)
        printed = nash_verdicts.entries_not_run(name, protocol, "as printed")
        if [(e.labels, e.printed) for e in found[name].entries] != [(e.labels, e.printed) for e in printed]:
            raise ValueError(f"{path} was recorded beside other printed numbers than the targets of this version")
    if not found:
        raise FileNotFoundError(f"{settings.recorded} has a record of none of {', '.join(settings.datasets)}")
    return found


def _judged(
    name: str, runs: nash_verdicts.Runs | str, protocol: nash_protocol.Protocol, settings: Settings
) -> results.Record:
    """What is said of a setting's runs, or why there are none."""
    about = _about(name, protocol, settings)
    if isinstance(runs, str):
        return results.Record(about | {"split": "none"}, nash_verdicts.entries_not_run(name, protocol, runs))
    data = results.dataset_checksum([runs.dataset.x, runs.dataset.y, runs.dataset.group, *runs.splits])
    return results.Record(
        about | {"split": runs.split},
        nash_verdicts.entries(runs, protocol),
        nash_verdicts.claims(runs),
        nash_verdicts.selections(runs, protocol),
        _origin_to_share(settings, {name: data}),
    )


def _origin_to_share(settings: Settings, data: Mapping[str, str]) -> dict[str, Any]:
    """Where a record comes from, without what only this machine knows: paths and the command line with them."""
    plain = {name: value for name, value in asdict(settings).items() if not isinstance(value, Path)}
    origin = results.provenance(settings=plain, data=data)
    return {name: value for name, value in origin.items() if name != "command"}


def _write(
    settings: Settings,
    protocol: nash_protocol.Protocol,
    records: Mapping[str, results.Record],
    cells: pd.DataFrame,
    claimed: pd.DataFrame | None,
) -> None:
    """The verdicts as tables, Markdown and a page, where they come from, and what they start from as records."""
    there = {name: record for name, record in records.items() if record.origin}
    data = {name: digest for record in there.values() for name, digest in record.origin["data_sha256"].items()}
    chosen = pd.DataFrame([note for record in there.values() for note in record.notes])
    used = {"options": asdict(protocol), "splits": {name: record.about["split"] for name, record in there.items()}}
    folder = settings.out / _folder(settings)
    for name, record in there.items():
        results.write_record(record, folder / "records" / f"{name}.json")
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
    text = "\n".join(parts)
    (folder / "verdicts.md").write_text(text, encoding="utf-8")
    pages.write(settings, text, out=folder)


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
