"""The cells of FairLAB, from the stored results of its tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from badrjax import results
from experiments import fairlab_data, fairlab_fronts, fairlab_tables, ledger_causes
from experiments.fairlab_data import SHORT, SOURCES
from experiments.fairlab_methods import Options
from experiments.ledger_cells import PaperClaims, PaperTable, of_entries, stored

PAPER = "FairLAB"
TITLES = {
    1: "two-way intersections, threshold 0.20",
    2: "three-way intersections, threshold 0.20",
    3: "seven constraints on demographic parity",
    4: "seven constraints on equalised odds",
}
_NAMING = ["dataset", "metric", "setting", "method", "seed", "point", "part", "requirement", "value_of"]
_SHORT = {short: metric for metric, short in SHORT.items()}


def tables(where: Mapping[str, Path], data_home: Path | None) -> list[PaperTable]:
    """Tables 1 to 5.

    Args:
        where: directory of each experiment's results.
        data_home: where raw files are looked for, to say of which dataset there is none.
    """
    absent = dict(_absent(data_home))
    found = [_table(number, where[f"fairlab_table{number}"], absent) for number in TITLES]
    return [*found, times(where["fairlab_table5"], absent)]


def sittings(folder: Path, name: str) -> tuple[pd.DataFrame | None, str]:
    """What was run of a table, in one call or in several, each in a directory of its own below that of the table.

    Raises:
        ValueError: for the same number in two of several; or where one is of a quick run, another protocol, without
            small groups, of other budgets or of other data.
    """
    folders = [one for one in (folder, *sorted(folder.glob("*/"))) if (one / "results.csv").is_file()] or [folder]
    found = [stored(one / "results.csv", name, quick=False, protocol="default", minimum_count=1) for one in folders]
    if len(folders) == 1:
        return found[0]
    differing = [name for name, values in _made_of(folders).items() if len(set(values)) > 1]
    if differing:
        raise ValueError(f"the results.csv below {folder} differ in {', '.join(differing)}; keep those of one kind")
    if refused := [why for frame, why in found if frame is None]:
        raise ValueError(f"{refused[0]}, and is one of several below {folder}; take it away")
    whole = pd.concat([frame for frame, _ in found], ignore_index=True)
    twice = whole[whole.duplicated([name for name in _NAMING if name in whole])]
    if len(twice):
        named = ", ".join(str(twice.iloc[0][name]) for name in ("dataset", "metric", "setting", "method", "seed"))
        raise ValueError(f"two results.csv below {folder} have {named}; take one of them away")
    return whole, ""


def _made_of(folders: Sequence[Path]) -> dict[str, list[str]]:
    """What results that are judged together must share, from where they come from."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        path = folder / "provenance.json"
        origin = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        budgets = origin.get("settings", {}).get("budgets")
        shared = {"budgets": list(Options().budgets) if budgets is None else budgets}
        shared |= {f"the checksum of {name}": value for name, value in origin.get("data_sha256", {}).items()}
        for name, value in shared.items():
            found.setdefault(name, []).append(json.dumps(value))
    return found


def claims(where: Mapping[str, Path]) -> list[PaperClaims]:
    """That FairLAB's front is larger and nearer than others', a family a table."""
    found = []
    for number, title in TITLES.items():
        frame, missing = sittings(where[f"fairlab_table{number}"], f"fairlab_table{number}")
        judged = None if frame is None else fairlab_fronts.claims(frame[frame["value_of"].isin(fairlab_fronts.GAINS)])
        about = missing
        if frame is not None and judged is None:
            about = f"{fairlab_fronts.why_none(frame)}: {where[f'fairlab_table{number}'] / 'results.csv'}"
        if judged is not None:
            about = (
                "Paired over splits, with the correction of Nadeau and Bengio. The gain is positive where FairLAB's "
                "front is the better one; Holm's adjustment over all of a table."
            )
        found.append(PaperClaims(PAPER, f"FairLAB's front beside others', {title}", judged, about))
    return found


def times(folder: Path, absent: Mapping[str, str]) -> PaperTable:
    """Table 5: training times, which are of another machine."""
    frame, missing = stored(folder / "results.csv", "fairlab_table5", quick=False)
    run = set() if frame is None else set(frame["dataset"])
    entries = []
    for row in (row for row in fairlab_tables.targets(5) if isinstance(row["seconds"], float)):
        labels = {name: row[name] for name in ("dataset", "setting", "method")}
        name = fairlab_tables.source_of(row["dataset"], SOURCES, run)
        note = absent.get(name) or missing
        mine = np.zeros(0) if frame is None else _seconds(frame, name, row)
        if mine.size:
            note = f"a time of the paper's machine, 16 cores of a Xeon; ours, of another, {mine.mean():.0f} s"
        entries.append(results.Entry(labels, results.Printed(row["seconds"], 0), 0.0, note=note or "no such time"))
    about = "Seconds. Times of different machines are not compared, so no cell is a target that could be met."
    return PaperTable(PAPER, "Table 5: training times", of_entries(entries), about)


