"""The cells and claims of Nash-Meta-Learning, from records of runs and from stored estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from badrjax import results
from experiments import information, ledger_causes, nash_causes, nash_protocol, nash_table5, nash_verdicts
from experiments.ledger_cells import Alike, PaperClaims, PaperTable, of_entries, of_numbers, settings_of, stored
from experiments.nash_protocol import SETTINGS

PAPER = "Nash-Meta-Learning"
READINGS = {"code": "protocol of the published code", "paper": "protocol of the text"}
AUC = {
    "code": "What the paper calls AUC is taken of predicted labels here, as its code does, so it is balanced accuracy.",
    "paper": "AUC is that of scores at the last epoch, as the text has it. Read off the same runs as the code reads "
    "them, twice as many cells come out, and most of the others do once the runs are trained as the code trains.",
}


def tables(where: Mapping[str, Path], records: Path) -> tuple[list[PaperTable], list[PaperClaims]]:
    """Tables 1 and 4 under both protocols, Table 5, and what two stages change.

    Args:
        where: directory of each experiment's results.
        records: directory of records of Tables 1 and 4, a directory a protocol within.
    """
    found, claimed = [], []
    for protocol, title in READINGS.items():
        folders = tuple(dict.fromkeys((where["nash_table1"] / protocol / "records", records / protocol)))
        kept, reasons = _records(protocol, folders)
        frame = _cells(protocol, kept, reasons)
        causes = ledger_causes.CODE if protocol == "code" else (({}, ledger_causes.TEXT),)
        if protocol == "code":
            causes = (*_tried(where["nash_causes"]), *causes)
        about = f"Records of {len(kept)} of {len(SETTINGS)} settings. {AUC[protocol]}"
        frame = ledger_causes.explained(frame, causes)
        found.append(PaperTable(PAPER, f"Tables 1 and 4, {title}", frame, about, counted=protocol == "code"))
        claimed.append(_claims(kept, title, reasons))
    return [*found, table5(where["nash_table5"])], claimed


def table5(folder: Path) -> PaperTable:
    """Table 5: the estimator with most numbers like the printed ones stands for all."""
    frame, missing = stored(folder / "results.csv", "nash_table5")
    title, about = (
        "Table 5: mutual information of the validation rows",
        "No formula is printed; of all estimators that ",
    )
    about += "were tried the one with most numbers within 1% of the printed ones stands here, the nearest of equals."
    found, splits = ({}, {}) if frame is None else (_estimates(frame), settings_of(folder).get("splits", {}))
    chosen = max(nash_table5.scored(found), key=lambda score: score.agreeing).estimator if found else None
    numbers = []
    for name, printed in nash_table5.printed().items():
        reason, ours = missing or f"{name} is not in {folder / 'results.csv'}", None
        if name in found and splits.get(name) != "official":
            reason = f"computed on the {splits.get(name, 'unknown')} split, and not on the paper's own"
        elif name in found and chosen is not None:
            ours, reason = found[name][chosen], f"none of {len(found[name])} estimators gives the printed numbers"
        numbers.append(Alike({"dataset": name}, printed, 8, ours, reason, nash_table5.AGREES * printed, 0.0))
    return PaperTable(PAPER, title, of_numbers(numbers), about)


def _records(protocol: str, folders: tuple[Path, ...]) -> tuple[dict[str, results.Record], dict[str, str]]:
    """The first record of each setting that fits the protocol and the targets, and why others have none."""
    options, found, reasons = nash_protocol.PROTOCOLS[protocol], {}, {}
    for name in SETTINGS:
        reasons[name] = f"no record in {' or '.join(map(str, folders))}: `python -m experiments nash_table1 --protocol "
        reasons[name] += f"{protocol}` makes it"
        for path in (folder / f"{name}.json" for folder in folders):
            if not path.is_file():
                continue
            record = results.read_record(path)
            printed = nash_verdicts.entries_not_run(name, options, "as printed")
            same = [(e.labels, e.printed) for e in record.entries] == [(e.labels, e.printed) for e in printed]
            if record.about["options"] == asdict(options) and record.about["epochs"] is None and same:
                found[name] = record
                break
            reasons[name] = f"{path} is of other options or beside other printed numbers"
    return found, {name: reason for name, reason in reasons.items() if name not in found}


def _cells(protocol: str, kept: Mapping[str, results.Record], reasons: Mapping[str, str]) -> pd.DataFrame:
    options, entries = nash_protocol.PROTOCOLS[protocol], []
    for name in SETTINGS:
        mine = kept[name].entries if name in kept else nash_verdicts.entries_not_run(name, options, reasons[name])
        entries += list(mine)
    return of_entries(entries)


def _claims(kept: Mapping[str, results.Record], title: str, reasons: Mapping[str, str]) -> PaperClaims:
    claims = [claim for record in kept.values() for claim in record.claims]
    heading = f"Two stages are better than one, {title}"
    if not claims:
        return PaperClaims(PAPER, heading, None, "; ".join(reasons.values()))
    about = "At the last epoch, over paired seeds and distinct test rows; Holm's adjustment over all."
    return PaperClaims(PAPER, heading, results.claim_table(claims), about)


def _tried(folder: Path) -> list[tuple[dict[str, str], str]]:
    """Which changes of one option bring a cell out, where `nash_causes` has stored it."""
    frame, _ = stored(folder / "results.csv", "nash_causes")
    if frame is None:
        return []
    frame = frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in ("paper", "ours")})
    return [
        (
            {name: row[name] for name in ("dataset", "method", "metric")},
            f"comes out under {row['comes out under']}, of {row['of changes']} changes of one option",
        )
        for row in nash_causes.moved(frame).to_dict("records")
    ]


def _estimates(frame: pd.DataFrame) -> dict[str, dict[information.Estimator, float]]:
    found: dict[str, dict[information.Estimator, float]] = {}
    for row in frame.to_dict("records"):
        named = [row[field] for field in information.Estimator._fields]
        named[3] = str(named[3]) == "True"
        found.setdefault(row["dataset"], {})[information.Estimator(*named)] = float(row["value"])
    return found
