"""The ledger: every cell of every paper's tables with its verdict, from records and stored results; nothing is trained.

A cell is REPRODUCED, CLOSE, INCONCLUSIVE or NOT REPRODUCED (with the likely cause), NOT RUN (with the reason), or no
target: MISPRINT, BELOW FLOOR. Verdicts are made here from what the experiments stored, each time anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from badrjax import plotting, results
from badrjax.checks import unknown_name
from badrjax.reports import Facts, Figure, Section, Table, Text
from badrjax.results import verdicts
from experiments import ledger_badr, ledger_fairbinn, ledger_fairlab, ledger_nash, pages, running
from experiments.catalogue import EXPERIMENTS
from experiments.ledger_cells import COLUMNS, PaperClaims, PaperTable

ALL = (*verdicts.TARGETS, *verdicts.NO_TARGETS)
RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Settings:
    """All cells of all papers with their verdicts, as a page and as results.csv."""

    outputs: Path = field(default_factory=lambda: Path("outputs"))
    """Where the experiments have written: each in a directory of its name, which goes before its records."""
    stores: tuple[str, ...] = ()
    """Directories of single experiments elsewhere, such as badr_figure2=/results/figure2."""
    records: Path = field(default_factory=lambda: RECORDS)
    """Results that are kept with the code: a directory an experiment, with what it wrote and its provenance.json."""
    data_home: Path | None = None
    """Directory with raw files, searched before BADRJAX_DATA: which datasets are not here is a reason."""
    out: Path = field(default_factory=lambda: Path("outputs/ledger"))
    """Directory for report.html, results.csv, claims.csv and provenance.json."""


def main(settings: Settings, console: Console | None = None) -> pd.DataFrame:
    """Judge every cell and claim, write the page and the tables, and return the tidy frame of the cells."""
    where = places(settings)
    console = running.begin(settings, console)
    found, claimed = ledger_nash.tables(where, settings.records / "nash_table1")
    of_badr, claims_of_badr = ledger_badr.tables(where)
    found += of_badr + ledger_fairlab.tables(where, settings.data_home)
    claimed += claims_of_badr + ledger_fairlab.claims(where) + ledger_fairbinn.claims(where)
    frame = tidy(found)
    results.write_results(frame, results.provenance(settings=asdict(settings), data={}), settings.out)
    tidy_claims(claimed).to_csv(settings.out / "claims.csv", index=False)
    sections = [_summary(found), *_by_paper(found, claimed, where), _experiments(where, settings.records)]
    page = pages.write(settings, "# Reproduction ledger\n", *sections)
    for paper in dict.fromkeys(one.paper for one in found):
        console.print(f"{paper}: {counts_sentence(found, paper)}", markup=False, soft_wrap=True)
    console.print(f"wrote {page}, {page.with_name('results.csv')}, {page.with_name('claims.csv')}", markup=False)
    return frame


def places(settings: Settings) -> dict[str, Path]:
    """The directory of each experiment's results.

    Raises:
        ValueError: for a store that is not `NAME=DIRECTORY` of an experiment.
        FileNotFoundError: for a store or records that are not there.
    """
    where = {name: _place(settings, name) for name in EXPERIMENTS}
    for store in settings.stores:
        name, equals, directory = store.partition("=")
        if not equals or not directory:
            raise ValueError(f"stores are given as NAME=DIRECTORY, got {store!r}")
        if name not in EXPERIMENTS:
            raise unknown_name("experiment", name, EXPERIMENTS)
        where[name] = Path(directory)
        if not where[name].is_dir():
            raise FileNotFoundError(f"there is no directory {directory} for {name}")
    if not settings.records.is_dir():
        raise FileNotFoundError(f"there is no directory {settings.records} of records")
    return where


def _place(settings: Settings, name: str) -> Path:
    """Where an experiment has written; else what is kept of it with the code, if anything is."""
    written, kept = settings.outputs / name, settings.records / name
    # Tables 1 and 4 are judged from records setting by setting, wherever each of them is.
    return kept if kept.is_dir() and name != "nash_table1" and not any(written.glob("*.csv")) else written


def tidy(found: Sequence[PaperTable]) -> pd.DataFrame:
    """A cell a row: paper, table, cell, the numbers, verdict and reason; `counted` is no for another reading."""
    frames = []
    for one in found:
        labels = [name for name in one.frame.columns if name not in COLUMNS]
        cells = one.frame[labels].astype(str).agg(", ".join, axis=1)
        named = {"paper_of": one.paper, "table": one.title, "cell": cells, "counted": one.counted}
        frames.append(one.frame[list(COLUMNS)].rename(columns={"paper": "printed"}).assign(**named))
    frame = pd.concat(frames, ignore_index=True).rename(columns={"paper_of": "paper"})
    first = ["paper", "table", "cell", "counted"]
    return frame[[*first, *(name for name in frame.columns if name not in first)]]


def tidy_claims(claimed: Sequence[PaperClaims]) -> pd.DataFrame:
    """A claim a row, of those that were judged: paper, family, labels and the numbers of `claim_table`."""
    frames = []
    for one in (one for one in claimed if one.frame is not None):
        labels = list(one.frame.columns[: one.frame.columns.get_loc("estimate")])
        text = one.frame[labels].astype(str).agg(", ".join, axis=1)
        rest = one.frame.drop(columns=labels)
        rest.insert(0, "claim", text)
        frames.append(rest.assign(paper=one.paper, family=one.title))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["claim", "paper", "family"])


def counts_sentence(found: Sequence[PaperTable], paper: str | None = None) -> str:
    """How many cells earned each verdict, those of another reading of the same cells aside."""
    frames = [one.frame for one in found if one.counted and paper in (None, one.paper)]
    return results.counts_sentence(pd.concat(frames))


def _summary(found: Sequence[PaperTable]) -> Section:
    papers = list(dict.fromkeys(one.paper for one in found))
    facts = Facts({"all papers": counts_sentence(found)} | {paper: counts_sentence(found, paper) for paper in papers})
    rows = []
    for one in found:
        counts = results.verdict_counts(one.frame)
        counted = "yes" if one.counted else "no, the same cells"
        rows.append([one.paper, one.title, len(one.frame), *(counts[name] for name in ALL), counted])
    table = Table(["paper", "table", "cells", *ALL, "counted"], rows, "Cells by verdict")
    caption = "Cells of each table by verdict"
    drawn = figure(found)
    rules = (
        "A cell is judged by many seeds of ours on the paper's own split: how often groups of as many seeds as the "
        "paper has would print a mean as far out (Benjamini-Hochberg at 5% within a table). REPRODUCED: not rejected, "
        "and the prediction interval is no wider than the tolerance (0.02, for gaps 0.03, at least a test row); "
        "INCONCLUSIVE: wider; CLOSE: rejected, yet within the tolerance; NOT REPRODUCED otherwise. MISPRINT cannot be "
        "right, and BELOW FLOOR is a gap smaller than exact parity shows on as few rows: both are no targets."
    )
    return Section("Counts", (facts, table, Figure(drawn, caption, pages.describe(caption, drawn)), Text(rules)))


def _by_paper(found: Sequence[PaperTable], claimed: Sequence[PaperClaims], where: Any) -> list[Section]:
    sections = []
    for paper in dict.fromkeys(one.paper for one in found):
        for one in (one for one in found if one.paper == paper):
            count = results.counts_sentence(one.frame)
            sections.append(Section(f"{paper}: {one.title}", (Text(f"{one.about}\n\n{count}"), _cells(one))))
        sections += [_claims(one) for one in claimed if one.paper == paper]
    items = Table.of_frame(ledger_fairbinn.inventory(where), "What the paper shows")
    text = Text("The paper's numbers are not public, so no cells are judged; its claims are.")
    sections.append(Section(f"{ledger_fairbinn.PAPER}: tables and figures", (text, items)))
    return sections + [_claims(one) for one in claimed if one.paper == ledger_fairbinn.PAPER]


def _cells(one: PaperTable) -> Table:
    labels = [name for name in one.frame.columns if name not in COLUMNS]
    rows = []
    for row in one.frame.to_dict("records"):
        decimals = int(row["decimals"])
        ours = _number(row["ours"], max(decimals, 3)) + _number(row["half_width"], max(decimals, 3), " ± ")
        apart = "" if np.isnan(row["difference"]) else f"{row['difference']:+.{max(decimals, 3)}f}"
        numbers = [_number(row["paper"], decimals), ours, apart, _number(row["p_adjusted"], 3)]
        cells = [*(str(row[name]) for name in labels), *numbers, _number(row["floor"], 3)]
        rows.append([*cells, row["verdict"], row["reason"]])
    columns = [*labels, "printed", "ours", "difference", "p (BH)", "floor", "verdict", "cause or reason"]
    # A column that no cell of the table has is left out.
    kept = [at for at, name in enumerate(columns) if at < len(labels) or any(row[at] for row in rows) or name == "ours"]
    return Table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows])


def _claims(one: PaperClaims) -> Section:
    heading = f"{one.paper}: {one.title[:1].lower()}{one.title[1:]}"
    if one.frame is None:
        return Section(heading, (Text(f"NOT RUN: {one.about}."),))
    counts = one.frame["verdict"].value_counts()
    said = ", ".join(f"{counts[name]} {name}" for name in verdicts.CLAIMS if name in counts)
    labels = list(one.frame.columns[: one.frame.columns.get_loc("estimate")])
    rows = [
        [*(str(row[name]) for name in labels), f"{row['estimate']:+.4g}", f"[{row['low']:+.3g}, {row['high']:+.3g}]",
         f"{row['p_holm']:.3g}", int(row["num_seeds"]), row["verdict"]]
        for row in one.frame.to_dict("records")
    ]  # fmt: skip
    table = Table([*labels, "difference", "adjusted interval", "p (Holm)", "pairs", "verdict"], rows)
    return Section(heading, (Text(f"{one.about}\n\n{len(one.frame)} claims: {said}."), table))


def _experiments(where: Any, records: Path) -> Section:
    """What is stored of each experiment, those too that reproduce figures without printed numbers."""
    rows = []
    for name, experiment in EXPERIMENTS.items():
        if name == "ledger":
            continue
        places_of = [folder for folder in (where[name], records / name) if any(folder.rglob("results.csv"))]
        kept = [records / name] if (records / name).is_dir() else []
        there = next(iter([*places_of, *kept]), None)
        rows.append(
            [name, experiment.summary, f"NOT RUN: nothing in {where[name]}" if there is None else f"in {there}"]
        )
    about = Text(
        "Figures print no numbers, so they have no cells: their experiments measure claims in their own pages."
    )
    return Section("What is stored here", (about, Table(["experiment", "what it reruns", "results"], rows)))


def figure(found: Sequence[PaperTable]) -> Any:
    """Cells of each table by verdict, as bars with their counts."""
    from matplotlib.figure import Figure as Drawing

    colours = dict(zip(ALL, (plotting.COLOURS[2], plotting.COLOURS[5], plotting.COLOURS[4], plotting.COLOURS[1],
                             "0.82", plotting.COLOURS[3], "0.6"), strict=True))  # fmt: skip
    drawing = Drawing(figsize=(9, 0.42 * len(found) + 1.4), layout="constrained")
    axes, at = drawing.subplots(), np.arange(len(found))
    left = np.zeros(len(found))
    for verdict in ALL:
        counts = np.array([int(np.sum(one.frame["verdict"] == verdict)) for one in found])
        shares = 100 * counts / [len(one.frame) for one in found]
        axes.barh(at, shares, left=left, color=colours[verdict], label=verdict, edgecolor="white", linewidth=0.6)
        for place in np.flatnonzero(shares > 4):
            middle = left[place] + shares[place] / 2
            axes.text(middle, place, str(counts[place]), ha="center", va="center", fontsize=8)
        left += shares
    axes.set_yticks(at, [f"{one.paper}: {one.title}" for one in found], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="cells of the table, %", xlim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    drawing.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return drawing


def _number(value: float, decimals: int, before: str = "") -> str:
    return "" if np.isnan(value) else f"{before}{value:.{decimals}f}"