def _table(number: int, folder: Path, absent: Mapping[str, str]) -> PaperTable:
    found, missing = sittings(folder, f"fairlab_table{number}")
    run = set() if found is None else set(found["dataset"])
    entries = []
    for printed in fairlab_tables.targets(number):
        name = fairlab_tables.source_of(printed["dataset"], SOURCES, run)
        source, setting = SOURCES[name], printed.get("attribute", "mixed")
        mine = found if found is None else _runs(found, name, printed, setting)
        for attribute, label, value in fairlab_tables.printed_values(printed):
            labels = {"dataset": printed["dataset"], "constraint": printed["constraint"], "attributes": attribute,
                      "method": printed["method"], "metric": label}  # fmt: skip
            values, floors = _values(mine, source, setting, attribute, label)
            entry = fairlab_tables.entry_of(labels, value, label, values, floors, source)
            if entry.note == fairlab_tables.NO_RUNS:
                entry = entry._replace(note=_why(name, source, absent, missing, folder))
            entries.append(entry)
    about = "One split a seed, test rows; the paper does not say of how many seeds its numbers are."
    causes = ledger_causes.FAIRLAB if number < 3 else ledger_causes.FAIRLAB_SEVEN
    frame = ledger_causes.explained(of_entries(entries), causes)
    return PaperTable(PAPER, f"Table {number}: {TITLES[number]}", frame, about)


def _runs(frame: pd.DataFrame, name: str, printed: Mapping[str, Any], setting: str) -> pd.DataFrame:
    """The rows of the tidy frame that a printed row is about, on test rows."""
    title = fairlab_tables.our_title(printed["method"])
    mine = frame[(frame["dataset"] == name) & (frame["metric"] == _SHORT[printed["constraint"]])]
    mine = mine[(mine["setting"] == setting) & (mine["part"] == "test")]
    return mine[mine["method"].map(lambda method: fairlab_tables.PRINTED.get(method, method)) == title]


def _values(
    frame: pd.DataFrame | None, source: fairlab_data.Source, setting: str, attribute: str, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """One value a seed, `f[S]`, and the floors of a gap."""
    if frame is None or frame.empty:
        return np.zeros(0), np.zeros(0)
    if label == "F1":
        return _by_seed(frame[frame["value_of"] == "f1_weighted"]), np.zeros(0)
    # Requirements are stored by the names of the columns, in the order of the paper's.
    gaps = frame[frame["value_of"] == "gaps"]
    order = ["*".join(names) for names in fairlab_data.subsets(source, setting)]
    named = list(dict.fromkeys(gaps["requirement"]))[order.index(attribute)]
    mine = frame[frame["requirement"] == named]
    return _by_seed(mine[mine["value_of"] == "gaps"]), _by_seed(mine[mine["value_of"] == "floors"])


def _by_seed(frame: pd.DataFrame) -> np.ndarray:
    return frame.sort_values("seed")["value"].to_numpy(float)


def _seconds(frame: pd.DataFrame, name: str, row: Mapping[str, Any]) -> np.ndarray:
    title = fairlab_tables.our_title(row["method"])
    method = frame["method"].map(lambda one: fairlab_tables.PRINTED.get(one, one))
    chosen = (frame["dataset"] == name) & (frame["setting"] == row["setting"]) & (method == title)
    return frame.loc[chosen, "seconds"].to_numpy(float)


def _why(name: str, source: fairlab_data.Source, absent: Mapping[str, str], missing: str, folder: Path) -> str:
    if name in absent:
        return absent[name]
    rows = "" if source.same_rows else "; the paper's rows, California 2014, are not at hand, and other states stand in"
    return (missing or f"no such runs in {folder / 'results.csv'}") + rows


def _absent(data_home: Path | None) -> Iterator[tuple[str, str]]:
    """Datasets whose files are not here, and why."""
    for name in dict.fromkeys(fairlab_tables.source_of(source.paper, SOURCES, ()) for source in SOURCES.values()):
        try:
            fairlab_data.load(SOURCES[name], data_home)
        except fairlab_data.MISSING:
            yield name, f"its file is not here; `badrjax data info {SOURCES[name].name}` says how to get it"
